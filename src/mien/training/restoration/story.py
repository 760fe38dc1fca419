"""The story of a restorer: from faces to a run folder with a network that restores spoilt ones.

Everything random follows from the seed and the position in the training, so that a resumed run equals an unbroken one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien.data.pictures import as_rgb
from mien.errors import TrainingError
from mien.images import printable
from mien.networks import RestorationNetConfig, Restorer, count_macs, count_parameters
from mien.networks.recogniser import RECOGNISER
from mien.networks.tracing import onnx_bytes
from mien.reporting.pictures import contact_sheet
from mien.training.config import as_dict, load_config
from mien.training.course import Course
from mien.training.ema import EMA
from mien.training.precision import choose_device
from mien.training.publishing import check_parity, publish_network
from mien.training.ranks import Ranks
from mien.training.restoration.config import RestorationConfig
from mien.training.restoration.learning import build_networks, learn, learning_rate, restore, validate
from mien.training.restoration.material import Batch, Material, load_material
from mien.training.run import Run, write_result
from mien.training.stopping import EarlyStopping
from mien.training.weights import DESCRIPTION, RESTORER, UNREADABLE, fill, read_network

__all__ = ["DryRun", "Trained", "dry_run", "load_restorer", "train"]

_PARITY = 0.1  # grey levels: largest difference that passes as rounding
_COLUMNS = 10  # faces a row of the sheet


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back.

    Attributes:
        model: The averaged network that was published.
        summary: As in `summary.json`.
    """

    model: Restorer
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a training would be.

    Attributes:
        parameters: Learned values.
        macs: Multiplications with addition for one face.
        images_per_second: Measured over a few steps, without reports.
        train: Pictures to learn from.
        valid: Pictures to check with.
    """

    parameters: int
    macs: int
    images_per_second: float
    train: int
    valid: int


def train(config: RestorationConfig) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the loss is no number.
        Interrupted: Ctrl-C; all is saved.
    """
    ranks = Ranks.join()
    device = choose_device(config.device, local_rank=ranks.local)
    with Run(config.out, config, may_change=("cache", "images"), ranks=ranks) as run:
        material = load_material(config, cache=config.cache or config.out / "crops", ranks=ranks)
        checked = material.checked()

        # Build. The published model is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        networks = build_networks(config, device)
        model, ema = networks.model, EMA(networks.model, half_life_images=config.ema_half_life)
        ranks.broadcast(model)
        ema.model.load_state_dict(model.state_dict())
        stopping = EarlyStopping(0)
        course = Course(
            run, config, guards={"train_loss": networks.guard}, best=stopping, published={"model": ema.model},
            parts={
                "model": model, "ema": ema, "optimizer": networks.optimizer, "guard": networks.guard,
                "stopping": stopping, "material": material,
            },
        )  # fmt: skip
        if ranks.is_main:
            write_result(config.out / DESCRIPTION, _description(config).encode())
        course.begin()

        with course:
            for images in course.steps():
                # Learn from one batch.
                rate = course.scale * learning_rate(images, config)
                places = ranks.shard(torch.arange(config.batch_size)).numpy()
                numbers = material.order.batch(images, config.batch_size)[places]
                loss = learn(networks, material.batch(images, numbers, places.tolist()), config, device)
                ranks.mean_gradients(model)
                for group in networks.optimizer.param_groups:
                    group["lr"] = rate
                networks.guard.step(networks.optimizer, model, loss)
                ema.update(model, batch_size=config.batch_size)

                # Now and then, say how it goes and make the run safe to stop.
                if course.advance() and (
                    figures := course.measure(
                        lambda: validate(ema.model, checked, config, device), decides="valid_loss"
                    )
                ):
                    course.report(
                        figures,
                        # A recogniser's say costs pixels: the last state is kept, not that of the fewest errors.
                        score=course.progress.images if config.sees_people else -figures["valid_loss"],
                        learning_rate=rate,
                        before_saving=lambda: _draw(ema.model, checked, run, device),
                    )

        course.restore_best()
        summary = course.publish(lambda: _publish(ema.model, material, checked, config, run)) or {}
    ranks.close()
    return Trained(ema.model, summary)


def dry_run(config: RestorationConfig, *, steps: int = 3) -> DryRun:
    """Build everything, take a few steps, and write nothing but the crops where a cache is named.

    Raises:
        MienError: As `train` would.
    """
    device = choose_device(config.device)
    material = load_material(config, cache=config.cache, ranks=Ranks())
    torch.manual_seed(config.seed)
    networks = build_networks(config, device)
    places = list(range(config.batch_size))
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        position = step * config.batch_size
        batch = material.batch(position, material.order.batch(position, config.batch_size), places)
        loss = learn(networks, batch, config, device)
        networks.guard.step(networks.optimizer, networks.model, loss)
    networks.guard.mean_loss()  # waits for the device
    speed = steps * config.batch_size / (time.monotonic() - start)
    model = networks.model.cpu()
    return DryRun(count_parameters(model), _macs(model), speed, len(material.train), len(material.valid))


def load_restorer(source: Path) -> tuple[Restorer, dict[str, Any]]:
    """Return the network that a run would publish, in evaluation mode, and what `network.json` says of it.

    Raises:
        TrainingError: It is no restorer, or its weights are missing or do not fit.
    """
    try:
        facts, state = read_network(source, RESTORER)
        if facts.get("story") != "restoration":
            raise ValueError("a run of another kind")
        model = Restorer(load_config(RestorationNetConfig, given=facts["net"])).eval()
    except UNREADABLE as error:
        raise TrainingError(
            f"'{printable(source)}' is no restorer ({error}). Expected a folder that `mien train restoration` wrote."
        ) from error
    fill(model, source, state)
    return model, facts


class Published(nn.Module):
    """What is published: restored pictures of 0 to 255, and the probability that something stands before the face."""

    def __init__(self, model: Restorer) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        restored, found = self.model(images, told)
        return restored.clamp(0, 255), found.sigmoid()


def _macs(model: Restorer) -> int:
    side = model.config.side
    return count_macs(model, torch.zeros(1, 3, side, side), torch.zeros(1, 1, side, side))


def _publish(
    model: Restorer, material: Material, checked: Batch, config: RestorationConfig, run: Run
) -> dict[str, Any]:
    """Write the network with its card, and return what is also written to `summary.json`.

    Raises:
        TrainingError: The written network answers otherwise than the trained one, or the disk is full.
    """
    scores = validate(model, checked, config, next(model.parameters()).device)
    published = Published(model.to("cpu").eval())
    inputs = {"image": checked.spoilt[:3], "covered": checked.told[:3]}
    network = onnx_bytes(published, *inputs.values(), inputs=list(inputs), outputs=["restored", "found"], any_side=True)
    difference = check_parity(published, network, inputs, tolerance=_PARITY, unit="grey levels")
    multiple = config.net.multiple
    publish_network(
        config.out / "model.onnx",
        network,
        role="restorer",
        summary=f"Restores faces. Trained with mien on {len(material.train):,} pictures, seed {config.seed}.",
        training_data=", ".join(source.name for source in config.data),
        convention={
            "kind": "residual",
            "template": config.template,
            # As large as crops of training show faces: a crop is a part of the canvas, enlarged or reduced.
            "side": multiple * round(config.canvas / float(np.mean(config.zoom)) / multiple),
            "multiple": multiple,
            "order": "RGB",
            "losses": [RECOGNISER] if config.sees_people else [],
        },
        metrics={"validation": {name.removeprefix("valid_"): value for name, value in scores.items()}},
    )
    summary = {
        **{name.removeprefix("valid_"): value for name, value in scores.items()},
        "parameters": count_parameters(model),
        "macs": _macs(model),
        "onnx_difference": difference,
        "pictures": {"train": len(material.train), "valid": len(material.valid)},
    }
    run.finish(summary)
    return summary


def _draw(model: Restorer, checked: Batch, run: Run, device: torch.device) -> None:
    """Keep a sheet: spoilt faces, below them as they are restored, and below these as they were."""
    if not run.ranks.is_main:
        return
    count = min(3 * _COLUMNS, len(checked.spoilt))
    few = Batch(checked.spoilt[:count], checked.told[:count], checked.covered[:count], checked.clean[:count],
                checked.matrices[:count])  # fmt: skip
    columns = [as_rgb(x.numpy()) for x in (few.spoilt, restore(model, few, device=device)[0], few.clean)]
    rows = [face for start in range(0, count, _COLUMNS) for part in columns for face in part[start : start + _COLUMNS]]
    title = "Spoilt faces held out, below them as they are restored, below these as they were"
    run.picture(
        "restored", contact_sheet(rows, columns=min(_COLUMNS, count), side=checked.spoilt.shape[-1], title=title)
    )


def _description(config: RestorationConfig) -> str:
    facts = {"story": "restoration", "net": as_dict(config.net), "template": config.template}
    return json.dumps(facts, indent=1) + "\n"
