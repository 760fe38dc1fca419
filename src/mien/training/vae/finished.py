"""A generator that is finished, and gets something more: a flow, or a mapper for edits. What both need of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mien import zoo
from mien.data.pictures import Pictures, read_pictures
from mien.errors import DataError, TrainingError, UsageError
from mien.images import printable
from mien.training.ranks import Ranks
from mien.training.reporter import PictureProgress
from mien.training.run import write_result
from mien.vision.generator import Generator

__all__ = ["FinishedConfig", "open_finished", "read_faces", "write_model"]


@dataclass(frozen=True, kw_only=True)
class FinishedConfig:
    """Settings of whatever is added to a finished generator.

    Attributes:
        model: Its name, or a run folder, of a VAE or of a GAN that kept its VAE's encoder.
        data: Folders, zips or lists of pictures: those that it learned from.
        out: Where the model is written; default is the run folder itself.
        kind: Layout of the data; auto finds out.
        labels: Label set that class numbers refer to, such as fer2013.
        keep_without_face: Take pictures in which no face is found as a whole, instead of leaving them out.
        cache: Folder that keeps the crops.
        mirror: Learn from mirror images, too.
        seed: Of everything random.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    model: str
    data: tuple[Path, ...]
    out: Path | None = None
    kind: str = "auto"
    labels: str | None = None
    keep_without_face: bool = False
    cache: Path | None = None
    mirror: bool = True
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("Setting 'data' names at least one folder, zip or list of pictures.")
        if self.seed < 0:
            raise UsageError(f"Setting 'seed' is 0 or more, got {self.seed}.")


def open_finished(config: FinishedConfig) -> tuple[Generator, Path]:
    """Open the model, and find out where the changed one is written.

    Raises:
        UsageError: It has no encoder, or there is no such place.
        TrainingError: The folder cannot be made.
    """
    generator, run = Generator(config.model), Path(config.model)
    if not generator.has_encoder:
        raise UsageError(
            f"'{generator.card.name}' has no encoder, so that nothing can be fitted to its latents. Name a VAE, or a "
            f"GAN that began as one (--init) with anchor above 0."
        )
    if config.out is None:
        if not run.is_dir():
            raise UsageError(
                f"'{printable(config.model)}' is no run folder that could be changed. Name one with --out."
            )
        return generator, run
    if (config.out / "model.onnx").exists() and config.out.resolve() != run.resolve():
        raise UsageError(f"'{printable(config.out)}' holds a model already. Name another folder with --out.")
    try:  # now, and not after the training
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"Cannot make '{printable(config.out)}': {error.strerror or error}. Name another one."
        ) from error
    return generator, config.out


def read_faces(config: FinishedConfig, generator: Generator) -> tuple[Pictures, Int[np.ndarray, " pictures"] | None]:
    """Return faces to learn from and to check with, cut as the model draws them, and their labels as it numbers them.

    Raises:
        DataError: The data cannot be read, or lack what the model is told.
    """
    convention = generator.convention
    with PictureProgress() as progress:
        pictures = read_pictures(
            config.data,
            template=convention.template,
            side=generator.side,
            colour=not convention.grey,
            kind=config.kind,
            labels=config.labels,
            attributes=convention.attributes,
            splits=("train", "valid"),
            keep_without_face=config.keep_without_face,
            cache=config.cache,
            progress=progress,
        )
    Ranks().say(*pictures.notes)
    if not generator.labels:
        return pictures, None
    if lacking := sorted(set(generator.labels) - set(pictures.classes)):
        raise DataError(
            f"'{generator.card.name}' draws {', '.join(generator.labels)}, and the data show no {lacking[0]}. Expected "
            f"a folder for each: name the data that it learned from."
        )
    number = np.array([*(generator.labels.index(n) if n in generator.labels else -1 for n in pictures.classes), -1])
    kept = pictures.take(number[pictures.labels] >= 0)
    return kept, number[kept.labels]


def write_model(
    generator: Generator, out: Path, network: bytes, convention: Mapping[str, Any], metrics: Mapping[str, Any]
) -> None:
    """Write the changed model, its card and its encoder.

    Args:
        generator: As it was.
        out: Its folder.
        network: The changed ONNX file.
        convention: What its card says of it now.
        metrics: Figures that are new.

    Raises:
        TrainingError: The folder cannot be written.
    """
    # What a card speaks of is there before the card: whoever stops this in the middle keeps a model that works.
    card = generator.card
    parts = [("model.onnx", "card.json", card, network)]
    if out.resolve() != Path(card.source.member).parent.resolve() or card.source.kind != "run":
        encoder = zoo.companion(card, "encoder")
        parts.insert(0, ("encoder.onnx", "encoder.json", encoder, zoo.path(encoder).read_bytes()))
    for file, beside, one, data in parts:
        facts = {
            "name": one.name,
            "role": one.role,
            "version": one.version,
            "summary": one.summary,
            "licence": one.licence,
            "training_data": one.training_data,
            "convention": dict(one.convention),
            "metrics": dict(one.metrics),
        }
        if one is card:
            facts["convention"] = {**convention, "encoder": "encoder.onnx"}
            facts["metrics"] = {**card.metrics, **metrics}
        write_result(out / file, data)
        write_result(out / beside, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
