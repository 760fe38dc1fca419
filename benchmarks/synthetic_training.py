"""How well a small expression network learns from generated faces alone, beside one that learns from real ones.

    MIEN_DATA=... python benchmarks/synthetic_training.py expression-gan-48 --seeds 3 --cache crops

As `mien evaluate generation --train-on-synthetic`: as many faces of each kind, the same labels, one network, as many
steps, tested on the test split of fer2013plus (FER+ labels). The intervals are over trainings. `--prior` and
`--guidance` draw otherwise than the model does by itself; rows of other settings stand.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from common import data_folder, machine, read_result, write_result

from mien.data.pictures import read_pictures
from mien.evaluation.generation import Faces
from mien.metrics.intervals import mean_interval
from mien.training.synthetic import train_on_synthetic
from mien.vision.generator import Generator, Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=60_000, help="Faces that each network sees, repeats included.")
    parser.add_argument("--prior", choices=["flow", "mixture"])
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    before = read_result("synthetic_training")
    rows, earlier = before.get("models", {}), before.get("earlier", {})
    told = {"prior": args.prior, "guidance": args.guidance}
    how = "".join(f", {key} {value}" for key, value in told.items() if value is not None)
    for name in args.models:
        generator = Generator(name)
        parts = {}
        for split in ("train", "test"):
            pictures = read_pictures(
                data_folder() / "fer2013plus", template="fer-48", side=48, colour=False, splits=(split,),
                cache=args.cache,
            )  # fmt: skip
            assert pictures.classes == generator.labels
            images = np.repeat(pictures.images.transpose(0, 2, 3, 1), 3, axis=3)
            faces = Faces(images, pictures.labels)
            parts[split] = faces.take(faces.labels >= 0)
        labels = parts["train"].labels
        request = Request([generator.labels[label] for label in labels], seed=0, **told)
        fake = Faces(np.concatenate([b.images for b in generator.batches(len(labels), request)]), labels)
        taught = train_on_synthetic(
            fake, parts["train"], parts["test"], classes=len(generator.labels), images=args.images, seeds=args.seeds,
            grey=True,
        )  # fmt: skip
        ratios = [one / other for one, other in zip(taught.accuracy, taught.real_accuracy, strict=True)]
        key = f"{generator.card.name}{how}"
        if rows.get(key, {}).get("model") not in (None, generator.card.id):
            earlier[f"{rows[key]['model']}{how}"] = rows[key]
        rows[key] = {
            "model": generator.card.id,
            **asdict(taught),
            "ratio": taught.ratio,
            "ratio_interval": list(mean_interval(ratios)) if len(ratios) > 1 else None,
            "tested_on": len(parts["test"]),
        }
        print(rows)
    write_result("synthetic_training", {"machine": machine(), "models": rows, "earlier": earlier})


if __name__ == "__main__":
    main()
