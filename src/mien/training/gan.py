"""The story of a GAN: from pictures to a run folder with a generator that `generate` can use.

Two networks learn from each other: a generator draws, a discriminator tells drawn from photographed. Nothing in their
losses says how good the pictures are, so that a few figures on samples are taken at every report, and rules act on
them: the penalty is eased where drawing collapses, variation rises where photographs are learned by heart, and a run
that is beyond help stops with its last good snapshot.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from mien import zoo
from mien.alignment import TEMPLATES
from mien.data.transforms import Order
from mien.errors import DataError, ModelError, TrainingError, UsageError
from mien.images import printable
from mien.losses import perceptual_distance
from mien.metrics.generation import frechet_distance, sharpness, spread_ratio
from mien.networks import count_macs, count_parameters
from mien.networks.diffaugment import DiffAugment, diff_augment
from mien.networks.gan import (
    HALF_RANGE,
    Discriminator,
    DiscriminatorConfig,
    FeatureDiscriminator,
    Generator,
    GeneratorConfig,
    PriorGenerator,
    Sizes,
)
from mien.networks.perceptual import IMAGENET, ImageFeatures
from mien.networks.recogniser import RECOGNISER, FaceRecogniser
from mien.networks.tracing import onnx_bytes
from mien.networks.vae import VAE
from mien.reporting.pictures import contact_sheet
from mien.training.adversarial import (
    Game,
    approximate_penalty,
    discriminator_loss,
    exact_penalty,
    generator_loss,
)
from mien.training.config import TrainingConfig, as_dict, load_config
from mien.training.ema import EMA
from mien.training.expression import load_expression_net
from mien.training.guard import Guard
from mien.training.pictures import Pictures, read_pictures
from mien.training.precision import autocast, choose_device
from mien.training.ranks import Ranks
from mien.training.reporter import Reporter
from mien.training.run import Progress, Run, load_checkpoint, write_result
from mien.training.schedule import warmup_cosine
from mien.training.stopping import Budget, EarlyStopping, Interrupted, Stop
from mien.training.vae import load_vae
from mien.training.weights import DESCRIPTION

__all__ = ["VARIANTS", "DryRun", "GANConfig", "Health", "Trained", "configured", "dry_run", "train"]

Player = Generator | PriorGenerator
Critic = Discriminator | FeatureDiscriminator
Images = Float[Tensor, "batch channels side side"]

_FEWEST = 4  # pictures of a class: fewer would be learned by heart
_ADAPT_EVERY = 1024  # images between two looks at the adaptive variation
_COLUMNS, _MOST_ROWS = 10, 10  # of a sheet of samples
_PARITY = 0.5  # grey levels that pass as rounding between PyTorch and ONNX
_JUDGE = "expression-resnet27"  # in whose features samples are looked at on the way
_JUDGE_SIDE = 48
_LOOKED = ("spread", "distance", "sharpness", "seen", "learned_by_heart")
_SAID = ("gap", "accuracy", "spread", "distance", "seen", "probability")
_OVERFIT_GAP = 3.0
_EQUAL_GAP = 0.02
_EASINGS = 3  # of the penalty before a collapsed run is given up


@dataclass(frozen=True, kw_only=True)
class Health:
    """When to act on a run that goes wrong.

    Attributes:
        pictures: Photographs and samples that are compared at each report.
        warm_up: Share of the run in which nothing is done about collapse.
        spread: Least spread of samples within a class, over that of photographs.
        images: So many images in a row below it, or without a gap between scores, are one too many; 0 never acts.
    """

    pictures: int = 512
    warm_up: float = 0.1
    spread: float = 0.3
    images: int = 50_000

    def __post_init__(self) -> None:
        if self.pictures < 16 or not 0 <= self.warm_up <= 1 or self.spread < 0 or self.images < 0:
            raise UsageError("Health looks at 16 pictures or more; warm_up lies in [0, 1]; the rest is 0 or more.")


@dataclass(frozen=True, kw_only=True)
class GANConfig(TrainingConfig):
    """What the training of a GAN is told, besides what every training is.

    Attributes:
        data: Folders, zips or lists of pictures; see `mien data inspect`.
        kind: Layout of the data; auto finds out.
        labels: Label set that class numbers refer to.
        template: How faces are cut.
        side: Of the pictures, px.
        colour: RGB pictures; otherwise grey.
        keep_without_face: Keep pictures in which no face is found.
        cache: Folder that keeps the crops; default is in the run folder. Runs on the same data may share one.
        conditional: Learn the classes of the data, where it has any; otherwise draw anybody showing anything.
        identity: Learn to draw a given face: the generator is told an embedding.
        identity_weight: Of the loss that compares the embedding of what is drawn with the one asked for.
        identity_share: Part of a batch that this loss is computed on.
        generator: The generator.
        discriminator: The discriminator.
        game: What the two learn from: relativistic pairs, hinge, or the original, non-saturating loss.
        penalty: On steep scores, for photographs and drawn pictures: exact, approximate (one backward pass), or none.
        gamma: Weight of the penalty: half of it times the squared slope.
        gamma_end: What it falls to.
        penalty_every: Steps between two penalties, which then weigh as many times more.
        sigma: Step of the approximate one, in half ranges of grey levels.
        rate_generator: The highest learning rate of the generator.
        rate_discriminator: And of the discriminator.
        rate_end: Share of them that is left at the end.
        warmup: Images until they are reached.
        beta2: Of Adam, whose beta1 is 0.
        clip: Longest gradient; none never shortens.
        ema_half_life: Images after which a weight's share in the published average has halved.
        ema_ramp: The half-life is at most this share of the images seen so far.
        balance: 1 shows all classes equally often, 0 as often as the data has them.
        flip: Mirror half of the photographs.
        augment: How both kinds of pictures are varied before they are judged.
        probability: Of each variation, at the start.
        probability_most: It adapts no further than this.
        adapt_images: Images in which it could go from 0 to 1; 0 keeps it.
        target: Part of photographs scored as such, over those not (sign, -1 to 1), that it adapts to.
        ramp: Shares of the run between which the discriminator starts to heed what was asked for.
        init: A finished VAE run, or the name of a VAE that mien ships: its decoder becomes the generator, its fitted
            prior the noise.
        anchor: Weight of the reconstruction of photographs through that VAE's encoder; keeps what it covers.
        blend: Share that what was learned has in the published weights; the VAE's, which they began as, have the rest.
            Below 1 pictures are softer, with fewer artefacts. May change when a run is finished: same command.
        anchor_perceptual: Within it, weight of what the ImageNet network sees, beside the absolute error of pixels.
        health: When to act on a run that goes wrong.
    """

    data: tuple[Path, ...]
    kind: str = "auto"
    labels: str | None = None
    template: str = "fer-48"
    side: int = 48
    colour: bool = False
    keep_without_face: bool = False
    cache: Path | None = None
    conditional: bool = True
    identity: bool = False
    identity_weight: float = 0.5
    identity_share: float = 0.25
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    game: Game = "relativistic"
    penalty: Literal["exact", "approximate", "none"] = "exact"
    gamma: float = 1.0
    gamma_end: float = 0.1
    penalty_every: int = 4
    sigma: float = 0.01
    rate_generator: float = 1e-3
    rate_discriminator: float = 1e-3
    rate_end: float = 0.25
    warmup: int = 0
    beta2: float = 0.99
    clip: float | None = None
    ema_half_life: float = 20_000
    ema_ramp: float = 0.1
    balance: float = 1.0
    flip: bool = True
    augment: DiffAugment = field(default_factory=DiffAugment)
    probability: float = 0.3
    probability_most: float = 0.8
    adapt_images: float = 200_000
    target: float = 0.6
    ramp: tuple[float, float] = (0.1, 0.25)
    init: Path | None = None
    anchor: float = 0.0
    anchor_perceptual: float = 0.25
    blend: float = 1.0
    health: Health = field(default_factory=Health)
    batch_size: int = 64
    images: int = 1_000_000
    report_every: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise UsageError("Setting 'data' names at least one folder, zip or list.")
        if self.template not in TEMPLATES:
            raise UsageError(f"There is no template '{self.template}'. Choose from {', '.join(TEMPLATES)}.")
        for name in ("identity_share", "balance", "blend", "probability", "probability_most", "rate_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        for name in ("rate_generator", "rate_discriminator", "sigma", "ema_ramp"):
            if not getattr(self, name) > 0:
                raise UsageError(f"Setting '{name}' is above 0, got {getattr(self, name):g}.")
        for name in (
            "gamma",
            "gamma_end",
            "identity_weight",
            "warmup",
            "ema_half_life",
            "adapt_images",
            "anchor",
            "anchor_perceptual",
        ):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if self.penalty_every < 1:
            raise UsageError(f"Setting 'penalty_every' is at least 1, got {self.penalty_every}.")
        if not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise UsageError(
                f"Setting 'ramp' is two shares of the run, the first not above the second, got {self.ramp}."
            )
        if not 0 <= self.beta2 < 1:
            raise UsageError(f"Setting 'beta2' lies in [0, 1), got {self.beta2:g}.")
        if self.anchor and self.init is None:
            raise UsageError("Setting 'anchor' needs 'init': a VAE run whose reconstructions are kept.")
        if self.blend < 1 and self.init is None:
            raise UsageError("Setting 'blend' needs 'init': a VAE run whose weights what was learned is blended with.")
        if self.init is not None and self.identity:
            raise UsageError("A generator that begins as a VAE knows no identities: leave 'init' or 'identity' out.")


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "hinge": {
        "game": "hinge",
        "penalty": "none",
        "rate_generator": 1e-4,
        "rate_discriminator": 4e-4,
        "generator": {"norm": "batch", "modulate": True, "output": "tanh"},
        "discriminator": {"spectral": True},
        "ramp": (0.0, 0.0),
        "beta2": 0.9,
    },
    "dcgan": {
        "game": "nonsaturating",
        "penalty": "none",
        "rate_generator": 2e-4,
        "rate_discriminator": 2e-4,
        "generator": {"arch": "dcgan", "widths": (256, 128, 64), "latents": 100, "output": "tanh"},
        "discriminator": {"arch": "dcgan", "widths": (64, 128, 256)},
        "ramp": (0.0, 0.0),
        "beta2": 0.999,
        "adapt_images": 0.0,
        "probability": 0.0,
        "balance": 0.0,
    },
}
"""Settings by name: default; hinge, with spectral normalisation, projection and conditional batch normalisation in the
generator; dcgan, the original losses and layers."""


def configured(
    variant: str = "default", file: Path | None = None, sets: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> GANConfig:
    """Make a config: a variant's settings in place of defaults, then as `mien.training.config.load_config` does.

    Raises:
        UsageError: There is no such variant, or a setting is wrong.
    """
    if variant not in VARIANTS:
        raise UsageError(f"There is no variant '{variant}'. Choose from {', '.join(VARIANTS)}.")
    return load_config(GANConfig, file, sets, given, defaults=VARIANTS[variant])


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


def train(config: GANConfig) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the run is beyond help.
        Interrupted: Ctrl-C; all is saved.
    """
    ranks = Ranks.join()
    device = choose_device(config.device, local_rank=ranks.local)
    with Run(config.out, config, may_change=("cache", "blend"), ranks=ranks) as run:
        material = _material(config, cache=config.cache or config.out / "crops", ranks=ranks, device=device)

        # Build. The published generator is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        table = _Table(config, material, device)
        generator, discriminator = table.generator, table.discriminator
        ranks.broadcast(generator, discriminator)
        ema = EMA(generator, half_life_images=config.ema_half_life, ramp=config.ema_ramp)
        painter = _adam(generator, config.rate_generator, config)
        critic = _adam(discriminator, config.rate_discriminator, config)
        guards = Guard(clip=config.clip), Guard(clip=config.clip)
        rules = _Rules(config)
        best = EarlyStopping(0, higher_is_better=False)
        progress = Progress()
        parts = {
            "generator": generator, "discriminator": discriminator, "ema": ema, "painter": painter, "critic": critic,
            "progress": progress, "guard": guards[0], "painter_guard": guards[1], "meter": table.meter,
            "rules": rules, "best": best, "material": material,
        }  # fmt: skip
        if ranks.is_main:
            write_result(config.out / DESCRIPTION, _described(config, material))
        run.load_state(**parts)
        budget = Budget(config.seconds)

        with Stop() as stop, Reporter(config.images, done=progress.images, quiet=not ranks.is_main) as reporter:
            while progress.images < config.images:
                # Learn from one batch. Seeding by position makes every step repeatable on its own.
                run.seed_position(progress.images)
                done_share = progress.images / config.images
                scale = min(guard.scale for guard in guards) * _fading(progress.images, config)
                indices = ranks.shard(torch.from_numpy(material.batch(progress.images, config.batch_size))).numpy()
                table.conditioning = _ramped(done_share, config.ramp)
                table.probability = rules.probability
                table.gamma = rules.easing * _between(config.gamma, config.gamma_end, done_share)
                table.penalise = (progress.images // config.batch_size) % config.penalty_every == 0

                # The discriminator's move.
                for group in critic.param_groups:
                    group["lr"] = scale * config.rate_discriminator
                critic.zero_grad(set_to_none=True)
                loss = _accumulated(table.discriminator_move, indices, config)
                ranks.mean_gradients(discriminator)
                guards[0].step(critic, discriminator, loss)

                # The generator's move; the discriminator holds still.
                for group in painter.param_groups:
                    group["lr"] = scale * config.rate_generator
                painter.zero_grad(set_to_none=True)
                discriminator.requires_grad_(False)
                loss = _accumulated(table.generator_move, indices, config)
                discriminator.requires_grad_(True)
                ranks.mean_gradients(generator)
                guards[1].step(painter, generator, loss)
                ema.update(generator, batch_size=config.batch_size)
                progress.images += config.batch_size
                reporter.advance(progress.images)
                rules.adapt(table.meter, ranks)

                # Now and then, look at samples, say how it goes and make the run safe to stop.
                out_of_time = ranks.any(budget.spent)
                done = progress.images >= config.images or out_of_time
                if done or progress.images % config.report_every < config.batch_size:
                    losses = [ranks.mean(guard.mean_loss()) for guard in guards]
                    figures = table.figures(ranks)
                    broken = any(guard.broken for guard in guards) or not math.isfinite(sum(figures.values()))
                    guards[0].broken = ranks.any(broken)
                    if not guards[0].broken:
                        looked = table.look(ema.model) if ranks.is_main else {}
                        looked = {name: ranks.mean(looked.get(name, 0.0)) * ranks.world for name in _LOOKED}
                        figures |= {"probability": rules.probability, "gamma": table.gamma, **looked}
                        if best.update(figures["distance"], progress.images):
                            run.save_best(generator=ema.model)
                        run.log(
                            images=progress.images, loss_discriminator=losses[0], loss_generator=losses[1],
                            learning_rate=scale * config.rate_generator, **figures,
                        )  # fmt: skip
                        reporter.report(progress.images, **{name: figures[name] for name in _SAID})
                        run.picture(f"samples-{progress.images:09d}", table.sheet(ema.model))
                        ranks.say(*rules.act(progress.images, figures, best.best))
                        run.save_state(**parts)
                        if rules.hopeless:
                            raise TrainingError(_farewell(config, figures, best))
                if any(guard.broken for guard in guards):
                    guards[0].recover(run, **parts)
                    guards[1].broken = False
                    ranks.say(f"The loss is no number: back to {progress.images:,} images, at half the rates.")
                    continue
                if ranks.any(stop.requested):
                    run.save_state(**parts)
                    raise Interrupted(config.out, progress.images)
                if out_of_time:
                    break

        if ranks.is_main:
            load_checkpoint(run.best, generator=ema.model)
            if table.start is not None:
                _blend(ema.model, table.start.generator(), config.blend)
        ranks.broadcast(ema.model)
        images = best.best_images
        summary = _publish(ema.model, table, material, config, run, images) if ranks.is_main else {}
        if progress.images < config.images:
            ranks.say(f"The time is over at {progress.images:,} images. Go on with the same command, --seconds aside.")
    ranks.close()
    return Trained(ema.model, material.classes, summary)


def dry_run(config: GANConfig, *, steps: int = 3) -> DryRun:
    """Build everything, take a few steps, and write nothing.

    Raises:
        MienError: As `train` would.
    """
    device = choose_device(config.device)
    material = _material(config, cache=config.cache, ranks=Ranks(), device=device)
    torch.manual_seed(config.seed)
    table = _Table(config, material, device)
    table.probability = config.probability
    painter, critic = (
        _adam(table.generator, config.rate_generator, config),
        _adam(table.discriminator, config.rate_discriminator, config),
    )
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        indices = material.batch(step * config.batch_size, config.batch_size)
        table.penalise = step % config.penalty_every == 0
        critic.zero_grad(set_to_none=True)
        _accumulated(table.discriminator_move, indices, config)
        critic.step()
        painter.zero_grad(set_to_none=True)
        _accumulated(table.generator_move, indices, config)
        painter.step()
    table.figures(Ranks())  # waits for the device
    speed = steps * config.batch_size / (time.monotonic() - start)
    sizes = count_parameters(table.generator), count_parameters(table.discriminator)
    example = {name: value[:1].to(device) for name, value in _example(table, material).items()}
    macs = count_macs(_Clamped(table.generator, list(example)), *example.values())
    return DryRun(sizes, macs, speed, len(material.train), material.classes)


# Pictures -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Material:
    """Everything that is learned from. A part of the checkpoint, so that it cannot change."""

    pictures: Pictures
    labels: Int[np.ndarray, " pictures"]
    classes: tuple[str, ...]
    embeddings: Float32[np.ndarray, "pictures dimension"] | None
    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    order: Order
    reference: Int[np.ndarray, " reference"]
    held_out: Int[np.ndarray, " held_out"]

    def batch(self, images: int, size: int) -> Int[np.ndarray, " batch"]:
        """Return the pictures of the batch at a position."""
        return np.asarray(self.train[self.order.batch(images, size)])

    def state_dict(self) -> dict[str, Any]:
        """Return what tells these data from others."""
        return {"digest": self.pictures.digest, "pictures": len(self.train)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a checkpoint is of the same data.

        Raises:
            TrainingError: Pictures, labels or splits differ.
        """
        if state["digest"] != self.pictures.digest:
            raise TrainingError(
                f"The run learned from other data: {state['pictures']:,} pictures then, {len(self.train):,} now, or "
                f"other labels or splits. Name another run folder."
            )


def _material(config: GANConfig, *, cache: Path | None, ranks: Ranks, device: torch.device) -> _Material:
    if not ranks.is_main:
        ranks.any(False)  # waits until the main process has cut them: the others read its cache
    pictures = read_pictures(
        config.data, template=config.template, side=config.side, colour=config.colour, kind=config.kind,
        labels=config.labels, splits=("train", "valid"), keep_without_face=config.keep_without_face, cache=cache,
        quiet=not ranks.is_main,
    )  # fmt: skip
    embeddings = _embeddings(pictures, config, cache, device) if config.identity else None
    if ranks.is_main:
        ranks.any(False)
    notes = list(pictures.notes)
    train, valid = (np.flatnonzero(pictures.splits == split) for split in ("train", "valid"))
    labels, classes = pictures.labels, pictures.classes
    if config.conditional and classes:
        counts = np.bincount(labels[train][labels[train] >= 0], minlength=len(classes))
        for name, count in zip(classes, counts, strict=True):
            if count < _FEWEST:
                notes.append(f"Only {count} pictures show '{name}': a generator would copy them. They are left out.")
        kept = np.flatnonzero(counts >= _FEWEST)
        if not len(kept):
            raise DataError(
                f"No class has {_FEWEST} pictures or more. Add pictures, or draw without classes: --set "
                f"conditional=false."
            )
        number = np.full(len(classes) + 1, -1)
        number[kept] = np.arange(len(kept))
        labels, classes = number[labels], tuple(classes[k] for k in kept)
        train, valid = train[labels[train] >= 0], valid[labels[valid] >= 0]
        if unlabelled := int((pictures.labels[pictures.splits == "train"] < 0).sum()):
            notes.append(f"{unlabelled:,} pictures have no label and are left out.")
    else:
        labels, classes = np.zeros(len(pictures), np.int64), ()
    if len(train) < config.batch_size:
        raise DataError(
            f"A batch has {config.batch_size} pictures, and there are only {len(train)} to learn from. Add pictures, "
            f"or lower batch_size."
        )
    ranks.say(*notes)
    order = Order(labels[train], seed=config.seed, balance=config.balance if classes else 0.0)
    reference, held_out = (
        _even(part, labels, len(classes), config.health.pictures, config.seed) for part in (train, valid)
    )
    return _Material(pictures, labels, classes, embeddings, train, valid, order, reference, held_out)


def _even(
    among: Int[np.ndarray, " pictures"], labels: Int[np.ndarray, " all"], classes: int, count: int, seed: int
) -> Int[np.ndarray, " chosen"]:
    """Return about as many pictures of each class: rare classes count as much as common ones."""
    shuffled = among[np.random.default_rng(seed).permutation(len(among))]
    each = max(count // max(classes, 1), 2)
    return np.concatenate([shuffled[labels[shuffled] == number][:each] for number in range(max(classes, 1))])


@torch.no_grad()
def _embeddings(
    pictures: Pictures, config: GANConfig, cache: Path | None, device: torch.device
) -> Float32[np.ndarray, "pictures dimension"]:
    """Return unit embeddings of all pictures, as the identity loss computes them."""
    file = None if cache is None else cache / f"embeddings-{pictures.digest[:16]}-{config.template}.npy"
    if file is not None and file.is_file():
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
    recogniser = FaceRecogniser(config.template, config.side).to(device)
    parts = []
    with Reporter(len(pictures), quiet=len(pictures) < 1000) as reporter:
        for start in range(0, len(pictures), 64):
            part = torch.from_numpy(pictures.images[start : start + 64]).to(device)
            with autocast(device, config.precision):
                parts.append(recogniser(part).cpu().numpy())
            reporter.advance(min(start + 64, len(pictures)))
    found: np.ndarray = np.concatenate(parts)
    if file is not None:
        import io

        packed = io.BytesIO()
        np.save(packed, found)
        cache_folder = file.parent
        try:
            cache_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"Cannot write '{cache_folder}': {error.strerror or error}.") from error
        write_result(file, packed.getvalue())
    return found


# One step -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Batch:
    real: Images
    label: Int[Tensor, " batch"] | None = None
    identity: Float[Tensor, "batch dimension"] | None = None
    component: Int[Tensor, " batch"] | None = None

    def told(self) -> dict[str, Tensor]:
        """Return what a generator is told besides noise, by the name of its input."""
        named = {"label": self.label, "identity": self.identity, "component": self.component}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, eq=False)
class _Start:
    """A finished VAE run that a generator begins as.

    Attributes:
        vae: The network.
        classes: Labels that its decoder is told.
        means: Of the fitted prior's components.
        factors: Of them.
        of: Label of each component, -1 for any.
        weights: Of each.
    """

    vae: VAE
    classes: int
    means: Float[Tensor, "components latents"]
    factors: Float[Tensor, "components latents latents"]
    of: Int[np.ndarray, " components"]
    weights: Float[np.ndarray, " components"]

    def generator(self) -> PriorGenerator:
        """Return the generator, as it begins."""
        return PriorGenerator(self.vae, self.classes, self.means, self.factors)

    def components(self, labels: Int[np.ndarray, " batch"], chance: torch.Generator) -> Int[Tensor, " batch"]:
        """Draw a component of the prior for each label, numbered from 1."""
        shares = np.ones((len(labels), 1)) * self.weights
        if self.classes:
            shares = shares * ((self.of == labels[:, None]) | (self.of == -1))
        return torch.multinomial(torch.from_numpy(shares), 1, generator=chance)[:, 0] + 1


def _start(folder: Path, config: GANConfig, material: _Material) -> _Start:
    """Read the VAE that a generator begins as, of a run or shipped.

    Raises:
        TrainingError: It is no finished run of a VAE, or draws other pictures or classes.
    """
    import onnx
    from onnx import numpy_helper

    vae, facts = load_vae(folder)
    ours: tuple[object, ...] = (config.side, config.colour, config.template, list(material.classes), [])
    theirs = (vae.config.side, vae.config.colour, facts["template"], facts["labels"], facts["attributes"])
    for what, mine, other in zip(("side", "colour", "template", "labels", "attributes"), ours, theirs, strict=True):
        if mine != other:
            raise TrainingError(
                f"The VAE of '{printable(folder)}' has {what} {other}, this training has {mine}. They must be alike: "
                f"change the settings, or train another VAE."
            )
    try:
        card = zoo.named(folder)
        graph = onnx.load_model(zoo.path(card)).graph
        parts = np.array(card.convention["components"], dtype=np.float64)
        # Half-precision weights carry the suffix.
        values = {item.name.removesuffix(".half").split(".")[-1]: item for item in graph.initializer}
        # The first one is what takes noise for latents.
        means, factors = (
            torch.from_numpy(np.array(numpy_helper.to_array(values[name]))).float()[1:] for name in ("means", "factors")
        )
    except (ModelError, OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"'{printable(folder)}' holds no fitted prior ({error}). Finish that training first: same command."
        ) from error
    return _Start(vae, len(material.classes), means, factors, parts[:, 0].astype(np.int64), parts[:, 1])


class _Meter:
    """What the discriminator said, summed where it says it: looking at each step would wait for the device."""

    def __init__(self, device: torch.device) -> None:
        self.since_report = torch.zeros(3, device=device)  # pictures, right, distance between both kinds
        self.since_look = torch.zeros(2, device=device)  # pictures, signs
        self.images = 0  # since the last look
        self.penalty = torch.zeros(2, device=device)  # how many, sum

    def note(self, real: Tensor, fake: Tensor, *, relativistic: bool) -> None:
        """Add a batch of scores."""
        real, fake = real.detach().mean(1), fake.detach().mean(1)
        # Relativistic scores have no zero of their own: the middle between both kinds stands in for it.
        zero = (real.mean() + fake.mean()) / 2 if relativistic else real.new_zeros(())
        count = real.new_full((), len(real))
        right = ((real > zero).float() + (fake < zero).float()).sum() / 2
        self.since_report += torch.stack([count, right, (real - fake).sum()])
        self.since_look += torch.stack([count, torch.sign(real - zero).sum()])
        self.images += len(real)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "since_report": self.since_report,
            "since_look": self.since_look,
            "images": self.images,
            "penalty": self.penalty,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for name in ("since_report", "since_look", "penalty"):
            getattr(self, name).copy_(state[name])
        self.images = int(state["images"])


class _Table:
    """The two players and what their moves depend on.

    Attributes:
        generator: Learns to draw.
        discriminator: Learns to tell drawn from photographed.
        conditioning: How much it heeds what was asked for, 0 to 1.
        probability: Of each variation.
        gamma: Weight of the penalty.
        penalise: Whether this step has one.
    """

    def __init__(self, config: GANConfig, material: _Material, device: torch.device) -> None:
        self.config, self.material, self.device = config, material, device
        self.meter = _Meter(device)
        self.conditioning, self.probability, self.gamma, self.penalise = 1.0, 0.0, config.gamma, True
        self.sizes = _sizes(config, material)
        self.recogniser = FaceRecogniser(config.template, config.side).to(device) if config.identity else None
        self.start = None if config.init is None else _start(config.init, config, material)
        built = Generator(config.generator, self.sizes) if self.start is None else self.start.generator()
        self.generator: Player = _placed(built, device)
        self._teacher, self._eye = None, None
        if self.start is not None and config.anchor:
            self._teacher = _placed(self.start.vae, device).requires_grad_(False)
            self._eye = ImageFeatures().to(device) if config.anchor_perceptual else None
        self.discriminator: Critic = _placed(_discriminator(config, self.sizes), device)
        judge, self._heads = load_expression_net(Path(_JUDGE))
        self.judge = _placed(judge, device).requires_grad_(False)
        self._looked_at: Float32[np.ndarray, "reference feature"] | None = None

    def discriminator_move(self, indices: Int[np.ndarray, " batch"]) -> Float[Tensor, ""]:
        """Return what the discriminator lowers on some photographs and as many drawn pictures."""
        config, batch = self.config, self._batch(indices)
        with torch.no_grad():
            fake = self._varied(self._drawn(batch))
        real = self._varied(batch.real)
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

    def generator_move(self, indices: Int[np.ndarray, " batch"]) -> Float[Tensor, ""]:
        """Return what the generator lowers on as many pictures as photographs are given."""
        config, batch = self.config, self._batch(indices)
        drawn = self._drawn(batch)
        of_real = None
        if config.game == "relativistic":
            with torch.no_grad():
                of_real = self._scores(self._varied(batch.real), batch)
        loss = generator_loss(config.game, of_real, self._scores(self._varied(drawn), batch))
        if self.recogniser is not None and batch.identity is not None and self.conditioning and config.identity_weight:
            some = max(round(config.identity_share * len(drawn)), 1)
            with autocast(self.device, config.precision):
                found = self.recogniser(drawn[:some].clamp(0, 255))
            apart = 1 - (found * batch.identity[:some]).sum(1).mean()
            loss = loss + config.identity_weight * self.conditioning * apart
        if self._teacher is not None:
            loss = loss + config.anchor * self._anchored(self._teacher, batch)
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
    def look(self, generator: Player) -> dict[str, float]:
        """Return how samples compare with photographs of the same classes, in a recogniser's eyes; see `_LOOKED`."""
        material, chosen = self.material, self.material.reference
        real = material.pictures.images[chosen]
        if self._looked_at is None:
            self._looked_at = self._features(real)[0]
        labels = material.labels[chosen]
        fake = self.samples(generator, labels, chosen, seed=1)
        features, logits = self._features(fake)
        # On a set this small the distance is far above that of many samples; it is for comparing reports.
        found = {
            "spread": spread_ratio(self._looked_at, features, labels, labels),
            "distance": frechet_distance(self._looked_at, features),
            "sharpness": _sharpness(fake) / max(_sharpness(real), 1e-9),
            "seen": math.nan,
            "learned_by_heart": self._learned_by_heart(fake, chosen),
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
                batch = self.asked(labels[rows], like[rows], chance)
                drawn = generator(noise[rows].to(self.device), **batch)
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
        pictures = [np.ascontiguousarray(np.broadcast_to(p, (3, *p.shape[1:])).transpose(1, 2, 0)) for p in drawn]
        return contact_sheet(pictures, columns=_COLUMNS, side=max(64, self.config.side))

    def _batch(self, indices: Int[np.ndarray, " batch"]) -> _Batch:
        real = torch.from_numpy(self.material.pictures.images[indices]).to(self.device, non_blocking=True).float()
        mirrored = torch.rand(len(real)) < 0.5 * self.config.flip
        real = torch.where(mirrored.to(self.device)[:, None, None, None], real.flip(3), real)
        return _Batch(real, **self.asked(self.material.labels[indices], indices, torch.default_generator))

    def asked(
        self, labels: Int[np.ndarray, " batch"], like: Int[np.ndarray, " batch"], chance: torch.Generator
    ) -> dict[str, Tensor]:
        """Return what to draw, by the name of the generator's input."""
        asked: dict[str, Tensor] = {}
        if self.sizes.classes:
            asked["label"] = torch.from_numpy(labels)
        if self.material.embeddings is not None:
            asked["identity"] = torch.from_numpy(self.material.embeddings[like])
        if self.start is not None:
            asked["component"] = self.start.components(labels, chance)
        return {name: value.to(self.device) for name, value in asked.items()}

    def _anchored(self, teacher: VAE, batch: _Batch) -> Float[Tensor, ""]:
        """Return how far photographs are from what the generator makes of their latents."""
        assert isinstance(self.generator, PriorGenerator)
        with autocast(self.device, self.config.precision):
            with torch.no_grad():
                latents = teacher.encode(batch.real)[0]
            back = self.generator(latents, batch.label)
        apart = functional.l1_loss(back, batch.real) / HALF_RANGE
        if self._eye is not None:
            with autocast(self.device, self.config.precision):
                seen = self._eye(back)
                with torch.no_grad():
                    right = self._eye(batch.real)
            apart = apart + self.config.anchor_perceptual * perceptual_distance(seen, right).mean()
        return apart

    def _drawn(self, batch: _Batch) -> Images:
        noise = torch.randn(len(batch.real), self.generator.latents).to(self.device)
        with autocast(self.device, self.config.precision):
            drawn: Tensor = self.generator(noise, **batch.told())
        return drawn

    def _varied(self, pixels: Images) -> Images:
        return diff_augment(pixels, self.config.augment, self.probability)

    def _scores(
        self, pixels: Images, batch: _Batch, precision: Literal["fp32", "bf16"] | None = None
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

    def _learned_by_heart(
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
            asked = self.asked(self.material.labels[indices], indices, torch.Generator().manual_seed(0))
            batch = _Batch(torch.from_numpy(images).to(self.device).float(), **asked)
            means.append(float(self._scores(batch.real, batch).mean()))
        self.discriminator.train()
        known, unknown, drawn = means
        return (known - unknown) / max(abs(known - drawn), 1e-6)


class _Rules:
    """What is done about a run that goes wrong, and the probability of variations, which adapts all the time.

    Attributes:
        probability: Of each variation, 0 to 1.
        easing: What the penalty's weight is multiplied by.
        hopeless: Whether nothing helped.

    Source: the probability: T. Karras et al., "Training GANs with limited data", NeurIPS 2020, section 3.
    """

    def __init__(self, config: GANConfig) -> None:
        self.config = config
        self.probability = config.probability
        self.easing = 1.0
        self.hopeless = False
        self._narrow_since: int | None = None
        self._equal_since: int | None = None
        self._easings = 0

    def adapt(self, meter: _Meter, ranks: Ranks) -> None:
        """Move the probability towards where photographs are scored as such as often as the target says."""
        if not self.config.adapt_images or meter.images * ranks.world < _ADAPT_EVERY:
            return
        count, signs = meter.since_look.tolist()
        sign = ranks.mean(signs / max(count, 1))
        step = meter.images * ranks.world / self.config.adapt_images
        moved = self.probability + (step if sign > self.config.target else -step)
        # It may start above the most that it adapts to.
        self.probability = min(max(moved, 0.0), max(self.config.probability_most, self.config.probability))
        meter.since_look.zero_()
        meter.images = 0

    def act(self, images: int, figures: Mapping[str, float], least: float | None) -> list[str]:
        """Return what was found wrong and what is done about it, a line each."""
        health, said = self.config.health, list[str]()
        if not health.images:
            return said
        warm = images >= health.warm_up * self.config.images
        self._narrow_since = _since(self._narrow_since, warm and figures["spread"] < health.spread, images)
        self._equal_since = _since(self._equal_since, warm and abs(figures["gap"]) < _EQUAL_GAP, images)
        for since, what in (
            (self._narrow_since, f"samples of a class are nearly alike (spread {figures['spread']:.2f})"),
            (self._equal_since, f"the discriminator tells nothing apart (gap {figures['gap']:.3f})"),
        ):
            if since is None or images - since < health.images:
                continue
            self._easings += 1
            self._narrow_since = self._equal_since = None
            if self._easings > _EASINGS:
                self.hopeless = True
                return [f"For {images - since:,} images {what}, though the penalty was eased {_EASINGS} times."]
            self.easing /= 2
            said.append(
                f"For {images - since:,} images {what}: the penalty is halved, to {self.easing:g} of the schedule."
            )
            break
        if warm and least is not None and figures["gap"] > _OVERFIT_GAP and figures["distance"] > 1.5 * least:
            self.probability = min(self.probability + 0.1, 0.9)
            said.append(
                f"Scores lie {figures['gap']:.1f} apart and samples get worse: photographs are learned by heart. "
                f"Variation rises to {self.probability:.2f}."
            )
        return said

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "probability": self.probability,
            "easing": self.easing,
            "narrow_since": self._narrow_since,
            "equal_since": self._equal_since,
            "easings": self._easings,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.probability, self.easing = state["probability"], state["easing"]
        self._narrow_since, self._equal_since = state["narrow_since"], state["equal_since"]
        self._easings = state["easings"]


def _since(since: int | None, holds: bool, images: int) -> int | None:
    if not holds:
        return None
    return images if since is None else since


def _accumulated(
    move: Callable[[Int[np.ndarray, " batch"]], Float[Tensor, ""]],
    indices: Int[np.ndarray, " batch"],
    config: GANConfig,
) -> Float[Tensor, ""]:
    """Add the gradient of a batch's mean loss, part by part, and return the loss."""
    total: Tensor | None = None
    for part in np.array_split(indices, min(config.accumulate, len(indices))):
        loss = move(part) * (len(part) / len(indices))
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    return total


def _sizes(config: GANConfig, material: _Material) -> Sizes:
    dimension = 0 if material.embeddings is None else material.embeddings.shape[1]
    return Sizes(config.side, 3 if config.colour else 1, len(material.classes), dimension)


def _discriminator(config: GANConfig, sizes: Sizes) -> Critic:
    if config.discriminator.arch == "features":
        return FeatureDiscriminator(config.discriminator, sizes, ImageFeatures())
    return Discriminator(config.discriminator, sizes, config.generator.widths[::-1])


def _adam(model: nn.Module, rate: float, config: GANConfig) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.Adam(weights, rate, betas=(0.0, config.beta2), fused=True)


def _fading(images: int, config: GANConfig) -> float:
    return warmup_cosine(images, config.images, config.warmup, 1.0, final=config.rate_end)


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _ramped(share: float, ramp: tuple[float, float]) -> float:
    start, end = ramp
    return 1.0 if share >= end else max(share - start, 0.0) / (end - start)


def _placed(model: Any, device: torch.device) -> Any:
    return model.to(device=device, memory_format=torch.channels_last)


def _sharpness(images: UInt8[np.ndarray, "pictures channels side side"]) -> float:
    return sharpness(np.ascontiguousarray(images.mean(1).round().astype(np.uint8)))


# Publication ----------------------------------------------------------------------------------------------------------


class _Clamped(nn.Module):
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
    generator: Player, table: _Table, material: _Material, config: GANConfig, run: Run, images: int
) -> dict[str, Any]:
    """Write the generator, which saw so many images, as ONNX with its card: `model.onnx`, `card.json`.

    Returns:
        What is also written to `summary.json`.

    Raises:
        TrainingError: The written generator draws otherwise than the trained one, or the disk is full.
    """
    looked = table.look(generator)
    run.picture("samples", table.sheet(generator))
    generator = generator.to("cpu").eval()
    sizes = table.sizes
    given = _example(table, material)
    model = _Clamped(generator, list(given))
    outputs = ["images"] if table.start is None else ["images", "latents"]
    network = onnx_bytes(model, *given.values(), inputs=list(given), outputs=outputs)
    difference = _parity(model, network, given)
    losses = [RECOGNISER] if config.identity and config.identity_weight else []
    if config.discriminator.arch == "features" or (config.anchor and config.anchor_perceptual):
        losses.append(IMAGENET)
    summary = {
        **{name: value for name, value in looked.items() if math.isfinite(value)},
        "images": images,
        "parameters": count_parameters(generator),
        "parameters_discriminator": count_parameters(table.discriminator),
        "macs": count_macs(model, *(value[:1] for value in given.values())),
        "onnx_difference": difference,
        "pictures": len(material.train),
    }
    convention: dict[str, Any] = {
        "kind": "gan",
        "template": config.template,
        "side": config.side,
        "order": "RGB" if config.colour else "GRAY",
        "latents": generator.latents,
        "losses": losses,
    }
    if material.classes:
        convention["labels"] = list(material.classes)
    if sizes.identity:
        convention["identity"] = RECOGNISER
    if table.start is not None:
        convention["components"] = [
            [int(label), float(weight)] for label, weight in zip(table.start.of, table.start.weights, strict=True)
        ]
    if config.anchor and _copy_encoder(config):
        convention["encoder"] = "encoder.onnx"
    card = {
        "role": "generator",
        "version": "1",
        "summary": f"Trained with mien on {len(material.train):,} pictures: GAN, {config.game}, seed {config.seed}.",
        "licence": "Yours; the terms of the training data apply.",
        "training_data": ", ".join(folder.name for folder in config.data),
        "convention": convention,
        "metrics": {"training": summary},
    }
    write_result(config.out / "model.onnx", network)
    write_result(config.out / "card.json", json.dumps(card, indent=1).encode())
    run.finish(summary)
    return summary


@torch.no_grad()
def _blend(learned: nn.Module, begun: nn.Module, share: float) -> None:
    """Move learned weights towards those that they began as.

    Source: X. Wang et al., "ESRGAN", ECCV workshops 2018, section 3.4 (network interpolation).
    """
    for weight, before in zip(learned.parameters(), begun.parameters(), strict=True):
        weight.lerp_(before.to(weight.device), 1 - share)


def _copy_encoder(config: GANConfig) -> bool:
    """Copy the encoder of the VAE that a generator began as and whose latents it draws; return whether it has one."""
    assert config.init is not None, "an anchored generator has one"
    try:
        encoder = zoo.companion(zoo.named(config.init), "encoder")
        weights = zoo.path(encoder).read_bytes()
    except (ModelError, OSError, KeyError):
        return False
    facts = {
        "role": encoder.role,
        "name": f"{config.out.resolve().name}-encoder",
        "version": encoder.version,
        "licence": encoder.licence,
        "training_data": encoder.training_data,
        "summary": encoder.summary,
        "convention": dict(encoder.convention),
        "metrics": dict(encoder.metrics),
    }
    write_result(config.out / "encoder.onnx", weights)
    write_result(config.out / "encoder.json", json.dumps(facts, indent=1).encode())
    return True


def _example(table: _Table, material: _Material) -> dict[str, Tensor]:
    """Return four of each input, by name, in the order that generators take them."""
    chance, like = torch.Generator().manual_seed(0), np.resize(material.reference, 4)
    given = {"noise": torch.randn(len(like), table.generator.latents, generator=chance)}
    return given | {name: value.cpu() for name, value in table.asked(material.labels[like], like, chance).items()}


@torch.no_grad()
def _parity(model: nn.Module, network: bytes, given: Mapping[str, Tensor]) -> float:
    """Return the largest difference between a generator in PyTorch and as ONNX, in grey levels.

    Raises:
        TrainingError: It is more than rounding.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    (drawn,) = session.run(["images"], {name: value.numpy() for name, value in given.items()})
    difference = float(np.abs(drawn - model(*given.values())[0].numpy()).max())
    if not difference <= _PARITY:
        raise TrainingError(
            f"The exported generator draws otherwise than the trained one: {difference:g} grey levels apart. The "
            f"checkpoints are whole; please report this."
        )
    return difference


def _farewell(config: GANConfig, figures: Mapping[str, float], best: EarlyStopping) -> str:
    kept = f"The best snapshot, of {best.best_images:,} images, is kept in '{config.out}'. "
    return (
        f"The run has collapsed: spread {figures['spread']:.2f} of the photographs', gap {figures['gap']:.2f}. {kept}"
        f"Try a lower rate_generator, a larger batch_size, more data or variation, or another game; health.images=0 "
        f"goes on whatever happens."
    )


def _described(config: GANConfig, material: _Material) -> bytes:
    facts = {
        "story": "gan",
        "generator": as_dict(config.generator),
        "sizes": dataclasses.asdict(_sizes(config, material)),
        "classes": list(material.classes),
        "template": config.template,
    }
    return (json.dumps(facts, indent=1) + "\n").encode()
