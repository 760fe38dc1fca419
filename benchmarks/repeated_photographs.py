"""How often do the training pictures of a data set show one photograph, cut or lit otherwise, or mirrored?

    MIEN_DATA=... python benchmarks/repeated_photographs.py fer2013plus --cache crops

Told by latents of `expression-gan-48`, as `mien train prior --set distinct=` tells it: two faces of one label are one
photograph where their latents, or one's and the other's mirror image's, are nearer than that. Groups are what hangs
together by such pairs. Which distance is right was looked at by eye (docs/decisions.md, "More latents for
expressions").
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import data_folder, machine, write_result
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mien.data.pictures import read_pictures
from mien.metrics.generation import distance_blocks
from mien.training.vae.refit import first_of_each
from mien.vision.generator import Generator

DISTANCES = (0.2, 0.4, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="Data set, by name.")
    parser.add_argument("--model", default="expression-gan-48")
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    generator = Generator(args.model, threads=1)
    convention = generator.convention
    pictures = read_pictures(
        [data_folder() / args.data], template=convention.template, side=generator.side, colour=not convention.grey,
        splits=("train",), cache=args.cache,
    )  # fmt: skip
    pictures = pictures.take(pictures.labels >= 0)
    faces = pictures.rgb()
    latents, mirrored = (generator.posteriors(some)[0] for some in (faces, faces[:, :, ::-1]))
    left = {least: first_of_each(latents, mirrored, pictures.labels, least) for least in DISTANCES}
    spread = latents.std(axis=0)
    rows = {}
    for number, name in enumerate(pictures.classes):
        of = np.flatnonzero(pictures.labels == number)
        here, turned = latents[of] / spread, mirrored[of] / spread
        rows[name] = {
            "pictures": len(of),
            "left": {f"{least:g}": int(kept[of].sum()) for least, kept in left.items()},
            "largest_group": {f"{least:g}": largest_group(here, turned, least) for least in DISTANCES},
        }
        print(name, rows[name], flush=True)
    result = {"machine": machine(), "data": args.data, "split": "train", "model": generator.card.id, "labels": rows}
    write_result("repeated_photographs", result)


def largest_group(faces: np.ndarray, turned: np.ndarray, least: float) -> int:
    """Return how many pictures at most hang together by pairs nearer than this."""
    near = [
        np.minimum(apart, other) / faces.shape[1] < least
        for (_, apart), (_, other) in zip(distance_blocks(faces, faces), distance_blocks(turned, faces), strict=True)
    ]
    groups = connected_components(csr_array(np.concatenate(near)), directed=False)[1]
    return int(np.bincount(groups).max())


if __name__ == "__main__":
    main()
