"""Write the list of faces that our own embedder learns from, without anybody who measures it.

    MIEN_DATA=... python benchmarks/embedder_faces.py faces.csv

CelebA's people (pictures of one person under two numbers merged), half A of the CelebA subset without those who look
like somebody of LFW, the half of UTKFace that cohorts are made of, and RAF-DB's training pictures. Of the last two each
picture stands for a person of its own. 300 people of CelebA are for validation, 300 for the test of the run. Left out:
half B, the other half of UTKFace, LFW, the London set, Pins and ORL, which measure.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import data_folder
from operating_points import identities, in_half_a
from people import pictures, utkface

HELD_OUT = 300  # subjects for validation, and as many for the test
Row = tuple[Path, str, str]


def main() -> None:
    rows = [*celeba(), *own_people("utkface128"), *own_people("rafdb_train")]
    with Path(sys.argv[1]).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "subject", "split"])
        writer.writerows((path.resolve(), subject, split) for path, subject, split in rows)
    for split in ("train", "valid", "test"):
        part = [subject for _, subject, own in rows if own == split]
        print(f"{split}: {len(part):,} pictures of {len(set(part)):,} people")


def celeba() -> Iterator[Row]:
    """Both selections of CelebA number people and pictures as CelebA does: each person once, each picture once."""
    folder = data_folder() / "celeba_identities"
    same = {int(row["b"]): int(row["a"]) for row in read(folder / "same_person.csv")}
    rows = [(folder / row["path"], one_person(int(row["subject"]), same)) for row in read(folder / "identity.csv")]
    held_out = np.random.default_rng(0).permutation(sorted({subject for _, subject in rows}))[: 2 * HELD_OUT].tolist()
    splits = {number: "valid" if place < HELD_OUT else "test" for place, number in enumerate(held_out)}
    there = {path.stem for path, _ in rows}
    looks_like_lfw = {int(row["identity"]) for row in read(folder / "celeba10k_exclude.csv")}
    paths, identity = identities()
    rows += [
        (path, one_person(int(number), same))
        for path, number, chosen in zip(paths, identity, in_half_a(identity), strict=True)
        if chosen and int(number) not in looks_like_lfw and path.stem not in there
    ]
    for path, number in rows:
        yield path, f"celeba {number}", splits.get(number, "train")


def one_person(number: int, same: dict[int, int]) -> int:
    """Return the first of the numbers that CelebA gives to one person."""
    while number in same:
        number = same[number]
    return number


def own_people(dataset: str) -> Iterator[Row]:
    folder, paths = data_folder() / dataset, pictures(dataset)
    files = tuple(str(path.relative_to(folder)) for path in paths)
    if dataset == "utkface128":
        kept = utkface(files).in_cohort
    else:
        warned = {row["file"] for row in read(folder / "labels.csv") if row["near_dup_of_heldout"] != "0"}
        kept = np.array([file not in warned for file in files])
    for path, file, chosen in zip(paths, files, kept, strict=True):
        if chosen:
            yield path, f"{dataset} {file}", "train"


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


if __name__ == "__main__":
    main()
