"""A flow for a generator that is finished: fitted to the latents that its encoder gives, and put into its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mien import zoo
from mien.errors import TrainingError, UsageError
from mien.images import printable
from mien.training.learned import keep_learned
from mien.training.precision import choose_device
from mien.training.reporter import Reporter
from mien.training.run import write_result
from mien.training.storage import precision_of, stored
from mien.training.vae.encoding import EncodedConfig, encode_split
from mien.training.vae.finished import open_finished, read_faces, write_model
from mien.training.vae.flow import FittedFlow, FlowConfig, fit_flow
from mien.training.vae.grafting import PublishedFlow, flow_convention, with_flow

__all__ = ["PriorConfig", "Refitted", "refit"]

_WEIGHTS = "flow.safetensors"  # of a flow, to learn on


@dataclass(frozen=True, kw_only=True)
class PriorConfig(EncodedConfig):
    """Settings of a flow for a finished generator, beside those of whatever is added to one.

    Attributes:
        init: A folder that this wrote: its flow is learned on.
        flow: The flow.
    """

    init: Path | None = None
    flow: FlowConfig = field(default_factory=FlowConfig)


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
    train, valid = (encode_split(generator, pictures, labels, split, config, device) for split in ("train", "valid"))
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
        "pictures": len(train) // (1 + config.mirror + config.varied),
        "losses": [dict(row) for row in fitted.rows],
    }
    precision = precision_of(before)  # of its file: the flow is stored like the rest
    network = network if precision is None else stored(network, precision)
    kept = {key: value for key, value in card.convention.items() if key != "guidance"}
    write_model(
        generator,
        out,
        network,
        {**kept, **flow_convention(fitted.flow, config.flow.guidance)},
        {"prior": {name: summary[name] for name in summary if name != "losses"}},
    )
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
