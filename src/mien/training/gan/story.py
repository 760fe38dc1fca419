"""The story of a GAN: from pictures to a run folder with a generator that `generate` can use.

Two networks learn from each other: a generator draws, a discriminator tells drawn from photographed. Nothing in their
losses says how good the pictures are, so that a few figures on samples are taken at every report, and rules act on
them: the penalty is eased where drawing collapses, variation rises where photographs are memorised, and a run
that is beyond help stops with its last good snapshot.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mien.data.pictures import Pictures
from mien.errors import TrainingError
from mien.networks import count_macs, count_parameters
from mien.networks.gan import (
    PriorGenerator,
)
from mien.networks.perceptual import IMAGENET
from mien.networks.recogniser import RECOGNISER
from mien.networks.tracing import onnx_bytes
from mien.training.config import as_dict
from mien.training.course import Course
from mien.training.ema import EMA, blend
from mien.training.gan.beginning import copy_encoder
from mien.training.gan.config import GANConfig
from mien.training.gan.material import Material, load_material
from mien.training.gan.players import Player, Players, accumulate_gradients, adam, sizes_of
from mien.training.gan.rules import Rules
from mien.training.guard import Guard
from mien.training.learned import keep_learned
from mien.training.precision import choose_device
from mien.training.publishing import check_parity, publish_network
from mien.training.ranks import Ranks
from mien.training.run import Run, write_result
from mien.training.schedule import warmup_cosine
from mien.training.stopping import EarlyStopping
from mien.training.vae.grafting import inherit
from mien.training.weights import DESCRIPTION

__all__ = ["DryRun", "Trained", "dry_run", "train"]

_PARITY = 0.5  # grey levels that pass as rounding between PyTorch and ONNX
_SHOWN = ("gap", "accuracy", "spread", "distance", "seen", "probability")
Images = Float[Tensor, "batch channels side side"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back.

    Attributes:
        generator: The averaged generator with the least Frechet distance.
        classes: What labels mean; empty where there are none.
        summary: Figures, as in `summary.json`.
    """

    generator: Player
    classes: tuple[str, ...]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a training would be.

    Attributes:
        parameters: Learned values of generator and discriminator.
        macs: Multiplications with addition for one picture drawn.
        images_per_second: Measured over a few steps, without reports.
        pictures: To learn from.
        classes: What labels mean.
    """

    parameters: tuple[int, int]
    macs: int
    images_per_second: float
    pictures: int
    classes: tuple[str, ...]


def train(config: GANConfig, *, pictures: Pictures | None = None) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Args:
        config: Its settings.
        pictures: What to learn from, in place of what ``config.data`` names.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the run is beyond help.
        Interrupted: Ctrl-C; all is saved.
    """
    ranks = Ranks.join()
    device = choose_device(config.device, local_rank=ranks.local)
    with Run(config.out, config, may_change=("cache", "blend"), ranks=ranks) as run:
        material = load_material(
            config, cache=config.cache or config.out / "crops", ranks=ranks, device=device, pictures=pictures
        )

        # Build. The published generator is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        players = Players(config, material, device)
        generator, discriminator = players.generator, players.discriminator
        ranks.broadcast(generator, discriminator)
        ema = EMA(generator, half_life_images=config.ema_half_life, ramp=config.ema_ramp)
        generator_optimizer = adam(generator, config.learning_rate_generator, config)
        discriminator_optimizer = adam(discriminator, config.learning_rate_discriminator, config)
        guard, generator_guard = Guard(clip=config.clip), Guard(clip=config.clip)
        rules = Rules(config)
        best = EarlyStopping(0, higher_is_better=False)
        course = Course(
            run, config, guards={"loss_discriminator": guard, "loss_generator": generator_guard}, best=best,
            published={"generator": ema.model},
            # Some names are older than those in this file; checkpoints keep them.
            parts={
                "generator": generator, "discriminator": discriminator, "ema": ema, "painter": generator_optimizer,
                "critic": discriminator_optimizer, "guard": guard, "painter_guard": generator_guard,
                "meter": players.meter, "rules": rules, "best": best, "material": material,
            },
        )  # fmt: skip
        if ranks.is_main:
            write_result(config.out / DESCRIPTION, _description(config, material))
            keep_learned(config.out, material.pictures.take(material.train))
        course.begin()

        with course:
            for images in course.steps():
                # Learn from one batch.
                scale = course.scale * _rate_share(images, config)
                if config.penalty == "none":
                    scale *= rules.easing
                indices = ranks.shard(torch.from_numpy(material.batch(images, config.batch_size))).numpy()
                players.prepare(images, rules)

                # The discriminator's step.
                _set_rate(discriminator_optimizer, scale * config.learning_rate_discriminator)
                discriminator_optimizer.zero_grad(set_to_none=True)
                loss = accumulate_gradients(players.discriminator_objective, indices, config)
                ranks.mean_gradients(discriminator)
                guard.step(discriminator_optimizer, discriminator, loss)

                # The generator's step; the discriminator holds still.
                _set_rate(generator_optimizer, scale * config.learning_rate_generator)
                generator_optimizer.zero_grad(set_to_none=True)
                discriminator.requires_grad_(False)
                loss = accumulate_gradients(players.generator_objective, indices, config)
                discriminator.requires_grad_(True)
                ranks.mean_gradients(generator)
                generator_guard.step(generator_optimizer, generator, loss)
                ema.update(generator, batch_size=config.batch_size)
                rules.adapt(players.meter, ranks)

                # Now and then, evaluate at samples, say how it goes and make the run safe to stop.
                if course.advance() and (
                    figures := course.measure(
                        lambda: players.evaluate(ema.model), decides="distance", known=players.figures(ranks)
                    )
                ):
                    figures |= {"probability": rules.probability, "gamma": players.gamma}
                    course.report(
                        figures,
                        score=figures["distance"],
                        shown=_SHOWN,
                        before_saving=partial(_after_report, course, players, ema.model, rules, figures),
                        learning_rate=scale * config.learning_rate_generator,
                    )
                    if rules.hopeless:
                        raise TrainingError(_collapsed(config, figures, best))

        course.restore_best()
        if players.beginning is not None:
            blend(ema.model, players.beginning.generator(), config.blend)
        images = best.best_images
        summary = course.publish(lambda: _publish(ema.model, players, material, config, run, images)) or {}
    ranks.close()
    return Trained(ema.model, material.classes, summary)


def _after_report(
    course: Course, players: Players, generator: Player, rules: Rules, figures: Mapping[str, float]
) -> None:
    """Keep a sheet of samples, and act on a run that goes wrong."""
    run, images = course.run, course.progress.images
    run.picture(f"samples-{images:09d}", players.sheet(generator))
    run.ranks.say(*rules.act(images, figures, course.best.best))


def dry_run(config: GANConfig, *, steps: int = 3) -> DryRun:
    """Build everything, take a few steps, and write nothing.

    Raises:
        MienError: As `train` would.
    """
    device = choose_device(config.device)
    material = load_material(config, cache=config.cache, ranks=Ranks(), device=device)
    torch.manual_seed(config.seed)
    players = Players(config, material, device)
    players.probability = config.probability
    generator_optimizer = adam(players.generator, config.learning_rate_generator, config)
    discriminator_optimizer = adam(players.discriminator, config.learning_rate_discriminator, config)
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        indices = material.batch(step * config.batch_size, config.batch_size)
        players.penalise = step % config.penalty_every == 0
        discriminator_optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(players.discriminator_objective, indices, config)
        discriminator_optimizer.step()
        generator_optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(players.generator_objective, indices, config)
        generator_optimizer.step()
    players.figures(Ranks())  # waits for the device
    speed = steps * config.batch_size / (time.monotonic() - start)
    sizes = count_parameters(players.generator), count_parameters(players.discriminator)
    example = {name: value[:1].to(device) for name, value in _example_inputs(players, material).items()}
    macs = count_macs(PublishedGenerator(players.generator, list(example)), *example.values())
    return DryRun(sizes, macs, speed, len(material.train), material.classes)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _rate_share(images: int, config: GANConfig) -> float:
    return warmup_cosine(images, config.images, config.warmup, 1.0, final=config.rate_end)


class PublishedGenerator(nn.Module):
    """What is published: pictures within 0 to 255, of a generator begun as a VAE its latents too; inputs in order."""

    def __init__(self, generator: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.inputs = generator, tuple(inputs)

    def forward(self, *given: Tensor) -> tuple[Images, *tuple[Tensor, ...]]:
        named = dict(zip(self.inputs, given, strict=True))
        if not isinstance(self.generator, PriorGenerator):
            return (self.generator(**named).clamp(0, 255),)
        latents = self.generator.latents_of(named["noise"], named["component"])
        return self.generator(latents, named.get("label")).clamp(0, 255), latents


def _publish(
    generator: Player, players: Players, material: Material, config: GANConfig, run: Run, images: int
) -> dict[str, Any]:
    """Write the generator, which saw so many images, as ONNX with its card: `model.onnx`, `card.json`.

    Returns:
        What is also written to `summary.json`.

    Raises:
        TrainingError: The written generator draws otherwise than the trained one, or the disk is full.
    """
    figures = players.evaluate(generator)
    run.picture("samples", players.sheet(generator))
    generator = generator.to("cpu").eval()
    given = _example_inputs(players, material)
    model = PublishedGenerator(generator, list(given))
    outputs = ["images"] if players.beginning is None else ["images", "latents"]
    network = onnx_bytes(model, *given.values(), inputs=list(given), outputs=outputs)
    difference = check_parity(model, network, given, tolerance=_PARITY, unit="grey levels")
    flow: dict[str, Any] = {}
    if players.beginning is not None and config.init is not None:
        network, flow = inherit(config.init, network, players.material.classes)
    summary = {
        **{name: value for name, value in figures.items() if math.isfinite(value)},
        "images": images,
        "parameters": count_parameters(generator),
        "parameters_discriminator": count_parameters(players.discriminator),
        "macs": count_macs(model, *(value[:1] for value in given.values())),
        "onnx_difference": difference,
        "pictures": len(material.train),
    }
    publish_network(
        config.out / "model.onnx",
        network,
        role="generator",
        summary=f"Trained with mien on {len(material.train):,} pictures: GAN, {config.game}, seed {config.seed}.",
        training_data=", ".join(folder.name for folder in config.data),
        convention={**_convention(players, material, config, generator.latents), **flow},
        metrics={"training": summary},
    )
    run.finish(summary)
    return summary


def _convention(players: Players, material: Material, config: GANConfig, latents: int) -> dict[str, Any]:
    """Return what the published generator is fed and what it draws."""
    losses = [RECOGNISER] if config.identity and config.identity_weight else []
    if config.discriminator.arch == "features" or (config.anchor and config.anchor_perceptual):
        losses.append(IMAGENET)
    convention: dict[str, Any] = {
        "kind": "gan",
        "template": config.template,
        "side": config.side,
        "order": "RGB" if config.colour else "GRAY",
        "latents": latents,
        "losses": losses,
    }
    if material.classes:
        convention["labels"] = list(material.classes)
    if players.sizes.identity:
        convention["identity"] = RECOGNISER
    if players.beginning is not None:
        begun = players.beginning
        if begun.vae.config.spatial:
            convention["places"] = begun.vae.config.places
        convention["components"] = [
            [int(label), float(weight)] for label, weight in zip(begun.of, begun.weights, strict=True)
        ]
    if config.anchor and copy_encoder(config):
        convention["encoder"] = "encoder.onnx"
    return convention


def _example_inputs(players: Players, material: Material) -> dict[str, Tensor]:
    """Return four of each input, by name, in the order that generators take them."""
    chance, like = torch.Generator().manual_seed(0), np.resize(material.reference, 4)
    given = {"noise": torch.randn(len(like), players.generator.latents, generator=chance)}
    return given | {
        name: value.cpu() for name, value in players.conditions(material.labels[like], like, chance).items()
    }


def _collapsed(config: GANConfig, figures: Mapping[str, float], best: EarlyStopping) -> str:
    kept = f"The best snapshot, of {best.best_images:,} images, is kept in '{config.out}'. "
    return (
        f"The run has collapsed: spread {figures['spread']:.2f} of the photographs', gap {figures['gap']:.2f}. {kept}"
        f"Try a lower learning_rate_generator, a larger batch_size, more data or variation, or another game; "
        f"health.images=0 goes on whatever happens."
    )


def _description(config: GANConfig, material: Material) -> bytes:
    facts = {
        "story": "gan",
        "generator": as_dict(config.generator),
        "sizes": dataclasses.asdict(sizes_of(config, material)),
        "classes": list(material.classes),
        "template": config.template,
    }
    return (json.dumps(facts, indent=1) + "\n").encode()
