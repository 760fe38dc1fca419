"""Variations of face crops for training, as tensors; every draw comes from a generator that is seeded by position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own custom
from jaxtyping import Float32, Float64, Int, Int64, UInt8
from torch import Tensor

__all__ = ["Augment", "Order", "Variation", "class_weights", "mixup", "plain_crops"]


_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey picture, as OpenCV weighs them


@dataclass(frozen=True)
class Variation:
    """How far pictures are varied. Zero turns a variation off.

    Attributes:
        flip: Share of pictures mirrored.
        rotate: Largest turn, degrees.
        scale: Largest change of size, as the logarithm of the factor.
        shift: Largest shift, as a share of the side.
        unaligned: Share of ready-made crops shown as they came, not aligned by landmarks.
        contrast: Largest change of contrast, as the logarithm of the factor.
        brightness: Largest change of brightness, grey levels of 255.
        colour: Largest change of one colour channel against the others, as the logarithm of the factor.
        grey: Share of colour pictures shown in grey.
        gamma: Largest change of the exponent that brightness is raised to, as the logarithm of the factor.
        shade: Largest difference of light between two opposite sides, as the logarithm of the factor; half of the
            pictures get some.
        noise: Largest standard deviation of noise, grey levels; half of the pictures get some.
        blur: Share of pictures reduced and enlarged again.
        blur_from: Least side that such a picture is reduced to, as a share of the side.
        jpeg: Share of pictures that go through JPEG.
        jpeg_quality: Least and largest quality of it.
        erase: Share of pictures with a rectangle of one grey level, 1/8 to 3/8 of the side long.
    """

    flip: float = 0.5
    rotate: float = 12.0
    scale: float = 0.15
    shift: float = 0.08
    unaligned: float = 0.25
    contrast: float = 0.35
    brightness: float = 25.0
    colour: float = 0.1
    grey: float = 0.0
    gamma: float = 0.0
    shade: float = 0.0
    noise: float = 8.0
    blur: float = 0.125
    blur_from: float = 0.42
    jpeg: float = 0.1
    jpeg_quality: tuple[int, int] = (30, 90)
    erase: float = 0.25


class Augment:
    """Cut varied crops out of canvases (see `mien.data.crops.Crops`): one resampling, then light, noise and damage.

    Args:
        frame: Px of the canvas, in its middle, that a plain crop fills.
        side: Of the crops, px.
        variation: How far to go.
        mode: How canvases are sampled; bicubic keeps more detail where they have no more px than the crops.
    """

    def __init__(
        self,
        *,
        frame: int,
        side: int,
        variation: Variation | None = None,
        mode: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        self.frame, self.side, self.mode = frame, side, mode
        self.variation = variation or Variation()

    def __call__(
        self,
        canvas: UInt8[Tensor, "batch channels canvas canvas"],
        generator: torch.Generator,
        whole: Float32[Tensor, "batch 2 3"] | None = None,
    ) -> Float32[Tensor, "batch channels side side"]:
        """Return one varied crop of each canvas, 0 to 255.

        Args:
            canvas: Faces with room around them, grey or RGB.
            generator: The only source of chance; on the CPU.
            whole: Where the unaligned picture lies in each canvas; None shows the aligned face only.
        """
        x = _sampled(canvas, self._views(canvas, generator, whole), self.side, self.mode)
        x = self._blurred(x, generator)
        x = self._shaded(x, generator)
        x = self._relit(x, generator)
        x = self._noisy(x, generator)
        x = self._compressed(x, generator)
        return self._erased(x, generator).clamp_(0, 255)

    def _views(self, canvas: Tensor, generator: torch.Generator, whole: Tensor | None) -> Float32[Tensor, "batch 2 3"]:
        """Draw the map from px of the crop to px of the canvas: mirror, turn, zoom and shift around the middle."""
        v, n = self.variation, len(canvas)
        base = _plain_view(canvas.shape[-1], self.frame, self.side).expand(n, 2, 3)
        unaligned = torch.rand(n, generator=generator) < v.unaligned
        if whole is not None:
            base = torch.where(unaligned[:, None, None], whole.cpu(), base)
        angle = _spread(n, generator) * math.radians(v.rotate)
        zoom = torch.exp(_spread(n, generator) * v.scale)
        shift = _spread((n, 2), generator) * (v.shift * self.side)
        mirror = 1 - 2 * (torch.rand(n, generator=generator) < v.flip).float()
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        turn = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(n, 2, 2)
        middle = (self.side - 1) / 2
        offset = middle + shift - turn.sum(dim=2) * middle
        linear = base[:, :, :2] @ turn
        moved = (base[:, :, :2] @ offset[:, :, None])[:, :, 0] + base[:, :, 2]
        return torch.cat([linear, moved[:, :, None]], dim=2)

    def _blurred(self, x: Tensor, generator: torch.Generator) -> Tensor:
        # Batches are in random order, so the first of them are as good as any; one size a batch makes it two calls.
        least = max(int(self.variation.blur_from * self.side), 1)
        size = int(torch.randint(least, max(self.side - 3, least + 1), (1,), generator=generator))
        count = _rounded(self.variation.blur * len(x), generator)
        if count:
            small = F.interpolate(x[:count], size=size, mode="area")
            x[:count] = F.interpolate(small, size=self.side, mode="bilinear")
        return x

    def _shaded(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Take the colours out of some, change the curve of light, and light some from one side."""
        v, n = self.variation, len(x)
        if v.grey and x.shape[1] > 1:
            chosen = (torch.rand((n, 1, 1, 1), generator=generator) < v.grey).to(x.device)
            x = torch.where(chosen, (x * torch.tensor(_LUMA).view(1, 3, 1, 1).to(x)).sum(1, keepdim=True), x)
        if v.gamma:
            power = torch.exp(_spread((n, 1, 1, 1), generator) * v.gamma).to(x.device)
            x = 255 * (x.clamp(0, 255) / 255) ** power
        if v.shade:
            angle = _spread((n, 1, 1), generator) * math.pi
            strength = _spread((n, 1, 1), generator).abs() * v.shade
            strength *= torch.rand((n, 1, 1), generator=generator) < 0.5
            across = torch.linspace(-0.5, 0.5, self.side)
            light = torch.exp(strength * (torch.cos(angle) * across + torch.sin(angle) * across[:, None]))
            x = x * light[:, None].to(x.device)
        return x

    def _relit(self, x: Tensor, generator: torch.Generator) -> Tensor:
        v, n, channels = self.variation, len(x), x.shape[1]
        contrast = torch.exp(_spread((n, 1, 1, 1), generator) * v.contrast)
        brightness = _spread((n, 1, 1, 1), generator) * v.brightness
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        # (x - mean) * contrast + mean + brightness, in one pass over the pixels.
        x = torch.addcmul((mean * (1 - contrast.to(x.device)) + brightness.to(x.device)), x, contrast.to(x.device))
        if channels > 1 and v.colour:
            x *= torch.exp(_spread((n, channels, 1, 1), generator) * v.colour).to(x.device)
        return x

    def _noisy(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n = len(x)
        level = torch.rand(n, generator=generator) * self.variation.noise
        chosen = torch.nonzero(torch.rand(n, generator=generator) < 0.5)[:, 0]
        if self.variation.noise and len(chosen):
            noise = torch.randn((len(chosen), *x.shape[1:]), generator=generator)
            noise *= level[chosen, None, None, None]
            x.index_add_(0, chosen.to(x.device), noise.to(x.device))
        return x

    def _compressed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self.variation.jpeg_quality
        n = len(x)
        quality = torch.randint(low, high + 1, (n,), generator=generator).tolist()
        for i in torch.nonzero(torch.rand(n, generator=generator) < self.variation.jpeg)[:, 0].tolist():
            # OpenCV takes BGR; one channel is the same either way.
            pixels = x[i].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).flip(2).contiguous().cpu().numpy()
            _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality[i]])
            back = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if x.shape[1] == 1 else cv2.IMREAD_COLOR)
            assert back is not None, "OpenCV reads its own JPEG"
            back = np.ascontiguousarray(np.atleast_3d(back)[:, :, ::-1].transpose(2, 0, 1))
            x[i] = torch.from_numpy(back).to(x)
        return x

    def _erased(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n, side = len(x), self.side
        size = torch.randint(max(side // 8, 1), max(side * 3 // 8, 2), (n, 2), generator=generator)
        start = torch.randint(-(side // 12), side - side // 12, (n, 2), generator=generator)
        level = torch.rand(n, generator=generator) * 255
        chosen = (torch.rand(n, generator=generator) < self.variation.erase)[:, None]
        place = torch.arange(side)
        inside = (place >= start[:, :, None]) & (place < (start + size)[:, :, None])
        mask = ((inside[:, 1] & chosen)[:, :, None] & inside[:, 0][:, None, :])[:, None]
        return torch.where(mask.to(x.device), level[:, None, None, None].to(x.device), x)


def plain_crops(
    canvas: UInt8[Tensor, "batch channels canvas canvas"], *, frame: int, side: int
) -> Float32[Tensor, "batch channels side side"]:
    """Return the crops that canvases hold, unvaried, 0 to 255: `Crops.faces` but for the second resampling."""
    return _sampled(canvas, _plain_view(canvas.shape[-1], frame, side).expand(len(canvas), 2, 3), side)


def mixup(
    x: Float32[Tensor, batch * shape],
    targets: Mapping[str, Float32[Tensor, "batch classes"]],
    generator: torch.Generator,
    alpha: float,
) -> tuple[Float32[Tensor, batch * shape], dict[str, Float32[Tensor, "batch classes"]]]:
    """Blend each sample with another of the batch, labels alike; an unlabelled one (NaN) makes the blend unlabelled.

    Args:
        x: Pictures.
        targets: Shares over classes by name.
        generator: The only source of chance; on the CPU.
        alpha: Of the Beta distribution that the weight is drawn from, once a batch; 0 blends nothing.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.
    """
    if alpha <= 0:
        return x, dict(targets)
    # PyTorch draws no Beta from a given generator; NumPy does, from a seed that comes out of it.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    other = torch.randperm(len(x), generator=generator).to(x.device)
    return (
        torch.lerp(x[other], x, weight),
        {name: torch.lerp(shares[other], shares, weight) for name, shares in targets.items()},
    )


def class_weights(
    labels: Int[np.ndarray, " samples"], num_classes: int, *, power: float = 1.0
) -> Float32[Tensor, " classes"]:
    """Return loss weights in proportion to (1 / count) ** power, of mean one over the labelled samples.

    A class without samples weighs nothing; labels of -1 are not counted.
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes).astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
    mean = (weights * counts).sum() / max(counts.sum(), 1)
    return torch.from_numpy((weights / max(mean, 1e-12)).astype(np.float32))


class Order:
    """Which samples each batch of a run holds, whatever batches came before.

    Epoch after epoch is a shuffle of its own, seeded by its number.

    Args:
        labels: Class of each sample; -1 is unlabelled, and shown as often as the average.
        seed: Of the run.
        balance: 0 shows each sample once an epoch; 1 shows every class equally often, drawing with replacement;
            between them the counts of the classes are raised to the power 1 - balance.

    Attributes:
        weights: How often each sample is shown, as a share of all, shape (samples,).
    """

    def __init__(self, labels: Int[np.ndarray, " samples"], *, seed: int, balance: float = 0.0) -> None:
        assert len(labels) and 0 <= balance <= 1
        self.seed = seed
        self._count = len(labels)
        self._shares: Float64[np.ndarray, " samples"] | None = None
        if balance:
            counts = np.bincount(labels[labels >= 0], minlength=1)
            shares = np.where(labels >= 0, np.maximum(counts, 1)[labels], 1.0) ** -balance
            shares[labels < 0] = shares[labels >= 0].mean() if (labels >= 0).any() else 1.0
            self._shares = shares / shares.sum()
        self.weights: Float64[np.ndarray, " samples"] = (
            np.full(len(labels), 1 / len(labels)) if self._shares is None else self._shares
        )
        self._epoch = -1
        self._shuffle: Int64[np.ndarray, " samples"] = np.empty(0, np.int64)

    def batch(self, position: int, size: int) -> Int64[np.ndarray, " batch"]:
        """Return the samples of the batch that starts at a position; it may end one epoch and begin the next.

        Args:
            position: Images learnt from before this batch.
            size: Samples to return.
        """
        parts = []
        while size > 0:
            epoch, start = divmod(position, self._count)
            part = self._of(epoch)[start : start + size]
            parts.append(part)
            position, size = position + len(part), size - len(part)
        return np.concatenate(parts)

    def _of(self, epoch: int) -> Int64[np.ndarray, " samples"]:
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            if self._shares is None:
                self._shuffle = rng.permutation(self._count)
            else:
                self._shuffle = rng.choice(self._count, size=self._count, p=self._shares)
            self._epoch = epoch
        return self._shuffle


def _plain_view(canvas: int, frame: int, side: int) -> Float32[Tensor, "2 3"]:
    """Return the map from px of the crop to px of the canvas."""
    zoom, margin = frame / side, (canvas - frame) / 2
    return torch.tensor([[zoom, 0.0, margin], [0.0, zoom, margin]])


def _sampled(
    canvas: Tensor, views: Float32[Tensor, "batch 2 3"], side: int, mode: str = "bilinear"
) -> Float32[Tensor, "batch channels s s"]:
    """Resample once, the border repeated outwards; ``views`` map px of the crop to px of the canvas."""
    size = canvas.shape[-1]
    # PyTorch's coordinates run from -1 to 1 between outer edges: px p of n is (2 p + 1) / n - 1.
    linear = views[:, :, :2] * (side / size)
    middle = views[:, :, :2].sum(dim=2) * ((side - 1) / 2) + views[:, :, 2]
    theta = torch.cat([linear, ((2 * middle + 1) / size - 1)[:, :, None]], dim=2).to(canvas.device)
    grid = F.affine_grid(theta, [len(canvas), 1, side, side], align_corners=False)
    return F.grid_sample(canvas.float(), grid, mode=mode, padding_mode="border", align_corners=False)


def _spread(size: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw evenly between -1 and 1."""
    return torch.rand(size, generator=generator) * 2 - 1


def _rounded(expected: float, generator: torch.Generator) -> int:
    """Return a whole number that is right on average, also for tiny batches."""
    return int(expected + float(torch.rand(1, generator=generator)))
