"""What a restorer learns from: faces with room around them, and the same faces spoilt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, UInt8
from torch import Tensor

from mien.alignment import TEMPLATES
from mien.data.degradation import spoil
from mien.data.occlusion import occlude
from mien.data.pictures import Pictures, read_pictures
from mien.data.transforms import Order
from mien.errors import DataError
from mien.training.material import Pinned
from mien.training.ranks import Ranks
from mien.training.reporter import PictureProgress
from mien.training.restoration.config import RestorationConfig
from mien.vision.detector import Detection

__all__ = ["Batch", "Material", "load_material"]

_TURN = 6.0  # degrees: largest turn of a crop


class _Blind:
    """Finds no face: every picture is taken as a whole."""

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Detection]:
        return []


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some faces and what became of them.

    Attributes:
        spoilt: 0 to 255, shape (batch, 3, side, side).
        told: 1 where the network is told of something before the face, shape (batch, 1, side, side).
        covered: 1 where there is something, shape (batch, 1, side, side).
        clean: The faces as they were, shape (batch, 3, side, side).
        matrices: From px of the template to px of the crop, shape (batch, 2, 3).
    """

    spoilt: Float32[Tensor, "batch 3 side side"]
    told: Float32[Tensor, "batch 1 side side"]
    covered: Float32[Tensor, "batch 1 side side"]
    clean: Float32[Tensor, "batch 3 side side"]
    matrices: Float64[np.ndarray, "batch 2 3"]

    def to(self, device: torch.device) -> Batch:
        """Return it on a device."""
        spoilt, told, covered, clean = (
            x.to(device).contiguous(memory_format=torch.channels_last)
            for x in (self.spoilt, self.told, self.covered, self.clean)
        )
        return Batch(spoilt, told, covered, clean, self.matrices)


@dataclass(eq=False)
class Material(Pinned):
    """Everything that is learned from. A part of the checkpoint, so that it cannot change."""

    train: Pictures
    valid: Pictures
    order: Order
    config: RestorationConfig

    def batch(self, position: int, numbers: Int[np.ndarray, " batch"], places: Sequence[int]) -> Batch:
        """Return training faces, spoilt by chance that follows from the position in the training.

        Args:
            position: Images seen before this batch.
            numbers: Of the pictures.
            places: Of each in the batch.
        """
        return self._spoilt(self.train.images[numbers], [[self.config.seed, 1, position + place] for place in places])

    def checked(self) -> Batch:
        """Return validation faces, always spoilt in the same way."""
        few = self.valid.images[: self.config.checked]
        return self._spoilt(few, [[self.config.seed, 2, place] for place in range(len(few))])

    def _spoilt(self, images: UInt8[np.ndarray, "batch 3 canvas canvas"], seeds: Sequence[Sequence[int]]) -> Batch:
        rows = [self._one(image, np.random.default_rng(seed)) for image, seed in zip(images, seeds, strict=True)]
        spoilt, told, covered, clean, matrices = (np.stack(column) for column in zip(*rows, strict=True))
        pictures = (torch.from_numpy(x).permute(0, 3, 1, 2).float() for x in (spoilt, clean))
        masks = (torch.from_numpy(x).float()[:, None] for x in (told, covered))
        (a, b), (c, d) = pictures, masks
        return Batch(a, c, d, b, matrices)

    def _one(
        self, image: UInt8[np.ndarray, "3 canvas canvas"], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return one face spoilt, where that is told, where it is covered, the face, and its matrix."""
        side, canvas = self.config.net.side, self.config.canvas
        matrix = _view(canvas, side, rng, self.config.zoom)
        picture = np.ascontiguousarray(image.transpose(1, 2, 0))
        clean = np.asarray(
            cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            np.uint8,
        )
        spoilt, covered = clean, np.zeros((side, side), dtype=bool)
        own = matrix @ np.diag([canvas / self.config.own_side] * 2 + [1])
        if rng.random() < self.config.occluded:
            points = np.array(TEMPLATES[self.config.template].points)
            spoilt, covered = occlude(clean, points @ own[:, :2].T + own[:, 2] + rng.normal(0, 1, (5, 2)), rng)
        told = covered & (rng.random() < self.config.told)
        if told.any() and rng.random() < 0.5:
            # Masks that are drawn by hand or found are never exact.
            told = cv2.dilate(told.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=int(rng.integers(1, 4))) > 0
        return spoil(spoilt, rng, self.config.damage), told, covered, clean, own

    @property
    def digest(self) -> str:
        """Hash of the pictures."""
        return hashlib.sha256((self.train.digest + self.valid.digest).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Pictures to learn from and to check with."""
        return len(self.train) + len(self.valid)


def load_material(config: RestorationConfig, *, cache: Path | None, ranks: Ranks) -> Material:
    """Read the pictures.

    Raises:
        DataError: There are too few.
    """
    with ranks.main_first(), PictureProgress(quiet=not ranks.is_main) as progress:  # the others read its cache
        pictures = read_pictures(
            config.data,
            template=config.template,
            side=config.canvas,
            colour=True,
            kind=config.kind,
            labels=config.labels,
            splits=("train", "valid"),
            keep_without_face=config.keep_without_face or config.aligned,
            cache=cache,
            detector=_Blind() if config.aligned else None,
            progress=progress,
        )
    train, valid = pictures.split("train"), pictures.split("valid")
    ranks.say(*(note for note in pictures.notes if not (config.aligned and "no face was found" in note)))
    if len(train) < config.batch_size or not len(valid):
        raise DataError(
            f"Training needs at least a batch of {config.batch_size} pictures to learn from and 1 to check with, got "
            f"{len(train)} and {len(valid)}. Add pictures, or lower batch_size."
        )
    # Neighbours in a folder are one person: a report should look at many.
    valid = valid.take(np.random.default_rng(0).permutation(len(valid)))
    return Material(train, valid, Order(train.labels, seed=config.seed), config)


def _view(canvas: int, side: int, rng: np.random.Generator, zoom: tuple[float, float]) -> Float64[np.ndarray, "2 3"]:
    """Return the map from px of the canvas to px of a crop: turned, mirrored, at some zoom, shifted."""
    shown = rng.uniform(*zoom) * side
    scale = side / shown
    angle = np.deg2rad(rng.uniform(-_TURN, _TURN))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1])
    room = max(canvas - shown, 0) / 2 + 0.03 * canvas
    middle = (canvas - 1) / 2 + rng.uniform(-room, room, 2)
    return np.hstack([linear, ((side - 1) / 2 - linear @ middle)[:, None]])
