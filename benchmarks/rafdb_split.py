"""Set a part of RAF-DB's training pictures aside for validation, and leave out those that its own list warns of.

    MIEN_DATA=... python benchmarks/rafdb_split.py FOLDER

FOLDER gets a list with a split for each picture, and a link to the pictures: a data set that `mien` reads like any
other. The draw is seeded and keeps the shares of the classes: of every class one in eight, by
`mien.data.splits.stratified` with seed 0. The 34 pictures that look like one of the official test split are in neither.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from common import data_folder

from mien.data.splits import stratified

SHARES = {"train": 0.875, "valid": 0.125}


def main() -> None:
    out, source = Path(sys.argv[1]), data_folder() / "rafdb_train"
    with (source / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["near_dup_of_heldout"] == "0"]
    rows.sort(key=lambda row: row["file"])
    names = sorted({row["label"] for row in rows})
    splits = stratified(np.array([names.index(row["label"]) for row in rows]), SHARES, seed=0)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "train").exists():
        (out / "train").symlink_to((source / "train").resolve())
    with (out / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        writer.writerows([row["file"], row["label"], split] for row, split in zip(rows, splits, strict=True))
    print(f"{len(rows):,} pictures: " + ", ".join(f"{count:,} {name}" for name, count in Counter(splits).items()))


if __name__ == "__main__":
    main()
