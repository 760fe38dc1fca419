"""Memory and speed of training the generators: 64 px in colour, batches of 64, one process a row.

    MIEN_DATA=... python benchmarks/generative_training.py --cache crops --vae RUN

Memory is the peak of the whole process, 17,000 pictures, PyTorch and the figures of a report among it. RUN is of the
VAE that a GAN begins as. Speed is of the steps alone, on as many threads as PyTorch takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import data_folder, machine, write_result

BATCH, BATCHES, SIDE = 64, 6, 64
ROWS = {
    "VAE": ("vae", ["perceptual=0"]),
    "VAE, perceptual term": ("vae", ["perceptual=0.25"]),
    "VAE, perceptual and adversarial terms": ("vae", ["perceptual=0.25", "adversarial=0.5"]),
    "GAN": ("gan", []),
    "GAN from a VAE": ("gan", ["anchor=4", "discriminator.widths=16,32,64,128"]),
}


def one(name: str, cache: Path, vae_run: Path | None) -> None:
    import torch

    from mien.training import gan, vae
    from mien.training.config import load_config

    kind, sets = ROWS[name]
    with tempfile.TemporaryDirectory() as folder:
        given = {
            "data": (data_folder() / "celeba10k", data_folder() / "utkface128"), "template": "face-64", "cache": cache,
            "batch_size": BATCH, "precision": "bf16", "out": Path(folder) / "run", "device": "cpu",
            "images": BATCH * BATCHES, "report_every": BATCH * BATCHES,
        }  # fmt: skip
        if kind == "vae":
            config: Any = load_config(vae.VAEConfig, None, ["net.side=64", "net.colour=true", *sets], given)
            story: Any = vae
        else:
            given |= {"side": SIDE, "colour": True, "conditional": False}
            given |= {"init": vae_run} if "anchor=4" in sets else {}
            config, story = gan.configured("default", None, sets, given), gan
        dry = story.dry_run(config, steps=BATCHES)
        story.train(config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    told = {"images_per_second": dry.images_per_second, "macs": dry.macs, "parameters": dry.parameters}
    print(json.dumps({"peak_gb": peak, "threads": torch.get_num_threads(), **told}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="Where cut faces are kept.")
    parser.add_argument("--vae", type=Path, help="Run of a VAE; without one its row is left out.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.cache, args.vae)
        return
    rows = {}
    for name, (_, sets) in ROWS.items():
        if "anchor=4" in sets and args.vae is None:
            continue
        command = [sys.executable, __file__, "--one", name, "--cache", str(args.cache)]
        command += ["--vae", str(args.vae)] if args.vae else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, rows[name])
    write_result("generative_training", {"machine": machine(), "batch_size": BATCH, "side": SIDE, "rows": rows})


if __name__ == "__main__":
    main()
