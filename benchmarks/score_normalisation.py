"""Compare ways to make scores mean the same for everybody, and sizes and kinds of cohort.

Arms are chosen on half A of CelebA's identities (FNMR) and one half of UTKFace's cohort half (FMR by group, the
other being the cohort); half B and UTKFace's measuring half, with a cohort of the whole cohort half, were looked at
afterwards. A cohort must not be of the people it is measured on, so one of CelebA's half A and one of faces that
`face-gan-64` draws are measured beside it.

    MIEN_DATA=... [MIEN_VECTORS=...] python benchmarks/score_normalisation.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import machine, write_result
from operating_points import owners
from people import embedded, same_people, utkface

from mien.analyzer import Analyzer
from mien.gallery.migration import realigned
from mien.types import as_unit
from mien.vision.cohort import Cohort, _cluster, make_cohort
from mien.vision.generator import Generator

RATES = (1e-2, 1e-3, 1e-4)
Scores = Callable[[np.ndarray], np.ndarray]  # vectors -> all scores among them


def raw(vectors: np.ndarray) -> np.ndarray:
    return vectors @ vectors.T


def nearest(vectors: np.ndarray, cohort: np.ndarray, k: int) -> np.ndarray:
    return np.partition(vectors @ cohort.T, -k, axis=1)[:, -k:]


def mean_normalised(cohort: np.ndarray, k: int, weight: float = 0.5) -> Scores:
    def scores(vectors: np.ndarray) -> np.ndarray:
        about = weight * nearest(vectors, cohort, k).mean(axis=1)
        return vectors @ vectors.T - about[:, None] - about

    return scores


def s_normalised(cohort: np.ndarray, k: int) -> Scores:
    def scores(vectors: np.ndarray) -> np.ndarray:
        near = nearest(vectors, cohort, k)
        mean, deviation = near.mean(axis=1), near.std(axis=1)
        one = (vectors @ vectors.T - mean[:, None]) / deviation[:, None]
        return (one + one.T) / 2

    return scores


def locally_scaled(cohort: np.ndarray, k: int, floor: float) -> Scores:
    made = Cohort(cohort, neighbours=k, floor=floor)
    return lambda vectors: raw(made.normalise(vectors))


class Data:
    """One embedder's faces, by part."""

    def __init__(self, embedder: str) -> None:
        celeba, utk = embedded("celeba10k", embedder), embedded("utkface128", embedder)
        owner, half_b = owners(celeba.files)
        self.halves = {
            name: (celeba.vectors[half & celeba.found], owner[half & celeba.found])
            for name, half in (("A", ~half_b), ("B", half_b))
        }
        known = utkface(utk.files)
        found = utk.found & embedded("utkface128", "sface").found & embedded("utkface128", "dlib-resnet29").found
        pair = [embedded("utkface128", name).vectors for name in ("sface", "dlib-resnet29")]
        first = np.random.default_rng(2).permutation(len(utk.files)) < len(utk.files) // 2
        self.parts = {
            "choose: cohort": known.in_cohort & first & found,
            "choose: groups": known.in_cohort & ~first & found,
            "measure: cohort": known.in_cohort & found,
            "measure: groups": ~known.in_cohort & found,
        }
        self.utk, self.groups, self.pair = utk.vectors, known.groups(), pair

    def cohort(self, part: str) -> np.ndarray:
        """Return the embeddings of a part of UTKFace."""
        return self.utk[self.parts[part]]

    def figures(self, scores: Scores, *, half: str, part: str) -> dict[str, Any]:
        """Return FNMR on a half of CelebA and FMR by group on a part of UTKFace, at that half's thresholds."""
        vectors, owner = self.halves[half]
        upper = np.triu_indices(len(vectors), 1)
        found = scores(vectors)[upper]
        mated = owner[upper[0]] == owner[upper[1]]
        impostor = found[~mated]
        at = [int(rate * len(impostor)) for rate in RATES]
        top = np.sort(-np.partition(-impostor, at[0])[: at[0] + 1])[::-1]
        thresholds = [top[i] for i in at]
        report: dict[str, Any] = {
            f"fnmr_at_{rate:g}": float((found[mated] <= threshold).mean())
            for rate, threshold in zip(RATES, thresholds, strict=True)
        }
        by_group = {}
        for name, chosen in self.groups.items():
            chosen = chosen & self.parts[part]
            if chosen.sum() < 60:
                continue
            same = same_people(*(vectors[chosen] for vectors in self.pair))
            upper = np.triu_indices(int(chosen.sum()), 1)
            strangers = same[upper[0]] != same[upper[1]]
            by_group[name] = float((scores(self.utk[chosen])[upper][strangers] > thresholds[1]).mean())
        adults = {name: rate for name, rate in by_group.items() if not name.startswith("children")}
        worst = max(adults, key=lambda name: adults[name])
        children = next(rate for name, rate in by_group.items() if name.startswith("children"))
        return report | {"worst_adult": worst, "worst_adult_fmr": adults[worst], "children_fmr": children}


def generated(embedder: str) -> np.ndarray:
    """Embed 3,000 faces that face-gan-64 draws, brought from their template to the embedder's."""
    analyzer, generator, vectors = Analyzer(embedder=embedder, expression=None), Generator("face-gan-64"), []
    convention = analyzer.card.convention
    for start in range(0, 3000, 100):
        faces = generator.generate(100, seed=start)
        crops = realigned(
            np.asarray(faces), template="face-64", to_template=convention["template"], to_side=convention["side"]
        )
        vectors.append(analyzer.embedder.describe(crops))
    return np.concatenate(vectors)


def arms(data: Data, cohort_part: str, *, all_arms: bool) -> dict[str, Scores]:
    people = data.cohort(cohort_part)
    made = make_cohort(people)
    found: dict[str, Scores] = {
        "as it is": raw,
        "local scaling, as shipped: 20 of 500 centres": lambda v: raw(made.normalise(v)),
        "mean normalisation, 20 of 500 centres": mean_normalised(made.vectors, 20),
        "s-norm, 100 of all": s_normalised(people, 100),
    }
    if not all_arms:
        return found
    usual = made.floor
    for count in (100, 250, 1000):
        centres = _cluster(as_unit(people), count, 0)
        k = max(count // 25, 4)
        found[f"local scaling, {k} of {count} centres"] = locally_scaled(centres, k, usual)
    for k in (5, 10, 40, 80):
        found[f"local scaling, {k} of 500 centres"] = locally_scaled(made.vectors, k, usual)
    for share in (0.5, 1.5, 2.0):
        found[f"local scaling, floor {share:g} times"] = locally_scaled(made.vectors, 20, usual * share)
    for k in (50, 200):
        found[f"local scaling, {k} of all people"] = locally_scaled(people, k, usual)
        found[f"mean normalisation, {k} of all people"] = mean_normalised(people, k)
    for weight in (0.3, 0.7):
        found[f"mean normalisation, 20 of 500 centres, weight {weight:g}"] = mean_normalised(made.vectors, 20, weight)
    found["s-norm, 500 of all"] = s_normalised(people, 500)
    return found


def main() -> None:
    report: dict[str, Any] = {}
    for embedder in ("sface", "dlib-resnet29"):
        data = Data(embedder)
        chosen, measured = {}, {}
        for name, scores in arms(data, "choose: cohort", all_arms=True).items():
            chosen[name] = data.figures(scores, half="A", part="choose: groups")
            print(embedder, "choose", name, chosen[name], flush=True)
        final = arms(data, "measure: cohort", all_arms=False)
        for kind, people in (("CelebA half A", data.halves["A"][0]), ("generated faces", generated(embedder))):
            other = make_cohort(people)
            final[f"local scaling, cohort of {kind}"] = lambda v, other=other: raw(other.normalise(v))
        for name, scores in final.items():
            measured[name] = data.figures(scores, half="B", part="measure: groups")
            print(embedder, "measure", name, measured[name], flush=True)
        report[embedder] = {"half_a_and_cohort_half": chosen, "half_b_and_measuring_half": measured}
    write_result("score_normalisation", {"machine": machine(), **report})


if __name__ == "__main__":
    main()
