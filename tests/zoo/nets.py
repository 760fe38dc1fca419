"""Tiny ONNX networks with the inputs and outputs of the real ones."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Collects nodes and weights of a graph with one input `x`."""

    def __init__(self, shape, kind=TensorProto.FLOAT):
        self.rng = np.random.default_rng(0)
        self.shape, self.kind, self.nodes, self.weights, self.outputs = shape, kind, [], [], []

    def weight(self, values, name=None):
        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind, *inputs, name=None, domain="", **attributes):
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def conv(self, x, channels, out):
        """Return a 1x1 convolution with weights that keep outputs small."""
        return self.node("Conv", x, self.weight(self.rng.normal(0, 0.01, (out, channels, 1, 1)).astype(np.float32)))

    def model(self, **options) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("x", self.kind, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs],
            self.weights,
        )
        domains = {node.domain for node in self.nodes}
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, 13 if not domain else 1) for domain in domains],
            ir_version=8,
        )

    def save(self, path: Path) -> Path:
        path.write_bytes(self.model().SerializeToString())
        return path


def embedder(side=112, *, batch="n", channels=3, dimension=64, batch_reshape=None, scale=1.0, extra=False) -> Net:
    """Average over quarters of the picture, then project."""
    net = Net([batch, channels, side, side])
    x = net.node("AveragePool", "x", kernel_shape=[side // 2] * 2, strides=[side // 2] * 2)
    x = net.node("Reshape", x, net.weight(np.array([batch_reshape or 0, -1], np.int64)))
    matrix = scale * net.rng.normal(size=(4 * channels, dimension))
    if extra:  # AdaFace gives the norm, too.
        net.outputs.append(net.node("ReduceL2", x, axes=[1], name="norm"))
    net.outputs.append(net.node("MatMul", x, net.weight(matrix.astype(np.float32)), name="embedding"))
    return net


def centerface(shape=(10, 3, 32, 32), *, sigmoid=True) -> Net:
    net = Net(list(shape))
    x = net.node("AveragePool", "x", kernel_shape=[4, 4], strides=[4, 4])
    heat = net.conv(x, 3, 1)
    net.outputs = [net.node("Sigmoid", heat) if sigmoid else net.node("Mul", heat, net.weight(np.float32(100)))]
    net.outputs += [net.conv(x, 3, out) for out in (2, 2, 10)]
    return net


def scrfd(shape=("n", 3, "h", "w"), *, order=range(9), anchors=2, fixed_rows=False) -> Net:
    """Nine outputs (rows, columns): scores, boxes and landmarks for strides 8, 16, 32, in a given order."""
    net, outputs = Net(list(shape)), []
    for columns in (1, 4, 10):
        for stride in (8, 16, 32):
            x = net.node("AveragePool", "x", kernel_shape=[stride] * 2, strides=[stride] * 2)
            x = net.node("Transpose", net.conv(x, 3, anchors * columns), perm=[0, 2, 3, 1])
            rows = (shape[2] // stride) ** 2 * anchors if fixed_rows else -1
            x = net.node("Reshape", x, net.weight(np.array([rows, columns], np.int64)))
            name = f"out{columns}_{stride}"
            outputs.append(net.node("Sigmoid" if columns == 1 else "Identity", x, name=name))
    net.outputs = [outputs[index] for index in order]
    return net


def yunet(*, names=("cls", "obj", "bbox", "kps")) -> Net:
    """Twelve outputs (1, rows, columns), sorted by stride and not by kind."""
    net = Net([1, 3, 640, 640])
    for stride in (8, 16, 32):
        for name, columns in zip(names, (1, 1, 4, 10), strict=True):
            x = net.node("AveragePool", "x", kernel_shape=[stride] * 2, strides=[stride] * 2)
            x = net.node("Transpose", net.conv(x, 3, columns), perm=[0, 2, 3, 1])
            x = net.node("Reshape", x, net.weight(np.array([1, -1, columns], np.int64)))
            kind = "Sigmoid" if columns == 1 else "Identity"
            net.outputs.append(net.node(kind, x, name=f"{name}_{stride}"))
    return net


def retinaface(*, order=(0, 1, 2), columns=(4, 2, 10), softmax=True) -> Net:
    """Boxes, scores and landmarks of two priors a cell, all strides in one output."""
    net, outputs = Net(["n", 3, "h", "w"]), []
    for wide in columns:
        levels = []
        for stride in (8, 16, 32):
            x = net.node("AveragePool", "x", kernel_shape=[stride] * 2, strides=[stride] * 2)
            x = net.node("Transpose", net.conv(x, 3, 2 * wide), perm=[0, 2, 3, 1])
            levels.append(net.node("Reshape", x, net.weight(np.array([0, -1, wide], np.int64))))
        x = net.node("Concat", *levels, axis=1)
        outputs.append(
            net.node("Softmax", x, axis=2) if wide == 2 and softmax else net.node("Mul", x, net.weight(np.float32(9)))
        )
    net.outputs = [outputs[index] for index in order]
    return net


def expression(side=224, classes=8, *, softmax=False, channels=3, batch="n", batch_reshape=None) -> Net:
    net = embedder(side, batch=batch, channels=channels, dimension=classes, batch_reshape=batch_reshape)
    if softmax:
        net.outputs = [net.node("Softmax", "embedding", axis=1)]
    return net
