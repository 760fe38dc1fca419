"""SFace of the OpenCV Zoo to an ONNX file that ONNX Runtime runs fast.

The published files lose time twice. Every initialiser is also a graph input, so nothing is folded; and PReLU is no
operator of the runtime's blocked layout, so the tensor is reordered around each of the 27. Written as two scalings by
one value a channel, ``a * x + relu((1 - a) * x)``, it is, and the network takes half the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float64
from onnx import helper, numpy_helper

from mien.errors import ModelError
from mien.zoo.foreign.onnxfile import Graph, parse_model

__all__ = ["sface"]

SIDE, DIMENSION = 112, 128


def sface(data: bytes) -> bytes:
    """Convert `face_recognition_sface_2021dec.onnx`, in float32 or with weights quantised in blocks.

    The graph takes `image`, float32 NCHW RGB 0 to 255 of 112 x 112 px, any batch, and gives `embedding`, (batch, 128),
    not normalised. Weights are dequantised, batch normalisation is folded into the layer before it, and weights are
    stored as float16, which is cast up on loading.

    Raises:
        ModelError: The file is damaged or holds another network.
    """
    layers = _layers(parse_model(data))
    graph = Graph()
    node = graph.node

    def weight(name: str, values: Float64[np.ndarray, "*shape"], *, half: bool = False) -> str:
        return graph.weight(name, np.ascontiguousarray(values, np.float16 if half else np.float32), half=half)

    def scaled(name: str, x: str, by: Float64[np.ndarray, " channels"]) -> str:
        filters = weight(f"{name}.weight", by.reshape(-1, 1, 1, 1))
        return node("Conv", name, x, filters, kernel_shape=[1, 1], group=len(by))

    def prelu(name: str, x: str, slope: Float64[np.ndarray, " channels"]) -> str:
        if (slope <= 1).all():
            above = node("Relu", f"{name}.above", scaled(f"{name}.more", x, 1 - slope))
        else:  # relu((1 - a) x) is (1 - a) relu(x) only where 1 - a is not negative.
            above = scaled(f"{name}.more", node("Relu", f"{name}.above", x), 1 - slope)
        return node("Add", name, scaled(f"{name}.all", x, slope), above)

    mean, scale = _take(layers, "Sub")[0], _take(layers, "Mul")[0]
    x, number = node("Sub", "centred", "image", weight("mean", mean.reshape(1, -1, 1, 1))), 0
    while (layer := next(layers))[0] == "Conv":
        name, (filters, bias, attributes) = f"layer{number}", layer[1:]
        gain, shift = _take(layers, "BatchNormalization")
        filters, bias = filters * gain[:, None, None, None], bias * gain + shift
        # The first layer's filters take in the pixels' scale and are then too small for float16.
        filters = filters * scale.item() if number == 0 else filters
        kernels = weight(f"{name}.weight", filters, half=number > 0)
        x = node("Conv", name, x, kernels, weight(f"{name}.bias", bias), **attributes)
        x = prelu(f"{name}.prelu", x, _take(layers, "PRelu")[0].ravel())
        number += 1
    if layer[0] != "BatchNormalization":
        raise ModelError(
            f"The file does not hold SFace: expected a BatchNormalization after its layers, got {layer[0]}."
        )
    gain, shift = layer[1:]
    matrix, bias = _take(layers, "Gemm")
    last_gain, last_shift = _take(layers, "BatchNormalization")
    by_channel = matrix.reshape(DIMENSION, len(gain), -1)
    bias = bias + np.einsum("dcp,c->d", by_channel, shift)
    matrix = (by_channel * gain[:, None]).reshape(DIMENSION, -1) * last_gain[:, None]
    x = node("Flatten", "flat", x)
    projection = weight("projection.weight", matrix, half=True)
    node("Gemm", "embedding", x, projection, weight("projection.bias", bias * last_gain + last_shift), transB=1)
    return graph.as_file("sface", takes=("image", ["batch", 3, SIDE, SIDE]), gives=("embedding", ["batch", DIMENSION]))


def _take(layers: Iterator[tuple[Any, ...]], kind: str) -> tuple[Any, ...]:
    layer = next(layers, ("nothing",))
    if layer[0] != kind:
        raise ModelError(f"The file does not hold SFace: expected a {kind} layer, got {layer[0]}.")
    return layer[1:]


def _layers(model: onnx.ModelProto) -> Iterator[tuple[Any, ...]]:
    """Yield the kind of each layer with its parameters, float64: in the order of the graph."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}

    def attributes(node: onnx.NodeProto) -> dict[str, Any]:
        return {item.name: helper.get_attribute_value(item) for item in node.attribute}

    def value(name: str) -> Float64[np.ndarray, "*shape"]:
        if name in stored:
            return np.asarray(stored[name], np.float64)
        node = made.get(name)
        if node is not None and node.op_type == "Reshape":
            return value(node.input[0]).reshape(stored[node.input[1]])
        if node is None or node.op_type != "DequantizeLinear":
            raise ModelError(f"The file does not hold SFace: '{name}' is no weight.")
        quantised, scale, zero = (value(part) for part in node.input)
        given = attributes(node)
        axis, block = given["axis"], given["block_size"]
        last = quantised.shape[axis]
        scale, zero = (np.repeat(part, block, axis=axis).take(range(last), axis=axis) for part in (scale, zero))
        return np.asarray((quantised - zero) * scale)

    for node in model.graph.node:
        given = attributes(node)
        if node.op_type == "Conv":
            filters = value(node.input[1])
            bias = value(node.input[2]) if len(node.input) > 2 else np.zeros(len(filters))
            kept = {key: given[key] for key in ("kernel_shape", "strides", "pads", "group")}
            yield "Conv", filters, bias, kept
        elif node.op_type == "BatchNormalization":
            gain, bias, mean, variance = (value(name) for name in node.input[1:5])
            gain = gain / np.sqrt(variance + given["epsilon"])
            yield node.op_type, gain, bias - mean * gain
        elif node.op_type in ("Sub", "Mul", "PRelu"):
            yield node.op_type, value(node.input[1])
        elif node.op_type == "Gemm":
            yield node.op_type, value(node.input[1]), value(node.input[2])
