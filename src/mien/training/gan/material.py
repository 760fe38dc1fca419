"""The pictures that a GAN learns from."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int

from mien import zoo
from mien.data.pictures import Pictures, read_pictures
from mien.data.transforms import Order
from mien.errors import DataError, TrainingError
from mien.networks.recogniser import FaceRecogniser
from mien.training.gan.config import GANConfig
from mien.training.material import Pinned, few_pictures, keep_large_classes
from mien.training.precision import autocast
from mien.training.ranks import Ranks
from mien.training.reporter import PictureProgress, Reporter
from mien.training.run import write_result
from mien.vision.conventions import GeneratorConvention

__all__ = ["Material", "load_material"]

_FEWEST = 4  # pictures of a class; a generator would memorise fewer


@dataclass(eq=False)
class Material(Pinned):
    """Everything that is learned from. A part of the checkpoint, so that it cannot change."""

    pictures: Pictures
    labels: Int[np.ndarray, " pictures"]
    classes: tuple[str, ...]
    embeddings: Float32[np.ndarray, "pictures dimension"] | None
    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    order: Order
    reference: Int[np.ndarray, " reference"]
    held_out: Int[np.ndarray, " held_out"]

    def batch(self, images: int, size: int) -> Int[np.ndarray, " batch"]:
        """Return the pictures of the batch at a position."""
        return np.asarray(self.train[self.order.batch(images, size)])

    @property
    def digest(self) -> str:
        """Hash of the pictures and what is known about them."""
        return self.pictures.digest

    @property
    def count(self) -> int:
        """Pictures to learn from."""
        return len(self.train)


def load_material(
    config: GANConfig, *, cache: Path | None, ranks: Ranks, device: torch.device, pictures: Pictures | None = None
) -> Material:
    """Read the pictures, unless they are given, and leave out classes of too few.

    Raises:
        DataError: No class has enough pictures, or there are fewer pictures than a batch has.
    """
    with ranks.main_first(), PictureProgress(quiet=not ranks.is_main) as progress:  # the others read its cache
        pictures = pictures or read_pictures(
            config.data, template=config.template, side=config.side, colour=config.colour, kind=config.kind,
            labels=config.labels, splits=("train", "valid"), keep_without_face=config.keep_without_face, cache=cache,
            progress=progress,
        )  # fmt: skip
        embeddings = _embed(pictures, config, cache, device) if config.identity else None
    notes = list(pictures.notes)
    train, valid = (np.flatnonzero(pictures.splits == split) for split in ("train", "valid"))
    labels, classes = pictures.labels, pictures.classes
    if config.conditional and classes:
        labels, classes, left_out = keep_large_classes(labels, classes, learned=train, fewest=_FEWEST)
        notes += left_out
        if not classes:
            raise DataError(
                f"No class has {_FEWEST} pictures or more. Add pictures, or draw without classes: --set "
                f"conditional=false."
            )
        train, valid = train[labels[train] >= 0], valid[labels[valid] >= 0]
    else:
        labels, classes = np.zeros(len(pictures), np.int64), ()
    if len(train) < config.batch_size:
        raise DataError(
            f"A batch has {config.batch_size} pictures, and there are only {len(train)} to learn from. Add pictures, "
            f"or lower batch_size."
        )
    ranks.say(*notes, *few_pictures(len(train), _better_beginning(config, classes)))
    order = Order(labels[train], seed=config.seed, balance=config.balance if classes else 0.0)
    reference, held_out = (
        _evenly_by_class(part, labels, len(classes), config.health.pictures, config.seed) for part in (train, valid)
    )
    return Material(pictures, labels, classes, embeddings, train, valid, order, reference, held_out)


def _better_beginning(config: GANConfig, classes: tuple[str, ...]) -> str:
    """Say what a GAN of few pictures could begin as; nothing where it begins as something."""
    if config.init is not None or config.identity:
        return ""
    fitting = []
    for card in zoo.cards("generator"):
        theirs = GeneratorConvention.of(card)
        alike = (theirs.template, theirs.side, theirs.grey) == (config.template, config.side, not config.colour)
        if theirs.kind == "vae" and alike and theirs.labels == classes:
            fitting.append(card.name)
    if fitting:
        return f"Begin as a VAE that saw more: --init {fitting[0]}."
    return "Train a VAE first, and begin as it: --init RUN."


def _evenly_by_class(
    among: Int[np.ndarray, " pictures"], labels: Int[np.ndarray, " all"], classes: int, count: int, seed: int
) -> Int[np.ndarray, " chosen"]:
    """Return about as many pictures of each class: rare classes count as much as common ones."""
    shuffled = among[np.random.default_rng(seed).permutation(len(among))]
    each = max(count // max(classes, 1), 2)
    return np.concatenate([shuffled[labels[shuffled] == number][:each] for number in range(max(classes, 1))])


@torch.no_grad()
def _embed(
    pictures: Pictures, config: GANConfig, cache: Path | None, device: torch.device
) -> Float32[np.ndarray, "pictures dimension"]:
    """Return unit embeddings of all pictures, as the identity loss computes them."""
    file = None if cache is None else cache / f"embeddings-{pictures.digest[:16]}-{config.template}.npy"
    if file is not None and file.is_file():
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
    recogniser = FaceRecogniser(config.template, config.side).to(device)
    parts = []
    with Reporter(len(pictures), quiet=len(pictures) < 1000) as reporter:
        for start in range(0, len(pictures), 64):
            part = torch.from_numpy(pictures.images[start : start + 64]).to(device)
            with autocast(device, config.precision):
                parts.append(recogniser(part).cpu().numpy())
            reporter.advance(min(start + 64, len(pictures)))
    found: np.ndarray = np.concatenate(parts)
    if file is not None:
        packed = io.BytesIO()
        np.save(packed, found)
        cache_folder = file.parent
        try:
            cache_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"Cannot write '{cache_folder}': {error.strerror or error}.") from error
        write_result(file, packed.getvalue())
    return found
