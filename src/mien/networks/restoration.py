"""A network that restores a spoilt face: how much of the picture it smoothes, what it adds, and where a cover stands.

Most of it works on squares of 4 x 4 px, as channels: a restored face costs a hundred million multiplications at 96 px,
and nothing in it depends on the side, so that one network serves several.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import UsageError

__all__ = ["RestorationNetConfig", "Restorer"]

Images = Float[Tensor, "batch 3 side side"]
Masks = Float[Tensor, "batch 1 side side"]

_HALF_RANGE = 127.5
_SMOOTHED = (3, 7)  # px: windows whose means a picture is mixed with


@dataclass(frozen=True)
class RestorationNetConfig:
    """What the network looks like.

    Attributes:
        side: Of the faces that it learns from, px; it restores other sides, too.
        widths: Channels at 1/4 of the side, 1/8, ...: one stage each.
        blocks: Residual blocks of each stage, on the way down and again on the way up.
    """

    side: int = 96
    widths: tuple[int, ...] = (48, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 2)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or len(self.blocks) != len(self.widths) or min(self.blocks) < 1:
            raise UsageError(
                f"Settings 'net.widths' and 'net.blocks' are as many numbers of 1 or more, got {self.widths} and "
                f"{self.blocks}."
            )
        if self.side < self.multiple or self.side % self.multiple:
            raise UsageError(f"Setting 'net.side' is a multiple of {self.multiple} px, got {self.side}.")

    @property
    def multiple(self) -> int:
        """What the side of a face must be a multiple of, px."""
        return int(4 * 2 ** (len(self.widths) - 1))


class Restorer(nn.Module):
    """Spoilt faces to restored ones. Pixels are 0 to 255 on both sides.

    A px is moved by shares of its own towards the means around it, or away from them, and something is added. Noise so
    need not be drawn again with the sign changed, which 4 x 4 px of it in a few channels cannot be.

    Args:
        config: Its size.

    Attributes:
        config: As given.

    Source: O. Ronneberger et al., "U-Net", MICCAI 2015, with sums for its concatenations; squares of px as channels
    after W. Shi et al., "Real-time single image and video super-resolution", CVPR 2016; a px as a weighted mean of
    its neighbours after B. Mildenhall et al., "Burst denoising with kernel prediction networks", CVPR 2018.
    """

    def __init__(self, config: RestorationNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, blocks = config.widths, config.blocks
        self.first = nn.Conv2d(4, widths[0], 12, stride=4, padding=4)  # 3 x 3 squares of 4 x 4 px
        self.down_blocks = nn.ModuleList(_stage(width, count) for width, count in zip(widths, blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.up_blocks = nn.ModuleList(
            _stage(width, count) for width, count in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], (4 + len(_SMOOTHED)) * 16, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # at first it adds nothing
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Images, covered: Masks) -> tuple[Images, Masks]:
        """Return restored faces, in float32 and not clamped to 0 to 255, and logits of being covered.

        Args:
            images: Spoilt faces.
            covered: 1 where something is known to stand before the face, otherwise 0; all 0 where nothing is known.
        """
        x = torch.cat([images / _HALF_RANGE - 1, covered], dim=1)
        x = self.first(x)
        kept = []
        for stage, down in zip(self.down_blocks, self.downs, strict=False):
            x = stage(x)
            kept.append(x)
            x = down(x)
        x = self.down_blocks[-1](x)
        for stage, up in zip(reversed(self.up_blocks), reversed(self.ups), strict=True):
            x = stage(functional.pixel_shuffle(up(x), 2) + kept.pop())
        told = functional.pixel_shuffle(self.last(x), 4).float()
        restored = images + told[:, :3] * _HALF_RANGE
        for place, window in enumerate(_SMOOTHED, start=4):
            restored = restored + told[:, place : place + 1] * (_mean(images, window) - images)
        return restored, told[:, 3:4]


def _mean(images: Images, window: int) -> Images:
    """Return means around each px; as a convolution, which is faster than pooling where channels come last."""
    around = functional.pad(images, [window // 2] * 4, mode="replicate")
    return functional.conv2d(around, images.new_full((3, 1, window, window), 1 / window**2), groups=3)


class _Block(nn.Module):
    """Convolved twice, and added to what came."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # at first a block adds nothing

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.conv2(functional.relu(self.conv1(x)))
        return x + added


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(blocks)))
