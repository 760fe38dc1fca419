"""torchvision's MobileNetV2 as ONNX, out of the state dict that PyTorch wrote."""

from __future__ import annotations

import numpy as np

from mien.errors import ModelError
from mien.zoo.foreign.onnxfile import Graph
from mien.zoo.foreign.torchfile import read_state_dict

__all__ = ["INVERTED_BLOCKS", "STEM", "TOP", "mobilenet"]

# Width, stride and widening of each inverted residual block. Source: M. Sandler et al., "MobileNetV2: Inverted
# Residuals and Linear Bottlenecks", CVPR 2018, table 2.
INVERTED_BLOCKS = tuple(
    (width, stride if first else 1, widening)
    for widening, width, times, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    )
    for first in (True, *[False] * (times - 1))
)  # fmt: skip
STEM, TOP = 32, 1280
IMAGENET_MEAN = 255 * np.array([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = 255 * np.array([0.229, 0.224, 0.225])
NORM_EPSILON = 1e-5


def mobilenet(data: bytes) -> bytes:
    """Convert torchvision's MobileNetV2 (`mobilenet_v2-b0353104.pth`), without its classifier.

    The graph takes `image`, float32 NCHW RGB 0 to 255, any batch and any size, and gives `features`, (batch, 1280), the
    mean over the last feature map. Batch normalisation and the pixels' scale are folded into the convolutions; weights
    and biases are called `<layer>.weight` and `<layer>.bias`, layers `stem`, `block<n>.widen`, `.depth`, `.narrow` and
    `top`.

    Raises:
        ModelError: The file is damaged or holds another network.
    """
    state = read_state_dict(data)
    graph = Graph()
    node = graph.node
    for limit, value in (("zero", 0), ("six", 6)):
        graph.weight(limit, np.asarray(value, np.float32))
    graph.weight("mean", IMAGENET_MEAN.astype(np.float32).reshape(1, 3, 1, 1))

    def convolution(name: str, x: str, layer: str, norm: str, shape: tuple[int, ...], *, stride: int = 1) -> str:
        filters, bias = _normed(state, layer, norm, shape)
        if name == "stem":
            filters = filters / IMAGENET_DEVIATION[:, None, None]
        graph.weight(f"{name}.weight", filters.astype(np.float32))
        graph.weight(f"{name}.bias", bias.astype(np.float32))
        group = 1 if shape[1] > 1 else shape[0]
        kernel = [shape[2]] * 2
        pads = [shape[2] // 2] * 4
        x = node(
            "Conv", name, x, f"{name}.weight", f"{name}.bias", kernel_shape=kernel, strides=[stride] * 2, pads=pads,
            group=group,
        )  # fmt: skip
        return x if name.endswith(".narrow") else node("Clip", f"{name}.relu6", x, "zero", "six")

    x = node("Sub", "centred", "image", "mean")
    x = convolution("stem", x, "features.0.0", "features.0.1", (STEM, 3, 3, 3), stride=2)
    channels = STEM
    for index, (out, stride, widening) in enumerate(INVERTED_BLOCKS, start=1):
        name, old, before, wide = f"block{index}", f"features.{index}.conv", x, channels * widening
        part = 0
        if widening > 1:
            x = convolution(f"{name}.widen", x, f"{old}.0.0", f"{old}.0.1", (wide, channels, 1, 1))
            part = 1
        layer = f"{old}.{part}"
        x = convolution(f"{name}.depth", x, f"{layer}.0", f"{layer}.1", (wide, 1, 3, 3), stride=stride)
        x = convolution(f"{name}.narrow", x, f"{old}.{part + 1}", f"{old}.{part + 2}", (out, wide, 1, 1))
        if stride == 1 and channels == out:
            x = node("Add", f"{name}.add", before, x)
        channels = out
    x = convolution("top", x, "features.18.0", "features.18.1", (TOP, channels, 1, 1))
    node("Flatten", "features", node("GlobalAveragePool", "average", x))
    return graph.as_file(
        "mobilenet_v2", takes=("image", ["batch", 3, "height", "width"]), gives=("features", ["batch", TOP])
    )


def _normed(
    state: dict[str, np.ndarray], layer: str, norm: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return filters and bias of a convolution and its batch normalisation in one, float64."""
    wanted = {f"{layer}.weight": shape} | {
        f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")
    }
    for name, expected in wanted.items():
        came = state[name].shape if name in state else "nothing"
        if came != expected:
            raise ModelError(f"The file does not hold MobileNetV2: expected {name} of shape {expected}, got {came}.")
    filters, gain, bias, mean, variance = (state[name].astype(np.float64) for name in wanted)
    gain = gain / np.sqrt(variance + NORM_EPSILON)
    return filters * gain[:, None, None, None], bias - mean * gain
