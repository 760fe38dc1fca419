"""What a restorer learns in a step, and what it is measured by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from mien.alignment import TEMPLATES, similarity_transform
from mien.losses import perceptual_distance
from mien.networks import Restorer
from mien.networks.recogniser import FaceRecogniser
from mien.training.guard import Guard
from mien.training.precision import autocast
from mien.training.restoration.config import RestorationConfig
from mien.training.restoration.material import Batch
from mien.training.schedule import decayed, scheduled_rate

__all__ = ["Networks", "build_networks", "learn", "learning_rate", "validate"]

_HALF_RANGE = 127.5
_SOFT = 1e-3  # of Charbonnier's loss, in half ranges
_BLOCKS = (2, 6)  # of the recogniser: the last ones at 35 and at 17 px of 150
_PERFECT = 60.0  # dB, of a face that is the same to the px
_PART = 64  # pictures that are looked at at once


@dataclass(eq=False)
class Networks:
    """The networks of a training."""

    model: Restorer
    optimizer: torch.optim.Optimizer
    guard: Guard
    recogniser: FaceRecogniser | None


def build_networks(config: RestorationConfig, device: torch.device) -> Networks:
    """Return the networks as training begins.

    Raises:
        ModelError: The recogniser cannot be had.
    """
    model: Restorer = Restorer(config.net).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = decayed(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, config.learning_rate, betas=(0.9, 0.99), fused=True)
    recogniser = None
    if config.sees_people:
        recogniser = FaceRecogniser(config.template, config.net.side).to(device).eval()
    return Networks(model, optimizer, Guard(clip=1.0), recogniser)


def learn(networks: Networks, batch: Batch, config: RestorationConfig, device: torch.device) -> Tensor:
    """Set the gradients of a batch's mean loss, part by part, and return the loss."""
    networks.model.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    count = len(batch.spoilt)
    for rows in np.array_split(np.arange(count), min(config.accumulate, count)):
        part = _rows(batch, slice(int(rows[0]), int(rows[-1]) + 1)).to(device)
        with autocast(device, config.precision):
            restored, found = networks.model(part.spoilt, part.told)
        loss = _loss(restored, found, part, config)
        if networks.recogniser is not None:
            # The order of a batch is random, so that its first pictures are as good as any.
            few = max(round(config.judged * len(rows)), 1)
            loss = loss + _recognised(networks.recogniser, restored[:few], part, config)
        loss = loss * (len(rows) / count)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _loss(restored: Tensor, found: Tensor, batch: Batch, config: RestorationConfig) -> Float[Tensor, ""]:
    """Return the loss in pixels, in half ranges, with that of finding what stands before the face."""
    errors = ((restored - batch.clean) / _HALF_RANGE).square().add(_SOFT**2).sqrt()
    fit = (errors * (1 + config.covered_weight * batch.covered)).mean()
    return fit + config.finding * functional.binary_cross_entropy_with_logits(found, batch.covered)


def _recognised(
    recogniser: FaceRecogniser, restored: Tensor, batch: Batch, config: RestorationConfig
) -> Float[Tensor, ""]:
    """Return what a recogniser sees of the difference; it is fed as its own template has it."""
    few = len(restored)
    grid = _grid(batch.matrices[:few], config.template, restored.shape[-1]).to(restored.device)
    views = [functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
             for x in (restored, batch.clean[:few])]  # fmt: skip
    ours, maps = recogniser.look(views[0], _BLOCKS)
    with torch.no_grad():
        theirs, wanted = recogniser.look(views[1], _BLOCKS)
    loss = config.identity * (1 - (ours * theirs).sum(1)).mean()
    return loss + config.perceptual * perceptual_distance(maps, wanted).mean()


def _grid(matrices: Float64[np.ndarray, "batch 2 3"], template: str, side: int) -> Float[Tensor, "batch 150 150 2"]:
    """Return where px of the recogniser's pictures lie in crops, in PyTorch's coordinates."""
    own_side, own_points = TEMPLATES["dlib-150"]
    first = similarity_transform(np.array(own_points), np.array(TEMPLATES[template].points))
    row = np.arange(own_side)
    places = np.stack(np.meshgrid(row, row), axis=-1) @ first[:, :2].T + first[:, 2]
    moved = np.einsum("hwc,bdc->bhwd", places, matrices[:, :, :2]) + matrices[:, None, None, :, 2]
    return torch.from_numpy(((2 * moved + 1) / side - 1).astype(np.float32))


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.spoilt[rows], batch.told[rows], batch.covered[rows], batch.clean[rows], batch.matrices[rows])


@torch.no_grad()
def restore(model: Restorer, batch: Batch, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return restored faces, 0 to 255, and the logits of being covered."""
    answers = [
        model(*(x[start : start + _PART].to(device) for x in (batch.spoilt, batch.told)))
        for start in range(0, len(batch.spoilt), _PART)
    ]
    restored, found = (torch.cat(column).cpu() for column in zip(*answers, strict=True))
    return restored.clamp(0, 255), found


def validate(model: Restorer, batch: Batch, config: RestorationConfig, device: torch.device) -> dict[str, float]:
    """Measure a model on pictures that it has not learned from, spoilt in the same way each time."""
    restored, found = restore(model, batch, device=device)
    loss = float(_loss(restored, found, batch, config))
    before, after = _psnr(batch.spoilt, batch.clean), _psnr(restored, batch.clean)
    told = batch.covered.flatten(1).any(1)
    spoilt = before < 45
    seen, there = found > 0, batch.covered > 0.5
    union = float((seen | there).sum())
    uncovered = spoilt & ~told
    return {  # of few faces none may be spoilt, uncovered, or clean
        "valid_loss": loss,
        "valid_psnr": float(after[spoilt].mean()) if spoilt.any() else _PERFECT,
        "valid_psnr_gain": float((after - before)[uncovered].mean()) if uncovered.any() else 0.0,
        "valid_psnr_clean": float(after[~spoilt].mean()) if (~spoilt).any() else _PERFECT,
        "valid_found": float((seen & there).sum()) / union if union else 1.0,
    }


def _psnr(a: Tensor, b: Tensor) -> Float[Tensor, " batch"]:
    return 10 * torch.log10(255**2 / (a - b).square().mean((1, 2, 3)).clamp(min=0.065))  # of equal pictures 60 dB


def learning_rate(images: int, config: RestorationConfig) -> float:
    """Return the rate for the batch that starts at a position."""
    # A first step of rate 0 would teach nothing.
    return scheduled_rate(images + config.batch_size, config, final=0.05)
