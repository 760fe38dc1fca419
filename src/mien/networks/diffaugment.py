"""Variations that a discriminator sees of photographed and drawn faces alike, differentiable, drawn for each picture.

They keep it from memorising the few photographs. Each of them is drawn for every picture of its own, with a
probability that the training adapts; where a picture is moved, its border is mirrored.

Source: S. Zhao et al., "Differentiable augmentation for data-efficient GAN training", NeurIPS 2020; the probability:
T. Karras et al., "Training GANs with limited data", NeurIPS 2020, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mien.errors import UsageError

__all__ = ["DiffAugment", "diff_augment"]

Images = Float[Tensor, "batch channels side side"]


@dataclass(frozen=True)
class DiffAugment:
    """How far pictures are varied. Zero turns a variation off.

    Attributes:
        translation: Largest shift, as a share of the side.
        brightness: Largest change of brightness, grey levels.
        contrast: Largest change of contrast, as a share.
        saturation: Largest change of colourfulness, as a share; grey pictures have none.
        cutout: Side of a square that is blanked out, as a share of the side.
    """

    translation: float = 0.125
    brightness: float = 25.0
    contrast: float = 0.3
    saturation: float = 0.5
    cutout: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.translation <= 0.5 and 0 <= self.contrast <= 1 and 0 <= self.cutout <= 1):
            raise UsageError("Translation lies in [0, 0.5], contrast and cutout in [0, 1].")
        if self.brightness < 0 or self.saturation < 0:
            raise UsageError("Brightness and saturation are 0 or more.")


def diff_augment(pixels: Images, how: DiffAugment, probability: float) -> Images:
    """Return pictures, each varied in its own way, drawn by PyTorch's own generator.

    Args:
        pixels: 0 to 255, or what a generator takes for it.
        how: How far to go.
        probability: Of each variation for each picture, 0 to 1.
    """
    # Draws do not depend on the probability: another one changes pictures, not the rest of the training's chance.
    count, channels, side = len(pixels), pixels.shape[1], pixels.shape[-1]
    draws, dice = torch.rand(count, 7), torch.rand(count, 5)
    if probability <= 0:
        return pixels
    draws, chosen = draws.to(pixels.device), (dice < probability).to(pixels.device)
    spread = 2 * draws - 1
    with torch.autocast(pixels.device.type, enabled=False):
        x = pixels.float()
        if how.brightness:
            x = x + _where(chosen[:, 0], spread[:, 0] * how.brightness)
        if how.contrast:
            mean = x.mean((1, 2, 3), keepdim=True)
            x = torch.lerp(mean, x, 1 + _where(chosen[:, 1], spread[:, 1] * how.contrast))
        if how.saturation and channels > 1:
            grey = x.mean(1, keepdim=True)
            x = torch.lerp(grey, x, 1 + _where(chosen[:, 2], spread[:, 2] * how.saturation))
        if how.translation:
            reach = int(how.translation * side)
            shifts = (draws[:, 3:5] * (2 * reach + 1)).long().clamp_max(2 * reach) - reach
            x = _moved(x, shifts * chosen[:, 3:4])
        if how.cutout:
            square = _square(draws, chosen[:, 4], how.cutout, side)
            x = torch.where(square, x.detach().mean((1, 2, 3), keepdim=True), x)
        return x


def _where(chosen: Bool[Tensor, " batch"], amount: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
    return torch.where(chosen, amount, 0.0)[:, None, None, None]


def _moved(x: Images, shifts: Int[Tensor, "batch 2"]) -> Images:
    """Move each picture by whole px, its border mirrored: two products with rows of a unit matrix.

    Gathering would do the same, but its gradient scatters, which is slow, and on a GPU adds up in no fixed order.
    """
    side = x.shape[-1]
    places = torch.arange(side, device=x.device) - shifts[:, :, None]
    mirrored = side - 1 - (side - 1 - places.abs()).abs()
    rows, columns = functional.one_hot(mirrored, side).to(x.dtype).unbind(1)
    return rows[:, None] @ x @ columns[:, None].transpose(2, 3)


def _square(
    draws: Float[Tensor, "batch 7"], chosen: Bool[Tensor, " batch"], share: float, side: int
) -> Bool[Tensor, "batch 1 side side"]:
    # A corner may lie outside: the border is hidden as often as the middle.
    size = max(round(share * side), 1)
    corner = (draws[:, 5:7] * (side + size - 1)).long() - size + 1
    place = torch.arange(side, device=draws.device)
    inside = (place >= corner[:, :, None]) & (place < (corner + size)[:, :, None])
    square = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    return square[:, None]
