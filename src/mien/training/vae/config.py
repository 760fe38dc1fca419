"""Settings of the training of a VAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from mien.errors import UsageError
from mien.networks import VAENetConfig
from mien.networks.gan import DiscriminatorConfig
from mien.training.config import PictureConfig, follow_template, load_config
from mien.training.vae.flow import FlowConfig

__all__ = ["VAEConfig", "configured"]


@dataclass(frozen=True, kw_only=True)
class VAEConfig(PictureConfig):
    """Settings of the training of a VAE, beside those of every training on pictures.

    Attributes:
        condition: Whether the label is an input of the decoder: labels, none, or auto where the labels are expressions.
        attributes: Names out of the data's `attributes.csv` that are inputs of the decoder.
        net: The network.
        init: A VAE to begin as: a run, or the name of one that mien ships. What has another shape here, such as all
            that touches other latents, begins anew.
        keep_encoder: Leave the encoder of `init` as it is, and learn a decoder for its latents: what was fitted to
            them, such as a flow, keeps its meaning and comes along.
        variant: sigma learns the noise of the pixels, so that nothing needs tuning; classic is the VAE of the
            tutorials, done right: pixels in 0 to 1 of standard deviation 1, squared errors and KL both summed.
        kl_warm_up: Share of the training in which the KL's weight rises to 1.
        free_bits: Nats a latent that cost nothing, once too few latents are used; 0 never.
        least_active: Share of the latents below which that happens.
        perceptual: Weight of what the ImageNet network sees, for sharper pictures; 0.25 is much, 0 is none.
        adversarial: Weight of a discriminator's loss, as a share of the other terms' gradient; 0.5 is much, 0 is none.
        adversarial_from: Share of the training before which there is no discriminator; it then counts more and more.
        adversarial_ramp: Share of the training in which it comes to count fully: longer where it begins anew beside a
            decoder that has learned, to which its first opinions are noise.
        discriminator: Its network; widths from full size down.
        discriminator_gamma: Weight of the discriminator's penalties, at first and at last; 0 twice is none, which only
            the dcgan and patch discriminators bear.
        learning_rate: The highest of the schedule; it ends at a tenth.
        warmup: Images until it is reached, at most a tenth of the training.
        weight_decay: Of filters and matrices.
        blend: Share that what was learned has in the published weights; those of `init` have the rest.
        spike: Steps whose gradient is so many times as long as usual are left out.
        ema_half_life: Images after which a weight's share in the published average has halved.
        balance: 0 shows every picture equally often, 1 every class.
        mirror: Share of pictures mirrored.
        prior: What samples are drawn from: a flow fitted to the latents, or the mixture alone, which is always fitted.
        flow: The flow.
        components: Gaussians of the fitted mixture, a class.
        patience: So many reports without a better ELBO end the training; 0 never does.
    """

    condition: Literal["auto", "labels", "none"] = "auto"
    attributes: tuple[str, ...] = ()
    net: VAENetConfig = field(default_factory=VAENetConfig)
    init: Path | None = None
    keep_encoder: bool = False
    variant: Literal["sigma", "classic"] = "sigma"
    kl_warm_up: float = 0.1
    free_bits: float = 0.1
    least_active: float = 0.3
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_from: float = 0.25
    adversarial_ramp: float = 0.1
    discriminator: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(widths=(8, 32, 64, 128)))
    discriminator_gamma: tuple[float, float] = (1.0, 0.1)
    learning_rate: float = 1e-3
    warmup: int = 10_000
    weight_decay: float = 1e-4
    blend: float = 1.0
    spike: float = 5.0
    ema_half_life: float = 50_000
    balance: float = 0.0
    mirror: float = 0.5
    prior: Literal["flow", "mixture"] = "flow"
    flow: FlowConfig = field(default_factory=FlowConfig)
    components: int = 10
    patience: int = 0
    batch_size: int = 64

    RENAMED: ClassVar = {
        "warm_up": "kl_warm_up",
        "flip": "mirror",
        "critic": "discriminator",
        "gamma": "discriminator_gamma",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 2:
            raise UsageError(f"Setting 'batch_size' is at least 2 for a VAE, got {self.batch_size}.")
        for name in (
            "kl_warm_up",
            "least_active",
            "adversarial_from",
            "adversarial_ramp",
            "blend",
            "balance",
            "mirror",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        for name in ("free_bits", "perceptual", "adversarial", "warmup", "weight_decay", "ema_half_life"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if not self.learning_rate > 0:
            raise UsageError(f"Setting 'learning_rate' is above 0, got {self.learning_rate:g}.")
        if not self.spike > 1:
            raise UsageError(f"Setting 'spike' is above 1, got {self.spike:g}.")
        low, high = self.discriminator_gamma
        if min(low, high) < 0 or (low > 0) != (high > 0):
            raise UsageError(
                f"Setting 'discriminator_gamma' is two numbers above 0, or 0 twice for no penalties, got {low:g} and "
                f"{high:g}."
            )
        if self.keep_encoder and self.init is None:
            raise UsageError("Setting 'keep_encoder' needs 'init': a VAE whose encoder is kept.")
        if self.blend < 1 and self.init is None:
            raise UsageError("Setting 'blend' needs 'init': a VAE whose weights what was learned is blended with.")
        if self.components < 1:
            raise UsageError(f"Setting 'components' is at least 1, got {self.components}.")
        if self.discriminator.arch == "features":
            raise UsageError("Setting 'discriminator.arch' is residual, dcgan or patch for a VAE, got 'features'.")
        if self.perceptual and self.net.side < 32:
            raise UsageError(f"The perceptual term needs pictures of 32 px and more, got {self.net.side}.")

    @property
    def sharp(self) -> bool:
        """Whether more than the ELBO is asked for: then the last model is kept, not the one of the best ELBO."""
        return self.perceptual > 0 or self.adversarial > 0


def configured(file: Path | None = None, sets: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> VAEConfig:
    """Make a config as `mien.training.config.load_config` does; side and colour follow the template unless given.

    Raises:
        UsageError: A setting is wrong.
    """
    return load_config(VAEConfig, file, sets, given, defaults={"net": follow_template(VAEConfig, file, sets, given)})
