"""An embedder and its correction as one ONNX graph: crop in, corrected vector out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError
from mien.networks.identity import Projection
from mien.vision.embedder import mean_direction
from mien.zoo import Card
from mien.zoo.catalogue import COHORT
from mien.zoo.conventions import CONVENTIONS

__all__ = ["compose", "corrected_convention"]

_AFTER = ("flip", "mean_embedding", "keep_along_mean")  # what is done to a base's raw vectors at run time
_OLDEST_OPSET = 10  # Slice takes its bounds as inputs


def corrected_convention(base: Card) -> dict[str, Any]:
    """Return the input convention of the composed graph: the base's, all that follows the network being inside.

    Its ``kind`` is the convention that `mien models add` takes for it; empty where none says the same.
    """
    facts = {key: value for key, value in base.convention.items() if key not in _AFTER + COHORT}
    same = [item.name for item in CONVENTIONS.values() if _says_the_same(item.facts, facts)]
    return {**facts, "kind": same[0] if same else ""}


def compose(base: onnx.ModelProto, card: Card, projection: Projection) -> onnx.ModelProto:
    """Return a network that does all that the embedder does to a crop, then corrects the unit vector.

    Args:
        base: The embedder's network, for any number of crops at once.
        card: Its card: whether the mirror image is added, and what is damped along which mean.
        projection: The correction.

    Raises:
        ModelError: The base takes one picture at a time, or its operators are too old to be extended.
    """
    if card.convention.get("batch"):
        raise ModelError(f"'{card.name}' takes one picture at a time and cannot be corrected. Train on another one.")
    if any(opset.domain in ("", "ai.onnx") and opset.version < _OLDEST_OPSET for opset in base.opset_import):
        raise ModelError(f"'{card.name}' is written in an ONNX older than opset {_OLDEST_OPSET}. Export it anew.")
    model = onnx.ModelProto()
    model.CopyFrom(base)
    graph = model.graph
    dimension = projection.linear.in_features
    # A base that was itself composed has names of this kind already.
    depth = sum(node.output[0].startswith("mien_embedding") for node in graph.node)
    pixels, embedding = f"mien_pixels_{depth}", f"mien_embedding_{depth}"
    before, after = _Nodes(f"mien_before_{depth}"), _Nodes(f"mien_after_{depth}")

    taken = {value.name for value in graph.initializer}
    (source,) = [value for value in graph.input if value.name not in taken]
    network_input = source.name
    source.name = pixels
    x = graph.output[0].name
    if card.convention.get("flip"):
        last = np.iinfo(np.int64).min + 1
        bounds = [before.constant(np.array([value])) for value in (-1, last, 3, -1)]
        mirrored = before.add("Slice", pixels, *bounds)
        before.add("Concat", pixels, mirrored, name=network_input, axis=0)
        pairs = after.add("Reshape", x, after.constant(np.array([2, -1, dimension])))
        views = [after.add("Gather", pairs, after.constant(np.array(view)), axis=0) for view in (0, 1)]
        x = after.add("Mul", after.add("Add", *views), after.constant(np.array(0.5, np.float32)))
    else:
        before.add("Identity", pixels, name=network_input)
    along = mean_direction(card.convention.get("mean_embedding"), float(card.convention.get("keep_along_mean", 1.0)))
    if along is not None:
        # v - (1 - keep) (v d - length) d, written as a matrix and a shift.
        direction, length, keep = along
        x = after.linear(
            x, np.eye(dimension) - (1 - keep) * np.outer(direction, direction), (1 - keep) * length * direction
        )
    x = after.add("LpNormalization", x, axis=1, p=2)
    y = after.linear(x, *_weights(projection.linear))
    if projection.inner is not None and projection.outer is not None:
        hidden = after.add("Relu", after.linear(x, *_weights(projection.inner)))
        y = after.add("Add", y, after.linear(hidden, *_weights(projection.outer)))
    after.add("Identity", y, name=embedding)

    nodes = [*before.nodes, *graph.node, *after.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *after.constants])
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(embedding, TensorProto.FLOAT, ["batch", dimension]))
    return model


def _says_the_same(facts: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    keys = (facts.keys() | ours.keys()) - {"kind", "dimension"}
    return all(key in facts and key in ours and facts[key] == ours[key] for key in keys)


def _weights(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and shift of a linear layer, for vectors as rows."""
    return layer.weight.detach().cpu().numpy().T, layer.bias.detach().cpu().numpy()


class _Nodes:
    """Collects nodes and constants under names that no other graph uses."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{self.prefix}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"{self.prefix}_c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values.copy(), name))
        return name

    def linear(self, x: str, matrix: np.ndarray, shift: np.ndarray) -> str:
        product = self.add("MatMul", x, self.constant(matrix.astype(np.float32)))
        return self.add("Add", product, self.constant(shift.astype(np.float32)))
