"""Faces that a finished generator learns from, as its encoder sees them: which ones, and in how many variations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8

from mien.data.pictures import Pictures
from mien.data.transforms import Augment, Variation
from mien.errors import UsageError
from mien.losses import perceptual_distance
from mien.networks.perceptual import ImageFeatures
from mien.networks.vae import condition_vector
from mien.training.vae.finished import FinishedConfig
from mien.training.vae.flow import Posteriors
from mien.vision.generator import Generator

__all__ = ["EncodedConfig", "encode_split"]

_PART = 128  # faces that are drawn again and looked at in one go
# As much as faces differ that were cut by landmarks, or a flow would draw crooked ones.
_SLIGHTLY = Variation(
    rotate=4.0, scale=0.04, shift=0.025, unaligned=0.0, contrast=0.1, brightness=8.0,
    colour=0.0, noise=0.0, blur=0.0, jpeg=0.0, erase=0.0,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EncodedConfig(FinishedConfig):
    """Settings of which faces are encoded, beside those of whatever is added to a finished generator.

    Attributes:
        redrawn: Share of the faces of each expression that are learned from: those that the decoder redraws best, as
            the ImageNet network sees it. What it cannot draw is then seldom asked of it; faces vary less.
        varied: Times that each face is encoded once more, turned, moved and lit a little otherwise: of few faces a flow
            learns less by heart then.
    """

    redrawn: float = 1.0
    varied: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.redrawn <= 1:
            raise UsageError(f"Setting 'redrawn' is above 0 and at most 1, got {self.redrawn:g}.")
        if self.varied < 0:
            raise UsageError(f"Setting 'varied' is 0 or more, got {self.varied}.")


def encode_split(
    generator: Generator,
    pictures: Pictures,
    labels: Int[np.ndarray, " pictures"] | None,
    split: str,
    config: EncodedConfig,
    device: torch.device,
) -> Posteriors:
    """Encode the pictures of a split that are learned from, their mirror images, and variations of those to fit to.

    Args:
        generator: Whose encoder, and whose faces.
        pictures: As `read_faces` gives them.
        labels: Likewise.
        split: train or valid.
        config: Which of them, and how often.
        device: For the network that chooses among them.
    """
    chosen = np.flatnonzero(pictures.splits == split)
    faces = pictures.take(chosen).rgb()
    mean, deviation = generator.posteriors(faces)
    if config.redrawn < 1:
        shown = None if labels is None else labels[chosen]
        kept = _redrawn_best(generator, faces, mean, shown, config.redrawn, device)
        chosen, faces, mean, deviation = chosen[kept], faces[kept], mean[kept], deviation[kept]
    parts = [(mean, deviation), *([generator.posteriors(faces[:, :, ::-1])] if config.mirror else [])]
    chance = torch.Generator().manual_seed(config.seed)
    for _ in range(config.varied if split == "train" else 0):
        parts.append(generator.posteriors(_varied(faces, chance, mirror=config.mirror)))
    condition = condition_vector(
        None if labels is None else torch.from_numpy(labels[chosen]),
        len(generator.labels),
        torch.from_numpy(pictures.attributes[chosen]).float() if generator.attributes else None,
    )
    return Posteriors(
        np.concatenate([mean for mean, _ in parts]),
        np.concatenate([deviation for _, deviation in parts]),
        None if condition is None else np.concatenate([condition.numpy()] * len(parts)),
        generator.convention.places,
    )


def _varied(
    faces: UInt8[np.ndarray, "n side side 3"], chance: torch.Generator, *, mirror: bool
) -> UInt8[np.ndarray, "n side side 3"]:
    # Bicubic: linearly sampled faces are softer, and the flow would draw softer ones.
    variation, side = replace(_SLIGHTLY, flip=0.5 if mirror else 0.0), faces.shape[1]
    vary = Augment(frame=side, side=side, variation=variation, mode="bicubic")
    varied = np.empty_like(faces)
    for start in range(0, len(faces), _PART):
        rows = slice(start, start + _PART)
        seen = vary(torch.from_numpy(faces[rows]).permute(0, 3, 1, 2), chance)
        varied[rows] = seen.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return varied


@torch.no_grad()
def _redrawn_best(
    generator: Generator,
    faces: UInt8[np.ndarray, "n side side 3"],
    latents: Float32[np.ndarray, "n latents"],
    labels: Int[np.ndarray, " n"] | None,
    share: float,
    device: torch.device,
) -> Bool[np.ndarray, " n"]:
    """Return which faces of each label are among the given share that the decoder redraws best from their latents."""
    features, apart = ImageFeatures().to(device), np.empty(len(faces))
    names = None if labels is None else [generator.labels[label] for label in labels]
    for start in range(0, len(faces), _PART):
        rows = slice(start, start + _PART)
        back = generator.decode(latents[rows], expression=None if names is None else names[rows])
        seen = (features(torch.from_numpy(some).to(device).permute(0, 3, 1, 2).float()) for some in (faces[rows], back))
        apart[rows] = perceptual_distance(*seen).cpu().numpy()
    of = np.zeros(len(faces), int) if labels is None else labels
    limits = {label: np.quantile(apart[of == label], share) for label in np.unique(of)}
    return apart <= np.array([limits[label] for label in of])
