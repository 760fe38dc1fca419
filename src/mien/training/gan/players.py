"""Generator and discriminator: what each lowers in a step, and how samples compare with photographs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from mien.data.pictures import as_rgb
from mien.losses import perceptual_distance
from mien.metrics.generation import frechet_distance, sharpness, spread_ratio
from mien.networks.diffaugment import diff_augment
from mien.networks.gan import (
    HALF_RANGE,
    Discriminator,
    FeatureDiscriminator,
    Generator,
    PriorGenerator,
    Sizes,
)
from mien.networks.perceptual import ImageFeatures
from mien.networks.recogniser import FaceRecogniser
from mien.networks.vae import VAE, condition_vector
from mien.reporting.pictures import contact_sheet
from mien.training.adversarial import (
    approximate_penalty,
    discriminator_loss,
    exact_penalty,
    generator_loss,
)
from mien.training.expression import load_expression_net
from mien.training.gan.beginning import load_beginning
from mien.training.gan.config import GANConfig
from mien.training.gan.material import Material
from mien.training.gan.rules import Rules, ScoreMeter
from mien.training.precision import autocast
from mien.training.ranks import Ranks
from mien.training.run import load_checkpoint

__all__ = ["Players", "accumulate_gradients", "adam", "sizes_of"]

Player = Generator | PriorGenerator
AnyDiscriminator = Discriminator | FeatureDiscriminator
Images = Float[Tensor, "batch channels side side"]
_COLUMNS, _MOST_ROWS = 10, 10  # of a sheet of samples
_JUDGE = "expression-resnet27"  # in whose features samples are looked at on the way
_JUDGE_SIDE = 48


@dataclass(frozen=True, eq=False)
class Batch:
    """Photographs, and the conditions to draw under: what these photographs show."""

    real: Images
    label: Int[Tensor, " batch"] | None = None
    identity: Float[Tensor, "batch dimension"] | None = None
    component: Int[Tensor, " batch"] | None = None

    def conditions(self) -> dict[str, Tensor]:
        """Return the inputs of a generator besides noise, by name."""
        named = {"label": self.label, "identity": self.identity, "component": self.component}
        return {name: value for name, value in named.items() if value is not None}


class Players:
    """The two networks that learn from each other, and what their steps depend on.

    Attributes:
        generator: Learns to draw.
        discriminator: Learns to tell drawn from photographed.
        conditioning: Weight of label and identity in its scores, 0 to 1.
        probability: Of each variation.
        gamma: Weight of the penalty.
        penalise: Whether this step has one.
    """

    def __init__(self, config: GANConfig, material: Material, device: torch.device) -> None:
        self.config, self.material, self.device = config, material, device
        self.meter = ScoreMeter(device)
        self.conditioning, self.probability, self.gamma, self.penalise = 1.0, 0.0, config.gamma, True
        self.sizes = sizes_of(config, material)
        self.recogniser = FaceRecogniser(config.template, config.side).to(device) if config.identity else None
        self.beginning = None if config.init is None else load_beginning(config.init, config, material)
        built = Generator(config.generator, self.sizes) if self.beginning is None else self.beginning.generator()
        if config.decoder is not None:
            load_checkpoint(config.decoder / "best.safetensors", generator=built)
        self._flow = None if self.beginning is None else self.beginning.flow
        self.generator: Player = _to(built, device)
        self._anchor_vae, self._perceptual_net = None, None
        if self.beginning is not None and config.anchor:
            self._anchor_vae = _to(self.beginning.vae, device).requires_grad_(False)
            self._perceptual_net = ImageFeatures().to(device) if config.anchor_perceptual else None
        self.discriminator: AnyDiscriminator = _to(_build_discriminator(config, self.sizes), device)
        judge, self._heads = load_expression_net(Path(_JUDGE))
        self.judge = _to(judge, device).requires_grad_(False)
        self._real_features: Float32[np.ndarray, "reference feature"] | None = None

    def prepare(self, images: int, rules: Rules) -> None:
        """Set what the steps of the batch at a position depend on."""
        config = self.config
        share = images / config.images
        self.conditioning = _ramp_share(share, config.ramp)
        self.probability = rules.probability
        self.gamma = rules.easing * _cosine_between(config.gamma, config.gamma_end, share)
        self.penalise = (images // config.batch_size) % config.penalty_every == 0

    def discriminator_objective(self, indices: Int[np.ndarray, " batch"]) -> Float[Tensor, ""]:
        """Return what the discriminator lowers on some photographs and as many drawn pictures."""
        config, batch = self.config, self._batch(indices)
        with torch.no_grad():
            fake = self._augment(self._generate(batch))
        real = self._augment(batch.real)
        exact = self.penalise and config.penalty == "exact"
        if exact:
            real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        of_real, of_fake = self._scores(real, batch), self._scores(fake, batch)
        self.meter.note(of_real, of_fake, relativistic=config.game == "relativistic")
        loss = discriminator_loss(config.game, of_real, of_fake)
        if self.penalise and config.penalty != "none":
            steep = torch.zeros((), device=self.device)
            for scores, pixels in ((of_real, real), (of_fake, fake)):
                if exact:
                    steep = steep + exact_penalty(scores, pixels)
                else:
                    # The rounding of bfloat16 is as large as the step's effect, and would be taken for steepness.
                    score = partial(self._scores, batch=batch, precision="fp32")
                    steep = steep + approximate_penalty(score, score(pixels), pixels, sigma=config.sigma)
            self.meter.penalty += torch.stack([steep.new_ones(()), steep.detach()])
            loss = loss + config.penalty_every * self.gamma / 2 * steep
        return loss

    def generator_objective(self, indices: Int[np.ndarray, " batch"]) -> Float[Tensor, ""]:
        """Return what the generator lowers on as many pictures as photographs are given."""
        config, batch = self.config, self._batch(indices)
        drawn = self._generate(batch)
        of_real = None
        if config.game == "relativistic":
            with torch.no_grad():
                of_real = self._scores(self._augment(batch.real), batch)
        loss = generator_loss(config.game, of_real, self._scores(self._augment(drawn), batch))
        if self.recogniser is not None and batch.identity is not None and self.conditioning and config.identity_weight:
            some = max(round(config.identity_share * len(drawn)), 1)
            with autocast(self.device, config.precision):
                found = self.recogniser(drawn[:some].clamp(0, 255))
            apart = 1 - (found * batch.identity[:some]).sum(1).mean()
            loss = loss + config.identity_weight * self.conditioning * apart
        if self._anchor_vae is not None:
            loss = loss + config.anchor * self._anchor_loss(self._anchor_vae, batch)
        return loss

    def figures(self, ranks: Ranks) -> dict[str, float]:
        """Return what happened since the last report, over all processes: gap and accuracy, slopes and gradients."""
        count, right, gap = self.meter.since_report.tolist()
        times, steep = self.meter.penalty.tolist()
        for sums in (self.meter.since_report, self.meter.penalty):
            sums.zero_()
        found = {"gap": gap / max(count, 1), "accuracy": right / max(count, 1), "penalty": steep / max(times, 1)}
        for name, model in (("discriminator", self.discriminator), ("generator", self.generator)):
            gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
            found[f"gradient_{name}"] = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        return {name: ranks.mean(value) for name, value in found.items()}

    @torch.no_grad()
    def evaluate(self, generator: Player) -> dict[str, float]:
        """Return how samples compare with photographs of the same classes, in a recogniser's features."""
        material, chosen = self.material, self.material.reference
        real = material.pictures.images[chosen]
        if self._real_features is None:
            self._real_features = self._features(real)[0]
        labels = material.labels[chosen]
        fake = self.samples(generator, labels, chosen, seed=1)
        features, logits = self._features(fake)
        # On a set this small the distance is far above that of many samples; it is for comparing reports.
        found = {
            "spread": spread_ratio(self._real_features, features, labels, labels),
            "distance": frechet_distance(self._real_features, features),
            "sharpness": _sharpness(fake) / max(_sharpness(real), 1e-9),
            "seen": math.nan,
            "learned_by_heart": self._memorisation(fake, chosen),
        }
        head = next(iter(self._heads.values()))
        if material.classes and set(material.classes) <= set(head):
            columns = [head.index(name) for name in material.classes]
            found["seen"] = float((logits[:, columns].argmax(1) == labels).mean())
        return found

    @torch.no_grad()
    def samples(
        self,
        generator: Player,
        labels: Int[np.ndarray, " samples"],
        like: Int[np.ndarray, " samples"],
        *,
        seed: int,
    ) -> UInt8[np.ndarray, "samples channels side side"]:
        """Return samples from noise that is always the same.

        Args:
            generator: The average.
            labels: What to draw.
            like: Pictures whose identity to take, where the generator has identities.
            seed: Of the noise.
        """
        chance = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(labels), self.generator.latents, generator=chance)
        parts = []
        for start in range(0, len(labels), 128):
            rows = slice(start, start + 128)
            with autocast(self.device, self.config.precision):
                batch = self.conditions(labels[rows], like[rows], chance)
                drawn = self._drawn(generator, noise[rows].to(self.device), batch)
            parts.append(drawn.clamp(0, 255).round().to(torch.uint8).cpu().numpy())
        return np.concatenate(parts)

    def sheet(self, generator: Player) -> UInt8[np.ndarray, "height width 3"]:
        """Return samples as one picture, a row a class."""
        classes = len(self.material.classes)
        labels = np.repeat(np.arange(min(classes, _MOST_ROWS)), _COLUMNS)
        if not classes:
            labels = np.zeros(6 * _COLUMNS, np.int64)
        like = np.resize(self.material.reference, len(labels))
        drawn = self.samples(generator, labels, like, seed=2)
        return contact_sheet([*as_rgb(drawn)], columns=_COLUMNS, side=max(64, self.config.side))

    def _batch(self, indices: Int[np.ndarray, " batch"]) -> Batch:
        real = torch.from_numpy(self.material.pictures.images[indices]).to(self.device, non_blocking=True).float()
        mirrored = torch.rand(len(real)) < self.config.mirror
        real = torch.where(mirrored.to(self.device)[:, None, None, None], real.flip(3), real)
        return Batch(real, **self.conditions(self.material.labels[indices], indices, torch.default_generator))

    def conditions(
        self, labels: Int[np.ndarray, " batch"], like: Int[np.ndarray, " batch"], chance: torch.Generator
    ) -> dict[str, Tensor]:
        """Return what to draw, by the name of the generator's input."""
        conditions: dict[str, Tensor] = {}
        if self.sizes.classes:
            conditions["label"] = torch.from_numpy(labels)
        if self.material.embeddings is not None:
            conditions["identity"] = torch.from_numpy(self.material.embeddings[like])
        if self.beginning is not None:
            conditions["component"] = self.beginning.components(labels, chance)
        return {name: value.to(self.device) for name, value in conditions.items()}

    def _anchor_loss(self, vae: VAE, batch: Batch) -> Float[Tensor, ""]:
        """Return how far photographs are from what the generator makes of their latents."""
        assert isinstance(self.generator, PriorGenerator)
        with autocast(self.device, self.config.precision):
            with torch.no_grad():
                latents = vae.encode(batch.real)[0]
            back = self.generator(latents, batch.label)
        apart = functional.l1_loss(back, batch.real) / HALF_RANGE
        if self._perceptual_net is not None:
            with autocast(self.device, self.config.precision):
                seen = self._perceptual_net(back)
                with torch.no_grad():
                    right = self._perceptual_net(batch.real)
            apart = apart + self.config.anchor_perceptual * perceptual_distance(seen, right).mean()
        return apart

    def _generate(self, batch: Batch) -> Images:
        noise = torch.randn(len(batch.real), self.generator.latents).to(self.device)
        with autocast(self.device, self.config.precision):
            return self._drawn(self.generator, noise, batch.conditions())

    def _drawn(self, generator: Player, noise: Float[Tensor, "batch latents"], told: Mapping[str, Tensor]) -> Images:
        """Return what a generator makes of noise; of what the flow makes of it where it began as a VAE with one."""
        pixels: Tensor
        if self._flow is None:
            pixels = generator(noise, **told)
        else:  # which the published one draws from, too: what no flow draws need not look like a face
            label = told.get("label")
            pixels = generator(self._flow(noise, condition_vector(label, self.sizes.classes, None)), label)
        return pixels

    def _augment(self, pixels: Images) -> Images:
        return diff_augment(pixels, self.config.augment, self.probability)

    def _scores(
        self, pixels: Images, batch: Batch, precision: Literal["fp32", "bf16"] | None = None
    ) -> Float[Tensor, "batch scales"]:
        with autocast(self.device, precision or self.config.precision):
            scores: Tensor = self.discriminator(pixels, batch.label, batch.identity, conditioning=self.conditioning)
        return scores

    def _features(
        self, images: UInt8[np.ndarray, "pictures channels side side"]
    ) -> tuple[Float32[np.ndarray, "pictures feature"], Float32[np.ndarray, "pictures classes"]]:
        """Return features and logits of the network that looks at samples; it takes grey pictures."""
        features, logits = [], []
        for start in range(0, len(images), 64):
            x = torch.from_numpy(images[start : start + 64]).to(self.device).float().mean(1, keepdim=True)
            x = functional.interpolate(x, size=_JUDGE_SIDE, mode="bilinear", align_corners=False)
            with autocast(self.device, self.config.precision):
                found = self.judge.features(x).float()
            features.append(found.cpu().numpy())
            logits.append(next(iter(self.judge.classify(found).values())).cpu().numpy())
        return np.concatenate(features), np.concatenate(logits)

    def _memorisation(
        self, fake: UInt8[np.ndarray, "samples channels side side"], reference: Int[np.ndarray, " samples"]
    ) -> float:
        """Return how far photographs learned from score above held-out ones, over how far above samples: 0 is best."""
        held_out = self.material.held_out
        if not len(held_out):
            return math.nan
        self.discriminator.eval()
        means = []
        for images, indices in (
            (self.material.pictures.images[reference], reference),
            (self.material.pictures.images[held_out], held_out),
            (fake, reference),
        ):
            conditions = self.conditions(self.material.labels[indices], indices, torch.Generator().manual_seed(0))
            batch = Batch(torch.from_numpy(images).to(self.device).float(), **conditions)
            means.append(float(self._scores(batch.real, batch).mean()))
        self.discriminator.train()
        known, unknown, drawn = means
        return (known - unknown) / max(abs(known - drawn), 1e-6)


def accumulate_gradients(
    objective: Callable[[Int[np.ndarray, " batch"]], Float[Tensor, ""]],
    indices: Int[np.ndarray, " batch"],
    config: GANConfig,
) -> Float[Tensor, ""]:
    """Add the gradient of a batch's mean loss, part by part, and return the loss."""
    total: Tensor | None = None
    for part in np.array_split(indices, min(config.accumulate, len(indices))):
        loss = objective(part) * (len(part) / len(indices))
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    return total


def sizes_of(config: GANConfig, material: Material) -> Sizes:
    """Return the sizes of pictures and conditions."""
    dimension = 0 if material.embeddings is None else material.embeddings.shape[1]
    return Sizes(config.side, 3 if config.colour else 1, len(material.classes), dimension)


def _build_discriminator(config: GANConfig, sizes: Sizes) -> AnyDiscriminator:
    if config.discriminator.arch == "features":
        return FeatureDiscriminator(config.discriminator, sizes, ImageFeatures())
    return Discriminator(config.discriminator, sizes, config.generator.widths[::-1])


def adam(model: nn.Module, rate: float, config: GANConfig) -> torch.optim.Optimizer:
    """Return the optimizer of those weights that learn."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.Adam(weights, rate, betas=config.betas, fused=True)


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _ramp_share(share: float, ramp: tuple[float, float]) -> float:
    start, end = ramp
    return 1.0 if share >= end else max(share - start, 0.0) / (end - start)


def _to(model: Any, device: torch.device) -> Any:
    return model.to(device=device, memory_format=torch.channels_last)


def _sharpness(images: UInt8[np.ndarray, "pictures channels side side"]) -> float:
    return sharpness(np.ascontiguousarray(images.mean(1).round().astype(np.uint8)))
