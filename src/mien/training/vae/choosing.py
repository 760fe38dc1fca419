"""A discriminator for a finished generator: of several faces that the flow draws, that is given which looks most real.

It learns to tell faces that the flow draws from photographs that went through encoder and decoder: what the decoder
makes of any latents is the same on both sides, so that only what the flow has wrong tells them apart.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mien import zoo
from mien.data.pictures import Pictures
from mien.errors import TrainingError, UsageError
from mien.metrics.expression import area_under_roc
from mien.networks.decoder import PublishedDecoder
from mien.networks.diffaugment import DiffAugment, diff_augment
from mien.networks.gan import Discriminator, DiscriminatorConfig, Sizes
from mien.training.learned import keep_learned
from mien.training.precision import choose_device
from mien.training.reporter import Reporter
from mien.training.run import position_seed, seed_torch, write_result
from mien.training.schedule import decayed, scheduled_rate
from mien.training.storage import precision_of, stored
from mien.training.vae.finished import FinishedConfig, open_finished, read_faces, write_model
from mien.training.vae.grafting import with_discriminator
from mien.training.vae.redrawing import grade_redrawn, redraw
from mien.vision.generator import MOST_CANDIDATES, Generator, Request

__all__ = ["ChoiceConfig", "Taught", "train_discriminator"]

_SEEDS = 1 << 62, 1 << 63  # of the faces that it learns from: nobody else draws those
_PART = 256
_VARIED = DiffAugment(translation=0.05, contrast=0.1)


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig(FinishedConfig):
    """Settings of a discriminator that chooses, beside those of whatever is added to a finished generator.

    Attributes:
        candidates: Faces that are drawn for each that is given, unless a call says otherwise.
        images: Length of the training, in faces of either kind.
        drawn: Faces that are drawn for each photograph.
        redrawn: Share of the photographs of each expression that are learned from: those that the decoder redraws
            best.
        batch_size: Faces of either kind in a step.
        learning_rate: The highest of the schedule; it falls to nothing.
        warmup: Faces until it is reached, at most a tenth of the training.
        weight_decay: Of matrices.
        widths: Channels by stage, each of which halves the side.
        report_every: Faces between two looks at faces held out; the network that told those best is kept.
    """

    candidates: int = 4
    images: int = 160_000
    drawn: int = 2
    redrawn: float = 1.0
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup: int = 4_000
    weight_decay: float = 2e-2
    widths: tuple[int, ...] = (24, 48, 96, 192)
    report_every: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.candidates <= MOST_CANDIDATES:
            raise UsageError(f"Setting 'candidates' is 2 to {MOST_CANDIDATES}, got {self.candidates}.")
        for name in ("images", "drawn", "batch_size", "report_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting '{name}' is at least 1, got {getattr(self, name)}.")
        for name in ("warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if not 0 < self.redrawn <= 1:
            raise UsageError(f"Setting 'redrawn' is above 0 and at most 1, got {self.redrawn:g}.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"Setting 'learning_rate' is above 0, got {self.learning_rate:g}.")
        if not self.widths or min(self.widths) < 1:
            raise UsageError(f"Setting 'widths' names at least one stage of 1 or more, got {list(self.widths)}.")


@dataclass(frozen=True, slots=True)
class Taught:
    """What came of it.

    Attributes:
        out: Folder of the model: `model.onnx`, `card.json`, and its encoder.
        discriminator: The network.
        summary: Figures, as in the card.
    """

    out: Path
    discriminator: Discriminator
    summary: Mapping[str, Any]


def train_discriminator(config: ChoiceConfig) -> Taught:
    """Train a discriminator and write the generator with it; a single face of the same seed stays as it is.

    Everything random follows from the seed and the position.

    Raises:
        MienError: The model has no encoder or no flow, or is told attributes; the data lack what it is told, or nothing
            can be written.
    """
    generator, out = open_finished(config)
    if not generator.convention.flow:
        raise UsageError(
            f"'{generator.card.name}' has no flow whose faces could be chosen among. Fit one first: mien train prior."
        )
    if generator.attributes:
        raise UsageError(
            f"'{generator.card.name}' is told attributes, and a discriminator is taught for generators that are told "
            f"expressions at most."
        )
    side, stages = generator.side, len(config.widths)
    if side % 2**stages:
        raise UsageError(
            f"Setting 'widths' has {stages} stages, and a side of {side} px cannot be halved so often. Name fewer."
        )
    device, before = choose_device(config.device), zoo.path(generator.card).read_bytes()
    pictures, labels = read_faces(config, generator)
    decoder = PublishedDecoder(before).to(device)
    train, valid = (_Faces.of(generator, decoder, pictures, labels, s, config, device) for s in ("train", "valid"))
    if len(train.real) < config.batch_size or not len(valid.real):
        raise TrainingError(
            f"A discriminator needs {config.batch_size} faces to learn from and some to check with, got "
            f"{len(train.real)} and {len(valid.real)}. Add pictures, or lower batch_size."
        )
    seed_torch(config.seed)
    sizes = Sizes(side, train.real.shape[1], len(generator.labels))
    net = Discriminator(DiscriminatorConfig(arch="dcgan", widths=config.widths), sizes).to(device)
    optimizer = torch.optim.AdamW(decayed(net, config.weight_decay), lr=config.learning_rate, betas=(0.5, 0.99))
    best, best_area, seen, rows = copy.deepcopy(net.state_dict()), -1.0, 0, list[dict[str, float]]()
    with Reporter(config.images) as reporter:
        while seen < config.images:
            seed_torch(position_seed(config.seed, seen))
            faces, told, real = train.batch(config.batch_size, device)
            if config.mirror:
                faces = torch.where(
                    (torch.rand(len(faces)) < 0.5).to(device)[:, None, None, None], faces.flip(3), faces
                )
            for group in optimizer.param_groups:
                group["lr"] = scheduled_rate(seen + config.batch_size, config)
            scores = net(diff_augment(faces, _VARIED, 0.5), told)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(scores, real)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += config.batch_size
            reporter.advance(seen)
            if seen % config.report_every < config.batch_size or seen >= config.images:
                area = _area(net, valid, device)
                rows.append({"images": seen, "loss": float(loss.detach()), "valid_area": area})
                reporter.report(seen, **{key: value for key, value in rows[-1].items() if key != "images"})
                if area > best_area:
                    best, best_area = copy.deepcopy(net.state_dict()), area
    net.load_state_dict(best)
    net = net.cpu().eval()
    network, difference = with_discriminator(before, net)
    precision = precision_of(before)
    summary = {"valid_area": best_area, "pictures": len(train.real), "onnx_difference": difference}
    write_model(
        generator,
        out,
        network if precision is None else stored(network, precision),
        {**generator.card.convention, "candidates": config.candidates},
        {"discriminator": summary},
    )
    keep_learned(out, pictures.split("train"))
    write_result(out / "discriminator.json", (json.dumps({**summary, "rows": rows}, indent=1) + "\n").encode())
    return Taught(out, net, summary)


@dataclass(frozen=True, eq=False)
class _Faces:
    """Photographs as the decoder draws them, and drawn faces, several of the label of each."""

    real: UInt8[Tensor, "faces channels side side"]
    drawn: UInt8[Tensor, "more channels side side"]
    labels: Int[Tensor, " faces"] | None

    @classmethod
    def of(
        cls,
        generator: Generator,
        decoder: PublishedDecoder,
        pictures: Pictures,
        labels: Int[np.ndarray, " pictures"] | None,
        split: str,
        config: ChoiceConfig,
        device: torch.device,
    ) -> _Faces:
        chosen = np.flatnonzero(pictures.splits == split)
        some = pictures.take(chosen)
        told = None if labels is None else labels[chosen]
        faces = some.rgb()
        again = redraw(decoder, generator.encode(faces), told, device=device)
        if config.redrawn < 1:
            kept = grade_redrawn(faces, again, told, device) >= 1 - config.redrawn
            again, told = again[kept], None if told is None else told[kept]
        chance = np.random.default_rng([config.seed, split == "valid"])
        drawn = np.empty((config.drawn * len(again), *again.shape[1:]), np.uint8)
        for rows, request in _requests(generator, told, len(again), config.drawn, chance):
            batches = generator.batches(len(rows), request)
            drawn[rows] = np.concatenate([b.images for b in batches]).transpose(0, 3, 1, 2)[:, : again.shape[1]]
        return cls(torch.from_numpy(again), torch.from_numpy(drawn), None if told is None else torch.from_numpy(told))

    def batch(
        self, size: int, device: torch.device
    ) -> tuple[Float[Tensor, "two_sizes channels side side"], Int[Tensor, " two_sizes"] | None, Tensor]:
        """Return photographs and drawn faces, their labels, and 1 for the photographs."""
        real, drawn = torch.randint(len(self.real), (size,)), torch.randint(len(self.drawn), (size,))
        told = None
        if self.labels is not None:
            told = torch.cat([self.labels[real], self.labels[drawn % len(self.real)]]).to(device)
        faces = torch.cat([self.real[real], self.drawn[drawn]]).to(device).float()
        return faces, told, (torch.arange(2 * size, device=device) < size).float()


def _requests(
    generator: Generator, labels: Int[np.ndarray, " faces"] | None, count: int, times: int, chance: np.random.Generator
) -> Iterator[tuple[Int[np.ndarray, " rows"], Request]]:
    """Yield what to draw, and for which rows: of each label so many times as many as there are photographs."""
    if labels is None:
        yield np.arange(times * count), Request(seed=int(chance.integers(*_SEEDS)), candidates=1)
        return
    for label in np.unique(labels):
        rows = np.flatnonzero(np.tile(labels, times) == label)
        yield rows, Request(generator.labels[label], seed=int(chance.integers(*_SEEDS)), candidates=1)


@torch.no_grad()
def _area(net: Discriminator, faces: _Faces, device: torch.device) -> float:
    """Return the area under the curve of telling photographs from drawn faces: 0.5 tells nothing."""
    net.eval()
    scores = []
    for kind in (faces.real, faces.drawn):
        for start in range(0, len(kind), _PART):
            told = None
            if faces.labels is not None:
                told = faces.labels[torch.arange(start, min(start + _PART, len(kind))) % len(faces.labels)].to(device)
            scores.append(net(kind[start : start + _PART].to(device).float(), told)[:, 0].cpu().numpy())
    net.train()
    return area_under_roc(np.concatenate(scores), np.arange(len(faces.real) + len(faces.drawn)) < len(faces.real))
