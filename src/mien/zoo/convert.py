"""Foreign weight files to ONNX, once, with the `onnx` package alone. The same bytes in give the same bytes out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from mien.errors import ModelError

if TYPE_CHECKING:
    import onnx

__all__ = ["REVISION", "convert", "dlib_resnet", "dynamic_size", "mobilenet", "model_bytes"]

REVISION = 2
"""Raised when a conversion changes, so that files converted before are made anew."""

IR_VERSION, OPSET = 8, 13  # Old enough for every ONNX Runtime since 1.10 and for OpenCV's reader.


def convert(kind: str, data: bytes) -> bytes:
    """Convert a file's bytes.

    Args:
        kind: Name of the conversion as in the catalogue; empty for none.
        data: The file.

    Returns:
        An ONNX file, or ``data`` itself where nothing is to be converted.

    Raises:
        ModelError: The file is not what the conversion expects.
    """
    return CONVERSIONS[kind](data) if kind else data


def dynamic_size(data: bytes) -> bytes:
    """Make batch, height and width of a fully convolutional ONNX file free."""
    import onnx

    model = onnx.load_model_from_string(data)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    # Old exporters list weights among the inputs, which keeps ONNX Runtime from folding them.
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    for value in [*graph.input, *graph.output]:
        for axis, prefix in ((0, "batch"), (2, "height"), (3, "width")):
            dimension = value.type.tensor_type.shape.dim[axis]
            dimension.Clear()
            dimension.dim_param = prefix if value in inputs or axis == 0 else f"{prefix}_{value.name}"
    del graph.value_info[:]  # Shapes of the old size.
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]  # ONNX Runtime warns of each of the others.
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model_bytes(model)


# dlib ---------------------------------------------------------------------------------------------------------------

# Width and halving of each residual block. Source: dlib, examples/dnn_face_recognition_ex.cpp, `anet_type`.
BLOCKS = tuple(
    [(32, False)] * 3
    + [(64, True)] + [(64, False)] * 3
    + [(128, True)] + [(128, False)] * 2
    + [(256, True)] + [(256, False)] * 2
    + [(256, True)]
)  # fmt: skip
MEAN = np.array([122.782, 117.001, 104.298])
SCALE = 1 / 256
SIDE, DIMENSION = 150, 128


def dlib_resnet(data: bytes, *, half: bool = False) -> bytes:
    """Convert dlib's face recognition network (`dlib_face_recognition_resnet_model_v1.dat`).

    The graph takes `image`, float32 NCHW RGB 0 to 255 of 150 x 150 px, any batch, and gives `embedding`, (batch, 128),
    not normalised. Mean, scale and the affine layers (batch normalisation of the finished training) are folded into the
    convolutions, which changes rounding only.

    Args:
        data: The `.dat` file.
        half: Store weights as float16. They are cast up on loading: the sums are float32 on every machine.

    Raises:
        ModelError: The file holds another network.
    """
    from onnx import TensorProto, helper, numpy_helper

    layers = _dlib_layers(data)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(name: str, values: Float32[np.ndarray, "*shape"], *, half: bool = half) -> str:
        if not half:
            weights.append(numpy_helper.from_array(values, name))
            return name
        weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        return node("Cast", name, f"{name}.half", to=TensorProto.FLOAT)

    def convolution(name: str, x: str, channels: int, out: int, *, kernel: int, stride: int, stem: bool = False) -> str:
        filters, bias = _folded(layers, (out, channels, kernel, kernel))
        if stem:  # No padding here, so the input's mean can go into the bias.
            bias = bias - SCALE * np.einsum("ochw,c->o", filters, MEAN)
            filters = filters * SCALE
        # The stem's scaled weights are too small for float16, and few.
        w = weight(f"{name}.weight", filters.astype(np.float32), half=half and not stem)
        b = weight(f"{name}.bias", bias.astype(np.float32), half=False)
        pad = kernel // 2 if stride == 1 else 0
        return node("Conv", name, x, w, b, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def padded(name: str, x: str, channels: int, side: int) -> str:
        if not channels and not side:
            return x
        weights.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, channels, side, side], np.int64), name + ".by"))
        return node("Pad", name, x, name + ".by", mode="constant")

    x = convolution("stem", "image", 3, 32, kernel=7, stride=2, stem=True)
    x = node("MaxPool", "stem.pool", node("Relu", "stem.relu", x), kernel_shape=[3, 3], strides=[2, 2])
    channels, side = 32, ((SIDE - 7) // 2 + 1 - 3) // 2 + 1
    for index, (out, down) in enumerate(BLOCKS):
        name = f"block{index}"
        y = convolution(f"{name}.conv1", x, channels, out, kernel=3, stride=2 if down else 1)
        y = node("Relu", f"{name}.relu1", y)
        y = convolution(f"{name}.conv2", y, out, out, kernel=3, stride=1)
        if down:
            # The shortcut is averaged down; of the two branches the smaller one is filled with zeros.
            main_side, side = (side - 3) // 2 + 1, (side - 2) // 2 + 1
            x = node("AveragePool", f"{name}.pool", x, kernel_shape=[2, 2], strides=[2, 2])
            x = padded(f"{name}.shortcut", x, out - channels, 0)
            y = padded(f"{name}.main", y, 0, side - main_side)
        x = node("Relu", f"{name}.out", node("Add", f"{name}.add", y, x))
        channels = out
    x = node("Flatten", "flat", node("GlobalAveragePool", "average", x))
    matrix = _take(layers, "fc_", channels * DIMENSION).reshape(channels, DIMENSION)
    node("MatMul", "embedding", x, weight("projection", matrix))
    if next(layers, None) is not None:
        raise ModelError("The .dat file holds a larger network than dlib's face recognition ResNet.")

    graph = helper.make_graph(
        nodes,
        "dlib_face_recognition_resnet_model_v1",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSION])],
        weights,
    )
    return model_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


def _folded(
    layers: Iterator[tuple[str, Float32[np.ndarray, " n"]]], shape: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Take a convolution and its affine layer and return filters and bias of both in one, float64."""
    out, size = shape[0], int(np.prod(shape))
    parameters = _take(layers, "con_", size + out).astype(np.float64)
    gamma, beta = _take(layers, "affine_", 2 * out).astype(np.float64).reshape(2, out)
    return parameters[:size].reshape(shape) * gamma[:, None, None, None], parameters[size:] * gamma + beta


def _take(
    layers: Iterator[tuple[str, Float32[np.ndarray, " n"]]], prefix: str, size: int
) -> Float32[np.ndarray, " size"]:
    name, values = next(layers, ("nothing", np.zeros(0, np.float32)))
    if not name.startswith(prefix) or values.size != size:
        raise ModelError(
            f"The .dat file does not hold dlib's face recognition ResNet: expected a {prefix} layer of {size} numbers, "
            f"got {name} of {values.size}."
        )
    return values


def _dlib_layers(data: bytes) -> Iterator[tuple[str, Float32[np.ndarray, " n"]]]:
    """Yield (name, parameters) of the layers that have any, from the input to the output.

    dlib writes integers as one byte (count of bytes, top bit for the sign) and that many bytes, little-endian; a string
    as its length and its bytes; a tensor as its format version (2), four sizes and float32 values.
    """

    def integer(at: int) -> tuple[int, int]:
        count = data[at] & 15
        return int.from_bytes(data[at + 1 : at + 1 + count], "little"), at + 1 + count

    at = 0
    while True:
        found = [
            (data.find(b"\x01" + bytes([size]) + tag, at), size)
            for tag, size in ((b"con_", 5), (b"affine_", 7), (b"fc_", 4))
        ]
        found = [(position, size) for position, size in found if position >= 0]
        if not found:
            return
        position, size = min(found)
        at = position + 2 + size
        name = data[position + 2 : at].decode("latin-1")
        try:
            if name.startswith("fc_"):  # Two counts come before its tensor.
                at = integer(integer(at)[1])[1]
            version, at = integer(at)
            count = 1
            for _ in range(4):
                extent, at = integer(at)
                count *= extent
            values = np.frombuffer(data, "<f4", count, at)
        except (IndexError, ValueError, struct.error) as error:
            raise ModelError(f"The .dat file breaks off in layer {name}: {error}.") from error
        if version != 2:
            raise ModelError(f"Layer {name} of the .dat file has tensor format {version}, expected 2.")
        at += 4 * count
        yield name, values


# MobileNetV2 ---------------------------------------------------------------------------------------------------------

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
    from onnx import TensorProto, helper, numpy_helper

    from mien.zoo.torchfile import read_state_dict

    state = read_state_dict(data)
    nodes: list[onnx.NodeProto] = []
    weights = [numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("six", 6))]
    weights.append(numpy_helper.from_array(IMAGENET_MEAN.astype(np.float32).reshape(1, 3, 1, 1), "mean"))

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def convolution(name: str, x: str, layer: str, norm: str, shape: tuple[int, ...], *, stride: int = 1) -> str:
        filters, bias = _normed(state, layer, norm, shape)
        if name == "stem":
            filters = filters / IMAGENET_DEVIATION[:, None, None]
        weights.append(numpy_helper.from_array(filters.astype(np.float32), f"{name}.weight"))
        weights.append(numpy_helper.from_array(bias.astype(np.float32), f"{name}.bias"))
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
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "mobilenet_v2",
        [value("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [value("features", TensorProto.FLOAT, ["batch", TOP])],
        weights,
    )
    return model_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


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


def model_bytes(model: onnx.ModelProto) -> bytes:
    """Return an ONNX file's bytes, the same for the same model."""
    model.producer_name, model.producer_version = "mien", ""
    if model.ir_version > IR_VERSION or not model.ir_version:
        model.ir_version = IR_VERSION
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _blazeface(data: bytes) -> bytes:
    from mien.zoo.tflite import blazeface

    return blazeface(data)


def _mini_xception(data: bytes) -> bytes:
    from mien.zoo.xception import mini_xception

    return mini_xception(data)


def _sface(data: bytes) -> bytes:
    from mien.zoo.foreign.sface import sface

    return sface(data)


CONVERSIONS: dict[str, Callable[[bytes], bytes]] = {
    "dynamic-size": dynamic_size,
    "dlib-resnet": dlib_resnet,
    "dlib-resnet-fp16": lambda data: dlib_resnet(data, half=True),
    "blazeface": _blazeface,
    "mobilenet": mobilenet,
    "mini-xception": _mini_xception,
    "sface": _sface,
}
