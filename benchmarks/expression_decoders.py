"""Decoders and flows that were tried for the expression models, beside validation faces.

    MIEN_DATA=... python benchmarks/expression_decoders.py NAME=MODEL [...] --cache crops [--runs NAME=RUN ...]

Each model draws as many faces of each expression as half of fer2013plus's validation split has; the other half is the
floor. `--runs` notes settings and last figures of trainings. What was measured before stands. The test split is not
looked at: these arms were chosen among.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, read_result, write_result
from larger_faces import run

from mien import zoo
from mien.data.pictures import read_pictures
from mien.evaluation.spaces import feature_space
from mien.metrics.generation import frechet_distance, sharpness, spread_ratio
from mien.metrics.intervals import wilson
from mien.vision.finding import find_face, patient_detector
from mien.vision.generator import Generator, Request

SPACES, SEED, TEMPLATE, SIDE = ("dlib-resnet29", "expression-resnet27", "mini-xception"), 3, "fer-48", 48


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
    spaces = {key: feature_space(zoo.card(key), TEMPLATE, threads=1).features for key in SPACES}
    ours, asked = faces[order[:half]], labels[order[:half]]
    base = {key: features(ours) for key, features in spaces.items()}
    before = read_result("expression_decoders")
    floor = {key: float(frechet_distance(base[key], features(faces[order[half:]]))) for key, features in spaces.items()}
    rows = before.get("models", {})
    detector = patient_detector()
    for name, _, model in (text.partition("=") for text in args.models):
        generator = Generator(model, threads=1)
        assert generator.labels == pictures.classes
        drawn = np.empty_like(ours)
        for label, expression in enumerate(generator.labels):
            places = np.flatnonzero(asked == label)
            request = Request(expression, seed=SEED + label)
            drawn[places] = np.concatenate([batch.images for batch in generator.batches(len(places), request)])
        seen = {key: features(drawn) for key, features in spaces.items()}
        found = sum(find_face(face, detector) is not None for face in drawn)
        rows[name] = {
            "frechet": {key: float(frechet_distance(base[key], seen[key])) for key in SPACES},
            "spread": {key: float(spread_ratio(base[key], seen[key], asked, asked)) for key in SPACES},
            "sharpness": float(sharpness(drawn) / sharpness(ours)),
            "face_found": {"share": found / len(drawn), "interval": list(wilson(found, len(drawn)))},
        }
        print(name, rows[name], flush=True)
    result: dict[str, Any] = {
        "machine": machine(),
        "data": "fer2013plus",
        "split": "valid",
        "faces": half,
        "floor": floor,
        "models": rows,
        "runs": {**before.get("runs", {}), **dict(map(run, args.runs))},
    }
    write_result("expression_decoders", result)


if __name__ == "__main__":
    main()
