"""The pictures that a VAE learns from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mien.data.pictures import Pictures, read_pictures
from mien.data.transforms import Order
from mien.errors import DataError
from mien.networks.vae import condition_vector
from mien.training.material import Pinned, few_pictures, keep_large_classes
from mien.training.ranks import Ranks
from mien.training.reporter import PictureProgress
from mien.training.vae.config import VAEConfig
from mien.types import EXPRESSIONS

__all__ = ["Material", "load_material"]

_FEWEST = 8  # pictures of a class; a prior fitted to fewer would memorise them


@dataclass(eq=False)
class Material(Pinned):
    """Everything that is learned from. A part of the checkpoint, so that it cannot change."""

    train: Pictures
    valid: Pictures
    classes: tuple[str, ...]
    order: Order

    def batch(self, images: int, size: int) -> Int[np.ndarray, " batch"]:
        """Return the training pictures of the batch at a position."""
        return np.asarray(self.order.batch(images, size))

    def condition(self, pictures: Pictures, which: Int[np.ndarray, " some"] | slice) -> Tensor | None:
        """Return the condition of the decoder for some pictures; None where there is none."""
        attributes = torch.from_numpy(pictures.attributes[which]).float() if pictures.attribute_names else None
        labels = torch.from_numpy(pictures.labels[which]) if self.classes else None
        return condition_vector(labels, len(self.classes), attributes)

    @property
    def condition_size(self) -> int:
        """Length of the decoder's condition."""
        return len(self.classes) + len(self.train.attribute_names)

    @property
    def digest(self) -> str:
        """Hash of the pictures and what is known about them."""
        return hashlib.sha256((self.train.digest + self.valid.digest).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Pictures to learn from and to check with."""
        return len(self.train) + len(self.valid)


def load_material(config: VAEConfig, *, cache: Path | None, ranks: Ranks, pictures: Pictures | None = None) -> Material:
    """Read the pictures, unless they are given, and leave out classes of too few.

    Raises:
        DataError: Labels are missing that are asked for, or there are too few pictures.
    """
    with ranks.main_first(), PictureProgress(quiet=not ranks.is_main) as progress:  # the others read its cache
        pictures = pictures or read_pictures(
            config.data,
            template=config.template,
            side=config.net.side,
            colour=config.net.colour,
            kind=config.kind,
            labels=config.labels,
            attributes=config.attributes,
            splits=("train", "valid"),
            keep_without_face=config.keep_without_face,
            cache=cache,
            progress=progress,
        )
    notes = list(pictures.notes)
    classes = pictures.classes
    if config.condition == "none" or (config.condition == "auto" and not set(classes) <= set(EXPRESSIONS)):
        classes = ()
    if classes:
        pictures, classes = _with_enough(pictures, notes)
    elif config.condition == "labels":
        raise DataError(
            "A conditional VAE needs labels, and the data have none. Expected a folder for each class; or leave "
            "--condition out."
        )
    train, valid = pictures.split("train"), pictures.split("valid")
    ranks.say(*notes, *few_pictures(len(train)))
    if len(train) < config.batch_size or not len(valid):
        raise DataError(
            f"Training needs at least a batch of {config.batch_size} pictures to learn from and 1 to check with, got "
            f"{len(train)} and {len(valid)}. Add pictures, or lower batch_size."
        )
    order = Order(train.labels, seed=config.seed, balance=config.balance if classes else 0.0)
    return Material(train, valid, classes, order)


def _with_enough(pictures: Pictures, notes: list[str]) -> tuple[Pictures, tuple[str, ...]]:
    """Return the pictures of classes that can be learned, and those classes."""
    learned = np.flatnonzero(pictures.splits == "train")
    labels, classes, left_out = keep_large_classes(pictures.labels, pictures.classes, learned=learned, fewest=_FEWEST)
    notes += left_out
    if len(classes) < 2:
        raise DataError(
            f"A conditional VAE needs two classes of {_FEWEST} training pictures or more, got {len(classes)}. Add "
            f"pictures, or leave the labels out with --condition none."
        )
    return pictures.relabelled(labels, classes), classes
