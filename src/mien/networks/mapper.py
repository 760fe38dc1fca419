"""A mapper of latents: the latents of a face to those of the same face with another expression."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LatentMapper"]


class LatentMapper(nn.Module):
    """Three layers that are told the expression at each; at first nothing moves.

    Source: the latent mapper of O. Patashnik et al., "StyleCLIP", ICCV 2021, section 5, for one vector of latents.

    Args:
        mean: Of the latents, shape (latents,).
        deviation: Their standard deviations.
        expressions: How many there are.
        width: Of the hidden layers.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        mean: Float[Tensor, " latents"],
        deviation: Float[Tensor, " latents"],
        *,
        expressions: int,
        width: int = 512,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.expressions = expressions
        self.first = nn.Linear(len(mean) + expressions, width)
        self.second = nn.Linear(width + expressions, width)
        self.last = nn.Linear(width + expressions, len(mean))
        nn.init.normal_(self.last.weight, std=0.002)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, latents: Float[Tensor, "batch latents"], wanted: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch latents"]:
        """Return the latents of the same faces with the expressions of these numbers."""
        told = torch.eye(self.expressions, device=latents.device)[wanted]  # a row of a matrix, so that ONNX has it too
        x = functional.silu(self.first(torch.cat([(latents - self.mean) / self.deviation, told], dim=1)))
        x = x + functional.silu(self.second(torch.cat([x, told], dim=1)))
        return cast("Tensor", latents + self.last(torch.cat([x, told], dim=1)) * self.deviation)
