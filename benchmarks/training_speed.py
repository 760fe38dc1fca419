"""How fast an expression network trains here, and how near that is to what the processor can multiply.

    python benchmarks/training_speed.py

For each network and precision: images a second of whole steps (augmentation, forward, backward, optimizer, average),
and how much of the rate of one large matrix product, in the same precision and run, their multiplications are. A step
multiplies three times what one forward pass does: once forward, twice backward.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from common import machine, write_result

from mien.drawing import draw_face
from mien.images import save_image
from mien.networks import ExpressionNetConfig
from mien.training.expression import ExpressionConfig, dry_run
from mien.types import EXPRESSIONS

NETWORKS = {
    "residual": ExpressionNetConfig(),
    "face-trunk": ExpressionNetConfig(arch="face-trunk"),
    "tutorial-cnn": ExpressionNetConfig(arch="tutorial-cnn"),
}
BATCH, ROUNDS, STEPS = 128, 3, 6


def product(device: str, precision: torch.dtype, *, side: int = 4096) -> float:
    """Return multiplications with addition a second of a square matrix product."""
    a, b = torch.randn(2, side, side, device=device).to(precision)
    best = np.inf
    for _ in range(6):
        start = time.perf_counter()
        float((a @ b)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return side**3 / best


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "faces"
        for name in EXPRESSIONS:
            for split, subjects in (("train", range(20)), ("valid", range(20, 22))):
                (data / split / name).mkdir(parents=True)
                for subject in subjects:
                    face = cv2.resize(draw_face(subject, side=96, expression=name).image, (48, 48))
                    save_image(data / split / name / f"{subject}.png", face)
        base = ExpressionConfig(data=data, out=Path(folder) / "run", batch_size=BATCH, pretrained=False)
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        rows = []
        for device in devices:
            bounds = {
                name: product(device, getattr(torch, kind))
                for name, kind in (("fp32", "float32"), ("bf16", "bfloat16"))
            }
            for name, net in NETWORKS.items():
                for precision in ("fp32", "bf16"):
                    config = replace(base, net=net, precision=precision, device=device)
                    dry = [dry_run(config, steps=STEPS) for _ in range(ROUNDS)]
                    speed = float(np.median([run.images_per_second for run in dry]))
                    rows.append(
                        {
                            "network": name,
                            "device": device,
                            "precision": precision,
                            "parameters": dry[0].parameters,
                            "macs": dry[0].macs,
                            "images_per_second": speed,
                            "share_of_product": 3 * dry[0].macs * speed / bounds[precision]
                            if device == "cpu"
                            else None,
                        }
                    )
                    print(rows[-1])
    result = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "batch_size": BATCH,
        "product_macs_per_s": bounds,
    }
    write_result("training_speed", result | {"rows": rows})


if __name__ == "__main__":
    main()
