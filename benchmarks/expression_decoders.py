"""Decoders and flows that were tried for the expression models, beside validation faces.

    MIEN_DATA=... python benchmarks/expression_decoders.py NAME=MODEL [...] --cache crops [--runs NAME=RUN ...]

Each model draws as many faces of each expression as half of fer2013plus's validation split has; the other half is the
floor, and encoded and decoded it tells how much of a distance is the decoder's. `--runs` notes settings and last
figures of trainings. What was measured before stands. The test split is not looked at: these arms were chosen among.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, read_result, write_result
from comparison import Comparison
from larger_faces import run

from mien.data.pictures import read_pictures
from mien.vision.generator import Generator, Request

SEED, TEMPLATE, SIDE = 3, "fer-48", 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME=MODEL")
    parser.add_argument("--runs", nargs="*", default=[], metavar="NAME=RUN")
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    pictures = read_pictures(
        data_folder() / "fer2013plus", template=TEMPLATE, side=SIDE, colour=False, splits=("valid",), cache=args.cache
    )
    kept = pictures.labels >= 0
    faces, labels = pictures.rgb()[kept], pictures.labels[kept]
    order = np.random.default_rng(SEED).permutation(len(faces))
    half = len(faces) // 2
    ours, asked = faces[order[:half]], labels[order[:half]]
    comparison = Comparison(ours, TEMPLATE, labels=asked)
    before = read_result("expression_decoders")
    rows = before.get("models", {})
    for name, _, model in (text.partition("=") for text in args.models):
        generator = Generator(model, threads=1)
        assert generator.labels == pictures.classes
        drawn = np.empty_like(ours)
        for label, expression in enumerate(generator.labels):
            places = np.flatnonzero(asked == label)
            request = Request(expression, seed=SEED + label)
            drawn[places] = np.concatenate([batch.images for batch in generator.batches(len(places), request)])
        rows[name] = comparison.of(drawn)
        # Of the other half, so that the floor says what photographs would come to.
        others = generator.encode(np.ascontiguousarray(faces[order[half : 2 * half]]))
        names = [generator.labels[label] for label in labels[order[half : 2 * half]]]
        rows[name]["reconstructions"] = comparison.frechet(generator.decode(others, expression=names))
        print(name, rows[name], flush=True)
    result: dict[str, Any] = {
        "machine": machine(),
        "data": "fer2013plus",
        "split": "valid",
        "faces": half,
        "floor": comparison.frechet(faces[order[half:]]),
        "models": rows,
        "runs": {**before.get("runs", {}), **dict(map(run, args.runs))},
    }
    write_result("expression_decoders", result)


if __name__ == "__main__":
    main()
