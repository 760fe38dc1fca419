"""SFace and its student `face-resnet27` as one network: the sum of their unit vectors, which lie in one space."""

from __future__ import annotations

from importlib import resources

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mien.errors import ModelError
from mien.zoo.foreign.onnxfile import model_bytes, parse_model
from mien.zoo.foreign.sface import sface

__all__ = ["STUDENT", "add_embedders", "sface_with_student"]

STUDENT = "face-resnet27.onnx"
"""The student's file among the weights that mien ships."""

SHARE = 0.5
"""What the student's unit vector is multiplied by. Chosen by `benchmarks/student.py`."""


def sface_with_student(data: bytes) -> bytes:
    """Convert the file of SFace, see `mien.zoo.foreign.sface`, and add the student to it.

    Raises:
        ModelError: The file is damaged or holds another network.
    """
    student = resources.files("mien").joinpath("weights", STUDENT).read_bytes()
    return add_embedders(sface(data), student, share=SHARE)


def add_embedders(first: bytes, second: bytes, *, share: float) -> bytes:
    """Return one network that gives the first one's unit vector plus a share of the second one's.

    Args:
        first: An ONNX file that takes ``image`` and gives ``embedding``.
        second: Another one, of the same crops and dimension.
        share: What the second one's vector is multiplied by.

    Raises:
        ModelError: They take or give other things than one another.
    """
    model, other = parse_model(first), parse_model(second)
    ends = [([value.name for value in m.graph.input], [value.name for value in m.graph.output]) for m in (model, other)]
    if ends != [(["image"], ["embedding"])] * 2:
        raise ModelError(f"Two embedders that take 'image' and give 'embedding' can be added, got {ends}.")
    graph = model.graph
    for part, prefix in ((graph, "first."), (other.graph, "second.")):
        _rename(part, prefix, keep={"image"})
    graph.node.extend(other.graph.node)
    graph.initializer.extend(other.graph.initializer)
    graph.initializer.append(numpy_helper.from_array(np.array(share, np.float32), "share"))
    unit = [
        helper.make_node(
            "LpNormalization", [f"{prefix}embedding"], [f"{prefix}unit"], name=f"{prefix}unit", axis=1, p=2
        )
        for prefix in ("first.", "second.")
    ]
    graph.node.extend(
        [
            *unit,
            helper.make_node("Mul", ["second.unit", "share"], ["second.share"], name="second.share"),
            helper.make_node("Add", ["first.unit", "second.share"], ["embedding"], name="embedding"),
        ]
    )
    graph.output[0].name = "embedding"
    newest = max(opset.version for m in (model, other) for opset in m.opset_import if opset.domain in ("", "ai.onnx"))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", newest))
    del graph.value_info[:]
    return model_bytes(model)


def _rename(graph: onnx.GraphProto, prefix: str, *, keep: set[str]) -> None:
    """Put a prefix before all names of a graph but those of its inputs, in place."""

    def renamed(name: str) -> str:
        return name if not name or name in keep else prefix + name

    for node in graph.node:
        node.name = renamed(node.name)
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for value in (*graph.initializer, *graph.output):
        value.name = renamed(value.name)
