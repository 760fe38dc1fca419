"""How far from its VAE should the published weights of a GAN lie? Samples beside photographs of the validation part.

    python benchmarks/gan_blend.py runs/face-gan-64 runs/expression-gan-48 --sheets sheets

A run is one of `mien train gan --init VAE`; its data and cache are where its config says. Copies of it are published
with other values of `blend`: 1 is what was learned, 0 the VAE. Networks that stood in no loss judge, on as many samples
as photographs. Look at the sheets: distances hardly see the blotches that the eye does.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, write_result
from comparison import Comparison

from mien.data.pictures import read_pictures
from mien.evaluation.generation import Faces, drawn_by
from mien.images import save_image
from mien.reporting.pictures import contact_sheet
from mien.training import gan
from mien.training.config import load_config
from mien.vision.generator import Generator

MOST = 1000  # photographs of the validation part
SHEET = 64


def photographs(config: gan.GANConfig) -> tuple[Faces, tuple[str, ...]]:
    pictures = read_pictures(
        config.data, template=config.template, side=config.side, colour=config.colour, splits=("valid",),
        cache=config.cache,
    )  # fmt: skip
    images = pictures.images.transpose(0, 2, 3, 1)
    images = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else np.ascontiguousarray(images)
    usable = np.flatnonzero(pictures.labels >= 0) if pictures.classes else np.arange(len(images))
    chosen = np.random.default_rng(0).permutation(usable)[:MOST]
    return Faces(images[chosen], pictures.labels[chosen]), pictures.classes


def published(run: Path, blend: float, folder: Path) -> Generator:
    """Publish a copy of a run with another blend; one that was stopped takes a last step."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("pictures", "tensorboard", "audit", "*float*"))
    config = replace(load_config(gan.GANConfig, run / "config.json"), out=folder, blend=blend, seconds=1.0)
    gan.train(config)
    return Generator(folder)


def measured(run: Path, shares: list[float], sheets: Path | None) -> dict[str, Any]:
    config = load_config(gan.GANConfig, run / "config.json")
    real, classes = photographs(config)
    comparison, rows = Comparison(real.images, config.template, labels=real.labels), {}
    for share in shares:
        with tempfile.TemporaryDirectory() as folder:
            fake = drawn_by(published(run, share, Path(folder) / run.name), classes)(real.labels, 0)
        rows[f"{share:g}"] = comparison.of(fake.images)
        print(run.name, share, rows[f"{share:g}"])
        if sheets is not None:
            save_image(
                sheets / f"{run.name}-{share:g}.png", contact_sheet(list(fake.images[:SHEET]), columns=8, side=64)
            )
    return {"photographs": len(real), "blend": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.8, 0.7, 0.6, 0.0])
    parser.add_argument("--sheets", type=Path, help="A folder for 64 samples of each.")
    args = parser.parse_args()
    if args.sheets is not None:
        args.sheets.mkdir(parents=True, exist_ok=True)
    rows = {run.resolve().name: measured(run, args.shares, args.sheets) for run in args.runs}
    write_result("gan_blend", {"machine": machine(), "models": rows})


if __name__ == "__main__":
    main()
