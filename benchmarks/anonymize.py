"""Is anybody still known in an anonymised picture, and does the new face show what the old one showed?

Pictures: people of the London set, neutral, and faces of RAF-DB's training split, as many of each expression. Identity
is judged by the embedder that chose the faces and by another that had no say; expressions by the reader that chose and
by another.

    MIEN_DATA=... python benchmarks/anonymize.py
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, write_result

import mien.zoo
from mien.analyzer import Analyzer, main_face
from mien.anonymizer import MODES, Anonymizer
from mien.images import load_image
from mien.matching import operating_point
from mien.metrics.intervals import wilson
from mien.vision.detector import Detection
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.generator import Generator

FMR, SEED = 1e-3, 0
SECRET = b"the same faces at every run"


def pictures(london: int, each: int) -> list[Path]:
    """Return the pictures' files."""
    people = sorted((data_folder() / "london_dev" / "img").glob("*/neutral.jpg"))[:london]
    with (data_folder() / "rafdb_train" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["near_dup_of_heldout"] == "0"]
    chosen = []
    for label in sorted({row["label"] for row in rows}):
        own = [data_folder() / "rafdb_train" / row["file"] for row in rows if row["label"] == label]
        chosen += [own[k] for k in np.random.default_rng(SEED).permutation(len(own))[:each]]
    return people + chosen


def share(flags: list[bool]) -> dict[str, Any]:
    """Return a share with its interval."""
    return {"share": float(np.mean(flags)), "interval": wilson(sum(flags), len(flags)), "n": len(flags)}


def measure(paths: list[Path], mode: str) -> dict[str, Any]:
    """Anonymise pictures and look for who was there."""
    analyzer = Analyzer(threads=1)
    generator = Generator(mien.zoo.default("generator"), threads=1) if mode == "generate" else None
    worker = Anonymizer(analyzer, generator, mode=mode, fmr=FMR, secret=SECRET)
    embedders = {name: Embedder(mien.zoo.card(name), threads=1) for name in ("sface", "dlib-resnet29")}
    limits = {name: operating_point(embedder.card, FMR).threshold for name, embedder in embedders.items()}
    readers = {
        "reader that chose": analyzer.expression_reader,
        "mini-xception": ExpressionReader(mien.zoo.card("mini-xception")),
    }
    matching: dict[str, list[bool]] = {name: [] for name in embedders}
    kept: dict[str, list[bool]] = {name: [] for name in readers}
    modes: dict[str, int] = {}
    first, faceless = list[bool](), 0
    for path in paths:
        image = load_image(path)
        face = main_face(analyzer.analyze(image, embed=False), image.shape[1], image.shape[0])
        if face is None:
            faceless += 1
            continue
        done = worker.anonymize(image, name=path.name)
        for outcome in done.faces:
            modes[outcome.mode] = modes.get(outcome.mode, 0) + 1
            first.append(outcome.tries == 0)
        for name, embedder in embedders.items():
            crops = np.stack([embedder.crop(shown, face.landmarks) for shown in (image, done.image)])
            before, after = embedder.embed(crops)
            matching[name].append(bool(before @ after >= limits[name]))
        for name, reader in readers.items():
            assert reader is not None
            detection = Detection(face.box, face.landmarks, 1.0)
            before, after = (reader.read(shown, [detection])[0].label for shown in (image, done.image))
            kept[name].append(before == after)
    return {
        "mode": mode, "faceless": faceless, "modes": modes,
        "safe_at_first_try": share(first),
        "still_matching": {name: share(flags) for name, flags in matching.items()},
        "expression_kept": {name: share(flags) for name, flags in kept.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--london", type=int, default=32)
    parser.add_argument("--each", type=int, default=4, help="faces of each of RAF-DB's expressions")
    parser.add_argument("--note", default="")
    given = parser.parse_args()
    paths = pictures(given.london, given.each)
    rows = []
    for mode in MODES:
        rows.append(measure(paths, mode))
        print(rows[-1], flush=True)
    write_result("anonymize", {
        "machine": machine(), "fmr": FMR, "pictures": len(paths), "note": given.note,
        "generator": mien.zoo.card(mien.zoo.default("generator")).id, "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
