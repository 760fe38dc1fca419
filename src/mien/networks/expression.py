"""Networks that read expressions: a residual network of our own, a face recogniser's trunk, a tutorial's plain CNN.

Each takes pixels 0 to 255, float, NCHW, and answers logits by head: one head for every set of labels it learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from jaxtyping import Float
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import ModelError, UsageError

__all__ = [
    "ARCHITECTURES",
    "AveragedNets",
    "ExpressionNet",
    "ExpressionNetConfig",
    "FaceTrunk",
    "TutorialCNN",
    "expression_net",
]

ARCHITECTURES = ("residual", "face-trunk", "tutorial-cnn")
MEAN, SCALE = 128.0, 1 / 64

Images = Float[Tensor, "batch channel side side"]
Features = Float[Tensor, "batch feature"]


@dataclass(frozen=True)
class ExpressionNetConfig:
    """What network to build.

    Attributes:
        arch: `residual`, `face-trunk` (dlib's ResNet-29) or `tutorial-cnn`.
        side: Of the pictures, px.
        colour: RGB pictures; otherwise grey ones.
        stem: Channels of the first convolution of `residual`.
        stride: Of that convolution: 1, or 2 for pictures of 64 px and more.
        widths: Channels by stage of `residual`; every stage but the first halves the side.
        blocks: Residual blocks by stage.
        drop: Share of the features left out while training.
        zoom: How much `face-trunk` enlarges its pictures, so that faces have about the size its filters know.
    """

    arch: str = "residual"
    side: int = 48
    colour: bool = False
    stem: int = 32
    stride: int = 1
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    drop: float = 0.2
    zoom: float = 2.0

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise UsageError(f"There is no architecture {self.arch!r}. Choose from {', '.join(ARCHITECTURES)}.")
        if not self.widths or len(self.widths) != len(self.blocks) or min(*self.widths, *self.blocks, self.stem) < 1:
            raise UsageError(
                f"A residual network has one width and one number of blocks a stage, all at least 1; "
                f"got widths {self.widths}, blocks {self.blocks}, stem {self.stem}."
            )
        if not 16 <= self.side <= 256 or self.stride not in (1, 2) or not 0 <= self.drop < 1 or not 1 <= self.zoom <= 4:
            raise UsageError(
                f"Expected a side of 16 to 256 px, stride 1 or 2, drop in [0, 1) and zoom of 1 to 4; "
                f"got side {self.side}, stride {self.stride}, drop {self.drop:g}, zoom {self.zoom:g}."
            )

    @property
    def channels(self) -> int:
        """Of the pictures: 3 in colour, 1 grey."""
        return 3 if self.colour else 1


class _Heads(nn.Module):
    """Features to logits by head; the part that all networks here share."""

    def __init__(self, config: ExpressionNetConfig, features: int, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config
        self.drop = nn.Dropout(config.drop)
        self.heads = nn.ModuleDict({name: nn.Linear(features, classes) for name, classes in heads.items()})

    def features(self, x: Images) -> Features:
        """Return what the heads read, shape (batch, feature)."""
        raise NotImplementedError

    def classify(self, features: Features) -> dict[str, Float[Tensor, "batch classes"]]:
        """Return logits by head. Under autocast call it outside, in float32: eight numbers deserve all their bits."""
        features = self.drop(features.float())
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, x: Images) -> dict[str, Float[Tensor, "batch classes"]]:
        """Return logits by head for pixels 0 to 255."""
        return self.classify(self.features(x))


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; where the side is halved, the shortcut is averaged first (ResNet-D).

    Source: He et al., CVPR 2016; the shortcut: He et al., "Bag of Tricks", CVPR 2019, figure 2c.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        # Blocks begin as shortcuts, so that depth costs nothing at first (Goyal et al. 2017, section 5.1).
        nn.init.zeros_(self.norm2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            average = [nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)] if stride > 1 else []
            self.shortcut = nn.Sequential(*average, nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ExpressionNet(_Heads):
    """A small residual network without pooling before its last average.

    Args:
        config: Widths, blocks and the rest.
        heads: Number of classes by head.
    """

    def __init__(self, config: ExpressionNetConfig, heads: Mapping[str, int]) -> None:
        super().__init__(config, config.widths[-1], heads)
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, config.stem, 3, config.stride, 1, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(inplace=True),
        ]
        channels = config.stem
        for stage, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for block in range(blocks):
                layers.append(_Block(channels, width, 2 if stage and not block else 1))
                channels = width
        self.trunk = nn.Sequential(*layers)
        for layer in self.trunk.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Images) -> Features:
        """Return the average of the last stage, shape (batch, widths[-1])."""
        x = self.trunk((x - MEAN) * SCALE)
        return x.mean((2, 3))


class TutorialCNN(_Heads):
    """The plain CNN of many tutorials, with its mistakes mended: two convolutions, two linear layers.

    Their first linear layer expects 6 x 6 cells where the pooled picture has 56 x 56, so nothing runs; here an average
    over 6 x 6 cells makes the size right for every picture.
    """

    def __init__(self, config: ExpressionNetConfig, heads: Mapping[str, int]) -> None:
        super().__init__(config, 128, heads)
        self.conv1 = nn.Conv2d(config.channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.linear = nn.Linear(64 * 6 * 6, 128)

    def features(self, x: Images) -> Features:
        """Return the hidden layer, shape (batch, 128)."""
        x = functional.max_pool2d(functional.relu(self.conv1((x - MEAN) * SCALE)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return functional.relu(self.linear(functional.adaptive_avg_pool2d(x, 6).flatten(1)))


class _TrunkBlock(nn.Module):
    """A residual block of dlib's ResNet-29: where it halves the side, the shortcut is averaged, zeros fill it up."""

    def __init__(self, channels: int, out: int, halves: bool) -> None:
        super().__init__()
        self.halves, self.wider = halves, out - channels
        self.conv1 = nn.Conv2d(channels, out, 3, 2 if halves else 1, 0 if halves else 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        # One px on the far sides keeps small pictures at half, where dlib drops a line.
        y = functional.pad(x, (0, 1, 0, 1)) if self.halves else x
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(y)), inplace=True)))
        if self.halves:
            x = functional.pad(functional.avg_pool2d(x, 2), (0, 0, 0, 0, 0, self.wider))
        return functional.relu(y + x, inplace=True)


class FaceTrunk(_Heads):
    """The first three quarters of dlib's face recogniser (ResNet-29, 4.4 M weights), to be fine-tuned.

    Pictures are enlarged, so that a 48 px face has about the scale that the filters were trained at. The enlargement
    may change from step to step (`zoom`): small at first, training takes half the time.
    """

    # Width of each block, and whether it halves the side. Source: dlib, examples/dnn_face_recognition_ex.cpp.
    BLOCKS = (
        *((32, False),) * 3,
        *((64, True), *((64, False),) * 3),
        *((128, True), *((128, False),) * 2),
        *((256, True), *((256, False),) * 2),
    )

    def __init__(self, config: ExpressionNetConfig, heads: Mapping[str, int]) -> None:
        super().__init__(config, self.BLOCKS[-1][0], heads)
        self.zoom = config.zoom
        self.stem = nn.Conv2d(config.channels, 32, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(32)
        blocks, channels = [], 32
        for width, halves in self.BLOCKS:
            blocks.append(_TrunkBlock(channels, width, halves))
            channels = width
        self.blocks = nn.Sequential(*blocks)

    def features(self, x: Images) -> Features:
        """Return the average of the last block, shape (batch, 256)."""
        return self.maps(x).mean((2, 3))

    def maps(self, x: Images) -> Float[Tensor, "batch 256 height width"]:
        """Return what the last block answers, place by place."""
        if self.zoom != 1:
            x = functional.interpolate(x, scale_factor=self.zoom, mode="bilinear", align_corners=False)
        x = functional.relu(self.norm(self.stem((x - MEAN) * SCALE)), inplace=True)
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)
        return torch.as_tensor(self.blocks(x))

    @torch.no_grad()
    def load_recogniser(self, file: Path, images: Images) -> None:
        """Take the recogniser's weights from the ONNX file of the catalogue's `dlib-resnet29`.

        There, normalisation is folded into the convolutions. Each one is set to the mean and variance that its input
        has on ``images``, with the scale and shift that leave the values as they are.

        Args:
            file: The ONNX file.
            images: A few hundred pictures as they will be trained on, pixels 0 to 255.

        Raises:
            ModelError: The file is not that network.
        """
        values = {
            item.name.removesuffix(".half"): torch.from_numpy(numpy_helper.to_array(item).copy()).float()
            for item in onnx.load(file).graph.initializer
        }
        layers = [("stem", self.stem, self.norm)] + [
            (f"block{index}.conv{k}", getattr(block, f"conv{k}"), getattr(block, f"norm{k}"))
            for index, block in enumerate(self.blocks)
            for k in (1, 2)
        ]
        hooks = []
        for name, conv, norm in layers:
            weight, bias = values.get(f"{name}.weight"), values.get(f"{name}.bias")
            if weight is None or bias is None or weight.shape[0] != conv.weight.shape[0]:
                raise ModelError(f"'{file.name}' is not dlib's face recogniser: it has no fitting layer {name}.")
            if name == "stem":
                bias = bias + MEAN * weight.sum((1, 2, 3))
                weight = (weight if self.config.colour else weight.sum(1, keepdim=True)) / SCALE
            conv.weight.copy_(weight)
            hooks.append(norm.register_forward_pre_hook(_keeping(bias)))
        training = self.training
        self.eval()
        self(images)
        self.train(training)
        for hook in hooks:
            hook.remove()


class AveragedNets(nn.Module):
    """Several networks with the same heads, whose logits are averaged.

    Args:
        nets: One network or more.
    """

    def __init__(self, nets: Sequence[ExpressionNet | FaceTrunk | TutorialCNN]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.config = nets[0].config

    def features(self, x: Images) -> Features:
        """Return what the heads of all networks read, after one another, shape (batch, feature)."""
        return torch.cat([net.features(x) for net in self._members()], dim=1)

    def classify(self, features: Features) -> dict[str, Float[Tensor, "batch classes"]]:
        """Return the mean logits by head."""
        members = self._members()
        answers = [net.classify(own) for net, own in zip(members, features.chunk(len(members), dim=1), strict=True)]
        return {name: torch.stack([answer[name] for answer in answers]).mean(0) for name in answers[0]}

    def forward(self, x: Images) -> dict[str, Float[Tensor, "batch classes"]]:
        """Return mean logits by head for pixels 0 to 255."""
        return self.classify(self.features(x))

    def _members(self) -> list[_Heads]:
        return [net for net in self.nets if isinstance(net, _Heads)]


def _keeping(bias: Tensor) -> Callable[[nn.BatchNorm2d, tuple[Tensor]], None]:
    """Return a hook that makes a normalisation add ``bias`` and do nothing else, on the batch that it first sees."""

    def set_up(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)

    return set_up


def expression_net(config: ExpressionNetConfig, heads: Mapping[str, int]) -> ExpressionNet | FaceTrunk | TutorialCNN:
    """Build the network of a configuration, weights drawn from PyTorch's generator.

    Args:
        config: What to build.
        heads: Number of classes by head; the first is the one that `analyze` shows.
    """
    kinds: dict[str, type[ExpressionNet | FaceTrunk | TutorialCNN]] = {
        "residual": ExpressionNet,
        "face-trunk": FaceTrunk,
        "tutorial-cnn": TutorialCNN,
    }
    return kinds[config.arch](config, heads)
