"""Weights stored in fewer bits, and brought back to float32 as a network is loaded: smaller files, the same sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from jaxtyping import Float32, Int8
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mien.errors import TrainingError, UsageError
from mien.evaluation.audit import LEARNED
from mien.images import printable
from mien.training.run import write_result
from mien.vision.generator import Generator

__all__ = [
    "Precision",
    "StoredGenerator",
    "byte_weights",
    "channel_steps",
    "half_weights",
    "precision_of",
    "share_constants",
    "store_generator",
    "stored",
]

_SMALL = 1024  # values: a weight below this stays as it is, for it is no size and may matter
_LARGEST = 6e4  # that half precision holds
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # whose weights 8 bits are enough for
_HALF, _BYTE, _STEP = ".half", ".byte", ".step"

Values = Float32[np.ndarray, "..."]
Stored = tuple[list[TensorProto], list[NodeProto]]
Precision = Literal["fp16", "int8"]
_PARTS = (("model.onnx", "card.json"), ("encoder.onnx", "encoder.json"))
_COMPARED = 64  # faces


@dataclass(frozen=True, slots=True)
class StoredGenerator:
    """A generator written in fewer bits, and what that costs.

    Attributes:
        out: Its folder.
        bytes: Size of all its networks.
        bytes_before: The same before.
        difference: Mean difference of a px, in grey levels, between faces of the same seed.
    """

    out: Path
    bytes: int
    bytes_before: int
    difference: float


def store_generator(run: Path, out: Path, precision: Precision) -> StoredGenerator:
    """Write a run's generator and encoder with weights in half precision or 8 bits, into a folder of their own.

    The folder can be audited and published like the run; an audit of the run says nothing of it.

    Raises:
        MienError: The run is no finished generator, the folder holds one, or it cannot be written.
    """
    before = Generator(run)
    if before.card.source.kind != "run":
        raise UsageError(f"'{printable(run)}' is no run folder. Expected one of `mien train vae`, `gan` or `prior`.")
    if (out / _PARTS[0][0]).exists():
        raise UsageError(f"'{printable(out)}' holds a model already. Name another folder with --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        parts = [(run / network, run / card) for network, card in _PARTS if (run / network).exists()]
        sizes = [0, 0]
        for network, card in parts:
            data = network.read_bytes()
            small = stored(data, precision)
            sizes = [sizes[0] + len(small), sizes[1] + len(data)]
            write_result(out / network.name, small)
            write_result(out / card.name, card.read_bytes())
        if (run / LEARNED).exists():
            write_result(out / LEARNED, (run / LEARNED).read_bytes())
    except OSError as error:
        raise TrainingError(f"Cannot write '{printable(out)}': {error.strerror or error}. Name another one.") from error
    faces, same = (model.generate(_COMPARED).astype(np.float32) for model in (before, Generator(out)))
    return StoredGenerator(out, sizes[0], sizes[1], float(np.abs(faces - same).mean()))


def stored(network: bytes, precision: Precision) -> bytes:
    """Return an ONNX file whose weights are stored in half precision or in 8 bits."""
    store = byte_weights if precision == "int8" else half_weights
    return bytes(share_constants(store(onnx.load_from_string(network))).SerializeToString())


def share_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that names each constant once and its nodes not at all: a flow is up to 0.7 MB smaller.

    Parts with a prefix of their own, such as a flow, keep constants of their own, so that they can be taken out again.
    """
    known: dict[tuple[str, bytes], str] = {}
    other: dict[str, str] = {}
    answers = {item.name for item in model.graph.output}
    small = onnx.ModelProto()
    small.CopyFrom(model)
    del small.graph.node[:]
    for node in model.graph.node:
        if node.op_type == "Constant":
            part = node.output[0].rpartition("/")[0].partition("/")[0]
            value = onnx.NodeProto(attribute=node.attribute)
            for attribute in value.attribute:
                attribute.t.name = ""
            first = known.setdefault((part, value.SerializeToString()), node.output[0])
            if first != node.output[0] and node.output[0] not in answers:
                other[node.output[0]] = first
                continue
        kept = small.graph.node.add()
        kept.CopyFrom(node)
        kept.ClearField("name")
        kept.input[:] = [other.get(name, name) for name in kept.input]
    return small


def precision_of(network: bytes) -> Precision | None:
    """Return how the weights of an ONNX file are stored; None in full."""
    names = [weight.name for weight in onnx.load_from_string(network).graph.initializer]
    if any(name.endswith(_BYTE) for name in names):
        return "int8"
    return "fp16" if any(name.endswith(_HALF) for name in names) else None


def half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose weights are stored as float16 and cast up on loading: half the file, the same sums."""
    return _restored(model, _halved)


def byte_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose weights of products are stored as int8 with a scale for each channel, others as float16.

    A quarter of the file. Unlike a quantised network it calculates in float32, so that nothing has to be calibrated,
    and is no faster.
    """
    factors = {name for node in model.graph.node if node.op_type in _PRODUCTS for name in node.input[:2]}

    def rounded(name: str, values: Values) -> Stored | None:
        if name not in factors:
            return _halved(name, values)
        steps, size = channel_steps(values)
        kept = [numpy_helper.from_array(steps, f"{name}{_BYTE}"), numpy_helper.from_array(size, f"{name}{_STEP}")]
        return kept, [
            helper.make_node("Cast", [kept[0].name], [f"{name}.wide"], name=f"{name}.up", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.wide", kept[1].name], [name], name=f"{name}.scaled"),
        ]

    return _restored(model, rounded)


def _halved(name: str, values: Values) -> Stored | None:
    if np.abs(values).max() > _LARGEST:
        return None
    half = numpy_helper.from_array(values.astype(np.float16), f"{name}{_HALF}")
    return [half], [helper.make_node("Cast", [half.name], [name], name=f"{name}.up", to=TensorProto.FLOAT)]


def channel_steps(values: Values) -> tuple[Int8[np.ndarray, ...], Values]:
    """Return a weight in whole steps, -127 to 127, and their size, by its first axis or the last: what rounds less."""
    found = []
    for axis in (0, values.ndim - 1):
        others = tuple(other for other in range(values.ndim) if other != axis)
        size = (np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127).astype(np.float32)
        steps = np.rint(values / size)
        found.append((float(np.square(steps * size - values).sum()), steps.astype(np.int8), size))
    return min(found, key=lambda one: one[0])[1:]


def _restored(model: onnx.ModelProto, store: Callable[[str, Values], Stored | None]) -> onnx.ModelProto:
    """Return a model whose large weights are stored otherwise, each with the nodes that bring it back."""
    weights, nodes = [], []
    halves = {weight.name: weight for weight in model.graph.initializer if weight.name.endswith(_HALF)}
    ups = [node for node in model.graph.node if node.input and node.input[0] in halves]
    for weight in [*(item for item in model.graph.initializer if item.name not in halves), *_full(ups, halves)]:
        values = numpy_helper.to_array(weight)
        large = values.dtype == np.float32 and values.size >= _SMALL and not weight.name.endswith(_STEP)
        told = (store(weight.name, values) if large else None) or ([weight], [])
        weights += told[0]
        nodes += told[1]
    small = onnx.ModelProto()
    small.CopyFrom(model)
    del small.graph.initializer[:], small.graph.node[:]
    small.graph.initializer.extend(weights)
    small.graph.node.extend([*nodes, *(node for node in model.graph.node if node not in ups)])
    return small


def _full(ups: Sequence[NodeProto], halves: Mapping[str, TensorProto]) -> list[TensorProto]:
    """Return weights in float32 that nodes brought back from half precision."""
    return [
        numpy_helper.from_array(numpy_helper.to_array(halves[node.input[0]]).astype(np.float32), node.output[0])
        for node in ups
    ]
