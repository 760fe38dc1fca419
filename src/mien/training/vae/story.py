"""The story of a VAE: from pictures to a run folder with a generator, its encoder, and a prior fitted to its latents.

Everything random follows from the seed and the position in the training, so that a resumed run equals an unbroken one.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from mien.data.pictures import Pictures
from mien.networks import VAE, count_macs, count_parameters
from mien.networks.tracing import onnx_bytes
from mien.networks.vae import condition_vector
from mien.training.config import as_dict
from mien.training.course import Course
from mien.training.ema import EMA, blend
from mien.training.learned import keep_learned
from mien.training.precision import choose_device
from mien.training.publishing import check_parity, publish_network
from mien.training.ranks import Ranks
from mien.training.reporter import Reporter
from mien.training.run import Run, write_result
from mien.training.stopping import EarlyStopping
from mien.training.vae.config import VAEConfig
from mien.training.vae.flow import FittedFlow, fit_flow, show_looks
from mien.training.vae.grafting import PublishedFlow, flow_convention, flow_donor, inherit, with_flow
from mien.training.vae.judging import REPORTED, draw_sheets, fit, posteriors, sample_posteriors, validate
from mien.training.vae.learning import Stability, build_networks, learn, learning_rate
from mien.training.vae.loading import Images, encode
from mien.training.vae.material import Material, load_material
from mien.training.vae.prior import Prior
from mien.training.weights import DESCRIPTION

__all__ = ["DryRun", "Trained", "dry_run", "train"]

_PARITY = 0.05  # grey levels, and standard deviations of a latent: largest difference that passes as rounding


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back.

    Attributes:
        model: The averaged network that was published.
        prior: The mixture fitted to the training pictures' latents.
        classes: Labels that are inputs of the decoder; empty where there are none.
        summary: As in `summary.json`.
    """

    model: VAE
    prior: Prior | None
    classes: tuple[str, ...]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a training would be.

    Attributes:
        parameters: Learned values of encoder and decoder.
        macs: Multiplications with addition for one picture there and back.
        images_per_second: Measured over a few steps, without reports.
        train: Pictures to learn from.
        valid: Pictures to check with.
        classes: Labels that are inputs of the decoder.
        attributes: Attributes that are.
    """

    parameters: int
    macs: int
    images_per_second: float
    train: int
    valid: int
    classes: tuple[str, ...]
    attributes: tuple[str, ...]


def train(config: VAEConfig, *, pictures: Pictures | None = None) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Args:
        config: Its settings.
        pictures: What to learn from, in place of what ``config.data`` names.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the loss is no number.
        Interrupted: Ctrl-C; all is saved.
    """
    ranks = Ranks.join()
    device = choose_device(config.device, local_rank=ranks.local)
    with Run(config.out, config, may_change=("cache", "prior", "flow", "blend"), ranks=ranks) as run:
        material = load_material(config, cache=config.cache or config.out / "crops", ranks=ranks, pictures=pictures)

        # Build. The published model is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        networks = build_networks(config, material, device)
        model, ema, stability = networks.model, EMA(networks.model, half_life_images=config.ema_half_life), Stability()
        ranks.broadcast(*networks.learning)
        ema.model.load_state_dict(model.state_dict())
        begun = copy.deepcopy(model) if config.blend < 1 else None
        stopping = EarlyStopping(config.patience)
        course = Course(
            run, config, guards=networks.guards, best=stopping, published={"model": ema.model},
            parts={
                "model": model, "ema": ema, "optimizer": networks.optimizer, "guard": networks.guard,
                "stopping": stopping, "health": stability, "material": material, **networks.discriminator_parts,
            },
        )  # fmt: skip
        if ranks.is_main:
            write_result(config.out / DESCRIPTION, _description(config, material).encode())
            keep_learned(config.out, material.train)
        course.begin()

        with course:
            for images in course.steps():
                # Learn from one batch.
                rate = course.scale * learning_rate(images, config)
                batch = ranks.shard(torch.from_numpy(material.batch(images, config.batch_size))).numpy()
                loss = learn(networks, material, batch, stability, images, config, device)
                ranks.mean_gradients(*networks.learning)
                if not stability.spike(model, config.spike):
                    networks.step(loss, rate)
                    ema.update(model, batch_size=config.batch_size)

                # Now and then, say how it goes and make the run safe to stop.
                if course.advance() and (
                    figures := course.measure(lambda: validate(ema.model, material, config), decides="valid_elbo")
                ):
                    seen, used = course.progress.images, figures["valid_active_units"] / config.net.latents
                    if seen >= config.kl_warm_up * config.images and stability.free_unused_bits(used, config):
                        ranks.say(f"{used:.0%} of the latents are used: {stability.free:g} nats each cost nothing.")
                    course.report(
                        figures,
                        score=seen if config.sharp else figures["valid_elbo"],
                        learning_rate=rate,
                        before_saving=lambda: draw_sheets(ema.model, material, config, run) if ranks.is_main else None,
                    )

        course.restore_best()
        if begun is not None:
            blend(ema.model, begun, config.blend)
        prior, summary = course.publish(lambda: _publish(ema.model, material, config, run)) or (None, {})
    ranks.close()
    return Trained(ema.model, prior, material.classes, summary)


def dry_run(config: VAEConfig, *, steps: int = 3) -> DryRun:
    """Build everything, take a few steps, and write nothing but the crops where a cache is named.

    Raises:
        MienError: As `train` would.
    """
    device = choose_device(config.device)
    material = load_material(config, cache=config.cache, ranks=Ranks())
    torch.manual_seed(config.seed)
    networks = build_networks(config, material, device)
    ema, stability = EMA(networks.model, config.ema_half_life), Stability()
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        batch = material.batch(step * config.batch_size, config.batch_size)
        # Late enough that the discriminator counts.
        loss = learn(networks, material, batch, stability, config.images - 1, config, device)
        networks.step(loss, config.learning_rate)
        ema.update(networks.model, batch_size=config.batch_size)
    networks.guard.mean_loss()  # waits for the device
    speed = steps * config.batch_size / (time.monotonic() - start)
    model = networks.model.cpu()
    picture = torch.zeros(1, config.net.channels, config.net.side, config.net.side)
    return DryRun(
        count_parameters(model),
        count_macs(Reconstruction(model), picture),
        speed,
        len(material.train),
        len(material.valid),
        material.classes,
        material.train.attribute_names,
    )


class Reconstruction(nn.Module):
    """A picture encoded and decoded, for counting."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images) -> Images:
        mean, _ = self.model.encode(images)
        return self.model.decode(
            mean, mean.new_zeros(len(mean), self.model.condition) if self.model.condition else None
        )


class PublishedGenerator(nn.Module):
    """What is published: a component of the prior, its latents, and their picture. Component 0 takes noise as it is."""

    means: Tensor
    factors: Tensor

    def __init__(self, model: VAE, prior: Prior, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes
        latents = model.config.latents
        means = np.concatenate([np.zeros((1, latents)), prior.means])
        factors = np.concatenate([np.eye(latents)[None], prior.factors])
        self.register_buffer("means", torch.from_numpy(means).float())
        self.register_buffer("factors", torch.from_numpy(factors).float())

    def forward(self, noise: Tensor, component: Tensor, *conditions: Tensor) -> tuple[Images, Tensor]:
        """Return pictures, 0 to 255, and latents; ``conditions`` are a label, attributes, or both in this order."""
        z = self.means[component] + (self.factors[component] @ noise[:, :, None])[:, :, 0]
        label = conditions[0] if self.classes else None
        attributes = conditions[-1] if len(conditions) > bool(self.classes) else None
        return self.model.decode(z, condition_vector(label, self.classes, attributes)).clamp(0, 255), z


class PublishedEncoder(nn.Module):
    """What is published: latent means standardised over training pictures, the means themselves, log variances."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: VAE, means: Float32[np.ndarray, "pictures latents"]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.from_numpy(means.mean(axis=0)))
        # A latent that is not used varies by rounding only; it shall not be blown up.
        self.register_buffer("deviation", torch.from_numpy(np.maximum(means.std(axis=0), 0.05)))

    def forward(self, images: Images) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.model.encode(images)
        return (mean - self.mean) / self.deviation, mean, log_variance


def _publish(model: VAE, material: Material, config: VAEConfig, run: Run) -> tuple[Prior, dict[str, Any]]:
    """Fit the prior, and write generator and encoder with their cards.

    Returns:
        The prior, and what is also written to `summary.json`.

    Raises:
        TrainingError: A written network answers otherwise than the trained one, or the disk is full.
    """
    prior, means = fit(model, material, config)
    flow, donor = None, flow_donor(config) if config.prior == "flow" else None
    if config.prior == "flow" and donor is None:
        flow = _fitted_flow(model, material, config, run.ranks)
    scores = validate(model, material, config, most=5 * REPORTED)
    latents = sample_posteriors(*encode(model, material.valid.images, precision=config.precision), seed=config.seed)
    labels = material.valid.labels if material.classes else None
    normal = -0.5 * (np.square(latents).sum(axis=1) + latents.shape[1] * math.log(2 * math.pi))
    gain = float((prior.log_density(latents, labels) - normal).mean())
    draw_sheets(model, material, config, run, prior=prior, flow=None if flow is None else flow.flow)

    model = model.to("cpu").eval()
    validation = {name.removeprefix("valid_"): value for name, value in scores.items()}
    trained = f"Trained with mien on {len(material.train):,} pictures: {config.variant} VAE, seed {config.seed}."
    training_data = ", ".join(source.name for source in config.data)
    differences = [
        _publish_generator(
            model, prior, flow, donor, material, config, trained, training_data, {**validation, "prior_gain": gain}
        ),
        _publish_encoder(model, means, material, config, trained, training_data, validation),
    ]
    summary = {
        **{name: validation[name] for name in ("elbo", "psnr", "sharpness", "kl")},
        "active_units": int(validation["active_units"]),
        "sigma": validation["sigma"],
        "prior_gain": gain,
        "prior_components": len(prior),
        **({} if flow is None else flow.figures),
        "parameters": count_parameters(model),
        "macs": count_macs(Reconstruction(model), torch.from_numpy(material.valid.images[:1]).float()),
        "onnx_difference": max(differences),
        "pictures": {"train": len(material.train), "valid": len(material.valid)},
    }
    run.finish(summary)
    return prior, summary


def _fitted_flow(model: VAE, material: Material, config: VAEConfig, ranks: Ranks) -> FittedFlow:
    train, valid = (posteriors(model, part, material, config) for part in (material.train, material.valid))
    with Reporter(config.flow.images, quiet=not ranks.is_main) as reporter:
        return fit_flow(
            train,
            valid,
            config.flow,
            seed=config.seed,
            device=next(model.parameters()).device,
            report=show_looks(reporter),
        )


def _publish_generator(
    model: VAE,
    prior: Prior,
    flow: FittedFlow | None,
    donor: Path | None,
    material: Material,
    config: VAEConfig,
    trained: str,
    training_data: str,
    validation: Mapping[str, float],
) -> float:
    """Write decoder and priors, a flow fitted here or a donor's, as a generator; return its difference from PyTorch."""
    classes, attributes = material.classes, material.train.attribute_names
    generator = PublishedGenerator(model, prior, len(classes)).eval()
    chance = torch.Generator().manual_seed(0)
    inputs = {
        "noise": torch.randn(4, config.net.latents, generator=chance),
        "component": torch.tensor([0, 0, 1, len(prior)]),
    }
    if classes:
        inputs["label"] = torch.arange(4) % len(classes)
    if attributes:
        inputs["attributes"] = (torch.rand(4, len(attributes), generator=chance) < 0.5).float()
    network = onnx_bytes(generator, *inputs.values(), inputs=list(inputs), outputs=["images", "latents"])
    difference = check_parity(generator, network, inputs, tolerance=_PARITY, unit="grey levels")
    told: dict[str, Any] = {}
    if flow is not None:
        network, _ = with_flow(network, PublishedFlow(flow.flow, len(classes), len(attributes)))
        told = flow_convention(flow.flow, config.flow.guidance)
    elif donor is not None:
        network, told = inherit(donor, network, classes)
    convention = {
        "kind": "vae",
        **_pictures(config),
        "latents": config.net.latents,
        **({"places": config.net.places} if config.net.spatial else {}),
        **({"labels": list(classes)} if classes else {}),
        **({"attributes": list(attributes)} if attributes else {}),
        "components": [[int(k), float(w)] for k, w in zip(prior.labels, prior.weights, strict=True)],
        **told,
        "encoder": "encoder.onnx",
    }
    publish_network(
        config.out / "model.onnx",
        network,
        role="generator",
        summary=trained,
        training_data=training_data,
        convention=convention,
        metrics={"validation": validation},
    )
    return difference


def _publish_encoder(
    model: VAE,
    means: Float32[np.ndarray, "pictures latents"],
    material: Material,
    config: VAEConfig,
    trained: str,
    training_data: str,
    validation: Mapping[str, float],
) -> float:
    """Write the encoder as an embedder; return its largest difference from PyTorch."""
    encoder = PublishedEncoder(model, means).eval()
    inputs = {"image": torch.from_numpy(material.valid.images[:4]).float()}
    network = onnx_bytes(encoder, inputs["image"], outputs=["features", "mean", "log_variance"])
    difference = check_parity(encoder, network, inputs, tolerance=_PARITY, unit="standard deviations of a latent")
    convention = {
        "kind": "vae-encoder",
        **_pictures(config),
        "dimension": config.net.latents,
        "layout": "NCHW",
        "mean": 0.0,
        "scale": 1.0,
    }
    publish_network(
        config.out / "encoder.onnx",
        network,
        name=f"{config.out.resolve().name}-encoder",
        role="embedder",
        summary=f"Latent means of a VAE, standardised. {trained}",
        training_data=training_data,
        convention=convention,
        metrics={"validation": validation},
    )
    return difference


def _pictures(config: VAEConfig) -> dict[str, Any]:
    """Return what a card says of the pictures, and of the networks that had a say in them."""
    return {
        "template": config.template,
        "side": config.net.side,
        "order": "RGB" if config.net.colour else "GRAY",
        "losses": ["mobilenetv2-imagenet"] if config.perceptual else [],
    }


def _description(config: VAEConfig, material: Material) -> str:
    facts = {
        "story": "vae",
        "net": as_dict(config.net),
        "labels": list(material.classes),
        "attributes": list(material.train.attribute_names),
        "template": config.template,
    }
    return json.dumps(facts, indent=1) + "\n"
