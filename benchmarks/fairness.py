"""Measure false match rates by group of people, with and without the cohort, at the threshold for FMR 1e-3 on half B.

UTKFace's measuring half: within origin and sex, adults; children up to 10 years among themselves. Every picture stands
for a person of its own, but for those that two networks both take for one person. The London set: within ethnicity and
sex.
Writes results/fairness.json, and the rates by group onto the cards.

    MIEN_DATA=... [MIEN_VECTORS=...] python benchmarks/fairness.py [--embedder sface --embedder dlib-resnet29 ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, write_result
from operating_points import owners
from people import EMBEDDERS, embedded, london, same_people, utkface

import mien.zoo
from mien.evaluation.groups import GroupRates, rates_within
from mien.metrics.verification import permissive_threshold
from mien.vision.cohort import cohort_of
from mien.vision.conventions import EmbedderConvention

TARGET, RATES = 1e-3, (1e-2, 1e-3, 1e-4)


def thresholds_on_half_b(vectors: np.ndarray, identity: np.ndarray) -> dict[float, float]:
    """Return the thresholds that keep rates among all non-mated comparisons."""
    first, second = np.triu_indices(len(vectors), 1)
    scores = (vectors @ vectors.T)[first, second]
    impostor = scores[identity[first] != identity[second]]
    return {rate: float(permissive_threshold(impostor, rate=rate)) for rate in RATES}


def rows(
    groups: dict[str, np.ndarray], vectors: np.ndarray, subjects: np.ndarray, threshold: float
) -> list[GroupRates]:
    """Return the rates of each group, largest FMR first."""
    found = [
        rates_within(name, vectors[chosen], subjects[chosen], threshold)
        for name, chosen in groups.items()
        if len(np.unique(subjects[chosen])) >= 20
    ]
    return sorted(found, key=lambda rates: -rates.fmr)


def short(rates: GroupRates) -> dict[str, Any]:
    return {
        "group": rates.group, "fmr": rates.fmr, "interval": rates.fmr_interval, "people": rates.subjects,
        "comparisons": rates.num_impostor,
    }  # fmt: skip


def measure(embedder: str) -> dict[str, Any]:
    card = mien.zoo.card(embedder)
    cohort = cohort_of(EmbedderConvention.of(card))
    celeba, utk, sets = (embedded(name, embedder) for name in ("celeba10k", "utkface128", "london_dev"))
    owner, half_b = owners(celeba.files)
    half_b &= celeba.found
    known = utkface(utk.files)
    pair = [embedded("utkface128", name).vectors for name in ("sface", "dlib-resnet29")]
    measured = ~known.in_cohort & utk.found & ~np.isnan(pair[0][:, 0]) & ~np.isnan(pair[1][:, 0])
    subjects = same_people(*(vectors[measured] for vectors in pair))
    groups = {name: chosen[measured] for name, chosen in known.groups().items()}
    people, group = london(sets.files)
    report: dict[str, Any] = {"id": card.id, "target_fmr": TARGET}
    for label, prepare in (("without_cohort", None), ("with_cohort", cohort)):
        if label == "with_cohort" and cohort is None:
            continue
        as_compared = prepare.normalise if prepare else (lambda vectors: vectors)
        thresholds = thresholds_on_half_b(as_compared(celeba.vectors[half_b]), owner[half_b])
        threshold = thresholds[TARGET]
        found = rows(groups, as_compared(utk.vectors[measured]), subjects, threshold)
        adults = [rates for rates in found if not rates.group.startswith("children")]
        children = next(rates for rates in found if rates.group.startswith("children"))
        # Within London's groups there are hardly two dozen people: all of one ethnicity together as well.
        by_look = {str(name): group == name for name in np.unique(group)}
        ethnicity = np.array([name.split()[0] for name in group])
        by_look |= {str(name): ethnicity == name for name in np.unique(ethnicity)}
        seen = [
            rates_within(name, as_compared(sets.vectors[chosen]), people[chosen], threshold)
            for name, chosen in by_look.items()
            if len(np.unique(people[chosen])) >= 4
        ]
        report[label] = {
            "threshold": threshold,
            "utkface": {
                "worst_adult": short(adults[0]),
                "children": short(children),
                "groups": [short(rates) for rates in found],
            },
            "by_target": [
                {
                    "target_fmr": rate,
                    "group": row.group,
                    "fmr": row.fmr,
                    "fmr_interval": row.fmr_interval,
                    "people": row.subjects,
                }
                for rate, at in thresholds.items()
                for row in rows(groups, as_compared(utk.vectors[measured]), subjects, at)
            ],
            "london": [short(rates) | {"fnmr": rates.fnmr} for rates in sorted(seen, key=lambda r: -r.fmr)],
        }
    report["utkface"] = report["with_cohort" if cohort else "without_cohort"]["utkface"]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", action="append")
    names = parser.parse_args().embedder or EMBEDDERS
    report = {name: measure(name) for name in names}
    write_result("fairness", {"machine": machine(), "target_fmr": TARGET, "embedders": report})
    for name, facts in report.items():
        target = Path(mien.zoo.__file__).parent / "measured" / f"{name}.json"
        card = json.loads(target.read_text(encoding="utf-8"))
        best = "with_cohort" if "with_cohort" in facts else "without_cohort"
        card["groups"] = {
            "dataset": "UTKFace, the half that no cohort saw: adults by origin and sex, children up to 10",
            "rows": facts[best]["by_target"],
        }
        target.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        print(name, {k: facts[k]["utkface"]["worst_adult"] for k in ("without_cohort", "with_cohort") if k in facts})
        print(name, {k: facts[k]["utkface"]["children"] for k in ("without_cohort", "with_cohort") if k in facts})


if __name__ == "__main__":
    main()
