"""dlib's face recognition network as ONNX, out of its own serialised file."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from mien.errors import ModelError
from mien.zoo.foreign.onnxfile import Graph

__all__ = ["BLOCKS", "dlib_resnet", "read_layers"]

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
    layers = read_layers(data)
    graph = Graph()
    node = graph.node

    def convolution(name: str, x: str, channels: int, out: int, *, kernel: int, stride: int, stem: bool = False) -> str:
        filters, bias = _folded(layers, (out, channels, kernel, kernel))
        if stem:  # No padding here, so the input's mean can go into the bias.
            bias = bias - SCALE * np.einsum("ochw,c->o", filters, MEAN)
            filters = filters * SCALE
        # The stem's scaled weights are too small for float16, and few.
        w = graph.weight(f"{name}.weight", filters.astype(np.float32), half=half and not stem)
        b = graph.weight(f"{name}.bias", bias.astype(np.float32))
        pad = kernel // 2 if stride == 1 else 0
        return node("Conv", name, x, w, b, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def padded(name: str, x: str, channels: int, side: int) -> str:
        if not channels and not side:
            return x
        by = graph.weight(f"{name}.by", np.array([0, 0, 0, 0, 0, channels, side, side], np.int64))
        return node("Pad", name, x, by, mode="constant")

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
    node("MatMul", "embedding", x, graph.weight("projection", matrix, half=half))
    if next(layers, None) is not None:
        raise ModelError("The .dat file holds a larger network than dlib's face recognition ResNet.")
    takes, gives = ("image", ["batch", 3, SIDE, SIDE]), ("embedding", ["batch", DIMENSION])
    return graph.as_file("dlib_face_recognition_resnet_model_v1", takes=takes, gives=gives)


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


def read_layers(data: bytes) -> Iterator[tuple[str, Float32[np.ndarray, " n"]]]:
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
