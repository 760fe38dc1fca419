"""Measure how often embedders miss somebody on a bad picture whose good picture they know; half B of CelebA.

One probe a subject, spoilt, against one untouched picture of each subject. All embedders see the same pictures and the
same landmarks. `recipe` is that of `benchmarks/quality.py`; the other kinds are those of `benchmarks/poor_pictures.py`.
FNMR is at the threshold that keeps the stated FMR among these comparisons. Intervals resample subjects, thresholds
included; differences are paired. A probe in which no face is found is left out for everybody, and counted.

    MIEN_DATA=... python benchmarks/degraded.py [--embedder sface --embedder dlib-resnet29 ...] [--base sface]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import machine, write_result
from operating_points import identities, in_half_a
from people import EMBEDDERS
from poor_pictures import KINDS, spoil

from mien import zoo
from mien.analyzer import Analyzer, main_face
from mien.data.degradation import degrade
from mien.images import load_image
from mien.vision.embedder import Embedder

SEED, REPLICATES = 0, 200
RATES = (1e-2, 1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", action="append")
    parser.add_argument("--base", default="sface")
    arguments = parser.parse_args()
    names = arguments.embedder or list(EMBEDDERS)
    embedders = {name: Embedder(zoo.named(name)) for name in names}
    finder = Analyzer(expression=None)
    paths, identity = identities()
    rng, chosen = np.random.default_rng(SEED), []
    for subject in np.unique(identity[~in_half_a(identity)]):
        own = np.flatnonzero(identity == subject)
        if len(own) > 1:
            chosen.append(rng.permutation(own)[:2])
    kinds = ("recipe", *KINDS)
    known: dict[str, list[np.ndarray]] = {name: [] for name in names}
    probes: dict[str, dict[str, list[np.ndarray | None]]] = {kind: {name: [] for name in names} for kind in kinds}
    for place, (reference, probe) in enumerate(chosen):
        good, bad = load_image(paths[reference]), load_image(paths[probe])
        marks = landmarks(finder, good), landmarks(finder, bad)
        if marks[0] is None or marks[1] is None:
            continue
        for name, embedder in embedders.items():
            known[name].append(embedder.embed(embedder.crop(good, marks[0])[None])[0])
        for kind in kinds:
            chance = np.random.default_rng([SEED, place])
            picture = degrade(bad, chance) if kind == "recipe" else spoil(kind, bad, marks[1], chance)
            found = landmarks(finder, picture)
            for name, embedder in embedders.items():
                seen = None if found is None else embedder.embed(embedder.crop(picture, found)[None])[0]
                probes[kind][name].append(seen)
    rows = {kind: measured(known, probes[kind], arguments.base) for kind in kinds}
    write_result(
        "degraded",
        {
            "machine": machine(), "seed": SEED, "base": arguments.base, "subjects": len(next(iter(known.values()))),
            "embedders": {name: embedder.card.id for name, embedder in embedders.items()},
            "one_face_one_thread_ms": {name: one_face(name) for name in names}, "kinds": rows,
        },
    )  # fmt: skip
    for kind, row in rows.items():
        print(f"{kind:<20} {row['probes']:>5} found", *(
            f"{name} " + " ".join(f"{100 * row['fnmr'][name][f'{rate:g}']['value']:.1f}" for rate in RATES)
            for name in names
        ), sep="  ")  # fmt: skip


def one_face(name: str) -> float:
    """Return the median ms of one aligned face on one thread, all that belongs to it included."""
    embedder, times = Embedder(zoo.named(name), threads=1), []
    crop = np.random.default_rng(0).integers(0, 256, (1, embedder.side, embedder.side, 3), dtype=np.uint8)
    for _ in range(110):
        start = time.perf_counter()
        embedder.embed(crop)
        times.append(time.perf_counter() - start)
    return float(np.median(times[10:]) * 1e3)


def landmarks(finder: Analyzer, image: np.ndarray) -> np.ndarray | None:
    faces = finder.analyze(image, embed=False)
    face = main_face(faces, image.shape[1], image.shape[0])
    return None if face is None else face.landmarks


def measured(
    known: dict[str, list[np.ndarray]], probes: dict[str, list[np.ndarray | None]], base: str
) -> dict[str, Any]:
    """Return FNMR by embedder, and how many misses each saves over the base, as a share of the base's."""
    found = np.array([vector is not None for vector in next(iter(probes.values()))])
    draws, values = {}, {}
    weights = np.random.default_rng(SEED).multinomial(
        found.sum(), np.full(found.sum(), 1 / found.sum()), size=REPLICATES
    )
    for name in known:
        references = np.stack(known[name])[found]
        scores = np.stack([vector for vector in probes[name] if vector is not None]) @ references.T
        values[name] = fnmr(scores, np.ones((1, len(scores))))[0]
        draws[name] = fnmr(scores, weights)
    report: dict[str, Any] = {"probes": int(found.sum()), "not_found": int((~found).sum()), "fnmr": {}, "saved": {}}
    for name in known:
        report["fnmr"][name] = {f"{rate:g}": figure(values[name][i], draws[name][:, i]) for i, rate in enumerate(RATES)}
        if name != base:
            report["saved"][name] = {
                f"{rate:g}": figure(
                    1 - values[name][i] / max(values[base][i], 1e-9),
                    1 - draws[name][:, i] / np.maximum(draws[base][:, i], 1e-9),
                )
                for i, rate in enumerate(RATES)
            }
    return report


def figure(value: float, draws: np.ndarray) -> dict[str, Any]:
    return {"value": float(value), "interval": [float(v) for v in np.percentile(draws, [2.5, 97.5])]}


def fnmr(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the FNMR at each rate for each row of weights of subjects, shape (rows, rates)."""
    own = np.diag(scores)
    first, second = np.nonzero(~np.eye(len(scores), dtype=bool))
    order = np.argsort(-scores[first, second])
    first, second = first[order], second[order]
    falling = scores[first, second]
    rows = []
    for row in weights:
        share = np.cumsum(row[first] * row[second], dtype=np.float64)
        share /= share[-1]
        thresholds = falling[[int(np.searchsorted(share, rate, side="right")) for rate in RATES]]
        rows.append([(row * (own < threshold)).sum() / row.sum() for threshold in thresholds])
    return np.array(rows)


if __name__ == "__main__":
    main()
