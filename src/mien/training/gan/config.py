"""Settings of the training of a GAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from mien.errors import UsageError
from mien.networks.diffaugment import DiffAugment
from mien.networks.gan import (
    DiscriminatorConfig,
    GeneratorConfig,
)
from mien.training.adversarial import (
    Game,
)
from mien.training.config import DRAWN, PictureConfig, follow_template, load_config, merged

__all__ = ["VARIANTS", "GANConfig", "Health", "configured"]

_R3: dict[str, Any] = {
    "game": "relativistic",
    "penalty": "exact",
    "learning_rate_generator": 1e-3,
    "learning_rate_discriminator": 1e-3,
    "generator": {"arch": "residual", "widths": (128, 96, 64, 32), "latents": 64, "output": "linear"},
    "discriminator": {"arch": "residual"},
    "betas": (0.0, 0.99),
    "batch_size": 64,
    "adapt_images": 200_000,
    "probability": 0.3,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "r3": _R3,
    "hinge": {
        **_R3,
        "game": "hinge",
        "penalty": "none",
        "learning_rate_generator": 1e-4,
        "learning_rate_discriminator": 4e-4,
        "generator": {**_R3["generator"], "norm": "batch", "modulate": True, "output": "tanh"},
        "discriminator": {**_R3["discriminator"], "spectral": True},
        "ramp": (0.0, 0.0),
        "betas": (0.0, 0.9),
    },
    "dcgan": {
        "game": "nonsaturating",
        "penalty": "none",
        "learning_rate_generator": 2e-4,
        "learning_rate_discriminator": 2e-4,
        "generator": {"arch": "dcgan", "widths": (256, 128, 64), "latents": 100, "output": "tanh"},
        "discriminator": {"arch": "dcgan", "widths": (64, 128, 256)},
        "ramp": (0.0, 0.0),
        "betas": (0.0, 0.999),
        "batch_size": 64,
        "adapt_images": 0.0,
        "probability": 0.0,
        "balance": 0.0,
    },
}
"""Settings by name: default; r3, relativistic pairs with a gradient penalty on residual blocks; hinge, with spectral
normalisation, projection and conditional batch normalisation in the generator; dcgan, the original losses and layers.
"""


def _share_mirrored(flip: Any) -> Any:
    """Return the share of photographs mirrored that `flip` meant, which was true or false."""
    return {"true": 0.5, "false": 0.0}.get(str(flip).lower(), flip)


def _after_none(beta: Any) -> Any:
    """Return both betas, of which only the second could be set: the first was 0."""
    return [0.0, beta]


@dataclass(frozen=True, kw_only=True)
class Health:
    """When to act on a run that goes wrong.

    Attributes:
        pictures: Photographs and samples that are compared at each report.
        act_from: Share of the run before which nothing is done about collapse.
        spread: Least spread of samples within a class, over that of photographs.
        images: Act after this many images below `spread`, or without a gap between scores. 0 turns this off.
    """

    pictures: int = 512
    act_from: float = 0.1
    spread: float = 0.3
    images: int = 50_000

    RENAMED: ClassVar = {"warm_up": "act_from"}

    def __post_init__(self) -> None:
        if self.pictures < 16 or not 0 <= self.act_from <= 1 or self.spread < 0 or self.images < 0:
            raise UsageError("Health looks at 16 pictures or more; act_from lies in [0, 1]; the rest is 0 or more.")


@dataclass(frozen=True, kw_only=True)
class GANConfig(PictureConfig):
    """Settings of the training of a GAN, beside those of every training on pictures.

    Attributes:
        side: Of the pictures, px; from the command line, unless given, as the template has it.
        colour: RGB pictures, otherwise grey; likewise.
        conditional: Learn the classes of the data, where it has any; otherwise draw anybody showing anything.
        identity: Learn to draw a given face: its embedding is an input of the generator.
        identity_weight: Of the loss that compares the embedding of what is drawn with the given one.
        identity_share: Part of a batch that this loss is computed on.
        generator: The generator.
        discriminator: The discriminator.
        game: What the two learn from: relativistic pairs, hinge, or the original, non-saturating loss.
        penalty: On steep scores, for photographs and drawn pictures: exact, approximate (one backward pass), or none.
        gamma: Weight of the penalty: half of it times the squared slope.
        gamma_end: What it falls to.
        penalty_every: Steps between two penalties, which then weigh as many times more.
        sigma: Step of the approximate one, in half ranges of grey levels.
        learning_rate_generator: The highest learning rate of the generator.
        learning_rate_discriminator: And of the discriminator.
        rate_end: Share of them that is left at the end.
        warmup: Images until they are reached.
        betas: Of Adam: what its means of gradients and of their squares keep, a step.
        clip: Longest gradient; none never shortens.
        ema_half_life: Images after which a weight's share in the published average has halved.
        ema_ramp: The half-life is at most this share of the images seen so far.
        balance: 1 shows all classes equally often, 0 as often as the data has them.
        mirror: Share of photographs that are mirrored.
        augment: How both kinds of pictures are varied before they are judged.
        probability: Of each variation, at the start.
        probability_most: It adapts no further than this.
        adapt_images: Images in which it could go from 0 to 1; 0 keeps it.
        target: Part of photographs scored as such, over those not (sign, -1 to 1), that it adapts to.
        ramp: Shares of the run between which the discriminator starts to heed label and identity.
        init: A finished VAE run, or the name of a VAE that mien ships: its decoder becomes the generator, its fitted
            prior, a flow where it has one, the noise.
        decoder: A finished run that began as that VAE: its decoder, not blended, takes the place of the VAE's.
        anchor: Weight of the reconstruction of photographs through that VAE's encoder; keeps what it covers.
        blend: Share that what was learned has in the published weights; the VAE's, which they began as, have the rest.
            Below 1 pictures are softer, with fewer artefacts. May change when a run is finished: same command.
        anchor_perceptual: Within it, weight of what the ImageNet network sees, beside the absolute error of pixels.
        health: When to act on a run that goes wrong.
    """

    side: int = DRAWN[PictureConfig.template][0]
    colour: bool = DRAWN[PictureConfig.template][1]
    conditional: bool = True
    identity: bool = False
    identity_weight: float = 0.5
    identity_share: float = 0.25
    generator: GeneratorConfig = field(
        default_factory=lambda: GeneratorConfig(arch="dcgan", widths=(256, 128, 64), latents=100, output="tanh")
    )
    discriminator: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(arch="dcgan"))
    game: Game = "nonsaturating"
    penalty: Literal["exact", "approximate", "none"] = "none"
    gamma: float = 1.0
    gamma_end: float = 0.1
    penalty_every: int = 4
    sigma: float = 0.01
    learning_rate_generator: float = 2e-4
    learning_rate_discriminator: float = 2e-4
    rate_end: float = 0.25
    warmup: int = 0
    betas: tuple[float, float] = (0.5, 0.999)
    clip: float | None = None
    ema_half_life: float = 20_000
    ema_ramp: float = 0.1
    balance: float = 1.0
    mirror: float = 0.5
    augment: DiffAugment = field(default_factory=DiffAugment)
    probability: float = 0.0
    probability_most: float = 0.8
    adapt_images: float = 0.0
    target: float = 0.6
    ramp: tuple[float, float] = (0.1, 0.25)
    init: Path | None = None
    decoder: Path | None = None
    anchor: float = 0.0
    anchor_perceptual: float = 0.25
    blend: float = 1.0
    health: Health = field(default_factory=Health)
    batch_size: int = 16
    images: int = 1_000_000
    report_every: int = 20_000

    RENAMED: ClassVar = {
        "flip": ("mirror", _share_mirrored),
        "rate_generator": "learning_rate_generator",
        "rate_discriminator": "learning_rate_discriminator",
        "beta2": ("betas", _after_none),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("identity_share", "balance", "blend", "probability", "probability_most", "rate_end", "mirror"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        for name in ("learning_rate_generator", "learning_rate_discriminator", "sigma", "ema_ramp"):
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
        if self.discriminator.arch == "patch":
            raise UsageError("Setting 'discriminator.arch' is residual, dcgan or features for a GAN, got 'patch'.")
        if self.penalty_every < 1:
            raise UsageError(f"Setting 'penalty_every' is at least 1, got {self.penalty_every}.")
        if not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise UsageError(
                f"Setting 'ramp' is two shares of the run, the first not above the second, got {self.ramp}."
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"Setting 'betas' is two numbers in [0, 1), got {self.betas}.")
        if self.anchor and self.init is None:
            raise UsageError("Setting 'anchor' needs 'init': a VAE run whose reconstructions are kept.")
        if self.decoder is not None and self.init is None:
            raise UsageError("Setting 'decoder' needs 'init': the VAE that the other run began as.")
        if self.blend < 1 and self.init is None:
            raise UsageError("Setting 'blend' needs 'init': a VAE run whose weights what was learned is blended with.")
        if self.init is not None and self.identity:
            raise UsageError("A generator that begins as a VAE knows no identities: leave 'init' or 'identity' out.")


def configured(
    variant: str = "default", file: Path | None = None, sets: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> GANConfig:
    """Make a config: a variant's settings in place of defaults, then as `mien.training.config.load_config` does.

    A generator that begins as a VAE has the settings of r3 for its default ones: steep scores are what takes it away
    from that VAE, and they have a penalty there.

    Raises:
        UsageError: There is no such variant, or a setting is wrong.
    """
    if variant not in VARIANTS:
        raise UsageError(f"There is no variant '{variant}'. Choose from {', '.join(VARIANTS)}.")
    if variant == "default" and merged(GANConfig, file, sets, given).get("init") is not None:
        variant = "r3"
    defaults = {**follow_template(GANConfig, file, sets, given), **VARIANTS[variant]}
    return load_config(GANConfig, file, sets, given, defaults=defaults)
