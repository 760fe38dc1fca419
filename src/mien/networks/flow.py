"""A flow in the latents of a VAE: the velocity that carries noise to latents, told time and condition.

A perceptron where latents are a vector, a transformer where they are a map of places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import UsageError

__all__ = [
    "LatentFlow",
    "Restarts",
    "Velocity",
    "VelocityNet",
    "VelocityNetConfig",
    "VelocityTransformer",
    "build_velocity_net",
]

_FREQUENCIES = 32  # at which a moment is described, from 1 up to about 100 turns
_FASTEST = 100.0

Latents = Float[Tensor, "batch latents"]
Condition = Float[Tensor, "batch condition"]


@dataclass(frozen=True)
class VelocityNetConfig:
    """What the network looks like.

    Attributes:
        arch: perceptron, or transformer, whose tokens are the places of a map of latents; auto is what fits them.
        width: Values of each layer, or of each token.
        blocks: Residual blocks.
        code: Length of what time and condition are turned into.
        heads: Of attention.
        dropout: Of the blocks' hidden values, in training.
    """

    arch: Literal["auto", "perceptron", "transformer"] = "auto"
    width: int = 384
    blocks: int = 3
    code: int = 128
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "code", "heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting 'net.{name}' is at least 1, got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"Setting 'net.dropout' lies in [0, 1), got {self.dropout:g}.")


class _Told(nn.Module):
    """Time and condition as one code.

    Args:
        code: Its length.
        condition: Length of the condition; 0 where there is none.
    """

    frequencies: Tensor

    def __init__(self, code: int, condition: int) -> None:
        super().__init__()
        turns = torch.exp(torch.linspace(0, math.log(_FASTEST), _FREQUENCIES))
        self.register_buffer("frequencies", turns, persistent=False)
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, code), nn.SiLU(), nn.Linear(code, code))
        # One more column: whether the condition was left out.
        self.told = nn.Linear(condition + 1, code, bias=False) if condition else None

    def forward(
        self, time: Float[Tensor, " moments"], condition: Condition | None, told: Float[Tensor, " batch"]
    ) -> Float[Tensor, "_ code"]:
        angles = math.pi * time[:, None] * self.frequencies
        code: Tensor = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        if self.told is not None:
            assert condition is not None, "this flow takes a condition"
            code = code + self.told(torch.cat([condition * told[:, None], 1 - told[:, None]], dim=1))
        return functional.silu(code)


class Velocity(nn.Module):
    """The velocity of a point on its way from noise (time 0) to a latent (time 1).

    Args:
        config: How to build it.
        latents: Dimension of a point.
        condition: Length of the condition; 0 where there is none.
        values: Of a token: what the first layer takes and the last one gives.
        block: What stands between them.
    """

    def __init__(
        self,
        config: VelocityNetConfig,
        latents: int,
        condition: int,
        *,
        values: int,
        block: Callable[[VelocityNetConfig], nn.Module],
    ) -> None:
        super().__init__()
        self.config, self.latents, self.condition = config, latents, condition
        self.told = _Told(config.code, condition)
        self.first = nn.Linear(values, config.width)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.blocks))
        self.norm = _norm(config.width)
        self.last_code = nn.Linear(config.code, 2 * config.width)
        self.last = nn.Linear(config.width, values)
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
        raise NotImplementedError


class VelocityNet(Velocity):
    """The velocity of latents that are a vector: a perceptron.

    Source: the blocks are those of W. Peebles and S. Xie, "Scalable diffusion models with transformers", ICCV 2023
    (adaLN-Zero), without attention.
    """

    def __init__(self, config: VelocityNetConfig, latents: int, condition: int = 0) -> None:
        super().__init__(config, latents, condition, values=latents, block=_Block)

    def forward(
        self,
        points: Latents,
        time: Float[Tensor, " moments"],
        condition: Condition | None,
        told: Float[Tensor, " batch"],
    ) -> Latents:
        """Return velocities; see `Velocity`."""
        code = self.told(time, condition, told)
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


class VelocityTransformer(Velocity):
    """The velocity of latents that keep their place: each place is a token, which attends to the others.

    Args:
        config: How to build it.
        latents: Dimension of a point; the places of a channel stand one after the other.
        places: Of the latents' map, a square.
        condition: Length of the condition; 0 where there is none.

    Source: W. Peebles and S. Xie, "Scalable diffusion models with transformers", ICCV 2023 (adaLN-Zero).
    """

    def __init__(self, config: VelocityNetConfig, latents: int, places: int, condition: int = 0) -> None:
        assert latents % places == 0 and math.isqrt(places) ** 2 == places
        super().__init__(config, latents, condition, values=latents // places, block=_AttentionBlock)
        self.places = places
        self.position = nn.Parameter(_positions(math.isqrt(places), config.width))

    def forward(
        self,
        points: Latents,
        time: Float[Tensor, " moments"],
        condition: Condition | None,
        told: Float[Tensor, " batch"],
    ) -> Latents:
        """Return velocities; see `Velocity`."""
        code = self.told(time, condition, told)[:, None]
        x = self.first(points.view(-1, self.latents // self.places, self.places).transpose(1, 2)) + self.position
        for block in self.blocks:
            x = block(x, code)
        shift, scale = self.last_code(code).chunk(2, dim=2)
        velocity: Tensor = self.last(self.norm(x) * (1 + scale) + shift)
        return velocity.transpose(1, 2).reshape(-1, self.latents)


class _AttentionBlock(nn.Module):
    def __init__(self, config: VelocityNetConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.code = nn.Linear(config.code, 6 * width)
        self.norm = _norm(width)
        self.attended, self.attention = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.code.weight)  # so that every block begins as the identity
        nn.init.zeros_(self.code.bias)

    def forward(
        self, x: Float[Tensor, "batch places width"], code: Float[Tensor, "_ 1 code"]
    ) -> Float[Tensor, "batch places width"]:
        shift, scale, gate, shift_inner, scale_inner, gate_inner = self.code(code).chunk(6, dim=2)
        # Queries, keys and values, shape (batch, heads, places, width / heads).
        three = self.attended(self.norm(x) * (1 + scale) + shift).unflatten(2, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in three.unbind(2))
        # Written out: PyTorch's own attention is slow to train on a CPU where places are few.
        shares = torch.softmax(query @ key.transpose(2, 3) * query.shape[3] ** -0.5, dim=3)
        seen = (shares @ value).transpose(1, 2).flatten(2)
        x = x + gate * self.attention(seen)
        hidden = functional.silu(self.inner(self.norm(x) * (1 + scale_inner) + shift_inner))
        moved: Tensor = x + gate_inner * self.outer(self.dropout(hidden))
        return moved


def _positions(side: int, width: int) -> Float[Tensor, "places width"]:
    """Return waves along both axes of a square map, from one half turn over it to the shortest that it can hold."""
    along = (torch.arange(side) + 0.5) / side
    turns = torch.linspace(1, max(side - 1, 1), width // 4 + 1)
    angles = math.pi * along[:, None] * turns
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    down, across = (waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1))
    return torch.cat([down, across], dim=2).flatten(0, 1)[:, :width].contiguous()


def build_velocity_net(config: VelocityNetConfig, latents: int, *, places: int = 1, condition: int = 0) -> Velocity:
    """Return a network for latents of so many places; arguments are those of the networks.

    Raises:
        UsageError: A transformer was asked for, and latents are a vector; or its width is no multiple of its heads.
    """
    if config.arch == "perceptron" or (config.arch == "auto" and places == 1):
        return VelocityNet(config, latents, condition)
    if places == 1:
        raise UsageError(
            "Setting 'net.arch' is transformer, and this VAE's latents are a vector: a transformer needs a map of "
            "them (`mien train vae --set net.spatial=true`). Leave it out."
        )
    if config.width % config.heads:
        raise UsageError(
            f"Setting 'net.width' of a transformer is a multiple of 'net.heads', got {config.width} and {config.heads}."
        )
    return VelocityTransformer(config, latents, places, condition)


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, elementwise_affine=False)  # scale and shift are the code's


@dataclass(frozen=True)
class Restarts:
    """How often, and where, a point on its way is mixed with new noise and carried on from an earlier moment.

    A flow alone carries each error on; what a restart mixes in hides errors that were made before, and the way is gone
    once more.

    Attributes:
        count: Times.
        late: Moment at which noise is mixed in.
        early: Moment that the mixture belongs to, from which it is carried on.

    Source: Y. Xu et al., "Restart sampling for improving generative processes", NeurIPS 2023.
    """

    count: int = 0
    late: float = 0.7
    early: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.count <= 8:
            raise UsageError(f"Setting 'restarts.count' is 0 to 8, got {self.count}.")
        if not 0 < self.early < self.late < 1:
            raise UsageError(
                f"Settings 'restarts.early' and 'restarts.late' lie in (0, 1), the first one below the second, got "
                f"{self.early:g} and {self.late:g}."
            )

    def mixed(self, points: Latents, noise: Latents) -> Latents:
        """Return points of the late moment as points of the early one.

        A point is ``time * latents + (1 - time) * noise``: the latents' share falls to ``early``, and new noise makes
        up for what the old one lacks.
        """
        share = self.early / self.late
        missing = math.sqrt((1 - self.early) ** 2 - (share * (1 - self.late)) ** 2)
        return share * points + missing * noise


class LatentFlow(nn.Module):
    """What carries noise to latents in a fixed number of steps, so that it can stand in an ONNX graph.

    Args:
        net: The velocity.
        centre: Mean of the latents, shape (latents,).
        scale: Their standard deviation.
        steps: Of the way; each asks the network twice (midpoint rule).
        weak: A worse network for the same latents: one draws less of what both have wrong by going on from its
            velocity past that of ``net``.
        autoguidance: How far: 1 is ``net`` alone.
        restarts: Of the way.
        grading: Of a flow that is also told how good an example a face is, as the last part of its condition: it is
            told the best, 1, and goes on past that from what it would do when told the worst, 0, so many times
            their difference. None: it is told no grade.

    Source: X. Liu et al., "Flow straight and fast", ICLR 2023; guidance: J. Ho and T. Salimans, "Classifier-free
    diffusion guidance", 2022; autoguidance: T. Karras et al., "Guiding a diffusion model with a bad version of
    itself", NeurIPS 2024.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        net: Velocity,
        centre: Float[Tensor, " latents"],
        scale: Float[Tensor, " latents"],
        *,
        steps: int,
        weak: Velocity | None = None,
        autoguidance: float = 1.0,
        restarts: Restarts = Restarts(),
        grading: float | None = None,
    ) -> None:
        super().__init__()
        assert steps >= 1
        self.net, self.steps = net, steps
        self.weak, self.autoguidance = weak, autoguidance
        self.restarts, self.grading = restarts, grading
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(
        self,
        noise: Latents,
        condition: Condition | None = None,
        guidance: Float[Tensor, " batch"] | None = None,
        restarts: Float[Tensor, "batch restarts latents"] | None = None,
    ) -> Latents:
        """Return the latents that noise is carried to.

        Args:
            noise: Standard normal, shape (batch, latents).
            condition: Where the flow takes one.
            guidance: How far the condition is followed: 1 as in the data, more is more typical of it, 0 not at all.
            restarts: Standard normal, the noise of each restart; where all of a row is 0, and without it, noise is
                carried to latents without a restart, so that the way can be gone back.
        """
        told = (condition, guidance)
        if restarts is None or not self.restarts.count:
            return self.centre + self.scale * self._carried(noise, 0.0, 1.0, *told)
        early, late = self.restarts.early, self.restarts.late
        x = once = self._carried(noise, 0.0, late, *told)
        for number in range(self.restarts.count):
            x = self._carried(self.restarts.mixed(x, restarts[:, number]), early, late, *told)
        plain = restarts.abs().amax(dim=(1, 2)) == 0
        return self.centre + self.scale * self._carried(torch.where(plain[:, None], once, x), late, 1.0, *told)

    def _carried(
        self,
        x: Latents,
        begin: float,
        end: float,
        condition: Condition | None,
        guidance: Float[Tensor, " batch"] | None,
    ) -> Latents:
        """Carry points from one moment to another, in steps about as long as those of the whole way."""
        count = max(round(self.steps * (end - begin)), 1)
        length = (end - begin) / count
        for step in range(count):
            start = begin + step * length
            half = x + 0.5 * length * self.velocity(x, start, condition, guidance)
            x = x + length * self.velocity(half, start + 0.5 * length, condition, guidance)
        return x

    def velocity(
        self, points: Latents, time: float, condition: Condition | None, guidance: Float[Tensor, " batch"] | None
    ) -> Latents:
        """Return velocities at one moment, guided."""
        moment = points.new_full((1,), time)  # one for all: what depends on it alone is computed once
        told = torch.ones_like(points[:, 0])
        best = self._with_grade(condition, told)
        worst = self._with_grade(condition, 0 * told) if self.grading else None
        velocity = self._guided(points, moment, best, worst, told, guidance)
        if self.weak is None:
            return velocity
        worse: Latents = self.weak(points, moment, best, told)
        return worse + self.autoguidance * (velocity - worse)

    def _with_grade(self, condition: Condition | None, grade: Float[Tensor, " batch"]) -> Condition | None:
        if self.grading is None:
            return condition
        return grade[:, None] if condition is None else torch.cat([condition, grade[:, None]], dim=1)

    def _guided(
        self,
        points: Latents,
        moment: Float[Tensor, " one"],
        best: Condition | None,
        worst: Condition | None,
        told: Float[Tensor, " batch"],
        guidance: Float[Tensor, " batch"] | None,
    ) -> Latents:
        if best is None:
            alone: Latents = self.net(points, moment, None, told)
            return alone
        asked = [(best, told)]
        if guidance is not None:
            asked.append((best, 0 * told))
        if worst is not None:
            asked.append((worst, told))
        # All answers in one pass: products of more rows cost less than more products.
        conditions, shares = (torch.cat(parts) for parts in zip(*asked, strict=True))
        answers = self.net(torch.cat([points] * len(asked)), moment, conditions, shares).chunk(len(asked))
        guided: Latents = answers[0]
        if guidance is not None:
            guided = answers[1] + guidance[:, None] * (answers[0] - answers[1])
        if worst is not None:
            guided = guided + self.grading * (answers[0] - answers[-1])
        return guided
