"""Run folders of tiny restorers: every px gets some grey levels, covered ones more, and red px are taken for covers."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ADDED, COVERED = 10.0, 40.0  # grey levels on every px, and on those that it is told are covered
SIDE = 64


def save_restorer(folder, *, added=ADDED, gate=0.0, weight=1.0, template="loose-120", side=SIDE):
    """Write a run folder."""
    folder.mkdir(parents=True)

    def weights(name, values):
        return numpy_helper.from_array(np.asarray(values), name)

    nodes = [
        helper.make_node("Mul", ["covered", "more"], ["filled"]),
        helper.make_node("Add", ["image", "added"], ["lighter"]),
        helper.make_node("Add", ["lighter", "filled"], ["sum"]),
        helper.make_node("Clip", ["sum", "low", "high"], ["restored"]),
        helper.make_node("Slice", ["image", "zero", "one", "axis"], ["red"]),
        helper.make_node("Slice", ["image", "one", "two", "axis"], ["green"]),
        helper.make_node("Sub", ["red", "green"], ["redder"]),
        helper.make_node("Greater", ["redder", "limit"], ["is_red"]),
        helper.make_node("Cast", ["is_red"], ["found"], to=TensorProto.FLOAT),
    ]
    constants = [
        weights("more", np.float32(COVERED)), weights("added", np.float32(added)), weights("low", np.float32(0)),
        weights("high", np.float32(255)), weights("zero", np.int64([0])), weights("one", np.int64([1])),
        weights("two", np.int64([2])), weights("axis", np.int64([1])), weights("limit", np.float32(150)),
    ]  # fmt: skip
    pictures = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in (("image", 3), ("covered", 1), ("restored", 3), ("found", 1))
    ]
    graph = helper.make_graph(nodes, "tiny", pictures[:2], pictures[2:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    card = {
        "role": "restorer", "version": "1", "summary": "Tiny.", "licence": "none", "training_data": "none",
        "convention": {"kind": "residual", "template": template, "side": side, "multiple": 16, "order": "RGB",
                       "gate": gate, "weight": weight},
        "metrics": {},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return folder
