"""TensorFlow Lite to ONNX for small convolutional networks: a dozen plain operators, weights as float16 or float32.

A `.tflite` file is a FlatBuffer. A table begins with the distance back to its vtable, which lists where each field is;
vectors, strings and tables are reached by relative offsets. Field numbers are those of the TensorFlow Lite schema.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError
from mien.zoo.foreign.onnxfile import OPSET, model_bytes

__all__ = ["Converter", "reading"]

_OPERATORS = {
    0: "ADD",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    17: "MAX_POOL_2D",
    19: "RELU",
    22: "RESHAPE",
    34: "PAD",
    54: "PRELU",
}
_DTYPES: dict[int, np.dtype[np.generic]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}
_SAME = 0


@contextmanager
def reading(network: str) -> Iterator[None]:
    """Say in one line what a damaged file, or one of another network, raises."""
    try:
        yield
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise ModelError(f"The .tflite file cannot be converted: damaged, or not a {network} ({error}).") from error


def _whole(channels: int) -> int:
    """Return how many channels a tensor gets: ONNX Runtime works in blocks of 16 and reorders around a broken one.

    The channels added are zero everywhere. Fewer than 16 are a head's answers, or the picture's colours.
    """
    return channels if channels < 16 else -(-channels // 16) * 16


class _Table:
    """A FlatBuffer table; fields are read by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - struct.unpack_from("<i", data, at)[0]
        self._vtable_size = struct.unpack_from("<H", data, self._vtable)[0]

    def _field(self, number: int) -> int:
        """Return where a field is, 0 where it has its default."""
        entry = 4 + 2 * number
        offset = struct.unpack_from("<H", self._data, self._vtable + entry)[0] if entry < self._vtable_size else 0
        return self._at + offset if offset else 0

    def scalar(self, number: int, kind: str = "<i") -> int:
        at = self._field(number)
        return int(struct.unpack_from(kind, self._data, at)[0]) if at else 0

    def table(self, number: int) -> _Table:
        at = self._field(number)
        return _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])

    def _vector(self, number: int) -> tuple[int, int]:
        at = self._field(number)
        if not at:
            return 0, 0
        start = at + struct.unpack_from("<I", self._data, at)[0]
        return start + 4, struct.unpack_from("<I", self._data, start)[0]

    def tables(self, number: int) -> list[_Table]:
        start, count = self._vector(number)
        places = range(start, start + 4 * count, 4)
        return [_Table(self._data, at + struct.unpack_from("<I", self._data, at)[0]) for at in places]

    def integers(self, number: int) -> list[int]:
        start, count = self._vector(number)
        return list(struct.unpack_from(f"<{count}i", self._data, start))

    def bytes(self, number: int) -> bytes:
        start, count = self._vector(number)
        if start + count > len(self._data):
            raise ValueError("a buffer ends beyond the file")
        return self._data[start : start + count]

    def text(self, number: int) -> str:
        return self.bytes(number).decode()


class Converter:
    """One walk over the operators; activations become NCHW, weights are laid out anew.

    Args:
        data: The file.
        network: What the graph is called.
        side: The only side of pictures that it takes, px; None where it takes any multiple of 32.
    """

    def __init__(self, data: bytes, network: str, *, side: int | None = None) -> None:
        if data[4:8] != b"TFL3":
            raise ValueError("no TFL3 mark")
        self._network, self._size = network, ["height", "width"] if side is None else [side, side]
        model = _Table(data, struct.unpack_from("<I", data)[0])
        # Codes above 127 stand in the newer field 3; the older field 0 is one byte.
        self._codes = [max(code.scalar(0, "<b"), code.scalar(3)) for code in model.tables(1)]
        (self._graph,) = model.tables(2)
        self._buffers = model.tables(4)
        self._tensors = self._graph.tables(0)
        self._constants: dict[int, np.ndarray] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._flat: set[int] = set()  # Answers of the form (batch, values).
        self._cells_first: set[int] = set()  # Tensors that have left NCHW for (batch, cells, values).

    def model(self) -> bytes:
        """Return the ONNX file."""
        for index, tensor in enumerate(self._tensors):
            if raw := self._buffers[tensor.scalar(2, "<I")].bytes(0):
                dtype = _DTYPES[tensor.scalar(1, "<b")]
                self._constants[index] = np.frombuffer(raw, dtype).reshape(tensor.integers(0))
        for operator in self._graph.tables(3):
            self._convert(operator)
        (put,), outputs = self._graph.integers(1), self._graph.integers(2)
        shapes = {put: ["batch", self._tensors[put].integers(0)[3], *self._size]}
        for index in outputs:
            last = self._tensors[index].integers(0)[-1]
            shapes[index] = ["batch", last] if index in self._flat else ["batch", "anchors", last]
        ends = {
            index: helper.make_tensor_value_info(self._name(index), TensorProto.FLOAT, shape)
            for index, shape in shapes.items()
        }
        graph = helper.make_graph(
            self._nodes, self._network, [ends[put]], [ends[index] for index in outputs], self._weights
        )
        return model_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))

    def _name(self, index: int) -> str:
        return self._tensors[index].text(3)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str, values: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _convert(self, operator: _Table) -> None:
        code = self._codes[operator.scalar(0, "<I")]
        kind = _OPERATORS.get(code)
        inputs, (output,) = operator.integers(1), operator.integers(2)
        out = self._name(output)
        match kind:
            case "DEQUANTIZE":  # Weights stored as float16.
                self._constants[output] = self._constants[inputs[0]].astype(np.float32)
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                self._convolution(operator.table(4), inputs, output, depthwise=kind == "DEPTHWISE_CONV_2D")
            case "MAX_POOL_2D":
                options = operator.table(4)
                self._plain(options, 5)
                strides, kernel = [options.scalar(2), options.scalar(1)], [options.scalar(4), options.scalar(3)]
                pads = self._pads(options, kernel, strides)
                self._node("MaxPool", [self._name(inputs[0])], out, kernel_shape=kernel, strides=strides, pads=pads)
            case "RELU":
                self._node("Relu", [self._name(inputs[0])], out)
            case "PRELU":
                self._prelu(self._name(inputs[0]), self._constants[inputs[1]].ravel(), out)
            case "ADD":
                self._plain(operator.table(4), 0)
                self._node("Add", [self._name(index) for index in inputs], out)
            case "PAD":
                before, after = self._constants[inputs[1]].astype(np.int64)[[0, 3, 1, 2]].T  # NHWC to NCHW
                channels = self._tensors[inputs[0]].integers(0)[3]
                after[1] = _whole(channels + after[1]) - _whole(channels)
                amounts = self._weight(f"{out}.pads", np.concatenate([before, after]))
                self._node("Pad", [self._name(inputs[0]), amounts], out, mode="constant")
            case "RESHAPE" if len(self._tensors[output].integers(0)) == 2:
                self._flatten(self._name(inputs[0]), self._tensors[inputs[0]].integers(0), output)
            case "RESHAPE":
                self._cells(inputs[0], output)
            case "CONCATENATION":
                options = operator.table(4)
                self._plain(options, 1)
                if options.scalar(0) != 1 or not self._cells_first.issuperset(inputs):
                    raise ValueError("a concatenation other than of all cells")
                self._node("Concat", [self._name(index) for index in inputs], out, axis=1)
            case _:
                raise ValueError(f"operator {code}")

    def _convolution(self, options: _Table, inputs: list[int], output: int, *, depthwise: bool) -> None:
        self._plain(options, 4 if depthwise else 3)
        out, is_answer = self._name(output), output in self._graph.integers(2)
        is_one_cell = self._tensors[output].integers(0)[1:3] == [1, 1]
        filters, bias = (self._constants[index].astype(np.float32) for index in inputs[1:3])
        # Plain: (out, h, w, in). Depthwise: (1, h, w, out). ONNX: (out, in / group, h, w).
        filters = filters.transpose(3, 0, 1, 2) if depthwise else filters.transpose(0, 3, 1, 2)
        kernel, strides = list(filters.shape[2:]), [options.scalar(2), options.scalar(1)]
        wider = [(0, _whole(size) - size) for size in filters.shape[:2]]
        if is_answer or is_one_cell:  # There is nothing to reorder around one cell, and answers keep their number.
            wider[0] = (0, 0)
        filters, bias = np.pad(filters, [*wider, (0, 0), (0, 0)]), np.pad(bias, wider[0])
        made = self._node(
            "Conv",
            [self._name(inputs[0]), self._weight(f"{out}.weight", filters), self._weight(f"{out}.bias", bias)],
            f"{out}.map" if is_answer else out,
            kernel_shape=kernel,
            strides=strides,
            pads=self._pads(options, kernel, strides),
            group=len(filters) if depthwise else 1,
        )
        if is_answer:
            self._flatten(made, self._tensors[output].integers(0), output)

    def _flatten(self, source: str, shape: list[int], output: int) -> None:
        """Turn (batch, values, 1, 1) into (batch, values)."""
        if shape[:3] != [1, 1, 1]:
            raise ValueError("an answer that is a map")
        self._node("Flatten", [source], self._name(output))
        self._flat.add(output)

    def _prelu(self, x: str, slope: np.ndarray, out: str) -> None:
        """Write ``a * x + relu((1 - a) * x)``: PReLU is no operator of ONNX Runtime's blocked layout, these are."""
        slope = np.pad(slope, (0, _whole(len(slope)) - len(slope))).astype(np.float32)

        def scaled(name: str, values: str, by: np.ndarray) -> str:
            filters = self._weight(f"{name}.weight", by.reshape(-1, 1, 1, 1))
            return self._node("Conv", [values, filters], name, kernel_shape=[1, 1], group=len(by))

        if (slope <= 1).all():
            above = self._node("Relu", [scaled(f"{out}.more", x, 1 - slope)], f"{out}.above")
        else:  # relu((1 - a) x) is (1 - a) relu(x) only where 1 - a is not negative.
            above = scaled(f"{out}.more", self._node("Relu", [x], f"{out}.above"), 1 - slope)
        self._node("Add", [scaled(f"{out}.all", x, slope), above], out)

    def _cells(self, source: int, output: int) -> None:
        """Turn (batch, anchors * values, rows, columns) into (batch, rows * columns * anchors, values)."""
        shape = self._tensors[output].integers(0)
        if len(shape) != 3:
            raise ValueError("a reshape to other than (batch, cells, values)")
        out = self._name(output)
        last = self._node("Transpose", [self._name(source)], f"{out}.nhwc", perm=[0, 2, 3, 1])
        self._node("Reshape", [last, self._weight(f"{out}.shape", np.array([0, -1, shape[2]], np.int64))], out)
        self._cells_first.add(output)

    @staticmethod
    def _plain(options: _Table, activation: int) -> None:
        if options.scalar(activation, "<b"):
            raise ValueError("a fused activation")

    @staticmethod
    def _pads(options: _Table, kernel: list[int], strides: list[int]) -> list[int]:
        """Return the padding of `SAME` for sizes that the stride divides: the odd pixel goes right and below."""
        if options.scalar(0, "<b") != _SAME:
            return [0, 0, 0, 0]
        total = [max(k - s, 0) for k, s in zip(kernel, strides, strict=True)]
        before = [amount // 2 for amount in total]
        return before + [amount - first for amount, first in zip(total, before, strict=True)]
