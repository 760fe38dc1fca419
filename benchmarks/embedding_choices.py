"""What mirroring, damping along the mean, centring, whitening and LDA do to FNMR. Fitted on half A, shown on both.

The score of dlib's network is chosen here; its operating points are measured by `operating_points.py`.

    MIEN_DATA=... python benchmarks/embedding_choices.py
"""

from __future__ import annotations

import numpy as np
from common import machine, write_result
from operating_points import identities, in_half_a

from mien.analyzer import Analyzer, main_face
from mien.metrics.verification import at_threshold, eer, permissive_threshold
from mien.types import as_unit
from mien.vision.feed import Feed

RATES = (1e-2, 1e-3, 1e-4)


def raw_vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return plain vectors of crop and mirror image, shape (faces, 2, 128), identities, and which are of half A."""
    analyzer = Analyzer(embedder="dlib-resnet29", expression=None)
    paths, identity = identities()
    feed, session = Feed(analyzer.card.convention), analyzer.embedder.session
    vectors, kept = [], []
    for i, picture in enumerate(analyzer.pictures(paths, embed=False, crops=True)):
        face = main_face(picture.faces, picture.width, picture.height)
        if face is not None:
            views = np.stack([face.crop, face.crop[:, ::-1]])
            vectors.append(session.run(None, {session.get_inputs()[0].name: feed(views)})[0])
            kept.append(i)
    # The halves are drawn from all identities, also from those whose faces were not found.
    return np.array(vectors, np.float32), identity[kept], in_half_a(identity)[kept]


def within(vectors: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the covariance within subjects, drawn in by a tenth to a multiple of the identity."""
    _, who, counts = np.unique(identity, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, who, vectors)
    spread = (vectors - (means / counts[:, None])[who])[counts[who] > 1]
    covariance = spread.T @ spread / (len(spread) - (counts > 1).sum())
    return 0.9 * covariance + 0.1 * np.eye(len(covariance)) * np.trace(covariance) / len(covariance)


def main() -> None:
    raw, identity, half_a = raw_vectors()
    mirrored = raw.mean(axis=1)
    mean = mirrored[half_a].mean(axis=0)
    direction = mean / np.linalg.norm(mean)
    along = (mirrored @ direction - np.linalg.norm(mean))[:, None] * direction
    values, axes = np.linalg.eigh(within(mirrored[half_a], identity[half_a]))
    white = axes / np.sqrt(values)
    spread, turned = np.linalg.eigh(white.T @ np.cov(mirrored[half_a].T) @ white)
    between = np.maximum(spread - 1, 1e-3)
    choices = {"crop alone": raw[:, 0], "crop and mirror image": mirrored}
    choices |= {f"damped along the mean to {keep:g}": mirrored - (1 - keep) * along for keep in (0.6, 0.4, 0.2, 0.0)}
    choices |= {
        "centred": mirrored - mean,
        "centred, whitened within subjects (WCCN)": (mirrored - mean) @ white,
        "centred, LDA": ((mirrored - mean) @ white @ turned) * np.sqrt(between / (between + 1)),
    }
    rows = []
    for name, vectors in choices.items():
        for half, chosen in (("A", half_a), ("B", ~half_a)):
            unit, who = as_unit(vectors[chosen]), identity[chosen]
            first, second = np.triu_indices(len(unit), 1)
            scores = (unit @ unit.T)[first, second]
            mated = who[first] == who[second]
            genuine, impostor = scores[mated], scores[~mated]
            row = {"choice": name, "half": half, "eer": eer(genuine, impostor)}
            for rate in RATES:
                threshold = permissive_threshold(impostor, rate=rate)
                row[f"fnmr_at_fmr_{rate:g}"] = at_threshold(
                    genuine, impostor, threshold=threshold, target_fmr=rate
                ).fnmr
            rows.append(row)
            print(row)
    write_result("embedding_choices", {"machine": machine(), "faces": len(raw), "rows": rows})


if __name__ == "__main__":
    main()
