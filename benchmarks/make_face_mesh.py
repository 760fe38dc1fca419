"""Make the mean mesh that head poses are told by, from neutral faces of the Face Research Lab London Set.

They look into the camera. Shapes are brought together by generalised Procrustes analysis and made symmetric; a point
counts by how little it moves between people, and between a neutral and a smiling face. The result is the mean of about
fifty people, nobody's face.

    MIEN_DATA=... python benchmarks/make_face_mesh.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from people import pictures
from scipy.optimize import linear_sum_assignment

from mien.images import load_image
from mien.vision.attributes import MeshReader
from mien.vision.finding import find_face, patient_detector

WEIGHTS = Path(__file__).parents[1] / "src" / "mien" / "weights" / "face-mesh-mean.json"
ROUNDS = 10
CREDIT = "mean of neutral faces of the Face Research Lab London Set (DeBruine and Jones, 2017, CC BY 4.0)"


def brought_together(shapes: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Move, turn and scale each shape onto the mean."""
    done = []
    for shape in shapes:
        seen = shape - shape.mean(axis=0)
        u, _, vt = np.linalg.svd(seen.T @ mean)
        turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        done.append(seen @ turn * (np.trace(turn.T @ seen.T @ mean) / (seen**2).sum()))
    return np.stack(done)


def unit(shape: np.ndarray) -> np.ndarray:
    shape = shape - shape.mean(axis=0)
    return np.asarray(shape / np.sqrt((shape**2).sum(axis=1).mean()))


def mirrored_numbers(mean: np.ndarray) -> np.ndarray:
    """Return the number of each point's mirror image; a point of the middle is its own."""
    flipped = mean * (-1, 1, 1)
    number = linear_sum_assignment(np.linalg.norm(flipped[:, None] - mean[None], axis=2))[1]
    assert (number[number] == np.arange(len(mean))).all(), "the mirror image of a mirror image is the point itself"
    return number


def main() -> None:
    reader, detector = MeshReader(threads=1), patient_detector()
    found: dict[str, list[np.ndarray]] = {"neutral": [], "smiling": []}
    for path in pictures("london_dev"):
        image = load_image(path)
        face = find_face(image, detector)
        if face is not None:
            found[path.stem].append(reader.read(image, [face])[0][0])
    shapes = {name: np.stack(rows).astype(float) for name, rows in found.items()}
    mean = unit(shapes["neutral"].mean(axis=0))
    # Which way they look on average is straight ahead: the mean of shapes that were not turned yet says where that is.
    for _ in range(ROUNDS):
        mean = unit(brought_together(shapes["neutral"], mean).mean(axis=0))
    mirror = mirrored_numbers(mean)
    mean = unit((mean + (mean * (-1, 1, 1))[mirror]) / 2)
    spread = brought_together(np.concatenate([*shapes.values()]), mean) - mean
    weights = 1 / (spread**2).sum(axis=2).mean(axis=0)
    weights = (weights + weights[mirror]) / 2
    facts = {
        "source": f"{CREDIT}; weights also from the smiling ones",
        "points": mean.round(4).tolist(),
        "weights": (weights / weights.max()).round(4).tolist(),
        "mirror": mirror.tolist(),
    }
    WEIGHTS.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    print(f"wrote {WEIGHTS}")


if __name__ == "__main__":
    main()
