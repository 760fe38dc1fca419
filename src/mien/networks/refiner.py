"""A refiner of latents: what a flow drew, moved a little to where decoded faces look like decoded photographs."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LatentRefiner"]


class LatentRefiner(nn.Module):
    """Residual blocks of a perceptron that is told the condition; at first nothing moves.

    Args:
        mean: Of the latents, shape (latents,).
        deviation: Their standard deviations.
        condition: Length of the condition; 0 where there is none.
        width: Of the hidden layers.
        blocks: Residual blocks.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        mean: Float[Tensor, " latents"],
        deviation: Float[Tensor, " latents"],
        *,
        condition: int = 0,
        width: int = 512,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.condition = condition
        self.first = nn.Linear(len(mean) + condition, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.last = nn.Linear(width, len(mean))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def way(
        self, latents: Float[Tensor, "batch latents"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch latents"]:
        """Return how far each latent is moved, in standard deviations."""
        x = (latents - self.mean) / self.deviation
        x = self.first(x if condition is None else torch.cat([x, condition], dim=1))
        for block in self.blocks:
            x = x + block(x)
        return cast("Tensor", self.last(functional.silu(x)))

    def forward(
        self, latents: Float[Tensor, "batch latents"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch latents"]:
        """Return the latents that are decoded instead."""
        return latents + self.deviation * self.way(latents, condition)
