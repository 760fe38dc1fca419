"""Measure an embedder's operating points on the CelebA subset and write them to its card.

The identities fall into two halves by a seeded draw. Half A is for fitting (mean embedding, alignment, quality);
the operating points, the calibration of probabilities and their intervals come from half B alone.

    MIEN_DATA=... python benchmarks/operating_points.py [MIEN_VECTORS=...] [--embedder sface]
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common import data_folder, machine, write_result

import mien.zoo
from mien.analyzer import Analyzer, main_face
from mien.metrics.calibration import cllr, fit_logistic
from mien.metrics.verification import eer, permissive_threshold
from mien.types import OperatingPoint
from mien.vision.cohort import cohort_of
from mien.vision.conventions import EmbedderConvention

RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
REPLICATES = 1000
SEED = 0


def identities() -> tuple[list[Path], np.ndarray]:
    """Return the picture files of the CelebA subset and the identity of each."""
    folder = data_folder() / "celeba10k"
    with (folder / "attributes.csv").open(newline="") as file:
        rows = [(folder / "img" / row["file"], int(row["identity"])) for row in csv.DictReader(file)]
    return [path for path, _ in rows], np.array([identity for _, identity in rows])


def in_half_a(identity: np.ndarray) -> np.ndarray:
    """Return True where an identity is of half A."""
    unique = np.unique(identity)
    chosen = np.random.default_rng(SEED).permutation(unique)[: len(unique) // 2]
    return np.isin(identity, chosen)


def embed(analyzer: Analyzer, paths: list[Path]) -> tuple[np.ndarray, int]:
    """Return the embedding of each picture's main face, NaN where there is none, and how many there are not."""
    vectors = None
    failures = 0
    for i, picture in enumerate(analyzer.pictures(paths)):
        face = main_face(picture.faces, picture.width, picture.height)
        if face is None:
            failures += 1
            continue
        if vectors is None:
            vectors = np.full((len(paths), len(face.embedding.vector)), np.nan, np.float32)
        vectors[i] = face.embedding.vector
    assert vectors is not None
    return vectors, failures


def owners(files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return whose each picture of the CelebA subset is, and which are of half B."""
    paths, identity = identities()
    by_name = {path.name: number for path, number in zip(paths, identity, strict=True)}
    owner = np.array([by_name[Path(file).name] for file in files])
    return owner, ~np.isin(owner, np.unique(identity[in_half_a(identity)]))


def half_b(embedder: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the embeddings of half B as they are compared, whose they are, and how many pictures showed no face."""
    from people import embedded

    faces, cohort = embedded("celeba10k", embedder), cohort_of(EmbedderConvention.of(mien.zoo.card(embedder)))
    owner, kept = owners(faces.files)
    vectors = faces.vectors[kept & faces.found]
    return (
        (cohort.normalise(vectors) if cohort else vectors),
        owner[kept & faces.found],
        int((kept & ~faces.found).sum()),
    )


def measure(vectors: np.ndarray, identity: np.ndarray, *, dataset: str) -> dict[str, object]:
    """Return operating points with intervals from resampled subjects, calibration and summary figures."""
    subjects, number = np.unique(identity, return_inverse=True)
    first, second = np.triu_indices(len(vectors), 1)
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), 4_000_000):
        part = slice(start, start + 4_000_000)
        scores[part] = np.einsum("ij,ij->i", vectors[first[part]], vectors[second[part]])
    mated = number[first] == number[second]
    genuine, impostor = scores[mated], scores[~mated]
    owner = number[first[mated]]

    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), size=REPLICATES).astype(
        np.float32
    )
    pairs = _by_subject(number[first[~mated]], number[second[~mated]], np.ones(len(impostor), bool), len(subjects))
    trials = np.einsum("rs,st,rt->r", weights, pairs, weights, optimize=True)
    mated_count = np.bincount(owner, minlength=len(subjects)).astype(np.float32)

    points = []
    for rate in RATES:
        threshold = permissive_threshold(impostor, rate=rate)
        accepted = impostor >= threshold
        wrong = _by_subject(number[first[~mated]], number[second[~mated]], accepted, len(subjects))
        fmr = np.einsum("rs,st,rt->r", weights, wrong, weights, optimize=True) / trials
        missed = np.bincount(owner, weights=genuine < threshold, minlength=len(subjects)).astype(np.float32)
        fnmr = (weights @ missed) / (weights @ mated_count)
        points.append(
            OperatingPoint(
                target_fmr=rate,
                threshold=round(float(threshold), 6),
                fmr=float(accepted.mean()),
                fnmr=float((genuine < threshold).mean()),
                fmr_interval=tuple(float(v) for v in np.percentile(fmr, [2.5, 97.5])),
                fnmr_interval=tuple(float(v) for v in np.percentile(fnmr, [2.5, 97.5])),
                num_genuine=len(genuine),
                num_impostor=len(impostor),
                dataset=dataset,
            )
        )
    fitted = fit_logistic(genuine, impostor)
    return {
        "operating_points": [asdict(point) for point in points],
        "probability": [fitted.slope, fitted.intercept],
        "metrics": {
            "eer": eer(genuine, impostor),
            "cllr": cllr(fitted.llr(genuine), fitted.llr(impostor)),
            "subjects": len(subjects),
            "faces": len(vectors),
        },
    }


def _by_subject(first: np.ndarray, second: np.ndarray, chosen: np.ndarray, subjects: int) -> np.ndarray:
    """Count the chosen comparisons of each pair of subjects."""
    cells = np.bincount(first[chosen] * subjects + second[chosen], minlength=subjects**2)
    return cells.reshape(subjects, subjects).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default=mien.zoo.default("embedder"))
    arguments = parser.parse_args()
    card = mien.zoo.card(arguments.embedder)
    vectors, identity, failures = half_b(arguments.embedder)
    dataset = "CelebA subset, 89x109 px, half B of the identities"
    facts = measure(vectors, identity, dataset=dataset)
    facts["metrics"]["failures_to_acquire"] = failures
    target = Path(mien.zoo.__file__).parent / "measured" / f"{arguments.embedder}.json"
    target.parent.mkdir(exist_ok=True)
    before = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    facts |= {"groups": before["groups"]} if "groups" in before else {}
    target.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    head = {"machine": machine(), "embedder": card.id}
    write_result(f"operating_points_{arguments.embedder}", {**head, **facts})
    for point in facts["operating_points"]:
        print({key: point[key] for key in ("target_fmr", "threshold", "fnmr", "fmr_interval", "fnmr_interval")})
    print(facts["metrics"], facts["probability"])


if __name__ == "__main__":
    main()
