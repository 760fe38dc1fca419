"""What a VAE learns in a step, and what watches over it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.losses import (
    free_bits,
    gaussian_kl,
    optimal_sigma,
    perceptual_distance,
)
from mien.networks import VAE
from mien.networks.gan import Discriminator, Sizes
from mien.networks.perceptual import ImageFeatures
from mien.training.adversarial import discriminator_loss, exact_penalty, generator_loss
from mien.training.guard import Guard
from mien.training.precision import autocast
from mien.training.schedule import decayed, scheduled_rate
from mien.training.vae.config import VAEConfig
from mien.training.vae.grafting import DonorFlow, flow_donor
from mien.training.vae.loading import Images, begin_as, place
from mien.training.vae.material import Material

__all__ = ["Networks", "Stability", "build_networks", "learn", "learning_rate"]

_NORMS = 101  # gradients whose median is a usual length
HALF_RANGE = 127.5  # grey levels of half the range
_PENALTY_EVERY = 4  # steps between two penalties on the discriminator, which weigh as many times more


class Stability:
    """What a training remembers about its own course: how long gradients usually are, and whether bits are free."""

    def __init__(self) -> None:
        self.free = 0.0
        self.skipped = 0
        self._norms = torch.zeros(_NORMS)
        self._seen = 0

    def spike(self, model: nn.Module, factor: float) -> bool:
        """Note the length of the gradient; return whether it is many times the usual one, and finite.

        Source: Child, "Very deep VAEs", ICLR 2021, section 4, with the median in place of a fixed length.
        """
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients, foreach=True))
        if not math.isfinite(norm):
            return False  # the guard's business
        usual = float(self._norms[: self._seen].median()) if self._seen > _NORMS // 2 else math.inf
        # Spikes are remembered too: where long gradients become usual, they are taken.
        self._norms[self._seen % _NORMS] = norm
        self._seen += 1
        if norm <= factor * usual:
            return False
        self.skipped += 1
        return True

    def free_unused_bits(self, used: float, config: VAEConfig) -> bool:
        """Make bits free where too few latents are used; return whether that is news."""
        if self.free or not config.free_bits or used >= config.least_active:
            return False
        self.free = config.free_bits
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"free": self.free, "skipped": self.skipped, "norms": self._norms, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.free, self.skipped, self._seen = float(state["free"]), int(state["skipped"]), int(state["seen"])
        self._norms = state["norms"].clone()


@dataclass(eq=False)
class Networks:
    """The networks of a training with their optimizers and guards, and the flow whose samples are judged, if any."""

    model: VAE
    optimizer: torch.optim.Optimizer
    guard: Guard
    features: nn.Module | None
    discriminator: Discriminator | None
    discriminator_optimizer: torch.optim.Optimizer | None
    discriminator_guard: Guard
    flow: DonorFlow | None = None
    discriminator_loss_now: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def learning(self) -> list[nn.Module]:
        """The networks that learn."""
        return [self.model] if self.discriminator is None else [self.model, self.discriminator]

    @property
    def discriminator_parts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the discriminator, under its older name."""
        if self.discriminator is None or self.discriminator_optimizer is None:
            return {}
        return {
            "critic": self.discriminator,
            "critic_optimizer": self.discriminator_optimizer,
            "critic_guard": self.discriminator_guard,
        }

    def step(self, loss: Tensor, rate: float) -> None:
        """Take the steps of all optimizers."""
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            for group in [] if optimizer is None else optimizer.param_groups:
                group["lr"] = rate
        self.guard.step(self.optimizer, self.model, loss)
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            self.discriminator_guard.step(self.discriminator_optimizer, self.discriminator, self.discriminator_loss_now)

    @property
    def guards(self) -> dict[str, Guard]:
        """The guards by the name of the loss that each watches."""
        return {"train_loss": self.guard} if self.discriminator is None else {
            "train_loss": self.guard, "loss_critic": self.discriminator_guard,
        }  # fmt: skip


def build_networks(config: VAEConfig, material: Material, device: torch.device) -> Networks:
    """Return the networks as training begins, with their optimizers."""
    model: VAE = VAE(config.net, condition=material.condition_size).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.init is not None:
        begin_as(model, config.init, whole_encoder=config.keep_encoder, whole=config.blend < 1)
    if config.keep_encoder:
        model.encoder.requires_grad_(False)
        model.posterior.requires_grad_(False)
    groups = decayed(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, config.learning_rate, betas=(0.9, 0.99), fused=True)
    features = None
    if config.perceptual:
        features = ImageFeatures().to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    discriminator, discriminator_optimizer = None, None
    if config.adversarial:
        sizes = Sizes(config.net.side, config.net.channels, len(material.classes))
        discriminator = Discriminator(config.discriminator, sizes).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # No momentum: what the discriminator should say changes with every step of the decoder.
        discriminator_optimizer = torch.optim.AdamW(
            discriminator.parameters(), config.learning_rate, betas=(0.0, 0.99), weight_decay=0.0, fused=True
        )
    donor = flow_donor(config) if config.adversarial else None
    flow = None if donor is None else DonorFlow(donor, len(material.classes))
    return Networks(model, optimizer, Guard(), features, discriminator, discriminator_optimizer, Guard(), flow)


def learn(
    networks: Networks,
    material: Material,
    batch: Int[np.ndarray, " batch"],
    stability: Stability,
    images: int,
    config: VAEConfig,
    device: torch.device,
) -> Tensor:
    """Set the gradients of a batch's mean loss, part by part, and return the loss."""
    for network in networks.learning:
        network.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    networks.discriminator_loss_now = torch.zeros((), device=device)
    for part in np.array_split(batch, min(config.accumulate, len(batch))):
        loss = _batch_loss(networks, material, part, stability, images, config, device, len(part) / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _batch_loss(
    networks: Networks,
    material: Material,
    indices: Int[np.ndarray, " batch"],
    stability: Stability,
    images: int,
    config: VAEConfig,
    device: torch.device,
    share: float,
) -> Tensor:
    """Return the mean loss of some pictures, nats a pixel, times their share of the batch."""
    x = place(torch.from_numpy(material.train.images[indices]), device)
    mirror = (torch.rand(len(x), device=device) < config.mirror)[:, None, None, None]
    x = torch.where(mirror, x.flip(3), x).contiguous(memory_format=torch.channels_last)
    condition = material.condition(material.train, indices)
    condition = None if condition is None else condition.to(device)
    with autocast(device, config.precision):
        mean, log_variance = networks.model.encode(x)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        drawn = networks.model.decode(z, condition)
    pixels = config.net.pixels
    squares = ((drawn - x) / HALF_RANGE).square().flatten(1).sum(1)
    # Classic: half of the squares, of pixels from 0 to 1.
    fit = pixels * optimal_sigma(squares, pixels).log() if config.variant == "sigma" else squares.mean() / 8
    weight = min(images / max(config.kl_warm_up * config.images, 1e-9), 1.0)
    loss = (fit + weight * free_bits(gaussian_kl(mean, log_variance), stability.free)) / pixels
    if networks.features is not None:
        with autocast(device, config.precision):
            with torch.no_grad():
                seen = networks.features(x)
            loss = loss + config.perceptual * perceptual_distance(networks.features(drawn), seen).mean()
    loss = loss * share
    if networks.discriminator is not None:
        labels = torch.from_numpy(material.train.labels[indices]).to(device) if material.classes else None
        loss = loss + _adversarial_term(networks, x, drawn, labels, condition, loss, images, config, device, share)
    return loss


def _adversarial_term(
    networks: Networks,
    x: Images,
    drawn: Images,
    labels: Int[Tensor, " batch"] | None,
    condition: Tensor | None,
    loss: Tensor,
    images: int,
    config: VAEConfig,
    device: torch.device,
    share: float,
) -> Tensor:
    """Add the gradient of the discriminator, and return what the decoder should lower because of it.

    It sees photographs, and what comes back of them. Where latents are a vector it sees samples, too, from the flow
    that comes with a kept encoder, or else from N(0, I); a map of latents drawn from that is no face, to call it one
    would teach nothing, and the flow of a map takes too long.
    """
    assert networks.discriminator is not None
    done = min(images / config.images, 1.0)
    if done < config.adversarial_from:
        return torch.zeros((), device=device)
    fake = drawn
    if not config.net.spatial:
        # Half of the batch is judged as it came back, the other half as it was drawn from noise, of the same classes.
        half = len(x) // 2
        with autocast(device, config.precision):
            told = None if condition is None else condition[half:]
            z = torch.randn(len(x) - half, config.net.latents, device=device)
            z = z if networks.flow is None else networks.flow(z, told)
            sample = networks.model.decode(z, told)
        fake = torch.cat([drawn[:half], sample])

    def score(pixels: Images) -> Float[Tensor, "batch scores"]:
        with autocast(device, config.precision):
            answer: Tensor = discriminator(pixels, labels)
        return answer

    discriminator = networks.discriminator.requires_grad_(True)
    begin, end = config.discriminator_gamma
    penalise = begin > 0 and (images // config.batch_size) % _PENALTY_EVERY == 0
    photographs, still = x.detach().requires_grad_(penalise), fake.detach().requires_grad_(penalise)
    real, given = score(photographs), score(still)
    term = discriminator_loss("relativistic", real, given)
    if penalise:
        gamma = begin * (end / begin) ** done
        steepness = exact_penalty(real, photographs) + exact_penalty(given, still)
        term = term + _PENALTY_EVERY * 0.5 * gamma * steepness
    (term * share).backward()  # type: ignore[no-untyped-call]
    networks.discriminator_loss_now += term.detach() * share
    discriminator.requires_grad_(False)
    opinion = generator_loss("relativistic", real.detach(), score(fake)) * share
    last = networks.model.last_weight
    (ours,) = torch.autograd.grad(loss, last, retain_graph=True)
    # Once through the discriminator, and from the pixels on like the other terms.
    (wish,) = torch.autograd.grad(opinion, fake)
    (theirs,) = torch.autograd.grad(fake, last, wish, retain_graph=True)
    # So that both pull the decoder's last layer alike: Esser et al., "Taming transformers", CVPR 2021, equation 7.
    ratio = (ours.norm() / (theirs.norm() + 1e-8)).clamp(max=1e4)
    heard = min((done - config.adversarial_from) / max(config.adversarial_ramp, 1e-9), 1.0)
    along = (fake * wish).sum()
    wanted: Tensor = heard * config.adversarial * ratio * (along - along.detach() + opinion.detach())
    return wanted


def learning_rate(images: int, config: VAEConfig) -> float:
    """Return the rate for the batch that starts at a position."""
    # A first step of rate 0 would teach nothing.
    return scheduled_rate(images + config.batch_size, config, final=0.1)
