"""A flow for a generator that is finished: fitted to the latents that its encoder gives, and put into its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mien import zoo
from mien.data.pictures import Pictures, read_pictures
from mien.errors import DataError, TrainingError, UsageError
from mien.images import printable
from mien.losses import perceptual_distance
from mien.networks.perceptual import ImageFeatures
from mien.networks.vae import condition_vector
from mien.training.learned import keep_learned
from mien.training.precision import choose_device
from mien.training.ranks import Ranks
from mien.training.reporter import PictureProgress, Reporter
from mien.training.run import write_result
from mien.training.storage import precision_of, stored
from mien.training.vae.flow import FittedFlow, FlowConfig, Posteriors, fit_flow
from mien.training.vae.grafting import PublishedFlow, flow_convention, with_flow
from mien.vision.generator import Generator

__all__ = ["PriorConfig", "Refitted", "refit"]

_WEIGHTS = "flow.safetensors"  # of a flow, to learn on
_PART = 128  # faces that are drawn again and looked at in one go


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Settings of a flow for a finished generator.

    Attributes:
        model: Its name, or a run folder, of a VAE or of a GAN that kept its VAE's encoder.
        data: Folders, zips or lists of pictures: those that it learned from.
        out: Where the model with its new prior is written; default is the run folder itself.
        kind: Layout of the data; auto finds out.
        labels: Label set that class numbers refer to, such as fer2013.
        keep_without_face: Take pictures in which no face is found as a whole, instead of leaving them out.
        cache: Folder that keeps the crops.
        init: A folder that this wrote: its flow is learned on.
        mirror: Learn from mirror images, too.
        redrawn: Share of the faces of each expression that are learned from: those that the decoder redraws best, as
            the ImageNet network sees it. What it cannot draw is then seldom asked of it; faces vary less.
        seed: Of everything random.
        device: auto, cpu, cuda, cuda:1, mps.
        flow: The flow.
    """

    model: str
    data: tuple[Path, ...]
    out: Path | None = None
    kind: str = "auto"
    labels: str | None = None
    keep_without_face: bool = False
    cache: Path | None = None
    init: Path | None = None
    mirror: bool = True
    redrawn: float = 1.0
    seed: int = 0
    device: str = "auto"
    flow: FlowConfig = field(default_factory=FlowConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("Setting 'data' names at least one folder, zip or list of pictures.")
        if self.seed < 0:
            raise UsageError(f"Setting 'seed' is 0 or more, got {self.seed}.")
        if not 0 < self.redrawn <= 1:
            raise UsageError(f"Setting 'redrawn' is above 0 and at most 1, got {self.redrawn:g}.")


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
    generator = Generator(config.model)
    card, convention = generator.card, generator.convention
    out, begun = _place(config), None if config.init is None else _flow_of(config.init)
    if not generator.has_encoder or not convention.components:
        raise UsageError(
            f"'{card.name}' has no {'prior' if generator.has_encoder else 'encoder'}, so that no flow can be fitted to "
            f"its latents. Name a VAE, or a GAN that began as one (--init) with anchor above 0."
        )
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
    pictures, labels = _known(pictures, generator)
    Ranks().say(*pictures.notes)
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
            report=lambda row: reporter.advance(int(row["images"])),
        )
    before = zoo.path(card).read_bytes()
    network, difference = with_flow(
        before,
        PublishedFlow(fitted.flow, len(generator.labels), len(generator.attributes)),
    )
    summary = {
        **fitted.figures,
        "onnx_difference": difference,
        "pictures": len(train) // (2 if config.mirror else 1),
        "losses": [dict(row) for row in fitted.rows],
    }
    told = flow_convention(fitted.flow, config.flow.guidance)
    precision = precision_of(before)  # of its file: the flow is stored like the rest
    network = network if precision is None else stored(network, precision)
    _write(generator, out, network, told, {name: summary[name] for name in summary if name != "losses"})
    keep_learned(out, pictures.split("train"))
    write_result(out / _WEIGHTS, save(fitted.flow.net.state_dict()))
    write_result(out / "prior.json", (json.dumps(summary, indent=1) + "\n").encode())
    return Refitted(out, fitted, summary)


def _flow_of(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"'{printable(folder)}' holds no flow that could be learned on ({error}). Expected a folder that `mien "
            f"train prior` wrote."
        ) from error


def _place(config: PriorConfig) -> Path:
    """Return where the model is written."""
    run = Path(config.model)
    if config.out is None:
        if not run.is_dir():
            raise UsageError(
                f"'{printable(config.model)}' is no run folder that could be changed. Name one with --out."
            )
        return run
    if (config.out / "model.onnx").exists() and config.out.resolve() != run.resolve():
        raise UsageError(f"'{printable(config.out)}' holds a model already. Name another folder with --out.")
    return config.out


def _known(pictures: Pictures, generator: Generator) -> tuple[Pictures, Int[np.ndarray, " pictures"] | None]:
    """Return pictures of the classes that the generator draws, and their labels as it numbers them."""
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


def _posteriors(
    generator: Generator,
    pictures: Pictures,
    labels: Int[np.ndarray, " pictures"] | None,
    split: str,
    config: PriorConfig,
    device: torch.device,
) -> Posteriors:
    """Encode the pictures of a split that are learned from, and their mirror images."""
    chosen = np.flatnonzero(pictures.splits == split)
    faces = pictures.take(chosen).rgb()
    mean, deviation = generator.posteriors(faces)
    if config.redrawn < 1:
        shown = None if labels is None else labels[chosen]
        kept = _redrawn_best(generator, faces, mean, shown, config.redrawn, device)
        chosen, faces, mean, deviation = chosen[kept], faces[kept], mean[kept], deviation[kept]
    parts = [(mean, deviation), *([generator.posteriors(faces[:, :, ::-1])] if config.mirror else [])]
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


def _write(
    generator: Generator, out: Path, network: bytes, flow: Mapping[str, Any], measured: Mapping[str, Any]
) -> None:
    """Write the model, its card and its encoder."""
    card = generator.card
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"Cannot make '{printable(out)}': {error.strerror or error}. Name another one.") from error
    parts = [("model.onnx", "card.json", card, network)]
    if out.resolve() != Path(card.source.member).parent.resolve() or card.source.kind != "run":
        encoder = zoo.companion(card, "encoder")
        parts.append(("encoder.onnx", "encoder.json", encoder, zoo.path(encoder).read_bytes()))
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
            kept = {key: value for key, value in card.convention.items() if key != "guidance"}
            facts["convention"] = {**kept, "encoder": "encoder.onnx", **flow}
            facts["metrics"] = {**card.metrics, "prior": dict(measured)}
        write_result(out / file, data)
        write_result(out / beside, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
