"""What all conversions share: how an ONNX file is written, and free sizes for one that has fixed ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError

__all__ = [
    "IR_VERSION",
    "OPSET",
    "Graph",
    "dequantise_blocks",
    "dynamic_size",
    "graph_digest",
    "model_bytes",
    "parse_model",
]

IR_VERSION, OPSET = 8, 13  # Old enough for every ONNX Runtime since 1.10 and for OpenCV's reader.


def model_bytes(model: onnx.ModelProto) -> bytes:
    """Return an ONNX file's bytes, the same for the same model."""
    model.producer_name, model.producer_version = "mien", ""
    if model.ir_version > IR_VERSION or not model.ir_version:
        model.ir_version = IR_VERSION
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class Graph:
    """A network while it is written down: its nodes and weights, in their order."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def node(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        """Add a node; its output has its name, which is returned."""
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, values: np.ndarray, *, half: bool = False) -> str:
        """Add a weight of the type that it has; or as float16, which is cast up on loading. Return its name."""
        if not half:
            self._weights.append(numpy_helper.from_array(values, name))
            return name
        self._weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        return self.node("Cast", name, f"{name}.half", to=TensorProto.FLOAT)

    def as_file(self, name: str, *, takes: tuple[str, Sequence[object]], gives: tuple[str, Sequence[object]]) -> bytes:
        """Return the ONNX file of the network; its input and its output are float32, each a name and a shape."""
        (put,), (got,) = ([helper.make_tensor_value_info(end[0], TensorProto.FLOAT, end[1])] for end in (takes, gives))
        graph = helper.make_graph(self._nodes, name, [put], [got], self._weights)
        return model_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


def parse_model(data: bytes) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        ModelError: It is none.
    """
    try:
        return onnx.load_model_from_string(data)
    except DecodeError:
        raise ModelError("This is not an ONNX file, or it is cut short.") from None


def dynamic_size(data: bytes) -> bytes:
    """Make batch, height and width of a fully convolutional ONNX file free."""
    model = parse_model(data)
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


def dequantise_blocks(model: onnx.ModelProto) -> None:
    """Write weights that are stored in blocks of small integers as float32, in place.

    The OpenCV Zoo quantises so, for the size of its files alone. ONNX Runtime does not run what its tool writes for
    biases, and folds nothing of the rest; what was replaced stays among the inputs, unused.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made: dict[str, onnx.TensorProto] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        blocked = node.op_type == "DequantizeLinear" and given.get("block_size")
        if not (blocked or (node.op_type == "Reshape" and node.input[0] in made)):
            kept.append(node)
            continue
        parts = [numpy_helper.to_array((made | stored)[name]) for name in node.input if name in made or name in stored]
        if len(parts) != len(node.input):  # Made by a node, not stored.
            kept.append(node)
            continue
        values = (
            _dequantised(parts, given.get("axis", 1), given["block_size"]) if blocked else parts[0].reshape(parts[1])
        )
        made[node.output[0]] = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), node.output[0])
    if not made:
        return
    used = {name for node in kept for name in node.input}
    weights = [tensor for tensor in (stored | made).values() if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    inputs = [value for value in graph.input if value.name in used]
    del graph.input[:]
    graph.input.extend(inputs)


def _dequantised(parts: Sequence[np.ndarray], axis: int, block: int) -> np.ndarray:
    values, scale = parts[:2]
    zero = parts[2] if len(parts) > 2 else np.zeros_like(scale)
    extent = values.shape[axis]
    scale, zero = (
        np.repeat(part.astype(np.float64), block, axis=axis).take(range(extent), axis=axis) for part in (scale, zero)
    )
    return np.asarray((values.astype(np.float64) - zero) * scale)


_UNSAID = frozenset(
    {"doc_string", "producer_name", "producer_version", "ir_version", "metadata_props", "model_version"}
)
"""Fields of an ONNX file that do not change what it computes; versions of the `onnx` package differ in them."""


def graph_digest(data: bytes) -> str:
    """Return the SHA-256 of an ONNX file's graph and weights: what it computes, not how it was written.

    Two files with the same digest have the same operators, in the same order and with the same attributes, and the same
    weights to the last bit. The order of fields, fields set to their default, remarks and the name of the program that
    wrote the file, all of which change with the versions of `onnx` and `protobuf`, do not count.

    Raises:
        ModelError: It is no ONNX file, or has fields that the installed `onnx` does not know.
    """
    model = parse_model(data)
    whole = model.SerializeToString(deterministic=True)
    model.DiscardUnknownFields()
    if model.SerializeToString(deterministic=True) != whole:
        # A field that this `onnx` cannot name is one that another ONNX Runtime may act upon.
        raise ModelError("The ONNX file has fields that the installed `onnx` does not know. Install a newer `onnx`.")
    digest = hashlib.sha256()
    _feed(digest.update, model)
    return digest.hexdigest()


def _feed(update: Callable[[bytes], None], message: Message) -> None:
    """Give every set field of a message, and of the messages in it, to a digest, each with its length in front."""
    for field, value in message.ListFields():
        single = isinstance(value, str | bytes | int | float) or (
            field.message_type is not None and hasattr(value, "ListFields")
        )
        if field.name in _UNSAID or (single and field.message_type is None and value == field.default_value):
            continue
        items = [value] if single else value
        update(f"{field.name}:{len(items)}[".encode())
        for item in items:
            if field.message_type is None:
                text = item if isinstance(item, bytes) else repr(item).encode()
                update(f"{len(text)}:".encode() + text)
            else:
                update(b"{")
                _feed(update, item)
                update(b"}")
        update(b"]")
