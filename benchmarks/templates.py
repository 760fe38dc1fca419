"""Templates of several pictures: does pooling a subject's samples find more people than the best single score?

The rule is chosen on half A of CelebA and measured on half B, by FNIR at FPIR 1 %, searching everybody who has one more
picture than the references asked for. Five references are measured on 48 people of `pins_dev`, none of whom chose
anything, among half B's people. Strangers are the people of a half with one picture.

    MIEN_DATA=... MIEN_VECTORS=... python benchmarks/templates.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, write_result
from operating_points import owners
from people import embedded, pictures

import mien.zoo
from mien.analyzer import Analyzer, main_face
from mien.metrics.intervals import percentile_interval
from mien.types import as_unit
from mien.vision.cohort import Cohort, cohort_of, pooled
from mien.vision.conventions import EmbedderConvention

EMBEDDER, SEED, DRAWS, REPLICATES = "sface", 0, 5, 1000
FPIR = 0.01
FIXED_FMR = 1e-4  # of single comparisons: what pooling does to a threshold that knows nothing of it
THRESHOLD = next(p.threshold for p in mien.zoo.card(EMBEDDER).operating_points if p.target_fmr == FIXED_FMR)
EIGHT = 8  # as in mien.gallery.gallery
SHIPPED = "mean and best single, of eight"
"""What a gallery does: it keeps no weights beside its templates, and half A shows no clear gain by them."""
PINS = 20  # pictures of each person
Weigh = Callable[[np.ndarray], np.ndarray]

WEIGHTS: dict[str, Weigh] = {
    "mean": np.ones_like,
    "quality": lambda quality: quality,
    "quality squared": lambda quality: quality**2,
    "quality odds": lambda quality: quality / (1.02 - quality),
}


def qualities(dataset: str, files: tuple[str, ...], wanted: np.ndarray) -> np.ndarray:
    """Return the quality of the main faces of some pictures, NaN of the others; kept between runs."""
    kept = Path(os.environ.get("MIEN_VECTORS", ".")) / f"{dataset}-quality.npz"
    if "MIEN_VECTORS" in os.environ and kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            if tuple(stored["files"]) == files and not np.isnan(stored["quality"][wanted]).any():
                return np.asarray(stored["quality"])
    quality, rows = np.full(len(files), np.nan), np.nonzero(wanted)[0]
    paths = [data_folder() / dataset / files[row] for row in rows]
    read = Analyzer(embedder=EMBEDDER, expression=None).pictures(paths, embed=False)
    for row, picture in zip(rows, read, strict=True):
        face = main_face(picture.faces, picture.width, picture.height)
        quality[row] = 0.0 if face is None or face.quality is None else face.quality.score
    if "MIEN_VECTORS" in os.environ:
        np.savez(kept, files=np.array(files), quality=quality)
    return quality


def pins(cohort: Cohort | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings, qualities and people of twenty pictures each of `pins_dev`; kept between runs."""
    kept = Path(os.environ.get("MIEN_VECTORS", ".")) / f"pins_dev-{EMBEDDER}-part.npz"
    if "MIEN_VECTORS" in os.environ and kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            return stored["vectors"], stored["quality"], stored["people"]
    by_person: dict[str, list[Path]] = {}
    for path in pictures("pins_dev"):
        by_person.setdefault(path.parent.name, []).append(path)
    paths = [path for mine in by_person.values() for path in mine[:PINS]]
    vectors, quality, people = [], [], []
    for picture in Analyzer(embedder=EMBEDDER, expression=None).pictures(paths):
        face = main_face(picture.faces, picture.width, picture.height)
        if face is None or face.embedding is None or face.quality is None:
            continue
        vector = face.embedding.vector[None]
        vectors.append(vector[0] if cohort is None else Cohort.undo(vector)[0])
        quality.append(face.quality.score)
        people.append(Path(str(picture.path)).parent.name)
    found = np.stack(vectors), np.array(quality), np.array(people)
    if "MIEN_VECTORS" in os.environ:
        np.savez(kept, vectors=found[0], quality=found[1], people=found[2])
    return found


class Rules:
    """Scores of probes with subjects, by each rule, all from embeddings as a gallery stores them."""

    def __init__(self, cohort: Cohort | None) -> None:
        self._normalise = cohort.normalise if cohort is not None else as_unit

    def scores(self, probes: np.ndarray, vectors: np.ndarray, quality: np.ndarray, owner: np.ndarray) -> dict[str, Any]:
        """Return (probes, subjects) scores by rule; ``owner`` numbers the subjects from 0 without a gap."""
        stored, probes = self._normalise(vectors), self._normalise(probes)
        order = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[order], np.arange(owner.max() + 1))
        members = np.split(order, starts[1:])
        single = np.maximum.reduceat(probes @ stored[order].T, starts, axis=1)
        found = {"best single": single}
        for name, weigh in WEIGHTS.items():
            weights = weigh(np.maximum(quality, 1e-3))
            templates = np.stack([pooled(stored[mine], weights[mine]) for mine in members])
            found[name] = probes @ templates.T
            found[f"{name} and best single"] = (single + found[name]) / 2
        found["mean or best single"] = np.maximum(single, found["mean"])
        # What a gallery does: only the subjects that are the best by a single sample are looked at again.
        least = np.partition(single, -EIGHT, axis=1)[:, -EIGHT, None]
        found["mean and best single, of eight"] = np.where(single >= least, found["mean and best single"], -1.0)
        return found


def misses(
    rules: Rules, vectors: np.ndarray, quality: np.ndarray, owner: np.ndarray, searched: np.ndarray,
    strangers: np.ndarray, references: int, seed: int,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:  # fmt: skip
    """Draw references of each subject; return by rule the score of each probe (-1: another came first) and the
    best score of each stranger; and whose each probe is.
    """
    rng, enrolled, probes = np.random.default_rng(seed), [], []
    for subject in np.unique(owner):
        mine = rng.permutation(np.nonzero(owner == subject)[0])
        enrolled += mine[:references].tolist()
        probes += mine[references:].tolist() if subject in searched else []
    people, number = np.unique(owner[enrolled], return_inverse=True)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    place = np.searchsorted(people, owner[probes])
    mated = rules.scores(vectors[probes], vectors[enrolled], quality[enrolled], number)
    non_mated = rules.scores(strangers, vectors[enrolled], quality[enrolled], number)
    for name, scores in mated.items():
        own = scores[np.arange(len(probes)), place]
        found[name] = (np.where(own >= scores.max(axis=1) - 1e-7, own, -1.0), non_mated[name].max(axis=1))
    return found, owner[probes]


def fnir(own: np.ndarray, best: np.ndarray, weight: np.ndarray, counted: np.ndarray) -> float:
    """Return FNIR at the FPIR; each probe and each stranger counts so often."""
    order = np.sort(np.repeat(best, counted))[::-1]
    threshold = order[int(FPIR * len(order))]
    return float(((own <= threshold) * weight).sum() / weight.sum())


def at_threshold(own: np.ndarray, best: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return FPIR and FNIR at a threshold that was measured for single comparisons."""
    return float((best >= threshold).mean()), float((own < threshold).mean())


def measure(
    rules: Rules, vectors: np.ndarray, quality: np.ndarray, owner: np.ndarray, searched: np.ndarray,
    strangers: np.ndarray, references: int,
) -> dict[str, Any]:  # fmt: skip
    """Return FNIR by rule, with the interval of its difference to the best single score; people are drawn anew."""
    drawn = [
        misses(rules, vectors, quality, owner, searched, strangers, references, SEED + draw) for draw in range(DRAWS)
    ]
    rng = np.random.default_rng(SEED)
    people = np.unique(owner[np.isin(owner, searched)])
    resampled = [
        (rng.multinomial(len(people), np.full(len(people), 1 / len(people))),
         rng.multinomial(len(strangers), np.full(len(strangers), 1 / len(strangers))))
        for _ in range(REPLICATES // DRAWS)
    ]  # fmt: skip
    report: dict[str, Any] = {"subjects": len(np.unique(owner)), "searched": len(people), "strangers": len(strangers)}
    replicates: dict[str, np.ndarray] = {}
    for name in drawn[0][0]:
        ones = [fnir(*found[name], np.ones(len(who)), np.ones(len(strangers), int)) for found, who in drawn]
        replicates[name] = np.array([
            np.mean([fnir(*found[name], of_people[np.searchsorted(people, who)], of_strangers) for found, who in drawn])
            for of_people, of_strangers in resampled
        ])  # fmt: skip
        difference = replicates[name] - replicates["best single"]
        fixed = np.mean([at_threshold(*found[name], THRESHOLD) for found, _ in drawn], axis=0)
        report[name] = {
            f"at_fmr_{FIXED_FMR:g}": {"fpir": float(fixed[0]), "fnir": float(fixed[1])},
            "fnir": float(np.mean(ones)),
            "interval": list(percentile_interval(replicates[name])),
            "difference_interval": list(percentile_interval(difference)),
        }
    return report


def main() -> None:
    card = mien.zoo.card(EMBEDDER)
    cohort = cohort_of(EmbedderConvention.of(card))
    rules = Rules(cohort)
    celeba = embedded("celeba10k", EMBEDDER)
    owner, in_b = owners(celeba.files)
    _, place, counts = np.unique(owner[celeba.found], return_inverse=True, return_counts=True)
    several = celeba.found.copy()
    several[celeba.found] = counts[place] > 2
    # One reference is a template by itself, whatever its quality.
    quality = np.nan_to_num(qualities("celeba10k", celeba.files, several), nan=1.0)
    halves: dict[str, dict[str, Any]] = {}
    for name, half in (("A", ~in_b), ("B", in_b)):
        halves[name] = {}
        for references in (1, 2, 3):
            here = half & celeba.found
            people, many = np.unique(owner[here], return_counts=True)
            enough, alone = people[many > references], people[many == 1]
            chosen, single = here & np.isin(owner, enough), here & np.isin(owner, alone)
            halves[name][str(references)] = measure(
                rules,
                celeba.vectors[chosen],
                quality[chosen],
                owner[chosen],
                enough,
                celeba.vectors[single],
                references,
            )
            print(
                name,
                references,
                {k: v["fnir"] for k, v in halves[name][str(references)].items() if isinstance(v, dict)},
            )
    pins_vectors, pins_quality, names = pins(cohort)
    # Pins' people are searched for among those of half B with three pictures or more, whose pictures are all references
    # up to that number.
    here = in_b & several
    who = np.concatenate([np.unique(names, return_inverse=True)[1], owner[here] + 1000])
    vectors = np.concatenate([pins_vectors, celeba.vectors[here]])
    both = np.concatenate([pins_quality, quality[here]])
    people, many = np.unique(owner[in_b & celeba.found], return_counts=True)
    alone = in_b & celeba.found & np.isin(owner, people[many == 1])
    of_pins = {
        str(references): measure(rules, vectors, both, who, np.arange(1000), celeba.vectors[alone], references)
        for references in (1, 2, 3, 5)
    }
    on_a = {
        rule: float(np.mean([halves["A"][k][rule]["fnir"] for k in ("2", "3")]))
        for rule, facts in halves["A"]["2"].items() if isinstance(facts, dict)
    }  # fmt: skip
    chosen_rule = min(on_a, key=lambda rule: on_a[rule])
    for references, report in of_pins.items():
        print("pins", references, {k: v["fnir"] for k, v in report.items() if isinstance(v, dict)})
    print("best on half A:", chosen_rule)
    write_result(
        "templates",
        {
            "machine": machine(), "embedder": card.id, "fpir": FPIR, "shipped": SHIPPED, "best_on_half_a": chosen_rule,
            "mean_fnir_on_half_a": on_a, "half_a": halves["A"], "half_b": halves["B"], "pins_among_half_b": of_pins,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
