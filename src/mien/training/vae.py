"""The story of a VAE: from pictures to a run folder with a generator, its encoder, and a prior fitted to its latents.

Everything random follows from the seed and the position in the training, so that a resumed run equals an unbroken one.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, UInt8
from torch import Tensor, nn

from mien.alignment import TEMPLATES
from mien.data.transforms import Order
from mien.errors import DataError, TrainingError, UsageError
from mien.images import printable
from mien.losses import (
    free_bits,
    gaussian_kl,
    gaussian_log_likelihood,
    optimal_sigma,
    perceptual_distance,
)
from mien.networks import VAE, VAENetConfig, count_macs, count_parameters
from mien.networks.gan import Discriminator, DiscriminatorConfig, Sizes
from mien.networks.tracing import onnx_bytes
from mien.networks.vae import told
from mien.reporting.pictures import contact_sheet
from mien.training import weights
from mien.training.adversarial import approximate_penalty, discriminator_loss, generator_loss
from mien.training.config import TrainingConfig, as_dict, load_config
from mien.training.ema import EMA
from mien.training.guard import Guard
from mien.training.pictures import Pictures, read_pictures
from mien.training.precision import autocast, choose_device
from mien.training.prior import Prior, fit_prior
from mien.training.ranks import Ranks
from mien.training.reporter import Reporter
from mien.training.run import Progress, Run, load_checkpoint, write_result
from mien.training.schedule import warmup_cosine
from mien.training.stopping import Budget, EarlyStopping, Interrupted, Stop
from mien.training.weights import DESCRIPTION, UNREADABLE, fill, read_network
from mien.types import EXPRESSIONS

__all__ = ["SHIPPED", "DryRun", "Trained", "VAEConfig", "dry_run", "encode", "load_vae", "train"]

SHIPPED = ("face-vae-64", "expression-vae-48")
"""VAEs that mien ships with weights to train on from."""


_PARITY = 0.05  # grey levels, and standard deviations of a latent: largest difference that passes as rounding
_FEWEST = 8  # pictures of a class: a prior of fewer is a list of them
_PART = 256  # pictures that are encoded or decoded at once
_REPORTED = 2048  # pictures that a report looks at; the last one looks at all
_NORMS = 101  # gradients whose median is a usual length
_COLUMNS = 10  # pictures a row of the sheets
_GREY = 127.5  # grey levels of half the range

Images = Float[Tensor, "batch channels side side"]
Faces = UInt8[np.ndarray, "pictures channels side side"]


@dataclass(frozen=True, kw_only=True)
class VAEConfig(TrainingConfig):
    """What the training of a VAE is told, besides what every training is.

    Attributes:
        data: Folders, zips or lists of pictures, learned from together.
        kind: Layout of the data; auto finds out.
        labels: Label set that class numbers refer to, such as fer2013.
        template: How faces are cut.
        keep_without_face: Take pictures in which no face is found as a whole, instead of leaving them out.
        cache: Folder that keeps the crops; default is in the run folder. Runs on the same data may share one.
        condition: Whether the decoder is told the label: labels, none, or auto where the labels are expressions.
        attributes: Names out of the data's `attributes.csv` that the decoder is told.
        net: The network.
        variant: sigma learns the noise of the pixels, so that nothing needs tuning; classic is the VAE of the
            tutorials, done right: pixels in 0 to 1 of standard deviation 1, squared errors and KL both summed.
        warm_up: Share of the training in which the KL's weight rises to 1.
        free_bits: Nats a latent that cost nothing, once too few latents are used; 0 never.
        least_active: Share of the latents below which that happens.
        perceptual: Weight of what the ImageNet network sees, for sharper pictures; 0.25 is much, 0 is none.
        adversarial: Weight of a critic's opinion, as a share of the other terms' gradient; 0.5 is much, 0 is none.
        adversarial_from: Share of the training before which the decoder does not listen to the critic.
        critic: The critic; widths from full size down.
        gamma: Weight of the critic's penalties, at first and at last.
        learning_rate: The highest of the schedule; it ends at a tenth.
        warmup: Images until it is reached, at most a tenth of the training.
        weight_decay: Of filters and matrices.
        spike: Steps whose gradient is so many times as long as usual are left out.
        ema_half_life: Images after which a weight's share in the published average has halved.
        balance: 0 shows every picture equally often, 1 every class.
        flip: Share of pictures mirrored.
        components: Gaussians of the fitted prior, a class.
        patience: So many reports without a better ELBO end the training; 0 never does.
    """

    data: tuple[Path, ...]
    kind: str = "auto"
    labels: str | None = None
    template: str = "face-64"
    keep_without_face: bool = False
    cache: Path | None = None
    condition: Literal["auto", "labels", "none"] = "auto"
    attributes: tuple[str, ...] = ()
    net: VAENetConfig = field(default_factory=VAENetConfig)
    variant: Literal["sigma", "classic"] = "sigma"
    warm_up: float = 0.1
    free_bits: float = 0.1
    least_active: float = 0.3
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_from: float = 0.25
    critic: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(widths=(8, 32, 64, 128)))
    gamma: tuple[float, float] = (1.0, 0.1)
    learning_rate: float = 1e-3
    warmup: int = 10_000
    weight_decay: float = 1e-4
    spike: float = 5.0
    ema_half_life: float = 50_000
    balance: float = 0.0
    flip: float = 0.5
    components: int = 10
    patience: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise UsageError("Setting 'data' names at least one folder, zip or list of pictures.")
        if self.template not in TEMPLATES:
            raise UsageError(f"There is no template '{self.template}'. Choose from {', '.join(TEMPLATES)}.")
        if self.batch_size < 2:
            raise UsageError(f"Setting 'batch_size' is at least 2 for a VAE, got {self.batch_size}.")
        for name in ("warm_up", "least_active", "adversarial_from", "balance", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        for name in ("free_bits", "perceptual", "adversarial", "warmup", "weight_decay", "ema_half_life"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if not self.learning_rate > 0:
            raise UsageError(f"Setting 'learning_rate' is above 0, got {self.learning_rate:g}.")
        if not self.spike > 1:
            raise UsageError(f"Setting 'spike' is above 1, got {self.spike:g}.")
        if not min(self.gamma) > 0:
            raise UsageError(f"Setting 'gamma' is two numbers above 0, got {self.gamma[0]:g} and {self.gamma[1]:g}.")
        if self.components < 1:
            raise UsageError(f"Setting 'components' is at least 1, got {self.components}.")
        if self.critic.arch == "features":
            raise UsageError("Setting 'critic.arch' is residual or dcgan for a VAE's critic, got 'features'.")
        if self.perceptual and self.net.side < 32:
            raise UsageError(f"The perceptual term needs pictures of 32 px and more, got {self.net.side}.")

    @property
    def sharp(self) -> bool:
        """Whether more than the ELBO is asked for: then the last model is kept, not the one of the best ELBO."""
        return self.perceptual > 0 or self.adversarial > 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back.

    Attributes:
        model: The averaged network that was published.
        prior: Fitted to the training pictures' latents.
        classes: Labels that the decoder is told; empty where it is told none.
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
        classes: Labels that the decoder is told.
        attributes: Attributes that it is told.
    """

    parameters: int
    macs: int
    images_per_second: float
    train: int
    valid: int
    classes: tuple[str, ...]
    attributes: tuple[str, ...]


def train(config: VAEConfig) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the loss is no number.
        Interrupted: Ctrl-C; all is saved.
    """
    ranks = Ranks.join()
    device = choose_device(config.device, local_rank=ranks.local)
    with Run(config.out, config, may_change=("cache",), ranks=ranks) as run:
        material = _material(config, cache=config.cache or config.out / "crops", ranks=ranks)

        # Build. The published model is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        team = _team(config, material, device)
        model, ema, health = team.model, EMA(team.model, half_life_images=config.ema_half_life), _Health()
        ranks.broadcast(*team.learning)
        ema.model.load_state_dict(model.state_dict())
        stopping, progress = EarlyStopping(config.patience), Progress()
        parts = {
            "model": model, "ema": ema, "optimizer": team.optimizer, "progress": progress, "guard": team.guard,
            "stopping": stopping, "health": health, "material": material, **team.critics,
        }  # fmt: skip
        if ranks.is_main:
            write_result(config.out / DESCRIPTION, _described(config, material).encode())
        run.load_state(**parts)
        budget = Budget(config.seconds)

        with Stop() as stop, Reporter(config.images, done=progress.images, quiet=not ranks.is_main) as reporter:
            while progress.images < config.images and not stopping.exhausted:
                # Learn from one batch. Seeding by position makes every step repeatable on its own.
                run.seed_position(progress.images)
                rate = team.guard.scale * _rate(progress.images, config)
                batch = ranks.shard(torch.from_numpy(material.batch(progress.images, config.batch_size))).numpy()
                loss = _learn(team, material, batch, health, progress.images, config, device)
                ranks.mean_gradients(*team.learning)
                if not health.spike(model, config.spike):
                    team.step(loss, rate)
                    ema.update(model, batch_size=config.batch_size)
                progress.images += config.batch_size
                reporter.advance(progress.images)

                # Now and then, say how it goes and make the run safe to stop.
                out_of_time = ranks.any(budget.spent)
                done = progress.images >= config.images or out_of_time
                if done or progress.images % config.report_every < config.batch_size:
                    train_loss = ranks.mean(team.mean_loss())
                    scores = _validate(ema.model, material, config) if ranks.is_main else {}
                    team.guard.broken = ranks.any(team.guard.broken or not math.isfinite(scores.get("valid_elbo", 0.0)))
                    if not team.guard.broken:
                        used = ranks.mean(scores.get("valid_active_units", 0.0)) * ranks.world / config.net.latents
                        if progress.images >= config.warm_up * config.images and health.mend(used, config):
                            ranks.say(f"{used:.0%} of the latents are used: {health.free:g} nats each cost nothing.")
                        value = ranks.mean(scores.get("valid_elbo", 0.0)) * ranks.world
                        if stopping.update(progress.images if config.sharp else value, progress.images):
                            run.save_best(model=ema.model)
                        run.log(images=progress.images, train_loss=train_loss, learning_rate=rate, **scores)
                        reporter.report(progress.images, train_loss=train_loss, **scores)
                        if ranks.is_main:
                            _draw(ema.model, material, config, run)
                        run.save_state(**parts)
                if team.guard.broken:
                    team.guard.recover(run, **parts)
                    ranks.say(f"The loss is no number: back to {progress.images:,} images, at half the rate.")
                    continue
                if ranks.any(stop.requested):
                    run.save_state(**parts)
                    raise Interrupted(config.out, progress.images)
                if out_of_time:
                    break

        if ranks.is_main:
            load_checkpoint(run.best, model=ema.model)
        ranks.broadcast(ema.model)
        prior, summary = _publish(ema.model, material, config, run) if ranks.is_main else (None, {})
        if progress.images < config.images and not stopping.exhausted:
            ranks.say(f"The time is over at {progress.images:,} images. Go on with the same command, --seconds aside.")
    ranks.close()
    return Trained(ema.model, prior, material.classes, summary)


def dry_run(config: VAEConfig, *, steps: int = 3) -> DryRun:
    """Build everything, take a few steps, and write nothing but the crops where a cache is named.

    Raises:
        MienError: As `train` would.
    """
    device = choose_device(config.device)
    material = _material(config, cache=config.cache, ranks=Ranks())
    torch.manual_seed(config.seed)
    team = _team(config, material, device)
    ema, health = EMA(team.model, config.ema_half_life), _Health()
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        batch = material.batch(step * config.batch_size, config.batch_size)
        # Late enough that the critic is listened to.
        loss = _learn(team, material, batch, health, config.images - 1, config, device)
        team.step(loss, config.learning_rate)
        ema.update(team.model, batch_size=config.batch_size)
    team.mean_loss()  # waits for the device
    speed = steps * config.batch_size / (time.monotonic() - start)
    model = team.model.cpu()
    picture = torch.zeros(1, config.net.channels, config.net.side, config.net.side)
    return DryRun(
        count_parameters(model),
        count_macs(_ThereAndBack(model), picture),
        speed,
        len(material.train),
        len(material.valid),
        material.classes,
        material.train.attribute_names,
    )


def load_vae(source: Path) -> tuple[VAE, dict[str, Any]]:
    """Return the network that a run would publish, in evaluation mode, and what `network.json` says of it.

    Args:
        source: The run folder, a file of `mien.training.export.save_weights`, or the name of one that mien ships.

    Raises:
        TrainingError: It is no VAE, or its weights are missing or do not fit.
    """
    try:
        facts, state = read_network(source, weights.VAE)
        if facts.get("story") != "vae":
            raise TrainingError(f"'{printable(source)}' is a run of another kind. Expected one of `mien train vae`.")
        config, condition = load_config(VAENetConfig, given=facts["net"]), len(facts["labels"] + facts["attributes"])
    except UNREADABLE as error:
        raise TrainingError(
            f"'{printable(source)}' is no VAE ({error}). Expected a folder that `mien train vae` wrote, or the name of "
            f"a VAE that mien ships: {', '.join(SHIPPED)}."
        ) from error
    model = VAE(config, condition=condition).eval()
    fill(model, source, state)
    return model, facts


@torch.no_grad()
def encode(
    model: VAE, images: Faces, *, precision: Literal["fp32", "bf16"] = "fp32", batch_size: int = _PART
) -> tuple[Float32[np.ndarray, "pictures latents"], Float32[np.ndarray, "pictures latents"]]:
    """Return means and log variances of pictures, uint8 (pictures, channels, side, side)."""
    device = next(model.parameters()).device
    means, logs = [], []
    for start in range(0, len(images), batch_size):
        with autocast(device, precision):
            mean, log_variance = model.encode(_placed(torch.from_numpy(images[start : start + batch_size]), device))
        means.append(mean.cpu())
        logs.append(log_variance.cpu())
    return torch.cat(means).numpy(), torch.cat(logs).numpy()


# Pictures -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Material:
    """Everything that is learned from. A part of the checkpoint, so that it cannot change."""

    train: Pictures
    valid: Pictures
    classes: tuple[str, ...]
    order: Order

    def batch(self, images: int, size: int) -> Int[np.ndarray, " batch"]:
        """Return the training pictures of the batch at a position."""
        return np.asarray(self.order.batch(images, size))

    def told(self, pictures: Pictures, which: Int[np.ndarray, " some"] | slice) -> Tensor | None:
        """Return what the decoder is told about some pictures."""
        attributes = torch.from_numpy(pictures.attributes[which]).float() if pictures.attribute_names else None
        labels = torch.from_numpy(pictures.labels[which]) if self.classes else None
        return told(labels, len(self.classes), attributes)

    @property
    def condition(self) -> int:
        """Length of what the decoder is told."""
        return len(self.classes) + len(self.train.attribute_names)

    def state_dict(self) -> dict[str, Any]:
        """Return what tells these data from others."""
        digest = hashlib.sha256((self.train.digest + self.valid.digest).encode()).hexdigest()
        return {"digest": digest, "pictures": len(self.train) + len(self.valid)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a checkpoint is of the same data.

        Raises:
            TrainingError: Pictures, labels or splits differ.
        """
        ours = self.state_dict()
        if state["digest"] != ours["digest"]:
            raise TrainingError(
                f"The run learned from other data: {state['pictures']:,} pictures then, {ours['pictures']:,} now, or "
                f"other labels or splits. Name another run folder."
            )


def _material(config: VAEConfig, *, cache: Path | None, ranks: Ranks) -> _Material:
    if not ranks.is_main:
        ranks.any(False)  # waits until the main process has cut them: the others read its cache
    pictures = read_pictures(
        config.data,
        template=config.template,
        side=config.net.side,
        colour=config.net.colour,
        kind=config.kind,
        labels=config.labels,
        attributes=config.attributes,
        splits=("train", "valid"),
        keep_without_face=config.keep_without_face,
        cache=cache,
        quiet=not ranks.is_main,
    )
    if ranks.is_main:
        ranks.any(False)
    notes = list(pictures.notes)
    classes = pictures.classes
    if config.condition == "none" or (config.condition == "auto" and not set(classes) <= set(EXPRESSIONS)):
        classes = ()
    if classes:
        pictures, classes = _with_enough(pictures, notes)
    elif config.condition == "labels":
        raise DataError(
            "A conditional VAE needs labels, and the data have none. Expected a folder for each class; or leave "
            "--condition out."
        )
    train, valid = pictures.split("train"), pictures.split("valid")
    ranks.say(*notes)
    if len(train) < config.batch_size or not len(valid):
        raise DataError(
            f"Training needs at least a batch of {config.batch_size} pictures to learn from and 1 to check with, got "
            f"{len(train)} and {len(valid)}. Add pictures, or lower batch_size."
        )
    order = Order(train.labels, seed=config.seed, balance=config.balance if classes else 0.0)
    return _Material(train, valid, classes, order)


def _with_enough(pictures: Pictures, notes: list[str]) -> tuple[Pictures, tuple[str, ...]]:
    """Return the pictures of classes that can be learned, and those classes."""
    train = pictures.labels[pictures.splits == "train"]
    counts = np.bincount(train[train >= 0], minlength=len(pictures.classes))
    kept = [number for number, count in enumerate(counts) if count >= _FEWEST]
    for number, count in enumerate(counts):
        if number not in kept:
            notes.append(
                f"Only {count} training pictures show '{pictures.classes[number]}', fewer than {_FEWEST}: left out."
            )
    if len(kept) < 2:
        raise DataError(
            f"A conditional VAE needs two classes of {_FEWEST} training pictures or more, got {len(kept)}. Add "
            f"pictures, or leave the labels out with --condition none."
        )
    if unlabelled := int((pictures.labels < 0).sum()):
        notes.append(f"{unlabelled:,} pictures have no label and are left out.")
    place = np.full(len(counts) + 1, -1)
    place[kept] = np.arange(len(kept))
    classes = tuple(pictures.classes[number] for number in kept)
    return pictures.relabelled(place[pictures.labels], classes), classes


# One step -------------------------------------------------------------------------------------------------------------


class _Health:
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

    def mend(self, used: float, config: VAEConfig) -> bool:
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
class _Team:
    """The networks of a training with what moves them."""

    model: VAE
    optimizer: torch.optim.Optimizer
    guard: Guard
    features: nn.Module | None
    critic: Discriminator | None
    critic_optimizer: torch.optim.Optimizer | None
    critic_guard: Guard
    critic_loss: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def learning(self) -> list[nn.Module]:
        """The networks that learn."""
        return [self.model] if self.critic is None else [self.model, self.critic]

    @property
    def critics(self) -> dict[str, Any]:
        """What a checkpoint keeps of the critic."""
        if self.critic is None or self.critic_optimizer is None:
            return {}
        return {"critic": self.critic, "critic_optimizer": self.critic_optimizer, "critic_guard": self.critic_guard}

    def step(self, loss: Tensor, rate: float) -> None:
        """Let everybody take a step."""
        for optimizer in (self.optimizer, self.critic_optimizer):
            for group in [] if optimizer is None else optimizer.param_groups:
                group["lr"] = rate
        self.guard.step(self.optimizer, self.model, loss)
        if self.critic is not None and self.critic_optimizer is not None:
            self.critic_guard.step(self.critic_optimizer, self.critic, self.critic_loss)

    def mean_loss(self) -> float:
        """Return the VAE's mean loss since the last call; a critic gone astray breaks the guard too."""
        if self.critic is not None:
            self.critic_guard.mean_loss()
            self.guard.broken |= self.critic_guard.broken
            self.critic_guard.broken = False
        return self.guard.mean_loss()


def _team(config: VAEConfig, material: _Material, device: torch.device) -> _Team:
    model: VAE = VAE(config.net, condition=material.condition).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, config.learning_rate, betas=(0.9, 0.99), fused=True)
    features = None
    if config.perceptual:
        from mien.networks.perceptual import ImageFeatures

        features = ImageFeatures().to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    critic, critic_optimizer = None, None
    if config.adversarial:
        sizes = Sizes(config.net.side, config.net.channels, len(material.classes))
        critic = Discriminator(config.critic, sizes).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # No momentum: what the critic should say changes with every step of the decoder.
        critic_optimizer = torch.optim.AdamW(
            critic.parameters(), config.learning_rate, betas=(0.0, 0.99), weight_decay=0.0, fused=True
        )
    return _Team(model, optimizer, Guard(), features, critic, critic_optimizer, Guard())


def _learn(
    team: _Team,
    material: _Material,
    batch: Int[np.ndarray, " batch"],
    health: _Health,
    images: int,
    config: VAEConfig,
    device: torch.device,
) -> Tensor:
    """Set the gradients of a batch's mean loss, part by part, and return the loss."""
    for network in team.learning:
        network.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    team.critic_loss = torch.zeros((), device=device)
    for part in np.array_split(batch, min(config.accumulate, len(batch))):
        loss = _loss(team, material, part, health, images, config, device, len(part) / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _loss(
    team: _Team,
    material: _Material,
    indices: Int[np.ndarray, " batch"],
    health: _Health,
    images: int,
    config: VAEConfig,
    device: torch.device,
    share: float,
) -> Tensor:
    """Return the mean loss of some pictures, nats a pixel, times their share of the batch."""
    x = _placed(torch.from_numpy(material.train.images[indices]), device)
    mirror = (torch.rand(len(x), device=device) < config.flip)[:, None, None, None]
    x = torch.where(mirror, x.flip(3), x).contiguous(memory_format=torch.channels_last)
    condition = material.told(material.train, indices)
    condition = None if condition is None else condition.to(device)
    with autocast(device, config.precision):
        mean, log_variance = team.model.encode(x)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        drawn = team.model.decode(z, condition)
    pixels = config.net.pixels
    squares = ((drawn - x) / _GREY).square().flatten(1).sum(1)
    # Classic: half of the squares, of pixels from 0 to 1.
    fit = pixels * optimal_sigma(squares, pixels).log() if config.variant == "sigma" else squares.mean() / 8
    weight = min(images / max(config.warm_up * config.images, 1e-9), 1.0)
    loss = (fit + weight * free_bits(gaussian_kl(mean, log_variance), health.free)) / pixels
    if team.features is not None:
        with autocast(device, config.precision):
            with torch.no_grad():
                seen = team.features(x)
            loss = loss + config.perceptual * perceptual_distance(team.features(drawn), seen).mean()
    loss = loss * share
    if team.critic is not None:
        labels = torch.from_numpy(material.train.labels[indices]).to(device) if material.classes else None
        loss = loss + _criticised(team, x, drawn, labels, condition, loss, images, config, device, share)
    return loss


def _criticised(
    team: _Team,
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
    """Let the critic learn from photographs, reconstructions and samples, and return what the decoder should lower."""
    assert team.critic is not None
    # Half of the batch is judged as it came back, the other half as it was drawn from noise, of the same classes.
    half = len(x) // 2
    with autocast(device, config.precision):
        noise = torch.randn(len(x) - half, config.net.latents, device=device)
        sample = team.model.decode(noise, None if condition is None else condition[half:])
    fake = torch.cat([drawn[:half], sample])

    def score(pixels: Images) -> Float[Tensor, "batch 1"]:
        # In float32: the penalties look at small changes.
        answer: Tensor = critic(pixels, labels)
        return answer

    critic = team.critic.requires_grad_(True)
    done = min(images / config.images, 1.0)
    gamma = config.gamma[0] * (config.gamma[1] / config.gamma[0]) ** done
    still = fake.detach()
    real, given = score(x), score(still)
    steepness = approximate_penalty(score, real, x) + approximate_penalty(score, given, still)
    term = discriminator_loss("relativistic", real, given) + 0.5 * gamma * steepness
    (term * share).backward()
    team.critic_loss += term.detach() * share
    if done < config.adversarial_from:
        return torch.zeros((), device=device)
    critic.requires_grad_(False)
    opinion = generator_loss("relativistic", real.detach(), score(fake)) * share
    last = team.model.last_weight
    (ours,) = torch.autograd.grad(loss, last, retain_graph=True)
    (theirs,) = torch.autograd.grad(opinion, last, retain_graph=True)
    # So that both pull the decoder's last layer alike: Esser et al., "Taming transformers", CVPR 2021, equation 7.
    ratio = (ours.norm() / (theirs.norm() + 1e-8)).clamp(max=1e4)
    wanted: Tensor = config.adversarial * ratio * opinion
    return wanted


def _rate(images: int, config: VAEConfig) -> float:
    warmup = min(config.warmup, config.images // 10)
    # A first step of rate 0 would teach nothing.
    return warmup_cosine(
        images + config.batch_size, config.images, warmup, config.learning_rate, final=0.1 * config.learning_rate
    )


def _placed(images: UInt8[Tensor, "batch channels side side"], device: torch.device) -> Images:
    return images.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)


class _ThereAndBack(nn.Module):
    """A picture encoded and decoded, for counting."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images) -> Images:
        mean, _ = self.model.encode(images)
        return self.model.decode(
            mean, mean.new_zeros(len(mean), self.model.condition) if self.model.condition else None
        )


# Validation and publication -------------------------------------------------------------------------------------------


@torch.no_grad()
def _decoded(
    model: VAE, latents: Float32[np.ndarray, "n latents"], condition: Tensor | None, config: VAEConfig
) -> Float32[np.ndarray, "n channels side side"]:
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(latents), _PART):
        told = None if condition is None else condition[start : start + _PART].to(device)
        with autocast(device, config.precision):
            parts.append(model.decode(torch.from_numpy(latents[start : start + _PART]).to(device), told).cpu())
    return torch.cat(parts).numpy()


def _redrawn(
    model: VAE, latents: Float32[np.ndarray, "n latents"], material: _Material, pictures: Pictures, config: VAEConfig
) -> Iterator[tuple[Float32[np.ndarray, "part channels side side"], Faces]]:
    """Decode latents of pictures, and yield them beside these, a part at a time: all would take gigabytes."""
    for start in range(0, len(latents), _PART):
        rows = slice(start, start + _PART)
        yield _decoded(model, latents[rows], material.told(pictures, rows), config), pictures.images[rows]


def _squares(
    model: VAE, material: _Material, pictures: Pictures, config: VAEConfig
) -> tuple[Float32[Tensor, " pictures"], Float32[Tensor, "pictures latents"]]:
    """Return squared errors of reconstructions from one draw of each posterior, in half ranges, and the KL."""
    mean, log_variance = encode(model, pictures.images, precision=config.precision)
    noise = np.random.default_rng(0).standard_normal(mean.shape, dtype=np.float32)
    squares = np.concatenate(
        [
            np.square((drawn - real) / np.float32(_GREY)).reshape(len(real), -1).sum(1)
            for drawn, real in _redrawn(model, mean + noise * np.exp(0.5 * log_variance), material, pictures, config)
        ]
    )
    return torch.from_numpy(squares), gaussian_kl(torch.from_numpy(mean), torch.from_numpy(log_variance))


def _validate(model: VAE, material: _Material, config: VAEConfig, *, most: int = _REPORTED) -> dict[str, float]:
    """Measure a model on pictures that it has not learned from.

    The ELBO is of pixel values 0 to 255, in nats a picture, under a noise that was measured on training pictures: a
    lower bound of the log density, which compares with the nats that a lossless code needs.
    """
    valid, train = (
        material.valid.take(_some(len(material.valid), most)),
        material.train.take(_some(len(material.train), most)),
    )
    pixels = config.net.pixels
    learned, _ = _squares(model, material, train, config)
    sigma = float(optimal_sigma(learned, pixels))
    squares, divergence = _squares(model, material, valid, config)
    fit = gaussian_log_likelihood(squares, pixels, sigma) - pixels * math.log(_GREY)
    mean, log_variance = encode(model, valid.images, precision=config.precision)
    errors, sharp = list[np.ndarray](), np.zeros(2)
    for drawn, real in _redrawn(model, mean, material, valid, config):
        errors.append(np.square(drawn.clip(0, 255) - real).reshape(len(real), -1).mean(axis=1))
        sharp += len(real) * np.array([_sharpness(drawn.clip(0, 255)), _sharpness(real)])
    return {
        "valid_elbo": float((fit - divergence.sum(1)).mean()),
        "valid_kl": float(divergence.sum(1).mean()),
        "valid_active_units": float((mean.var(axis=0) > 0.01).sum()),
        "valid_psnr": float((10 * np.log10(255**2 / np.maximum(np.concatenate(errors), 1e-6))).mean()),
        "valid_sharpness": float(sharp[0] / max(sharp[1], 1e-9)),
        "sigma": sigma * _GREY,
        # Of a perfect match of aggregate posterior and N(0, 1) the two sum to one.
        "valid_mean_square": float(np.square(mean).mean()),
        "valid_variance": float(np.exp(log_variance).mean()),
    }


def _sharpness(images: np.ndarray) -> float:
    """Return the mean variance of the Laplacian: of blurred pictures it is small."""
    x = np.asarray(images, dtype=np.float32)
    laplacian = x[..., 1:-1, :-2] + x[..., 1:-1, 2:] + x[..., :-2, 1:-1] + x[..., 2:, 1:-1] - 4 * x[..., 1:-1, 1:-1]
    return float(laplacian.reshape(len(x), -1).var(axis=1).mean())


def _some(count: int, most: int) -> Int[np.ndarray, " some"]:
    """Return at most so many indices, spread evenly and always the same."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _fitted(
    model: VAE, material: _Material, config: VAEConfig, *, most: int | None = None
) -> tuple[Prior, Float32[np.ndarray, "pictures latents"]]:
    """Return the prior of what the training pictures' posteriors hold, and the posteriors' means."""
    train = material.train.take(_some(len(material.train), most or len(material.train)))
    mean, log_variance = encode(model, train.images, precision=config.precision)
    latents = _drawn_latents(mean, log_variance, seed=config.seed)
    labels = train.labels if material.classes else None
    return fit_prior(latents, labels, components=config.components, seed=config.seed), mean


def _drawn_latents(
    mean: Float32[np.ndarray, "pictures latents"], log_variance: Float32[np.ndarray, "pictures latents"], *, seed: int
) -> Float64[np.ndarray, "pictures latents"]:
    """Return one draw of each posterior."""
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    return np.asarray(mean + noise * np.exp(0.5 * log_variance))


def _draw(model: VAE, material: _Material, config: VAEConfig, run: Run, *, prior: Prior | None = None) -> None:
    """Keep a sheet of reconstructions and one of samples, by class where there are classes."""
    valid = material.valid.take(_some(len(material.valid), 3 * _COLUMNS))
    mean, _ = encode(model, valid.images, precision=config.precision)
    drawn = _decoded(model, mean, material.told(valid, slice(None)), config)
    rows = [
        picture
        for start in range(0, len(drawn), _COLUMNS)
        for part in (valid.images, drawn)
        for picture in part[start : start + _COLUMNS]
    ]
    title = "Above pictures held out, below them as they come back"
    run.picture("reconstructions", contact_sheet(_shown(rows), columns=_COLUMNS, side=_side(config), title=title))

    prior = prior or _fitted(model, material, config, most=2 * _REPORTED)[0]
    classes = material.classes or ("",)
    rng = np.random.default_rng(0)
    picked, told_about = [], []
    for number, _ in enumerate(classes):
        fits = np.flatnonzero((prior.labels == number) | (prior.labels == -1))
        for _ in range(_COLUMNS if material.classes else 4 * _COLUMNS):
            k = int(rng.choice(fits, p=prior.weights[fits] / prior.weights[fits].sum()))
            picked.append(prior.means[k] + prior.factors[k] @ rng.standard_normal(config.net.latents))
            told_about.append(number)
    z = np.array(picked, dtype=np.float32)
    attributes = None
    if names := material.train.attribute_names:
        some = material.train.attributes[rng.integers(len(material.train), size=len(z))]
        attributes = torch.from_numpy(some.reshape(len(z), len(names))).float()
    condition = told(torch.tensor(told_about) if material.classes else None, len(classes), attributes)
    captions = [classes[number] for number in told_about] if material.classes else None
    for name, latents, words in (
        ("samples", z, "Samples of the fitted prior"),
        ("samples-normal", rng.standard_normal(z.shape, dtype=np.float32), "Samples of N(0, I)"),
    ):
        faces = _shown(_decoded(model, latents, condition, config))
        run.picture(name, contact_sheet(faces, columns=_COLUMNS, side=_side(config), captions=captions, title=words))


def _side(config: VAEConfig) -> int:
    return config.net.side * (2 if config.net.side >= 32 else 4)


def _shown(images: Sequence[np.ndarray] | np.ndarray) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Return pictures, channels first, as RGB."""
    faces = (np.asarray(image).clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0) for image in images)
    return [np.repeat(face, 3 // face.shape[2], axis=2) for face in faces]


class _Generator(nn.Module):
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

    def forward(self, noise: Tensor, component: Tensor, *asked: Tensor) -> tuple[Images, Tensor]:
        """Return pictures, 0 to 255, and latents; ``asked`` is a label, attributes, or both in this order."""
        z = self.means[component] + (self.factors[component] @ noise[:, :, None])[:, :, 0]
        label = asked[0] if self.classes else None
        attributes = asked[-1] if len(asked) > bool(self.classes) else None
        return self.model.decode(z, told(label, self.classes, attributes)).clamp(0, 255), z


class _Encoder(nn.Module):
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


def _publish(model: VAE, material: _Material, config: VAEConfig, run: Run) -> tuple[Prior, dict[str, Any]]:
    """Fit the prior, and write generator and encoder with their cards.

    Returns:
        The prior, and what is also written to `summary.json`.

    Raises:
        TrainingError: A written network answers otherwise than the trained one, or the disk is full.
    """
    prior, means = _fitted(model, material, config)
    scores = _validate(model, material, config, most=5 * _REPORTED)
    latents = _drawn_latents(*encode(model, material.valid.images, precision=config.precision), seed=config.seed)
    labels = material.valid.labels if material.classes else None
    normal = -0.5 * (np.square(latents).sum(axis=1) + latents.shape[1] * math.log(2 * math.pi))
    gain = float((prior.log_density(latents, labels) - normal).mean())
    _draw(model, material, config, run, prior=prior)

    model = model.to("cpu").eval()
    net, attributes = config.net, material.train.attribute_names
    generator, encoder = _Generator(model, prior, len(material.classes)).eval(), _Encoder(model, means).eval()
    rng = torch.Generator().manual_seed(0)
    examples = {
        "noise": torch.randn(4, net.latents, generator=rng),
        "component": torch.tensor([0, 0, 1, len(prior)]),
    }
    if material.classes:
        examples["label"] = torch.arange(4) % len(material.classes)
    if attributes:
        examples["attributes"] = (torch.rand(4, len(attributes), generator=rng) < 0.5).float()
    drawing = onnx_bytes(generator, *examples.values(), inputs=list(examples), outputs=["images", "latents"])
    faces = {"image": torch.from_numpy(material.valid.images[:4]).float()}
    reading = onnx_bytes(encoder, faces["image"], outputs=["features", "mean", "log_variance"])
    difference = max(_difference(generator, drawing, examples), _difference(encoder, reading, faces))

    validation = {name.removeprefix("valid_"): value for name, value in scores.items()}
    summary = {
        "elbo": scores["valid_elbo"],
        "psnr": scores["valid_psnr"],
        "sharpness": scores["valid_sharpness"],
        "kl": scores["valid_kl"],
        "active_units": int(scores["valid_active_units"]),
        "sigma": scores["sigma"],
        "prior_gain": gain,
        "prior_components": len(prior),
        "parameters": count_parameters(model),
        "macs": count_macs(_ThereAndBack(model), faces["image"][:1]),
        "onnx_difference": difference,
        "pictures": {"train": len(material.train), "valid": len(material.valid)},
    }
    common = {
        "version": "1",
        "licence": "Yours; the terms of the training data apply.",
        "training_data": ", ".join(source.name for source in config.data),
    }
    shape = {"template": config.template, "side": net.side, "order": "RGB" if net.colour else "GRAY"}
    trained = f"Trained with mien on {len(material.train):,} pictures: {config.variant} VAE, seed {config.seed}."
    losses = ["mobilenetv2-imagenet"] if config.perceptual else []
    card = {
        "role": "generator",
        **common,
        "summary": trained,
        "convention": {
            "kind": "vae",
            **shape,
            "latents": net.latents,
            **({"labels": list(material.classes)} if material.classes else {}),
            **({"attributes": list(attributes)} if attributes else {}),
            "components": [[int(k), float(w)] for k, w in zip(prior.labels, prior.weights, strict=True)],
            "encoder": "encoder.onnx",
            "losses": losses,
        },
        "metrics": {"validation": {**validation, "prior_gain": gain}},
    }
    eyes = {
        "role": "embedder",
        "name": f"{config.out.resolve().name}-encoder",
        **common,
        "summary": f"Latent means of a VAE, standardised. {trained}",
        "convention": {
            "kind": "vae-encoder",
            **shape,
            "dimension": net.latents,
            "layout": "NCHW",
            "mean": 0.0,
            "scale": 1.0,
            "losses": losses,
        },
        "metrics": {"validation": validation},
    }
    write_result(config.out / "model.onnx", drawing)
    write_result(config.out / "card.json", json.dumps(card, indent=1).encode())
    write_result(config.out / "encoder.onnx", reading)
    write_result(config.out / "encoder.json", json.dumps(eyes, indent=1).encode())
    run.finish(summary)
    return prior, summary


def _difference(model: nn.Module, network: bytes, examples: Mapping[str, Tensor]) -> float:
    """Return the largest difference of an answer between PyTorch and an ONNX file.

    Raises:
        TrainingError: They differ by more than rounding explains.
    """
    import onnxruntime

    from mien.zoo.session import session_options

    session = onnxruntime.InferenceSession(network, session_options(threads=1), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = model(*examples.values())
    theirs = session.run(None, {name: value.numpy() for name, value in examples.items()})
    difference = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, theirs, strict=True))
    if not difference < _PARITY:
        raise TrainingError(
            f"The ONNX file answers otherwise than PyTorch, by {difference:.2g}, more than {_PARITY:g}. It was not "
            f"written. Try another version of PyTorch or ONNX Runtime."
        )
    return difference


def _described(config: VAEConfig, material: _Material) -> str:
    facts = {
        "story": "vae",
        "net": as_dict(config.net),
        "labels": list(material.classes),
        "attributes": list(material.train.attribute_names),
        "template": config.template,
    }
    return json.dumps(facts, indent=1) + "\n"
