"""Learning rates by position in the training, in images: a resumed run needs no memory of its schedule; and decay."""

from __future__ import annotations

import math
from typing import Any, Protocol

from torch import nn

__all__ = ["Scheduled", "decayed", "scheduled_rate", "warmup_cosine"]


def warmup_cosine(images: int, total: int, warmup: int, base: float, *, final: float = 0.0) -> float:
    """Return the learning rate for the batch that starts at ``images``: a linear rise, then half a cosine down.

    Args:
        images: Images seen before this batch.
        total: Length of the training in images; beyond it the rate stays at ``final``.
        warmup: Length of the rise in images; 0 starts at ``base``.
        base: The highest rate.
        final: The rate at the end.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5, one period; the rise as in Goyal et al. (2017).
    """
    if images < warmup:
        return base * images / warmup
    done = min(1.0, (images - warmup) / max(1, total - warmup))
    return final + (base - final) * 0.5 * (1.0 + math.cos(math.pi * done))


class Scheduled(Protocol):
    """Settings of a training whose rate rises and falls."""

    @property
    def images(self) -> int:
        """Length of the training."""

    @property
    def warmup(self) -> int:
        """Length of the rise; at most a tenth of the training."""

    @property
    def learning_rate(self) -> float:
        """The highest rate."""


def scheduled_rate(images: int, settings: Scheduled, *, final: float = 0.0) -> float:
    """Return the learning rate for the batch that starts at ``images``, as the settings of a training have it.

    Args:
        images: Images seen before this batch.
        settings: Of the training.
        final: The rate at the end, as a share of the highest.
    """
    warmup, highest = min(settings.warmup, settings.images // 10), settings.learning_rate
    return warmup_cosine(images, settings.images, warmup, highest, final=final * highest)


def decayed(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the weights that learn, for an optimizer: filters and matrices with decay, biases and norms without.

    Args:
        model: The network.
        decay: Weight decay.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
