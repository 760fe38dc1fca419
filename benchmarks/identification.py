"""Search 1,000 subjects with one reference each, half B of CelebA: FNIR at FPIR, with and without the cohort.

Probes of enrolled people are their other pictures; probes of strangers one picture of each other subject of half B.
Also: who is joined with a stranger when everybody is somebody else (London set by subject, UTKFace's measuring half).

    MIEN_DATA=... [MIEN_VECTORS=...] python benchmarks/identification.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import machine, write_result
from operating_points import owners
from people import EMBEDDERS, embedded, london, same_people, utkface

import mien.zoo
from mien.grouping import cluster
from mien.metrics.clustering import bcubed
from mien.metrics.intervals import percentile_interval
from mien.metrics.verification import permissive_threshold
from mien.vision.cohort import cohort_of
from mien.vision.conventions import EmbedderConvention

SUBJECTS, SEED, REPLICATES = 1000, 0, 1000
RATES = (1e-1, 1e-2)
GROUPING_FMR = (3e-4, 1e-4)  # the default of `mien group` with dlib's network, and with SFace


def open_set(vectors: np.ndarray, owner: np.ndarray) -> dict[str, Any]:
    """Enrol one picture each of a thousand people with several, and search for the rest."""
    rng = np.random.default_rng(SEED)
    people, counts = np.unique(owner, return_counts=True)
    enrolled = rng.permutation(people[counts > 1])[:SUBJECTS]
    first = {int(person): int(np.nonzero(owner == person)[0][0]) for person in enrolled}
    gallery = vectors[[first[int(person)] for person in enrolled]]
    mated = np.array([i for i in range(len(owner)) if int(owner[i]) in first and first[int(owner[i])] != i])
    strangers = np.array([int(np.nonzero(owner == person)[0][0]) for person in people if int(person) not in first])
    column = {int(person): i for i, person in enumerate(enrolled)}
    scores = vectors[mated] @ gallery.T
    own = scores[np.arange(len(mated)), [column[int(person)] for person in owner[mated]]]
    right = own >= scores.max(axis=1) - 1e-7
    best = (vectors[strangers] @ gallery.T).max(axis=1)
    report: dict[str, Any] = {
        "subjects": len(enrolled), "mated_probes": len(mated), "stranger_probes": len(strangers),
        "rank1": float(right.mean()),
    }  # fmt: skip
    _, who = np.unique(owner[mated], return_inverse=True)
    for rate in RATES:
        misses = []
        for weights, drawn in resampled(who, len(strangers)):
            order = np.sort(np.repeat(best, drawn))[::-1]
            threshold = order[int(rate * len(order))]
            misses.append(float(((~right | (own <= threshold)) * weights).sum() / weights.sum()))
        threshold = np.sort(best)[::-1][int(rate * len(best))]
        report[f"fnir_at_fpir_{rate:g}"] = float((~right | (own <= threshold)).mean())
        report[f"fnir_at_fpir_{rate:g}_interval"] = percentile_interval(np.array(misses))
    return report


def resampled(who: np.ndarray, strangers: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw enrolled people and strangers with replacement: how often each probe counts."""
    rng = np.random.default_rng(SEED)
    people = int(who.max()) + 1
    return [
        (np.bincount(rng.integers(people, size=people), minlength=people)[who],
         np.bincount(rng.integers(strangers, size=strangers), minlength=strangers))
        for _ in range(REPLICATES)
    ]  # fmt: skip


def joined(vectors: np.ndarray, subjects: np.ndarray, threshold: float) -> dict[str, Any]:
    """Group faces and count those that share a group with somebody else's."""
    labels = cluster(vectors.astype(np.float32), threshold=threshold)
    mixed = sum(
        int((labels == label).sum())
        for label in np.unique(labels[labels >= 0])
        if len(np.unique(subjects[labels == label])) > 1
    )
    return {"faces": len(vectors), "joined_with_a_stranger": mixed}


def measure(embedder: str) -> dict[str, Any]:
    card = mien.zoo.card(embedder)
    cohort = cohort_of(EmbedderConvention.of(card))
    celeba, utk, sets = (embedded(name, embedder) for name in ("celeba10k", "utkface128", "london_dev"))
    owner, half_b = owners(celeba.files)
    half_b &= celeba.found
    pair = [embedded("utkface128", name).vectors for name in ("sface", "dlib-resnet29")]
    known = utkface(utk.files)
    measured = ~known.in_cohort & utk.found & ~np.isnan(pair[0][:, 0]) & ~np.isnan(pair[1][:, 0])
    alone = same_people(*(vectors[measured] for vectors in pair))
    people, _ = london(sets.files)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {"without_cohort": lambda vectors: vectors}
    if cohort is not None:
        ways["with_cohort"] = cohort.normalise
    report: dict[str, Any] = {"id": card.id}
    for label, prepare in ways.items():
        vectors = prepare(celeba.vectors[half_b])
        upper = np.triu_indices(len(vectors), 1)
        scores = (vectors @ vectors.T)[upper]
        strangers = owner[half_b][upper[0]] != owner[half_b][upper[1]]
        grouping = []
        for rate in GROUPING_FMR:
            threshold = float(permissive_threshold(scores[strangers], rate=rate))
            grouping.append(
                {
                    "fmr": rate,
                    "half_b_bcubed_f": float(bcubed(owner[half_b], cluster(vectors, threshold=threshold)).f1),
                    "london": joined(prepare(sets.vectors[sets.found]), people[sets.found], threshold),
                    "utkface": joined(prepare(utk.vectors[measured]), alone, threshold),
                }
            )
        report[label] = {**open_set(vectors, owner[half_b]), "grouping": grouping}
    return report


def main() -> None:
    report = {name: measure(name) for name in EMBEDDERS}
    write_result("identification", {"machine": machine(), "data": "CelebA subset, half B", "embedders": report})
    for name, facts in report.items():
        for label in ("without_cohort", "with_cohort"):
            print(name, label, facts.get(label))


if __name__ == "__main__":
    main()
