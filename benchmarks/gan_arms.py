"""Arms of a GAN that begins at noise: 64 px, equal time of one thread, judged by validation faces.

    MIEN_DATA=... python benchmarks/gan_arms.py --seconds 240 --cache crops --work runs [--only ARM ...]

Each arm trains as in generative_peers.py, then draws faces that are compared with the validation split of celeba10k.
Distances to that few faces are for comparing arms, not for quoting beside others. A run folder also keeps a sheet of
faces to look at, `sheet.png`. Every arm in the work folder goes into results/gan_arms.json, which also has the CPU
time of each part of a step. A `beta1` in its rows is the first of what is now `betas`, and their images follow from a
dry run that was timed by the clock, not yet by the CPU: their cpu_seconds say what they took.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import generative_peers
import numpy as np
from common import machine, write_result

DCGAN = "variant=dcgan"
R3 = "variant=r3"
NARROW = ["generator.widths=96,64,32,16", "discriminator.widths=16,32,64,96"]
GENERATOR = ["generator.arch=dcgan", "generator.widths=256,128,64", "generator.output=tanh", "generator.latents=100"]
HALF = ["betas=0.5,0.999"]
FEATURES = ["discriminator.arch=features", "discriminator.widths=64", "discriminator.enlarge=64", "game=hinge",
            "penalty=none"]  # fmt: skip

ARMS: dict[str, list[str]] = {
    "r3": [R3],
    "r3, narrow, batch 32": [R3, *NARROW, "batch_size=32"],
    "dcgan": [DCGAN],
    "dcgan, beta1 0.5": [DCGAN, *HALF],
    "dcgan, batch 16": [DCGAN, "batch_size=16"],
    "dcgan, batch 16, beta1 0.5": [DCGAN, "batch_size=16", *HALF],
    "dcgan generator, features": [
        R3, *GENERATOR, *FEATURES, "batch_size=16", "learning_rate_generator=5e-4", "learning_rate_discriminator=5e-4",
    ],
}  # fmt: skip


COSTED = ("r3", "r3, narrow, batch 32", "dcgan", "dcgan, batch 16", "dcgan generator, features")


def one(name: str, seed: int, seconds: float, cache: Path, out: Path) -> None:
    """Train an arm and leave faces, a sheet of them and figures in a folder."""
    import cv2

    generative_peers.OURS[name] = ("gan", ARMS[name])
    measure = generative_peers.Measure(cache, "valid")
    generative_peers.one(name, seed, seconds, cache, out, len(measure.real))
    drawn = np.load(out / "faces.npy")
    rows = [np.concatenate([*drawn[start : start + 16]], axis=1) for start in range(0, 128, 16)]
    cv2.imwrite(str(out / "sheet.png"), np.concatenate(rows)[:, :, ::-1])
    told = json.loads((out / "told.json").read_text())
    row = {"name": name, "settings": ARMS[name], "seed": seed, **told, **measure.of(drawn)}
    (out / "arm.json").write_text(json.dumps(row))
    print(json.dumps(row), flush=True)


def costs(cache: Path) -> list[dict[str, Any]]:
    """Return the CPU time of each part of a step by arm, one thread, ms an image."""
    import torch

    from mien.training import gan
    from mien.training.gan.material import load_material
    from mien.training.gan.players import Players, accumulate_gradients, adam
    from mien.training.ranks import Ranks

    torch.set_num_threads(1)
    told, material = [], None
    for name in COSTED:
        variant, *sets = ARMS[name]
        given = {"data": (generative_peers.data_folder() / "celeba10k",), "out": Path("none"), "precision": "bf16"}
        config = gan.configured(variant.split("=")[1], None, ["conditional=false", *sets], given | {"device": "cpu"})
        device = torch.device("cpu")
        material = material or load_material(config, cache=cache, ranks=Ranks(), device=device)
        players = Players(config, material, device)
        players.probability = config.probability
        indices = material.batch(0, config.batch_size)
        steps = {}
        for part, objective, model in (
            ("discriminator", players.discriminator_objective, players.discriminator),
            ("discriminator with penalty", players.discriminator_objective, players.discriminator),
            ("generator", players.generator_objective, players.generator),
        ):
            players.penalise = part.endswith("penalty")
            if players.penalise and config.penalty == "none":
                continue
            players.discriminator.requires_grad_(part != "generator")
            optimizer = adam(model, 1e-4, config)
            began = 0.0
            for step in range(5):  # the first one warms up
                if step == 1:
                    began = time.process_time()
                optimizer.zero_grad(set_to_none=True)
                accumulate_gradients(objective, indices, config)
                optimizer.step()
            steps[part] = 1000 * (time.process_time() - began) / 4 / config.batch_size
        plain, steep = steps["discriminator"], steps.get("discriminator with penalty", steps["discriminator"])
        each = plain + (steep - plain) / config.penalty_every + steps["generator"]
        told.append({"name": name, "ms_an_image": {**steps, "in all": each}, "images_per_second": 1000 / each})
        print(json.dumps(told[-1]), flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240, help="To train each.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[*ARMS])
    parser.add_argument("--cache", type=Path, required=True, help="Where cut faces are kept.")
    parser.add_argument("--work", type=Path, required=True, help="Where runs are kept, not to be repeated.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.seed, args.seconds, args.cache, args.work)
        return
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MIEN_THREADS": "1"}
    for name in args.only:
        out = args.work / f"{name}@{args.seed}@{args.seconds:g}"
        if not (out / "arm.json").exists():
            command = [sys.executable, __file__, "--one", name, "--seed", str(args.seed), "--cache", str(args.cache)]
            subprocess.run([*command, "--seconds", str(args.seconds), "--work", str(out)], env=environment, check=False)
    rows: list[dict[str, Any]] = [json.loads(file.read_text()) for file in sorted(args.work.glob("*/arm.json"))]
    rows.sort(key=lambda row: (row["seconds"], row["frechet"]["dlib-resnet29"]))
    write_result(
        "gan_arms",
        {"machine": machine(), "threads": 1, "split": "valid", "arms": rows, "costs": costs(args.cache)},
    )


if __name__ == "__main__":
    main()
