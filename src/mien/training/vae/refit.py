"""A flow for a generator that is finished: fitted to the latents that its encoder gives, and put into its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mien import zoo
from mien.data.pictures import Pictures
from mien.data.transforms import Augment, Variation
from mien.errors import TrainingError, UsageError
from mien.images import printable
from mien.losses import perceptual_distance
from mien.metrics.generation import distance_blocks
from mien.networks.flow import LatentFlow
from mien.networks.perceptual import ImageFeatures
from mien.networks.vae import condition_vector
from mien.training.learned import keep_learned
from mien.training.precision import choose_device
from mien.training.reporter import Reporter
from mien.training.run import write_result
from mien.training.storage import precision_of, stored
from mien.training.vae.finished import FinishedConfig, open_finished, read_faces, write_model
from mien.training.vae.flow import FittedFlow, FlowConfig, Posteriors, fit_flow, show_looks
from mien.training.vae.grafting import PublishedFlow, flow_convention, with_flow
from mien.vision.generator import Generator

__all__ = ["PriorConfig", "Refitted", "first_of_each", "refit", "write_flow"]

_WEIGHTS = "flow.safetensors"  # of a flow, to learn on
_LEAST_SPREAD = 1e-6  # of a latent that is not used
_PART = 128  # faces that are drawn again and looked at in one go
# As much as faces differ that were cut by landmarks, or a flow would draw crooked ones.
_SLIGHTLY = Variation(
    rotate=4.0, scale=0.04, shift=0.025, unaligned=0.0, contrast=0.1, brightness=8.0,
    colour=0.0, noise=0.0, blur=0.0, jpeg=0.0, erase=0.0,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PriorConfig(FinishedConfig):
    """Settings of a flow for a finished generator, beside those of whatever is added to one.

    Attributes:
        init: A folder that this wrote: its flow is learned on.
        redrawn: Share of the faces of each expression that are learned from: those that the decoder redraws best, as
            the ImageNet network sees it. What it cannot draw is then seldom asked of it; faces vary less.
        graded: Whether the flow is told how well the decoder redraws each face, and draws as if told the best: the
            others teach it without being asked for.
        distinct: Distance below which two faces of an expression, or one and the other's mirror image, are taken for
            one photograph, of which the first is learned from: the mean squared difference of their latents, in
            standard deviations. A photograph that comes again and again is drawn again and again. 0 keeps all.
        varied: Times that each face is encoded once more, turned, moved and lit a little otherwise: of few faces a flow
            learns less by heart then.
        flow: The flow.
    """

    init: Path | None = None
    redrawn: float = 1.0
    graded: bool = False
    distinct: float = 0.0
    varied: int = 0
    flow: FlowConfig = field(default_factory=FlowConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.redrawn <= 1:
            raise UsageError(f"Setting 'redrawn' is above 0 and at most 1, got {self.redrawn:g}.")
        if self.distinct < 0:
            raise UsageError(f"Setting 'distinct' is 0 or more, got {self.distinct:g}.")
        if self.varied < 0:
            raise UsageError(f"Setting 'varied' is 0 or more, got {self.varied}.")


@dataclass(frozen=True, slots=True)
class Refitted:
    """What came of it.

    Attributes:
        out: Folder of the model: `model.onnx`, `card.json`, and its encoder.
        fitted: The flow.
        summary: Figures, as in the card.
    """

    out: Path
    fitted: FittedFlow
    summary: Mapping[str, Any]


def refit(config: PriorConfig) -> Refitted:
    """Fit a flow and write the generator with it; its decoder and its mixture stay as they are.

    Raises:
        MienError: The model has no encoder or no prior, the data lack what it is told, or nothing can be written.
    """
    begun = None if config.init is None else _flow_of(config.init)
    generator, out = open_finished(config)
    card = generator.card
    if not generator.convention.components:
        raise UsageError(
            f"'{card.name}' has no prior that a flow could stand beside. Name a VAE, or a GAN begun as one."
        )
    pictures, labels = read_faces(config, generator)
    device = choose_device(config.device)
    train, valid = (_posteriors(generator, pictures, labels, split, config, device) for split in ("train", "valid"))
    with Reporter(config.flow.images) as reporter:
        fitted = fit_flow(
            train,
            valid,
            config.flow,
            seed=config.seed,
            init=begun,
            device=device,
            report=show_looks(reporter),
        )
    figures = fitted.figures | {"pictures": len(train) // (1 + config.mirror + config.varied)}
    figures |= write_flow(generator, out, fitted.flow, config.flow.guidance, figures)
    summary = {**figures, "losses": [dict(row) for row in fitted.rows]}
    keep_learned(out, pictures.split("train"))
    write_result(out / _WEIGHTS, save(fitted.flow.net.state_dict()))
    write_result(out / "prior.json", (json.dumps(summary, indent=1) + "\n").encode())
    return Refitted(out, fitted, summary)


def write_flow(
    generator: Generator, out: Path, flow: LatentFlow, guidance: float, figures: Mapping[str, float]
) -> dict[str, float]:
    """Write a generator that draws from this flow, stored as the rest of its file is, and return what came of it.

    Args:
        generator: As it was; a flow that it had is replaced.
        out: Folder of the model.
        flow: For drawing, told what the generator is told.
        guidance: How far it follows that unless a call says so.
        figures: For the card, beside those of the writing.
    """
    before = zoo.path(generator.card).read_bytes()
    classes, attributes = len(generator.labels), len(generator.attributes)
    network, difference = with_flow(before, PublishedFlow(flow, classes, attributes))
    precision = precision_of(before)
    network = network if precision is None else stored(network, precision)
    kept = {key: value for key, value in generator.card.convention.items() if key not in ("restarts", "guidance")}
    written = {"onnx_difference": difference}
    convention = {**kept, **flow_convention(flow, guidance)}
    write_model(generator, out, network, convention, {"prior": {**figures, **written}})
    return written


def _flow_of(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"'{printable(folder)}' holds no flow that could be learned on ({error}). Expected a folder that `mien "
            f"train prior` wrote."
        ) from error


def _posteriors(
    generator: Generator,
    pictures: Pictures,
    labels: Int[np.ndarray, " pictures"] | None,
    split: str,
    config: PriorConfig,
    device: torch.device,
) -> Posteriors:
    """Encode the pictures of a split that are learned from, their mirror images, and variations of those to fit to."""
    chosen = np.flatnonzero(pictures.splits == split)
    faces = pictures.take(chosen).rgb()
    mean, deviation = generator.posteriors(faces)
    of = np.zeros(len(faces), int) if labels is None else labels[chosen]
    kept, grade = np.ones(len(faces), dtype=bool), np.ones(len(faces))
    if config.distinct and split == "train":
        kept = first_of_each(mean, generator.posteriors(faces[:, :, ::-1])[0], of, config.distinct)
    if config.redrawn < 1 or config.graded:
        some = faces[kept], mean[kept], None if labels is None else of[kept]
        grade[kept] = _grades(_distances_redrawn(generator, *some, device), of[kept])
        kept &= grade >= 1 - config.redrawn
    chosen, faces, mean, deviation, grade = chosen[kept], faces[kept], mean[kept], deviation[kept], grade[kept]
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
        np.concatenate([grade.astype(np.float32)] * len(parts)) if config.graded else None,
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
def _distances_redrawn(
    generator: Generator,
    faces: UInt8[np.ndarray, "n side side 3"],
    latents: Float32[np.ndarray, "n latents"],
    labels: Int[np.ndarray, " n"] | None,
    device: torch.device,
) -> Float[np.ndarray, " n"]:
    """Return how far each face is from what the decoder makes of its latents, as the ImageNet network sees it."""
    features, apart = ImageFeatures().to(device), np.empty(len(faces))
    names = None if labels is None else [generator.labels[label] for label in labels]
    for start in range(0, len(faces), _PART):
        rows = slice(start, start + _PART)
        back = generator.decode(latents[rows], expression=None if names is None else names[rows])
        seen = (features(torch.from_numpy(some).to(device).permute(0, 3, 1, 2).float()) for some in (faces[rows], back))
        apart[rows] = perceptual_distance(*seen).cpu().numpy()
    return apart


def first_of_each(
    latents: Float32[np.ndarray, "n latents"],
    mirrored: Float32[np.ndarray, "n latents"],
    of: Int[np.ndarray, " n"],
    least: float,
) -> Bool[np.ndarray, " n"]:
    """Return which faces are kept where of each photograph the first is: those far from all kept before them.

    Args:
        latents: Of the faces.
        mirrored: Of their mirror images.
        of: Label of each; photographs of different labels are different ones.
        least: Mean squared difference from which on two are different ones, in standard deviations of the latents.
    """
    spread = np.maximum(latents.std(axis=0, dtype=np.float64), _LEAST_SPREAD)
    kept = np.zeros(len(latents), dtype=bool)
    for label in np.unique(of):
        rows = np.flatnonzero(of == label)
        faces, turned = latents[rows] / spread, mirrored[rows] / spread
        for (start, apart), (_, other) in zip(
            distance_blocks(faces, faces), distance_blocks(turned, faces), strict=True
        ):
            near = np.minimum(apart, other) / latents.shape[1] < least
            for place, alike in enumerate(near, start):
                kept[rows[place]] = not (alike[:place] & kept[rows[:place]]).any()
    return kept


def _grades(distances: Float[np.ndarray, " n"], of: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return ranks of each face among those of its label, from 0 for the largest distance to 1 for the smallest."""
    grades = np.ones(len(distances))
    for label in np.unique(of):
        rows = np.flatnonzero(of == label)
        if len(rows) > 1:
            grades[rows[np.argsort(-distances[rows], kind="stable")]] = np.linspace(0, 1, len(rows))
    return grades
