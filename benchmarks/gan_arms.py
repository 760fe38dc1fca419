"""Arms of a GAN that begins at noise: 64 px, equal time of one thread, judged by validation faces.

    MIEN_DATA=... python benchmarks/gan_arms.py --seconds 240 --cache crops --work runs [--only ARM ...]

Each arm trains as in generative_peers.py, then draws faces that are compared with the validation split of celeba10k.
Distances of that few faces are higher than against the test split, and are for comparing arms. A run folder also keeps
a sheet of faces to look at, `sheet.png`. Every arm in the work folder goes into results/gan_arms.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
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
RATES = ["learning_rate_generator=4e-4", "learning_rate_discriminator=4e-4"]
FEATURES = ["discriminator.arch=features", "discriminator.widths=64", "discriminator.enlarge=64", "game=hinge",
            "penalty=none"]  # fmt: skip

ARMS: dict[str, list[str]] = {
    "r3": [R3],
    "r3, batch 16": [R3, "batch_size=16"],
    "r3, narrow, batch 32": [R3, *NARROW, "batch_size=32"],
    "dcgan": [DCGAN],
    "dcgan, beta1 0.5": [DCGAN, *HALF],
    "dcgan, batch 16": [DCGAN, "batch_size=16"],
    "dcgan, batch 16, beta1 0.5": [DCGAN, "batch_size=16", *HALF],
    "dcgan, batch 8, beta1 0.5": [DCGAN, "batch_size=8", *HALF],
    "dcgan, batch 16, beta1 0.5, rates 4e-4": [DCGAN, "batch_size=16", *HALF, *RATES],
    "dcgan, batch 16, beta1 0.5, spectral, hinge": [
        DCGAN, "batch_size=16", *HALF, "discriminator.spectral=true", "game=hinge", "learning_rate_discriminator=4e-4",
    ],
    "dcgan, batch 16, beta1 0.5, narrow": [
        DCGAN, "batch_size=16", *HALF, "generator.widths=192,96,48", "discriminator.widths=48,96,192",
    ],
    "dcgan, batch 16, beta1 0.5, varied": [DCGAN, "batch_size=16", *HALF, "adapt_images=200000"],
    "dcgan generator, r3 discriminator": [
        R3, *GENERATOR, NARROW[1], "batch_size=16", "learning_rate_generator=5e-4", "learning_rate_discriminator=5e-4",
    ],
    "dcgan generator, features": [
        R3, *GENERATOR, *FEATURES, "batch_size=16", "learning_rate_generator=5e-4", "learning_rate_discriminator=5e-4",
    ],
}  # fmt: skip


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
    write_result("gan_arms", {"machine": machine(), "threads": 1, "split": "valid", "arms": rows})


if __name__ == "__main__":
    main()
