"""SFace's conversion on a small network of the same kinds of layers, against ONNX Runtime on the file as published."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError
from mien.zoo.convert import convert

BLOCK = 8


class Published:
    """Builds a file as the OpenCV Zoo publishes it: every initialiser is an input too."""

    def __init__(self, *, quantised):
        self.rng = np.random.default_rng(0)
        self.quantised, self.nodes, self.weights, self.count = quantised, [], [], 0

    def stored(self, values, name=""):
        self.count += 1
        name = name or f"w{self.count}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, values):
        """Store a matrix or filters, quantised in blocks along the second axis if asked for."""
        if not self.quantised:
            return self.stored(values.astype(np.float32))
        flat = values.reshape(len(values), -1)
        blocks = -(-flat.shape[1] // BLOCK)
        padded = np.pad(flat, ((0, 0), (0, blocks * BLOCK - flat.shape[1]))).reshape(len(flat), blocks, BLOCK)
        scale = (np.abs(padded).max(axis=2) / 100 + 1e-6).astype(np.float32)
        zero = self.rng.integers(-9, 9, scale.shape).astype(np.int8)
        quantised = np.clip(np.round(padded / scale[..., None]) + zero[..., None], -128, 127).astype(np.int8)
        quantised = quantised.reshape(len(flat), -1)[:, : flat.shape[1]]
        parts = [self.stored(part) for part in (quantised, scale, zero)]
        name = self.node("DequantizeLinear", *parts, axis=1, block_size=BLOCK)
        return self.node("Reshape", name, self.stored(np.array(values.shape, np.int64)))

    def node(self, kind, *inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(kind, list(inputs), [f"n{self.count}"], **attributes))
        return f"n{self.count}"

    def norm(self, x, channels):
        values = [self.rng.uniform(0.5, 1.5, channels), *self.rng.normal(0, 0.2, (2, channels))]
        values.append(self.rng.uniform(0.5, 1.5, channels))
        names = [self.stored(value.astype(np.float32)) for value in values]
        return self.node("BatchNormalization", x, *names, epsilon=1e-3)

    def layer(self, x, channels, out, *, kernel=1, stride=1, group=1, steepest=0.9):
        filters = self.rng.normal(
            0, (1 / (channels // group * kernel**2)) ** 0.5, (out, channels // group, kernel, kernel)
        )
        x = self.node(
            "Conv", x, self.weight(filters), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4,
            group=group, dilations=[1, 1],
        )  # fmt: skip
        slopes = self.rng.uniform(-0.5, steepest, (out, 1, 1)).astype(np.float32)
        slopes[0] = steepest
        return self.node("PRelu", self.norm(x, out), self.stored(slopes))

    def file(self, *, weights_are_inputs=True, last="Gemm"):
        x = self.node("Sub", "data", self.stored(np.array([127.5], np.float32)))
        x = self.node("Mul", x, self.stored(np.array([1 / 128], np.float32)))
        x = self.layer(x, 3, 4, kernel=3, stride=8, steepest=1.3)
        x = self.layer(x, 4, 4, kernel=3, group=4)
        x = self.norm(self.layer(x, 4, 8), 8)
        x = self.node("Flatten", self.node("Dropout", x))
        matrix = self.rng.normal(0, 0.02, (128, 8 * 14 * 14))
        if last == "Gemm":
            x = self.node("Gemm", x, self.weight(matrix), self.stored(np.zeros(128, np.float32)), transB=1)
            self.norm(x, 128)
        value = helper.make_tensor_value_info
        inputs = [value("data", TensorProto.FLOAT, [1, 3, 112, 112])]
        if weights_are_inputs:
            inputs += [value(t.name, t.data_type, list(t.dims)) for t in self.weights]
        output = value(self.nodes[-1].output[0], TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "sface", inputs, [output], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def answers(model, pictures, name):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {name: picture[None]})[0] for picture in pictures])


@pytest.mark.parametrize("quantised", [False, True], ids=["float32", "quantised in blocks"])
def test_the_converted_network_answers_as_the_published_one(rng, quantised):
    pictures = rng.integers(0, 256, (3, 3, 112, 112)).astype(np.float32)

    converted = convert("sface", Published(quantised=quantised).file().SerializeToString())

    expected = answers(
        Published(quantised=quantised).file(weights_are_inputs=False).SerializeToString(), pictures, "data"
    )
    np.testing.assert_allclose(answers(converted, pictures, "image"), expected, atol=2e-3 * np.abs(expected).max())


def test_the_converted_network_takes_batches_and_only_the_picture(rng):
    converted = onnx.load_model_from_string(convert("sface", Published(quantised=True).file().SerializeToString()))

    assert [value.name for value in converted.graph.input] == ["image"]
    assert converted.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert not {node.op_type for node in converted.graph.node} & {"PRelu", "BatchNormalization", "DequantizeLinear"}


def test_the_same_bytes_in_give_the_same_bytes_out():
    data = Published(quantised=True).file().SerializeToString()

    assert convert("sface", data) == convert("sface", data)


def test_another_network_is_refused():
    with pytest.raises(ModelError, match="does not hold SFace: expected a Gemm layer, got nothing"):
        convert("sface", Published(quantised=False).file(last="nothing").SerializeToString())


def test_a_file_cut_short_is_refused():
    data = Published(quantised=False).file().SerializeToString()

    with pytest.raises(ModelError, match="not an ONNX file, or it is cut short"):
        convert("sface", data[: len(data) // 2])
