"""One picture a person: do simulated views, or what was learned of other people, make a better template?

Everything was chosen on half A of the CelebA subset and on `celeba_identities` (people of neither half); half B was
looked at once. ORL's people are searched for among those of half B. The study is that of `mien study run few-shot`.

    MIEN_DATA=... python benchmarks/few_shot.py WORK [--half-a-only]

WORK keeps lists, embeddings and runs: the same command goes on with it.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, write_result
from operating_points import identities, in_half_a

from mien.studies import engine
from mien.studies.few_shot import BEST, CONTROL, FewShotStudy

LEARN_FROM = 1500  # people of `celeba_identities`, of up to four pictures
FEWER = ("plain", "mirror", "whitened", "quality", "mirror-whitened")
"""Arms with more references, poor probes and ORL: those that need no more than one view of a picture."""
SEEDS = 2  # draws of references on half B and ORL; one on half A, at one reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--half-a-only", action="store_true")
    given = parser.parse_args()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    halves = lists(work)
    learn, cache = learning(work), work / "cache"
    on_a = run(FewShotStudy(halves["a"], learn, seeds=1, references=(1,), cache=cache), work / "half-a")
    show("half A", on_a)
    if given.half_a_only:
        return
    on_b = run(FewShotStudy(halves["b"], learn, seeds=SEEDS, references=(1,), cache=cache), work / "half-b")
    show("half B", on_b)
    more = FewShotStudy(halves["b"], learn, seeds=SEEDS, references=(1, 2, 3), poor=True, arms=FEWER, cache=cache)
    on_more = run(more, work / "half-b-more")
    show("half B, more references and poor probes", on_more)
    orl = FewShotStudy(data_folder() / "orl", learn, halves["b"], seeds=SEEDS, arms=FEWER, cache=cache)
    on_orl = run(orl, work / "orl")
    show("ORL", on_orl)
    result = {
        "command": "MIEN_DATA=data python benchmarks/few_shot.py WORK",
        "machine": machine(),
        "chosen_on_half_a": {"best_learned": BEST, "best_classical": CONTROL},
        "learned_from": f"{LEARN_FROM} people of celeba_identities, of neither half",
        "half_a": on_a,
        "half_b": on_b,
        "half_b_more_references_and_poor_probes": on_more,
        "orl_among_half_b": on_orl,
    }
    write_result("few_shot", result)


def run(study: FewShotStudy, out: Path) -> dict[str, Any]:
    begun = time.time()
    failed = engine.run_cells(study, out, told=lambda cell, done, of: print(f"{done} of {of}: {cell.name}", flush=True))
    if failed:
        raise SystemExit("\n".join(engine.failures(failed)))
    print(f"{out.name}: {time.time() - begun:.0f} s")
    return engine.summarise(study, out)


def show(name: str, figures: dict[str, Any]) -> None:
    print(name)
    for row in figures["rows"]:
        low, high = row["fewer_misses_interval"]
        print(
            f"  {row['setting']:25} {row['arm']:16} FNIR {100 * row['fnir']:5.2f}  fewer misses "
            f"{100 * (row['fewer_misses'] or 0):5.1f} [{100 * low:5.1f}, {100 * high:5.1f}]  "
            f"rank-1 {100 * row['rank1']:.2f}  FPIR at plain's {100 * row['fpir_at_plain_threshold']:.2f}"
        )
    for verdict in figures["verdicts"]:
        print("  ", verdict["sentence"], f"p = {verdict['p_value_holm']:.3g}")


def lists(work: Path) -> dict[str, Path]:
    """Write the pictures of each half's people with three pictures or more, and with one."""
    paths, identity = identities()
    _, place, counts = np.unique(identity, return_inverse=True, return_counts=True)
    fits, half_a = counts[place] != 2, in_half_a(identity)
    found = {}
    for name, half in (("a", half_a), ("b", ~half_a)):
        rows = [(path, who) for path, who, yes in zip(paths, identity, half & fits, strict=True) if yes]
        found[name] = write(work / f"half_{name}.csv", rows)
    return found


def learning(work: Path) -> Path:
    """Write the pictures of people of neither half, those left out who may be there under two numbers."""
    folder = data_folder() / "celeba_identities"
    halves = set(identities()[1].tolist())
    with (folder / "same_person.csv").open(newline="") as file:
        doubtful = {int(row[key]) for row in csv.DictReader(file) for key in "ab"}
    with (folder / "identity.csv").open(newline="") as file:
        rows = [(folder / row["path"], int(row["subject"])) for row in csv.DictReader(file)]
    people = sorted({who for _, who in rows} - halves - doubtful)
    kept = set(np.random.default_rng(0).permutation(people)[:LEARN_FROM].tolist())
    return write(work / "learn.csv", [row for row in rows if row[1] in kept])


def write(file: Path, rows: Sequence[tuple[Path, int]]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("path", "subject"), *((path.resolve(), f"{who:05}") for path, who in rows)])
    return file


if __name__ == "__main__":
    main()
