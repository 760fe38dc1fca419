"""Generators that draw faces, and discriminators that tell drawn faces from photographed ones.

Pictures are pixels 0 to 255, float, NCHW, on both sides; what a generator draws may leave that range while it learns.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from mien.errors import UsageError
from mien.networks.vae import VAE, condition_vector

__all__ = [
    "HALF_RANGE",
    "Discriminator",
    "DiscriminatorConfig",
    "FeatureDiscriminator",
    "Generator",
    "GeneratorConfig",
    "PriorGenerator",
    "Sizes",
]

HALF_RANGE = 127.5
"""Grey levels from the middle to either end: networks count in units of it, from -1 to 1."""

_SLOPE = 0.2  # of the leaky rectifier below zero
_GROUP = 4  # pictures whose spread is an input of the discriminator

Images = Float[Tensor, "batch channels side side"]
Labels = Int[Tensor, " batch"]
Vectors = Float[Tensor, "batch dimension"]


@dataclass(frozen=True)
class Sizes:
    """What is drawn; follows from the data, not from the recipe.

    Attributes:
        side: Of the pictures, px.
        channels: 1 grey, 3 RGB.
        classes: Labels that can be asked for; 0 for none.
        identity: Dimension of the embedding that says whose face it is; 0 for none.
    """

    side: int
    channels: int
    classes: int = 0
    identity: int = 0


@dataclass(frozen=True)
class GeneratorConfig:
    """How a generator is built.

    Attributes:
        arch: residual blocks; or dcgan, transposed convolutions with batch normalisation.
        latents: Length of the noise.
        label_scale: Standard deviation of the labels' vectors at first, beside noise of 1: the larger, the more alike
            are the pictures of a class before anything is learned.
        base: What the noise becomes first: linear draws the whole first map from it; basis scales one learned map.
        widths: Channels by stage, from the first map (4 or 6 px) up; each doubles the side. dcgan doubles once more.
        blocks: Residual blocks a stage.
        modulate: Noise and label scale and shift the features of every block too.
        norm: none; or batch normalisation, with `modulate` a conditional one.
        output: linear; or tanh, which cannot leave the range.
    """

    arch: Literal["residual", "dcgan"] = "residual"
    latents: int = 64
    label_scale: float = 0.25
    base: Literal["linear", "basis"] = "linear"
    widths: tuple[int, ...] = (128, 96, 64, 32)
    blocks: int = 1
    modulate: bool = False
    norm: Literal["none", "batch"] = "none"
    output: Literal["linear", "tanh"] = "linear"

    def __post_init__(self) -> None:
        _check_stages(self.widths, self.blocks)
        if self.latents < 1 or self.label_scale <= 0:
            raise UsageError(
                f"A generator has at least 1 latent and a label_scale above 0; got {self.latents} and "
                f"{self.label_scale:g}."
            )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """How a discriminator is built.

    Attributes:
        arch: residual blocks; dcgan, strided convolutions with batch normalisation; patch, the same with a score for
            each place of the last map, which sees no more than its patch; or features, small heads on a frozen ImageNet
            network.
        widths: Channels by stage, from full size down; each but the first halves the side. Empty: the generator's,
            reversed. Of the heads in features, the first is the width.
        blocks: Residual blocks a stage.
        spectral: Spectral normalisation of every layer.
        minibatch_std: Tell the last layer how much pictures of a batch differ.
        enlarge: Side in px that pictures are enlarged to for the ImageNet network.
    """

    arch: Literal["residual", "dcgan", "patch", "features"] = "residual"
    widths: tuple[int, ...] = ()
    blocks: int = 1
    spectral: bool = False
    minibatch_std: bool = False
    enlarge: int = 96

    def __post_init__(self) -> None:
        if self.widths:
            _check_stages(self.widths, self.blocks)


class Generator(nn.Module):
    """Noise, and perhaps a label and an embedding, to pictures.

    Without normalisation the net begins as its shortcuts: the last convolution of each block is zero.

    Args:
        config: How to build it.
        sizes: What is drawn.

    Source: the residual form without normalisation: N. Huang et al., "The GAN is dead; long live the GAN!", NeurIPS
    2024, section 4, here with dense convolutions; dcgan: A. Radford et al., ICLR 2016; conditional batch normalisation:
    A. Brock et al., "BigGAN", ICLR 2019, appendix B.
    """

    def __init__(self, config: GeneratorConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        self.latents = config.latents
        doublings = len(config.widths) - (config.arch == "residual")
        self.side = first = _first_side(sizes.side, doublings, config.widths)
        self.embedding = nn.Embedding(sizes.classes, config.latents) if sizes.classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=config.label_scale)
        self.identity = nn.Linear(sizes.identity, config.latents, bias=False) if sizes.identity else None
        if self.identity is not None:
            # A unit vector in, values of unit variance out, as of the noise.
            nn.init.normal_(self.identity.weight)
        code = config.latents * (1 + (sizes.classes > 0) + (sizes.identity > 0))
        width = config.widths[0]
        self.basis: nn.Parameter | None = None
        if config.base == "basis" and config.arch == "residual":
            self.basis = nn.Parameter(torch.randn(width, first, first))
            self.first = nn.Linear(code, width)
        else:
            self.first = nn.Linear(code, width * first * first)
        nn.init.normal_(self.first.weight, std=code**-0.5)
        nn.init.zeros_(self.first.bias)
        self.stages = nn.ModuleList()
        if config.arch == "dcgan":
            self.stages.append(_Stage([nn.BatchNorm2d(width), nn.ReLU(inplace=True)]))
            for wider, narrower in zip(config.widths, config.widths[1:], strict=False):
                self.stages.append(
                    _Stage(
                        [
                            nn.ConvTranspose2d(wider, narrower, 4, 2, 1, bias=False),
                            nn.BatchNorm2d(narrower),
                            nn.ReLU(inplace=True),
                        ]
                    )
                )
            self.last: nn.Module = nn.ConvTranspose2d(config.widths[-1], sizes.channels, 4, 2, 1)
            self.final_norm: nn.Module = nn.Identity()
            _normal_weights(self)
        else:
            total = config.blocks * len(config.widths)
            modulation = code if config.modulate else 0
            for stage, stage_width in enumerate(config.widths):
                layers: list[nn.Module] = []
                if stage:
                    layers.append(_Up(width, stage_width))
                    width = stage_width
                layers += [_Block(width, total, modulation, config.norm == "batch") for _ in range(config.blocks)]
                self.stages.append(_Stage(layers))
            self.final_norm = nn.BatchNorm2d(width) if config.norm == "batch" else nn.Identity()
            self.last = nn.Conv2d(width, sizes.channels, 3, padding=1)
            nn.init.kaiming_normal_(self.last.weight, a=_SLOPE)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, noise: Vectors, label: Labels | None = None, identity: Vectors | None = None) -> Images:
        """Return pictures, about 0 to 255.

        Args:
            noise: Standard normal, shape (batch, latents).
            label: Class numbers, where the generator has classes.
            identity: Unit embeddings, where it has identities.
        """
        parts = [noise]
        if self.embedding is not None:
            assert label is not None, "this generator wants labels"
            parts.append(self.embedding(label))
        if self.identity is not None:
            assert identity is not None, "this generator wants identities"
            parts.append(self.identity(identity))
        code = torch.cat(parts, dim=1)
        x: Tensor = self.first(code)
        if self.basis is not None:
            x = x[:, :, None, None] * self.basis
        else:
            x = x.view(-1, self.config.widths[0], self.side, self.side)
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x, code)
        if self.config.arch == "residual":
            x = functional.leaky_relu(self.final_norm(x), _SLOPE)
        x = self.last(x).float()
        if self.config.output == "tanh":
            x = torch.tanh(x)
        return x * HALF_RANGE + HALF_RANGE


class PriorGenerator(nn.Module):
    """A VAE's decoder that draws from the prior fitted to its latents; a generator to go on learning from.

    Args:
        vae: The VAE; its decoder is copied.
        classes: Number of labels that the decoder knows.
        means: Of the prior's components.
        factors: Lower triangular: latents are a component's mean plus its factor times noise.

    Attributes:
        latents: Length of the noise, and of the latents.
    """

    means: Tensor
    factors: Tensor

    def __init__(
        self,
        vae: VAE,
        classes: int,
        means: Float[Tensor, "components latents"],
        factors: Float[Tensor, "components latents latents"],
    ) -> None:
        super().__init__()
        assert vae.condition == classes, "attributes have no place here"
        self.classes, self.latents = classes, vae.config.latents
        self.decoder = copy.deepcopy(vae.decoder)
        # Component 0 takes the noise for the latents.
        self.register_buffer("means", torch.cat([torch.zeros_like(means[:1]), means]))
        self.register_buffer("factors", torch.cat([torch.eye(self.latents)[None], factors]))

    def forward(self, noise: Vectors, label: Labels | None = None, component: Labels | None = None) -> Images:
        """Return pictures, about 0 to 255.

        Args:
            noise: Standard normal, shape (batch, latents).
            label: Class numbers, where the decoder has classes.
            component: Of the prior, from 1; 0, or None, takes the noise for the latents.
        """
        latents = noise if component is None else self.latents_of(noise, component)
        pixels: Tensor = self.decoder(latents, condition_vector(label if self.classes else None, self.classes, None))
        return pixels.float() * HALF_RANGE + HALF_RANGE

    def latents_of(self, noise: Vectors, component: Labels) -> Vectors:
        """Return what the noise stands for in components of the prior, from 1; 0 takes it as it is."""
        return self.means[component] + (self.factors[component] @ noise[:, :, None])[:, :, 0]


class Discriminator(nn.Module):
    """Pictures to scores: higher is more like a photograph.

    With classes or identities the score is a sum: how real the picture is, and how well it fits what was asked for
    (projection).

    Args:
        config: How to build it.
        sizes: What is judged.
        widths: Channels by stage from full size down, where the config leaves them open.

    Source: T. Miyato and M. Koyama, "cGANs with projection discriminator", ICLR 2018, equation 2; spectral
    normalisation: T. Miyato et al., ICLR 2018; the spread of a batch: T. Karras et al., ICLR 2018, section 3.
    """

    def __init__(self, config: DiscriminatorConfig, sizes: Sizes, widths: Sequence[int] = ()) -> None:
        super().__init__()
        assert config.arch != "features", "that is a FeatureDiscriminator"
        widths = config.widths or tuple(widths)
        self.config, self.sizes = config, sizes
        dcgan = config.arch in ("dcgan", "patch")
        last = _first_side(sizes.side, len(widths) - (not dcgan), widths)
        last = 1 if config.arch == "patch" else last
        layers: list[nn.Module] = []
        if dcgan:
            channels = sizes.channels
            for stage, width in enumerate(widths):
                # The first layer has no normalisation, as in the original.
                layers.append(nn.Conv2d(channels, width, 4, 2, 1, bias=stage == 0 or config.spectral))
                if stage and not config.spectral:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.LeakyReLU(_SLOPE, inplace=True))
                channels = width
        else:
            layers.append(_initialised(nn.Conv2d(sizes.channels, widths[0], 3, padding=1), gain=1.0))
            total, channels = config.blocks * len(widths), widths[0]
            for stage, width in enumerate(widths):
                if stage:
                    layers.append(_Down(channels, width))
                    channels = width
                layers += [_Block(width, total, fixup=not config.spectral) for _ in range(config.blocks)]
            layers.append(nn.LeakyReLU(_SLOPE))
        self.trunk = nn.Sequential(*layers)
        self.features = nn.Linear((channels + config.minibatch_std) * last * last, channels)
        nn.init.kaiming_normal_(self.features.weight, a=_SLOPE)
        nn.init.zeros_(self.features.bias)
        self.score = nn.Linear(channels, 1)
        self.wanted = _Wanted(sizes, channels)
        if dcgan:
            _normal_weights(self)
        if config.spectral:
            _spectral(self)

    def forward(
        self, pixels: Images, label: Labels | None = None, identity: Vectors | None = None, *, conditioning: float = 1.0
    ) -> Float[Tensor, "batch scores"]:
        """Return scores, float32; one of a picture, of patches one each.

        Args:
            pixels: 0 to 255.
            label: What was asked for, where there are classes.
            identity: Unit embeddings, where there are identities.
            conditioning: How much the fit counts, 0 to 1.
        """
        x = self.trunk(((pixels - HALF_RANGE) / HALF_RANGE).contiguous(memory_format=torch.channels_last))
        if self.config.minibatch_std:
            x = _with_spread(x)
        x = x.flatten(2).transpose(1, 2) if self.config.arch == "patch" else x.flatten(1)
        x = functional.leaky_relu(self.features(x), _SLOPE)
        # One number decides, and the penalties look at its small changes: bfloat16 has three digits.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            score: Tensor = self.score(x)
            if self.config.arch == "patch":
                score, x = score[:, :, 0], x.mean(dim=1)
            fit: Tensor = self.wanted(x, label, identity)
            return score + conditioning * fit


class FeatureDiscriminator(nn.Module):
    """Small heads on the feature maps of a frozen network that has seen a million photographs.

    Args:
        config: How to build the heads.
        sizes: What is judged.
        frozen: Pixels 0 to 255 to a list of feature maps, finest first; its weights do not learn.

    Source: A. Sauer et al., "Projected GANs converge faster", NeurIPS 2021, section 3, without random projections.
    """

    def __init__(self, config: DiscriminatorConfig, sizes: Sizes, frozen: nn.Module) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        width = config.widths[0] if config.widths else 64
        self.frozen = frozen.eval().requires_grad_(False)
        with torch.no_grad():
            maps = frozen(torch.zeros(1, sizes.channels, config.enlarge, config.enlarge))
        self.heads = nn.ModuleList()
        for features in maps:
            layers: list[nn.Module] = [nn.Conv2d(features.shape[1], width, 1), nn.LeakyReLU(_SLOPE)]
            side = features.shape[2]
            while side > 6:
                layers += [nn.Conv2d(width, width, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
                side //= 2
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(_SLOPE)]
            self.heads.append(nn.Sequential(*layers))
        self.scores = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in maps)
        self.wanted = nn.ModuleList(_Wanted(sizes, width) for _ in maps)
        for part in (self.heads, self.scores, self.wanted):
            _spectral(part)

    def train(self, mode: bool = True) -> FeatureDiscriminator:
        """Switch the heads; the frozen network's statistics stay as they are."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(
        self, pixels: Images, label: Labels | None = None, identity: Vectors | None = None, *, conditioning: float = 1.0
    ) -> Float[Tensor, "batch scales"]:
        """Return a score a scale, float32; see `Discriminator`."""
        side = self.config.enlarge
        if pixels.shape[-1] != side:
            pixels = functional.interpolate(pixels, size=side, mode="bilinear", align_corners=False)
        answers = []
        for features, head, score, wanted in zip(
            self.frozen(pixels), self.heads, self.scores, self.wanted, strict=True
        ):
            x = head(features)
            with torch.autocast(x.device.type, enabled=False):
                x = x.float()
                answers.append(score(x).mean((2, 3)) + conditioning * wanted(x.mean((2, 3)), label, identity))
        return torch.cat(answers, dim=1)


class _Wanted(nn.Module):
    """The part of a score that says how well a picture fits what was asked for."""

    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.classes, width) if sizes.classes else None
        self.identity = nn.Linear(sizes.identity, width, bias=False) if sizes.identity else None
        if self.identity is not None:
            nn.init.normal_(self.identity.weight)

    def forward(self, x: Vectors, label: Labels | None, identity: Vectors | None) -> Float[Tensor, "batch 1"]:
        fit = x.new_zeros(len(x), 1)
        if self.embedding is not None:
            assert label is not None, "this discriminator wants labels"
            fit = fit + (self.embedding(label) * x).sum(1, keepdim=True)
        if self.identity is not None:
            assert identity is not None, "this discriminator wants identities"
            fit = fit + (self.identity(identity) * x).sum(1, keepdim=True)
        return fit / math.sqrt(x.shape[1])


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, activations first."""

    def __init__(
        self, width: int, total: int, modulation: int = 0, normalised: bool = False, *, fixup: bool = True
    ) -> None:
        super().__init__()
        self.norm1: nn.Module = nn.BatchNorm2d(width) if normalised else nn.Identity()
        self.norm2: nn.Module = nn.BatchNorm2d(width) if normalised else nn.Identity()
        if modulation:
            # Scale and shift come from the code; those of the norm stay one and zero, for ONNX wants some.
            self.norm1.requires_grad_(False)
            self.norm2.requires_grad_(False)
        self.conv1 = _initialised(nn.Conv2d(width, width, 3, padding=1), gain=total**-0.5 if fixup else 1.0)
        # Without normalisation a block begins as its shortcut (H. Zhang et al., "Fixup", ICLR 2019).
        self.conv2 = _initialised(nn.Conv2d(width, width, 3, padding=1), gain=0.0 if fixup and not normalised else 1.0)
        self.film1 = nn.Linear(modulation, 2 * width) if modulation and normalised else None
        self.film2 = nn.Linear(modulation, 2 * width) if modulation else None
        for film in (self.film1, self.film2):
            if film is not None:
                nn.init.normal_(film.weight, std=0.5 * modulation**-0.5)
                nn.init.zeros_(film.bias)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        y = functional.leaky_relu(_modulated(self.norm1(x), self.film1, code), _SLOPE)
        y = functional.leaky_relu(_modulated(self.norm2(self.conv1(y)), self.film2, code), _SLOPE)
        return x + self.conv2(y)  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Twice the side, bilinear, then other channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.channels = _initialised(nn.Conv2d(channels, out, 1, bias=False), gain=1.0, slope=1.0)

    def forward(self, x: Tensor) -> Tensor:
        # Channels first: where there are fewer of them there is less to interpolate, and the two commute.
        return functional.interpolate(self.channels(x), scale_factor=2, mode="bilinear", align_corners=False)


class _Down(nn.Module):
    """Half the side by averaging, then other channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.channels = _initialised(nn.Conv2d(channels, out, 1, bias=False), gain=1.0, slope=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(functional.avg_pool2d(x, 2))  # type: ignore[no-any-return]


class _Stage(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, code) if isinstance(layer, _Block) else layer(x)
        return x


def _modulated(x: Tensor, film: nn.Linear | None, code: Tensor | None) -> Tensor:
    if film is None:
        return x
    scale, shift = film(code)[:, :, None, None].chunk(2, dim=1)
    return torch.addcmul(shift.to(x.dtype), x, 1 + scale.to(x.dtype))


def _with_spread(x: Tensor) -> Tensor:
    """Add a map of how much the pictures of a group differ, the mean over all features."""
    count = len(x)
    group = next(size for size in range(min(_GROUP, count), 0, -1) if count % size == 0)
    y = x.float().reshape(group, count // group, -1)
    spread = (y.var(0, unbiased=False) + 1e-8).sqrt().mean(1)
    added = spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, added.to(x.dtype)], dim=1)


def _initialised(layer: nn.Conv2d, *, gain: float, slope: float = _SLOPE) -> nn.Conv2d:
    nn.init.kaiming_normal_(layer.weight, a=slope)
    with torch.no_grad():
        layer.weight *= gain
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _normal_weights(model: nn.Module) -> None:
    """Draw weights as A. Radford et al. did: normal, of standard deviation 0.02; scales of norms around 1.

    Those that take an identity stay: of a unit vector they make values of unit variance, as large as the noise.
    """
    for name, layer in model.named_modules():
        if name.endswith("identity"):
            continue
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def _spectral(model: nn.Module) -> None:
    for layer in list(model.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(layer.weight)
            spectral_norm(layer)


def _check_stages(widths: Sequence[int], blocks: int) -> None:
    if not widths or min(widths) < 1 or blocks < 1:
        raise UsageError(
            f"A network has at least one stage, channel and block, got widths {tuple(widths)}, {blocks} blocks."
        )


def _first_side(side: int, doublings: int, widths: Sequence[int]) -> int:
    first, rest = divmod(side, 1 << doublings)
    if rest or first < 2:
        raise UsageError(
            f"A picture of {side} px cannot be halved {doublings} times down to a map of 2 px or more, as "
            f"{len(widths)} widths say. Give other widths."
        )
    return first
