"""A small recurrent network over what was read from each frame of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import UsageError

__all__ = ["SequenceNet", "SequenceNetConfig"]

_LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class SequenceNetConfig:
    """What the network looks like.

    Attributes:
        order: gru looks at frames one after another; none looks at each alone.
        pool: What becomes of the frames: attention weighs them, mean takes all alike, last takes the last one.
        differences: Each frame also comes with its difference from the frame before.
        units: Of the recurrent layer.
        drop: Share of the units that are left out while learning.
    """

    order: Literal["gru", "none"] = "gru"
    pool: Literal["attention", "mean", "last"] = "attention"
    differences: bool = True
    units: int = 48
    drop: float = 0.2

    def __post_init__(self) -> None:
        if self.units < 1 or not 0 <= self.drop < 1:
            raise UsageError(f"'net.units' is 1 or more and 'net.drop' in [0, 1), got {self.units} and {self.drop:g}.")


class SequenceNet(nn.Module):
    """Frames to logits: one linear layer, a GRU or a second linear layer, a pool over frames, a linear layer.

    Mean and scale of the features are part of the network; set them with `standardise`.

    Args:
        config: Its size.
        features: Numbers of a frame.
        classes: Of the answer.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, for the GRU; Bahdanau et al.,
    "Neural machine translation by jointly learning to align and translate", 2015, for weights over time.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: SequenceNetConfig, *, features: int, classes: int) -> None:
        super().__init__()
        self.config, self.features, self.classes = config, features, classes
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.frame = nn.Linear(features * (2 if config.differences else 1), config.units)
        self.gru = nn.GRU(config.units, config.units, batch_first=True) if config.order == "gru" else None
        self.alone = nn.Linear(config.units, config.units) if self.gru is None else None
        self.weight = nn.Linear(config.units, 1) if config.pool == "attention" else None
        self.drop = nn.Dropout(config.drop)
        self.answer = nn.Linear(config.units, classes)

    def standardise(self, features: Float[Tensor, "frames features"]) -> None:
        """Take mean and scale from the frames that are learned from."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0).clamp_min(_LEAST_SCALE))

    def forward(
        self, features: Float[Tensor, "clips frames features"], there: Bool[Tensor, "clips frames"] | None = None
    ) -> tuple[Float[Tensor, "clips classes"], Float[Tensor, "clips frames"]]:
        """Return logits, and how much each frame had to say.

        Args:
            features: Of each frame; shorter clips are filled up at their end.
            there: Which frames are there; None: all.
        """
        x = (features - self.mean) / self.scale
        if self.config.differences:
            x = torch.cat([x, torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:] - x[:, :-1]], dim=1)], dim=2)
        h = self.drop(functional.relu(self.frame(x)))
        if self.gru is not None:
            h, _ = self.gru(h)
        else:
            assert self.alone is not None
            h = functional.relu(self.alone(h))
        weights = self._weights(h, there)
        pooled = (weights[:, :, None] * h).sum(dim=1)
        return self.answer(self.drop(pooled)), weights

    def _weights(self, h: Float[Tensor, "clips frames units"], there: Bool[Tensor, "clips frames"] | None) -> Tensor:
        scores = self.weight(h).squeeze(2) if self.weight is not None else torch.zeros_like(h[:, :, 0])
        if self.config.pool == "last":
            # The later, the more: nothing is left for all others.
            place = torch.cumsum(torch.ones_like(scores), dim=1)
            scores = 1e4 * place
        if there is not None:
            scores = scores.masked_fill(~there, float("-inf"))
        return scores.softmax(dim=1)
