"""A flow in the latents of a VAE: the velocity that carries noise to latents, a perceptron told time and condition."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import UsageError

__all__ = ["LatentFlow", "VelocityNet", "VelocityNetConfig"]

_FREQUENCIES = 32  # at which a moment is described, from 1 up to about 100 turns
_FASTEST = 100.0

Latents = Float[Tensor, "batch latents"]
Condition = Float[Tensor, "batch condition"]


@dataclass(frozen=True)
class VelocityNetConfig:
    """What the network looks like.

    Attributes:
        width: Values of each layer.
        blocks: Residual blocks.
        code: Length of what time and condition are turned into.
        dropout: Of the blocks' hidden values, in training.
    """

    width: int = 384
    blocks: int = 3
    code: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "code"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting 'net.{name}' is at least 1, got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"Setting 'net.dropout' lies in [0, 1), got {self.dropout:g}.")


class VelocityNet(nn.Module):
    """The velocity of a point on its way from noise (time 0) to a latent (time 1).

    Args:
        config: How to build it.
        latents: Dimension of a point.
        condition: Length of the condition; 0 where there is none.

    Source: the blocks are those of W. Peebles and S. Xie, "Scalable diffusion models with transformers", ICCV 2023
    (adaLN-Zero), without attention.
    """

    frequencies: Tensor

    def __init__(self, config: VelocityNetConfig, latents: int, condition: int = 0) -> None:
        super().__init__()
        self.config, self.latents, self.condition = config, latents, condition
        turns = torch.exp(torch.linspace(0, math.log(_FASTEST), _FREQUENCIES))
        self.register_buffer("frequencies", turns, persistent=False)
        self.time = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, config.code), nn.SiLU(), nn.Linear(config.code, config.code)
        )
        # One more column: whether the condition was left out.
        self.told = nn.Linear(condition + 1, config.code, bias=False) if condition else None
        self.first = nn.Linear(latents, config.width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = _norm(config.width)
        self.last_code = nn.Linear(config.code, 2 * config.width)
        self.last = nn.Linear(config.width, latents)
        for layer in (self.last_code, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        points: Latents,
        time: Float[Tensor, " moments"],
        condition: Condition | None,
        told: Float[Tensor, " batch"],
    ) -> Latents:
        """Return velocities.

        Args:
            points: Shape (batch, latents).
            time: From 0 (noise) to 1 (latents), of each point or one for all.
            condition: Where the network takes one.
            told: 1 where the condition counts, 0 where it is left out.
        """
        angles = math.pi * time[:, None] * self.frequencies
        code = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        if self.told is not None:
            assert condition is not None, "this flow takes a condition"
            code = code + self.told(torch.cat([condition * told[:, None], 1 - told[:, None]], dim=1))
        code = functional.silu(code)
        x = self.first(points)
        for block in self.blocks:
            x = block(x, code)
        shift, scale = self.last_code(code).chunk(2, dim=1)
        velocity: Latents = self.last(functional.silu(self.norm(x) * (1 + scale) + shift))
        return velocity


class _Block(nn.Module):
    def __init__(self, config: VelocityNetConfig) -> None:
        super().__init__()
        self.code = nn.Linear(config.code, 3 * config.width)
        self.norm = _norm(config.width)
        self.inner = nn.Linear(config.width, config.width)
        self.outer = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.code.weight)  # so that every block begins as the identity
        nn.init.zeros_(self.code.bias)

    def forward(
        self, x: Float[Tensor, "batch width"], code: Float[Tensor, "batch code"]
    ) -> Float[Tensor, "batch width"]:
        shift, scale, gate = self.code(code).chunk(3, dim=1)
        hidden = functional.silu(self.inner(self.norm(x) * (1 + scale) + shift))
        moved: Tensor = x + gate * self.outer(self.dropout(hidden))
        return moved


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, elementwise_affine=False)  # scale and shift are the code's


class LatentFlow(nn.Module):
    """What carries noise to latents in a fixed number of steps, so that it can stand in an ONNX graph.

    Args:
        net: The velocity.
        centre: Mean of the latents, shape (latents,).
        scale: Their standard deviation.
        steps: Of the way; each asks the network twice (midpoint rule).

    Source: X. Liu et al., "Flow straight and fast", ICLR 2023; guidance: J. Ho and T. Salimans, "Classifier-free
    diffusion guidance", 2022.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, net: VelocityNet, centre: Float[Tensor, " latents"], scale: Float[Tensor, " latents"], *, steps: int
    ) -> None:
        super().__init__()
        assert steps >= 1
        self.net, self.steps = net, steps
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(
        self, noise: Latents, condition: Condition | None = None, guidance: Float[Tensor, " batch"] | None = None
    ) -> Latents:
        """Return the latents that noise is carried to.

        Args:
            noise: Standard normal, shape (batch, latents).
            condition: Where the flow takes one.
            guidance: How far the condition is followed: 1 as in the data, more is more typical of it, 0 not at all.
        """
        x = noise
        for step in range(self.steps):
            start, length = step / self.steps, 1 / self.steps
            half = x + 0.5 * length * self.velocity(x, start, condition, guidance)
            x = x + length * self.velocity(half, start + 0.5 * length, condition, guidance)
        return self.centre + self.scale * x

    def velocity(
        self, points: Latents, time: float, condition: Condition | None, guidance: Float[Tensor, " batch"] | None
    ) -> Latents:
        """Return velocities at one moment, guided."""
        moment = points.new_full((1,), time)  # one for all: what depends on it alone is computed once
        told = torch.ones_like(points[:, 0])
        if condition is None or guidance is None:
            velocity: Latents = self.net(points, moment, condition, told)
            return velocity
        # Both answers in one pass: products of twice the rows cost less than two products.
        both = self.net(
            torch.cat([points, points]), moment, torch.cat([condition, condition]), torch.cat([told, 0 * told])
        )
        follows, free = both.chunk(2)
        guided: Latents = free + guidance[:, None] * (follows - free)
        return guided
