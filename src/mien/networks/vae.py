"""A convolutional VAE: an encoder that knows no labels, and a decoder that may take an expression and attributes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import UsageError

__all__ = ["VAE", "VAENetConfig", "condition_vector"]

_GROUP = 16  # channels that are normalised together
_LOG_VARIANCE = (-12.0, 6.0)  # beyond these a posterior is a point, or wider than any prior

Images = Float[Tensor, "batch channels side side"]
Latents = Float[Tensor, "batch latents"]
Condition = Float[Tensor, "batch condition"]


@dataclass(frozen=True)
class VAENetConfig:
    """What the network looks like.

    Attributes:
        side: Of the pictures, px.
        colour: RGB pictures; otherwise grey.
        latents: Dimension of z.
        widths: Channels at 1/2, 1/4, 1/8, ... of the side: one stage each. Multiples of 32 are fast.
        blocks: Residual blocks a stage, in the encoder and in the decoder.
        last_width: Channels at full size, before the pixels.
        spatial: Latents keep their place: they are a map of as many places as the smallest feature map has, with
            latents / places channels each; otherwise a vector that describes the picture as a whole.
        encoder_side: Side of the pictures of a smaller VAE that this one begins as, px: the encoder looks at them at
            that side, and the decoder's map is enlarged before its last stage. None: all is of the pictures' side.
    """

    side: int = 64
    colour: bool = True
    latents: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: int = 1
    last_width: int = 16
    spatial: bool = False
    encoder_side: int | None = None

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or self.last_width < 1:
            raise UsageError(f"Widths are at least one channel, for at least one stage, got {self.widths}.")
        for name, side in (("side", self.side), ("encoder_side", self.seen_side)):
            if side < 1 or side % 2 ** len(self.widths):
                raise UsageError(
                    f"A side is halved once a stage: {len(self.widths)} widths need a multiple of "
                    f"{2 ** len(self.widths)} px, got {side}. Set net.{name} or net.widths."
                )
        for name in ("latents", "blocks"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting 'net.{name}' is at least 1, got {getattr(self, name)}.")
        if self.spatial and self.latents % self.base**2:
            raise UsageError(
                f"Spatial latents are a map of {self.base} x {self.base} places: 'net.latents' is a multiple of "
                f"{self.base**2}, got {self.latents}."
            )

    @property
    def base(self) -> int:
        """Side of the smallest feature map."""
        return int(self.seen_side // 2 ** len(self.widths))

    @property
    def seen_side(self) -> int:
        """Side at which the encoder looks at pictures, px."""
        return self.side if self.encoder_side is None else self.encoder_side

    @property
    def places(self) -> int:
        """Of the latents' map; 1 where they are a vector."""
        return self.base**2 if self.spatial else 1

    @property
    def channels(self) -> int:
        """Of a picture."""
        return 3 if self.colour else 1

    @property
    def pixels(self) -> int:
        """Values of a picture."""
        return self.channels * self.side**2


class VAE(nn.Module):
    """Pictures to a Gaussian over latents, and latents to pictures; pixels are 0 to 255 on both sides.

    Args:
        config: Its size.
        condition: Length of the decoder's condition; 0 has none.

    Attributes:
        config: As given.
        condition: As given.
    """

    def __init__(self, config: VAENetConfig, *, condition: int = 0) -> None:
        super().__init__()
        self.config, self.condition = config, condition
        widths = config.widths
        layers: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 4, stride=2, padding=1)]
        for before, width in zip((None, *widths), widths, strict=False):
            if before is not None:
                layers.append(nn.Conv2d(before, width, 3, stride=2, padding=1))
            layers += [_Block(width, 0) for _ in range(config.blocks)]
        self.encoder = nn.Sequential(*layers, _norm(widths[-1]), nn.SiLU())
        size = widths[-1] if config.spatial else widths[-1] * config.base**2
        self.posterior = nn.Linear(size, 2 * config.latents // config.places)
        nn.init.normal_(self.posterior.weight, std=0.2 * self.posterior.in_features**-0.5)
        self.decoder = _Decoder(config, condition)

    def encode(self, images: Images) -> tuple[Latents, Latents]:
        """Return mean and log variance of the posterior, in float32."""
        seen = self.config.seen_side
        if seen != self.config.side:
            # Plain bilinear: ONNX has no other that reads every px (antialiasing is not exported).
            images = functional.interpolate(images, size=(seen, seen), mode="bilinear")
        h = self.encoder(images / 127.5 - 1)
        with torch.autocast(images.device.type, enabled=False):
            if self.config.spatial:
                # One row a place; in z the places of a channel stand one after the other.
                both = self.posterior(h.float().permute(0, 2, 3, 1))
                mean, log_variance = (part.permute(0, 3, 1, 2).flatten(1) for part in both.chunk(2, dim=3))
            else:
                mean, log_variance = self.posterior(h.float().flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def decode(self, latents: Latents, condition: Condition | None = None) -> Images:
        """Return pictures, in float32, not clamped to 0 to 255.

        Args:
            latents: z.
            condition: What is asked for, where this VAE is conditional, as `condition_vector` gives it.
        """
        pixels: Tensor = self.decoder(latents, condition)
        return pixels.float() * 127.5 + 127.5

    def forward(self, images: Images) -> tuple[Latents, Latents]:
        """Return what `encode` does."""
        return self.encode(images)

    @property
    def last_weight(self) -> Tensor:
        """The decoder's last weight: where terms of a loss are weighed against each other."""
        return self.decoder.pixels.weight


class _Decoder(nn.Module):
    """From latents up to pixels in -1 to 1; nearest neighbours and a convolution, which leave no checkerboard."""

    def __init__(self, config: VAENetConfig, condition: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.base, self.enlarged = config.base, config.side // 2 if config.seen_side != config.side else None
        self.first: nn.Module = (
            nn.Conv2d(config.latents // config.places, widths[0], 3, padding=1)
            if config.spatial  # the condition scales and shifts every block: it need not be laid out, too
            else nn.Linear(config.latents + condition, widths[0] * config.base**2)
        )
        self.stages = nn.ModuleList()
        self.ups = nn.ModuleList()
        for width, then in zip(widths, (*widths[1:], config.last_width), strict=True):
            self.stages.append(nn.ModuleList(_Block(width, condition) for _ in range(config.blocks)))
            self.ups.append(nn.Conv2d(width, then, 3, padding=1))
        self.norm = _norm(config.last_width)
        self.pixels = nn.Conv2d(config.last_width, config.channels, 3, padding=1)

    def forward(self, latents: Latents, condition: Condition | None) -> Images:
        # No len(x): it would be written into an ONNX file as the one batch size.
        if isinstance(self.first, nn.Conv2d):
            x = self.first(latents.view(-1, self.first.in_channels, self.base, self.base))
        else:
            x = self.first(latents if condition is None else torch.cat([latents, condition], dim=1))
            x = x.view(-1, x.shape[1] // self.base**2, self.base, self.base)
        if not torch.onnx.is_in_onnx_export():  # ONNX has one layout
            x = x.contiguous(memory_format=torch.channels_last)
        for blocks, up in zip(self.stages, self.ups, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            if up is self.ups[-1] and self.enlarged is not None:
                # Here an enlarged face comes out before anything is learned. Earlier, layers that learned where things
                # are on a smaller map draw bent ones.
                x = functional.interpolate(x, size=(self.enlarged, self.enlarged), mode="bilinear")
            for block in blocks:
                x = block(x, condition)
            x = up(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        pixels: Tensor = self.pixels(functional.silu(self.norm(x)))
        return pixels


class _Block(nn.Module):
    """Twice normalised, activated and convolved, added to what came; scaled and shifted by a condition (FiLM).

    Source: He et al., "Identity mappings in deep residual networks" (2016); Perez et al., "FiLM" (2018).
    """

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = _norm(width), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # at first a block adds nothing
        self.film = nn.Linear(condition, 2 * width) if condition else None

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        h = self.norm2(self.conv1(functional.silu(self.norm1(x))))
        if self.film is not None:
            scale, shift = self.film(condition)[:, :, None, None].to(h.dtype).chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        added: Tensor = self.conv2(functional.silu(h))
        return x + added


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(width // _GROUP, 1) if width % _GROUP == 0 else 1, width)


def condition_vector(
    labels: Int[Tensor, " batch"] | None, classes: int, attributes: Float[Tensor, "batch attributes"] | None
) -> Condition | None:
    """Return the condition of a decoder: a 1 at the class, then the attributes; None where there is neither."""
    parts = [] if attributes is None else [attributes]
    if labels is not None:
        # A row of a matrix, so that ONNX has it too.
        parts = [torch.eye(classes, device=labels.device)[labels], *parts]
    return torch.cat(parts, dim=1) if parts else None
