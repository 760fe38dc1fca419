"""Measure what a stated false match rate is worth on poor pictures: strangers of half B, small, blurred, masked, ...

One picture a subject; both sides of a comparison are spoilt in the same way. Thresholds are the card's for FMR 1e-3,
without and with the cohort.

    MIEN_DATA=... python benchmarks/poor_pictures.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import data_folder, machine, write_result
from fairness import thresholds_on_half_b
from operating_points import half_b, identities, in_half_a
from people import EMBEDDERS

import mien.zoo
from mien.analyzer import Analyzer, main_face
from mien.data.degradation import add_noise, blur, change_light, compress, cover, shrink
from mien.images import load_image
from mien.metrics.intervals import bootstrap_rate

PEOPLE, TARGET, SEED = 700, 1e-3, 0


def spoil(kind: str, image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture spoilt in one way."""
    eyes = float(np.hypot(*(landmarks[1] - landmarks[0])))
    match kind:
        case "face of 20 px":
            return shrink(image, 20 / (2.2 * eyes))
        case "face of 32 px":
            return shrink(image, 32 / (2.2 * eyes))
        case "blurred":
            return blur(image, 0.09 * eyes)
        case "noisy":
            return add_noise(image, 35, rng)
        case "dark":
            return change_light(image, 0.12, noise=4, rng=rng)
        case "JPEG of quality 10":
            return compress(image, 10)
        case "masked":
            below = (landmarks[2] + landmarks[3:].mean(axis=0)) / 2 + [0, 0.25 * eyes]
            return cover(image, below, width=1.9 * eyes, height=1.5 * eyes, colour=(120, 160, 190))
    return image


KINDS = ("as it is", "face of 32 px", "face of 20 px", "blurred", "noisy", "dark", "JPEG of quality 10", "masked")


def main() -> None:
    paths, identity = identities()
    kept = np.nonzero(~in_half_a(identity))[0]
    _, first = np.unique(identity[kept], return_index=True)
    chosen = np.random.default_rng(SEED).permutation(kept[first])[:PEOPLE]
    finder = Analyzer(expression=None)
    pictures = []
    for number in chosen:
        image = load_image(data_folder() / "celeba10k" / paths[number].relative_to(data_folder() / "celeba10k"))
        face = main_face(finder.analyze(image, embed=False), image.shape[1], image.shape[0])
        if face is not None:
            pictures.append((image, face.landmarks))
    report: dict[str, Any] = {}
    for name in EMBEDDERS:
        analyzer = Analyzer(embedder=name, expression=None)
        vectors, owner, _ = half_b(name)
        cohort = analyzer.embedder.cohort
        assert cohort is not None
        ways = {"without_cohort": cohort.undo, "with_cohort": lambda vectors: vectors}
        thresholds = {way: thresholds_on_half_b(change(vectors), owner)[TARGET] for way, change in ways.items()}
        rows = []
        for kind in KINDS:
            found, quality = [], []
            for number, (image, landmarks) in enumerate(pictures):
                spoilt = spoil(kind, image, landmarks, np.random.default_rng((SEED, number)))
                face = main_face(analyzer.analyze(spoilt), spoilt.shape[1], spoilt.shape[0])
                if face is not None:
                    found.append(face.embedding.vector)
                    quality.append(face.quality.score)
            row: dict[str, Any] = {
                "kind": kind, "faces": len(found), "not_found": len(pictures) - len(found),
                "median_quality": float(np.median(quality)),
            }  # fmt: skip
            upper = np.triu_indices(len(found), 1)
            for way, change in ways.items():
                compared = change(np.stack(found))
                matched = (compared @ compared.T)[upper] >= thresholds[way]
                row[f"fmr_{way}"] = float(matched.mean())
                row[f"fmr_{way}_interval"] = bootstrap_rate(matched, np.stack(upper, axis=1))
            rows.append(row)
            print(name, row, flush=True)
        report[name] = {"id": mien.zoo.card(name).id, "target_fmr": TARGET, "rows": rows}
    write_result("poor_pictures", {"machine": machine(), "embedders": report})


if __name__ == "__main__":
    main()
