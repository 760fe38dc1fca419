"""MobileNetV2 of the zoo as a frozen PyTorch module: what perceptual losses and projected discriminators look through.

A network that stands in a loss learns to be pleased: whatever is trained with it must be judged by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import numpy_helper
from torch import Tensor, nn

from mien import zoo
from mien.errors import ModelError
from mien.zoo.foreign.mobilenet import INVERTED_BLOCKS

__all__ = ["IMAGENET", "ImageFeatures"]

IMAGENET = "mobilenetv2-imagenet"
"""The catalogue's name of the network: what a generator's card lists among its ``losses``."""


class ImageFeatures(nn.Module):
    """Feature maps of a picture after some of MobileNetV2's seventeen blocks.

    The weights are buffers, not parameters, and never enter a checkpoint. Gradients flow to the picture. Under autocast
    the convolutions run in its type.

    Args:
        stages: After which blocks, ascending, 1 to 17. Blocks 1, 3, 6 and 13 are the last at 1/2, 1/4, 1/8 and 1/16 of
            the picture's side; those after the last stage are not computed.
        file: The ONNX file that ``mobilenetv2-imagenet`` is converted to; default the zoo's, pulled at first use.

    Attributes:
        channels: Of each map.

    Raises:
        ModelError: The network cannot be had, the file is another network, or there is no such block.
    """

    mean: Tensor

    def __init__(self, stages: Sequence[int] = (1, 3, 6, 13), *, file: Path | None = None) -> None:
        super().__init__()
        if not stages or sorted(set(stages)) != list(stages) or not 1 <= stages[0] <= stages[-1] <= 17:
            raise ModelError(f"Stages of the ImageNet network are blocks from 1 to 17, ascending; got {stages}.")
        weights = _weights(zoo.path(IMAGENET) if file is None else file)
        self.stages = tuple(stages)
        self.register_buffer("mean", weights["mean"], persistent=False)
        self.stem = _Convolution(weights, "stem", stride=2)
        self.blocks = nn.ModuleList(_Block(weights, index) for index in range(1, stages[-1] + 1))
        self.channels = tuple(int(weights[f"block{stage}.narrow.weight"].shape[0]) for stage in stages)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> list[Float[Tensor, "batch c h w"]]:
        """Return the maps of pictures, 0 to 255, RGB or grey (one channel), of 32 px and more."""
        x = self.stem(images.expand(-1, 3, -1, -1) - self.mean)
        maps = []
        for index, block in enumerate(self.blocks, start=1):
            x = block(x)
            if index in self.stages:
                maps.append(x)
        return maps


class _Convolution(nn.Module):
    """A convolution of the file with ReLU6, or without where it narrows."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: dict[str, Tensor], name: str, *, stride: int = 1) -> None:
        super().__init__()
        for part in ("weight", "bias"):
            self.register_buffer(part, weights[f"{name}.{part}"], persistent=False)
        out, per_group, kernel, _ = self.weight.shape
        self.stride, self.padding = stride, kernel // 2
        self.groups = out if per_group == 1 else 1
        self.narrows = name.endswith(".narrow")

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding, groups=self.groups
        )
        return x if self.narrows else nn.functional.relu6(x)


class _Block(nn.Module):
    """Widen, filter each channel, narrow; added to what came where the shape stays."""

    def __init__(self, weights: dict[str, Tensor], index: int) -> None:
        super().__init__()
        name, (out, stride, widening) = f"block{index}", INVERTED_BLOCKS[index - 1]
        parts = [_Convolution(weights, f"{name}.widen")] if widening > 1 else []
        parts += [_Convolution(weights, f"{name}.depth", stride=stride), _Convolution(weights, f"{name}.narrow")]
        self.layers = nn.Sequential(*parts)
        came = weights[f"{name}.widen.weight"].shape[1] if widening > 1 else weights[f"{name}.depth.weight"].shape[0]
        self.adds = stride == 1 and came == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


def _weights(file: Path) -> dict[str, Tensor]:
    """Return the initialisers of the ONNX file by name."""
    graph = onnx.load_model(file).graph
    weights = {t.name: torch.from_numpy(np.array(numpy_helper.to_array(t))) for t in graph.initializer}
    if graph.name != "mobilenet_v2" or "stem.weight" not in weights:
        raise ModelError(f"'{file.name}' is not the MobileNetV2 that `mien models pull {IMAGENET}` makes.")
    return weights
