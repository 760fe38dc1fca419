"""Networks that embed faces: a correction of another embedder's vectors, and residual networks that look at crops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mien.networks.expression import ExpressionNetConfig, FaceTrunk

__all__ = ["Projection", "SmallResNet", "TrunkEmbedder"]


class Projection(nn.Module):
    """Another embedder's unit vectors, corrected: the identity until it has learned something.

    Args:
        dimension: Of the vectors, before and after.
        hidden: Width of the hidden layer that adds to the linear map; 0 for a linear map alone.
    """

    def __init__(self, dimension: int, *, hidden: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, dimension)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.inner = nn.Linear(dimension, hidden) if hidden else None
        self.outer = nn.Linear(hidden, dimension) if hidden else None
        if self.outer is not None:
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def forward(self, vectors: Float[Tensor, "batch dimension"]) -> Float[Tensor, "batch dimension"]:
        """Return corrected vectors, of any length."""
        corrected: Tensor = self.linear(vectors)
        if self.inner is not None and self.outer is not None:
            corrected = corrected + self.outer(torch.relu(self.inner(vectors)))
        return corrected

    def distance_from_identity(self) -> Float[Tensor, ""]:
        """Return the squared distance of all weights from those that change nothing."""
        eye = torch.eye(self.linear.in_features, device=self.linear.weight.device)
        moved = (self.linear.weight - eye).square().sum() + self.linear.bias.square().sum()
        return moved if self.outer is None else moved + self.outer.weight.square().sum()


class SmallResNet(nn.Module):
    """A small pre-activation residual network: aligned faces in, embeddings out.

    Pixels 0 to 255 go in; they are scaled inside, so that run time needs no convention beyond the crop. The last
    feature map is flattened, not pooled: where a feature lies on an aligned face says who it is.

    Args:
        side: Of the crops in px, a multiple of 16.
        widths: Channels of the four stages: at half the side, then each at half the resolution of the one before.
        blocks: Residual blocks of each stage.
        dimension: Of the embedding.
        drop: Share of the last features dropped while learning.

    Source: K. He et al., "Identity mappings in deep residual networks", ECCV 2016; the head (batch norm, dropout,
    linear, batch norm) is that of J. Deng et al., "ArcFace", CVPR 2019.
    """

    def __init__(
        self,
        *,
        side: int = 112,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (1, 2, 2, 1),
        dimension: int = 128,
        drop: float = 0.2,
    ) -> None:
        super().__init__()
        assert side % 16 == 0 and len(widths) == len(blocks) == 4, "four stages halve the side four times"
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)]
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                layers.append(_Block(inputs, width, stride=2 if stage and not block else 1))
                inputs = width
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Dropout(drop),
            nn.Flatten(),
            nn.Linear(inputs * (side // 16) ** 2, dimension, bias=False),
            nn.BatchNorm1d(dimension, affine=False),
        )

    def forward(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch dimension"]:
        """Return embeddings, of any length, of RGB crops with pixels 0 to 255."""
        answer: Tensor = self.head(self.trunk((pixels - 127.5) / 128))
        return answer


class TrunkEmbedder(nn.Module):
    """The first thirteen blocks of dlib's face recogniser, to be trained on, and one linear layer of our own.

    As in `SmallResNet` the last map is flattened, not averaged: where a feature lies on an aligned face says who it is.

    Args:
        side: Of the crops, px.
        zoom: How much they are enlarged inside, so that faces have about the size that the filters know.
        dimension: Of the embedding.
        drop: Share of the last features dropped while learning.
    """

    def __init__(self, *, side: int = 112, zoom: float = 1.0, dimension: int = 128, drop: float = 0.0) -> None:
        super().__init__()
        self.trunk = FaceTrunk(ExpressionNetConfig(arch="face-trunk", side=side, colour=True, zoom=zoom), {})
        with torch.no_grad():
            places = self.trunk.eval().maps(torch.zeros(1, 3, side, side))[0].numel()
        self.trunk.train()
        self.drop = nn.Dropout(drop)
        self.linear = nn.Linear(places, dimension)

    def forward(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch dimension"]:
        """Return embeddings, of any length, of RGB crops with pixels 0 to 255; the last layer in float32."""
        maps = self.trunk.maps(pixels)
        with torch.autocast(maps.device.type, enabled=False):
            answer: Tensor = self.linear(self.drop(maps.float().flatten(1)))
        return answer


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        changes = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        body: Tensor = self.body(x)
        shortcut: Tensor = self.shortcut(x)
        return body + shortcut
