"""Are faces drawn by `--like PICTURE` of the person of the picture?

    MIEN_DATA=... python benchmarks/likeness.py face-vae-64 [MODEL ...] --cache crops

Pictures of celeba10k that generators did not learn from. Every face is looked at as the generator draws it (64 px), by
the default embedder, which stood in no loss. The threshold accepts one in a hundred pairs of different people of these
very pictures; the operating point of the embedder's card, measured on whole pictures, stands beside it. The
reconstruction, without the noise that --like adds, says what encoder and decoder keep of a person.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from common import data_folder, machine, write_result

from mien import zoo
from mien.data.pictures import read_pictures
from mien.evaluation.spaces import feature_space
from mien.metrics.intervals import wilson
from mien.metrics.verification import permissive_threshold
from mien.vision.generator import Generator

RATE = 1e-2
TEMPLATE = "face-64"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--most", type=int, default=300, help="Pictures to be like.")
    args = parser.parse_args()
    pictures = read_pictures(
        data_folder() / "celeba10k", template=TEMPLATE, side=64, colour=True, splits=("test",), cache=args.cache
    )
    faces = np.ascontiguousarray(pictures.images[: args.most].transpose(0, 2, 3, 1))
    embedder = zoo.card(zoo.default("embedder"))
    embedded = feature_space(embedder, TEMPLATE).features

    def unit(images: np.ndarray) -> np.ndarray:
        vectors = embedded(images)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    given = unit(faces)
    table = (data_folder() / "celeba10k" / "attributes.csv").read_text().splitlines()
    who = {row["file"]: row["identity"] for row in csv.DictReader(table)}
    files = [Path(name).name for name in pictures.names[: args.most]]
    subjects = np.array([who[file] for file in files])
    others = (given @ given.T)[np.triu(subjects[:, None] != subjects, 1)]
    threshold = permissive_threshold(others, rate=RATE)
    card_threshold = next(point.threshold for point in embedder.operating_points if point.fmr >= RATE / 2)
    rows = {}
    for name in args.models:
        generator = Generator(name)
        drawn = {
            "like": np.concatenate(
                [
                    generator.generate(1, like=data_folder() / "celeba10k" / "img" / file, seed=number)
                    for number, file in enumerate(files)
                ]
            ),
            "reconstruction": generator.decode(generator.encode(faces)),
        }
        rows[generator.card.name] = {}
        for what, images in drawn.items():
            cosines = (unit(images) * given).sum(axis=1)
            above = int((cosines > threshold).sum())
            interval = wilson(above, len(cosines))
            rows[generator.card.name][what] = {
                "above": above / len(cosines),
                "interval": list(interval),
                "above_threshold_of_card": float((cosines > card_threshold).mean()),
                "cosine_quartiles": np.quantile(cosines, [0.25, 0.5, 0.75]).tolist(),
            }
        print(generator.card.name, rows[generator.card.name])
    write_result(
        "likeness",
        {
            "machine": machine(),
            "pictures": len(faces),
            "embedder": embedder.id,
            "fmr": RATE,
            "threshold": threshold,
            "threshold_of_card": card_threshold,
            "cosine_of_others_quartiles": np.quantile(others, [0.25, 0.5, 0.75]).tolist(),
            "models": rows,
        },
    )


if __name__ == "__main__":
    main()
