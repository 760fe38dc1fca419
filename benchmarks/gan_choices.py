"""What small trainings of a GAN came to on the way to its recipe, and how good a stand-in the approximate penalty is.

    python benchmarks/gan_choices.py [NAME=RUN ...]

A run counts by the last line of its log, however far it came. Those of results/gan_choices.json drew 32 px faces of
fer2013plus by expression, one seed each, one thread:

    mien train gan --data fer2013plus --template fer-48 --side 32 --grey --variant NAME --set precision=bf16
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from common import machine, write_result
from torch import Tensor, nn
from torch.nn import functional

from mien.networks.gan import Discriminator, DiscriminatorConfig, Sizes
from mien.training.adversarial import approximate_penalty, exact_penalty

KEPT = ("game", "penalty", "penalty_every", "learning_rate_generator", "learning_rate_discriminator", "batch_size")
SEEN = ("images", "seconds", "spread", "distance", "seen", "sharpness")


def run(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    settings = {name: config[name] for name in KEPT} | {"label_scale": config["generator"].get("label_scale", 1.0)}
    return {"settings": settings, **{name: last[name] for name in SEEN}}


def slopes(net: nn.Module, value: Tensor) -> Tensor:
    net.zero_grad()
    value.backward()
    # A bias that shifts all scores makes nothing steeper and gets no gradient.
    return torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in net.parameters()]).clone()


def penalties(sigma: float = 0.01) -> dict[str, Any]:
    """Compare one draw of the approximate penalty, and both in bfloat16, with the exact one: value, gradient."""
    torch.manual_seed(0)
    net = Discriminator(DiscriminatorConfig(widths=(24, 48, 64, 96)), Sizes(32, 1))
    for weight in net.parameters():
        if not weight.any():  # the last layer of a block begins at zero, where nothing is steep
            nn.init.normal_(weight, std=0.02)
    pixels = (255 * functional.interpolate(torch.rand(32, 1, 4, 4), size=32, mode="bilinear")).requires_grad_()
    exact = exact_penalty(net(pixels), pixels)
    base = slopes(net, exact)

    def compared(value: Tensor) -> dict[str, float]:
        own = value.item()
        other = slopes(net, value)
        return {
            "value_ratio": own / exact.item(),
            "cosine": torch.cosine_similarity(base, other, dim=0).item(),
            "length_ratio": (other.norm() / base.norm()).item(),
        }

    def scores(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            answer: Tensor = net(x)
        return answer

    return {
        "sigma": sigma,
        "approximate": [compared(approximate_penalty(net, net(pixels), pixels, sigma=sigma)) for _ in range(5)],
        "approximate, bfloat16": [
            compared(approximate_penalty(scores, scores(pixels), pixels, sigma=sigma)) for _ in range(5)
        ],
        "exact, bfloat16": [compared(exact_penalty(scores(pixels), pixels))],
    }


def main() -> None:
    runs = {name: run(Path(folder)) for name, folder in (word.split("=", 1) for word in sys.argv[1:])}
    write_result("gan_choices", {"machine": machine(), "runs": runs, "penalties": penalties()})


if __name__ == "__main__":
    main()
