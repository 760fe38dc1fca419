"""A gallery normalised by people of its own, `mien calibrate --cohort`: is the stated rate kept, and what is missed?

Half B of the CelebA subset: 500 subjects are enrolled with a picture each, their other pictures are mates, the rest of
half B are strangers. Half B of the UTKFace crops: 500 adults of one origin are enrolled, the others of that origin are
strangers; mates there are none. The threshold is the one that `mien calibrate` derives from the enrolled for FMR 1e-3.
The cohort is none, the shipped one, the enrolled themselves, or a folder of other people of the same source (half A).
Five draws of who is enrolled.

    MIEN_DATA=... MIEN_VECTORS=... python benchmarks/own_cohort.py [--embedder sface]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from common import machine, write_result
from operating_points import identities, in_half_a
from people import ADULT, embedded, same_people, utkface

import mien.zoo
from mien.metrics.verification import permissive_threshold
from mien.vision.cohort import cohort_of, make_cohort
from mien.vision.conventions import EmbedderConvention

RATE, ENROLLED, DRAWS = 1e-3, 500, 5
Change = Callable[[np.ndarray], np.ndarray]


def rates(
    change: Change, enrolled: np.ndarray, strangers: np.ndarray, mates: np.ndarray | None, owner: np.ndarray | None
) -> dict[str, float]:
    """Return the threshold from the enrolled, how often strangers match at it, and how many mates are missed."""
    gallery = change(enrolled)
    scores = (gallery @ gallery.T)[np.triu_indices(len(gallery), 1)]
    threshold = permissive_threshold(scores, rate=RATE)
    found = {"threshold": float(threshold), "fmr": float((change(strangers) @ gallery.T >= threshold).mean())}
    if mates is not None and owner is not None:
        found["fnmr"] = float(((change(mates) * gallery[owner]).sum(axis=1) < threshold).mean())
    return found


def arms(embedder: str, enrolled: np.ndarray, folder: np.ndarray) -> dict[str, Change]:
    """Return what normalises, by name."""
    shipped = cohort_of(EmbedderConvention.of(mien.zoo.card(embedder)))
    own = {"the enrolled": make_cohort(enrolled), f"a folder of {len(folder)} others": make_cohort(folder)}
    return {
        "none": lambda vectors: vectors,
        "shipped": shipped.normalise if shipped is not None else lambda vectors: vectors,
        **{name: cohort.normalise for name, cohort in own.items()},
    }


def celeba(embedder: str, rng: np.random.Generator) -> dict[str, Any]:
    """Measure one draw among celebrities."""
    _, identity = identities()
    vectors = embedded("celeba10k", embedder).vectors
    there = np.isfinite(vectors).all(axis=1)
    half_b = there & ~in_half_a(identity)
    subjects = rng.permutation(np.unique(identity[half_b]))
    chosen, others = subjects[:ENROLLED], subjects[ENROLLED:]
    first = {subject: np.flatnonzero(half_b & (identity == subject))[0] for subject in chosen}
    place = {subject: number for number, subject in enumerate(chosen)}
    mates = np.flatnonzero(half_b & np.isin(identity, chosen) & ~np.isin(np.arange(len(identity)), [*first.values()]))
    owner = np.array([place[subject] for subject in identity[mates]])
    enrolled = vectors[[first[subject] for subject in chosen]]
    strangers = vectors[half_b & np.isin(identity, others)]
    half_a = np.flatnonzero(there & in_half_a(identity))
    folder = vectors[half_a[np.unique(identity[half_a], return_index=True)[1]]]
    return {name: rates(change, enrolled, strangers, vectors[mates], owner)
            for name, change in arms(embedder, enrolled, folder).items()}  # fmt: skip


def origin(embedder: str, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Measure one draw among adults of one origin."""
    faces = embedded("utkface128", embedder)
    other = embedded("utkface128", "sface" if embedder != "sface" else "dlib-resnet29")
    known = utkface(faces.files)
    there = np.isfinite(faces.vectors).all(axis=1) & np.isfinite(other.vectors).all(axis=1)
    there &= (known.age >= ADULT) & (known.origin == name)
    rows = np.flatnonzero(there)
    sface, dlib = (faces, other) if embedder == "sface" else (other, faces)
    person = same_people(sface.vectors[rows], dlib.vectors[rows])
    rows = rows[np.sort(np.unique(person, return_index=True)[1])]  # a picture a person
    half_b = rng.permutation(rows[~known.in_cohort[rows]])
    enrolled, strangers = faces.vectors[half_b[:ENROLLED]], faces.vectors[half_b[ENROLLED:]]
    folder = faces.vectors[rows[known.in_cohort[rows]]]
    return {name: rates(change, enrolled, strangers, None, None)
            for name, change in arms(embedder, enrolled, folder).items()}  # fmt: skip


def main() -> None:
    """Measure all, and write `results/own_cohort.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--embedder", default="sface")
    embedder = parser.parse_args().embedder
    result: dict[str, Any] = {"machine": machine(), "embedder": embedder, "rate": RATE, "enrolled": ENROLLED}
    sources: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
        "celebrities": lambda rng: celeba(embedder, rng),
        **{f"{o} adults": lambda rng, o=o: origin(embedder, o, rng) for o in ("white", "black", "asian", "indian")},
    }
    for source, measure in sources.items():
        draws = [measure(np.random.default_rng(seed)) for seed in range(DRAWS)]
        names = zip(*(draw for draw in draws), strict=True)
        result[source] = {}
        for same in names:
            found = [draw[name] for draw, name in zip(draws, same, strict=True)]
            label = same[0]
            result[source][label] = {key: [round(one[key], 5) for one in found] for key in found[0]}
            print(source, label, {key: f"{np.mean(v):.5f}" for key, v in result[source][label].items()}, flush=True)
    write_result("own_cohort", result)


if __name__ == "__main__":
    main()
