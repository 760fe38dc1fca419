"""Averages of weights: the moving one that is evaluated and published, and the one with what a network began as."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["EMA", "blend"]

Model = TypeVar("Model", bound=nn.Module)


class EMA(Generic[Model]):
    """An exponential moving average whose memory is given in images, so that it does not depend on the batch size.

    Args:
        model: Starts the average.
        half_life_images: After so many images a weight's share in the average has halved.
        ramp: The half-life is at most this share of the images seen so far: early weights are soon forgotten.

    Attributes:
        model: The average: a copy in evaluation mode, without gradients. Buffers such as the statistics of batch
            normalisation are averaged too; whole numbers are copied.

    Source: half-life and ramp as in Karras et al., EDM (2022), appendix F.
    """

    def __init__(self, model: Model, half_life_images: float, *, ramp: float = 0.1) -> None:
        assert half_life_images >= 0 and ramp > 0
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        self.ramp = ramp
        self.images = 0

    @torch.no_grad()
    def update(self, model: nn.Module, batch_size: int) -> None:
        """Move the average towards the weights of ``model``, after a step on ``batch_size`` images."""
        self.images += batch_size
        half_life = max(min(self.half_life_images, self.ramp * self.images), 1e-9)
        ours, theirs = _floats(self.model), _floats(model)
        torch._foreach_lerp_(ours, theirs, 1.0 - 0.5 ** (batch_size / half_life))
        for mine, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            if not buffer.is_floating_point():
                mine.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and how many images it has seen."""
        return {"images": self.images, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.images = int(state["images"])
        self.model.load_state_dict(state["model"])


@torch.no_grad()
def blend(learned: nn.Module, begun: nn.Module, share: float) -> None:
    """Move learned weights towards those that they began as.

    Source: X. Wang et al., "ESRGAN", ECCV workshops 2018, section 3.4 (network interpolation).
    """
    for weight, before in zip(learned.parameters(), begun.parameters(), strict=True):
        weight.lerp_(before.to(weight.device), 1 - share)


def _floats(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
