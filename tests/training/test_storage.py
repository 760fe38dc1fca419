"""Weights stored in fewer bits: smaller files, and answers that differ by rounding."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import helper, numpy_helper
from torch import nn

from mien.cli.export import export
from mien.errors import TrainingError, UsageError
from mien.evaluation.audit import LEARNED
from mien.networks.tracing import onnx_bytes
from mien.training.storage import byte_weights, half_weights, precision_of, share_constants, store_generator, stored
from mien.vision.generator import Generator
from vision.generators import LABELS, save_generator


@pytest.fixture(scope="module")
def network():
    """Filters, filters that enlarge, and matrices, each channel of another size, as ONNX."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 48, 3, 2, 1), nn.SiLU(), nn.ConvTranspose2d(48, 32, 4, 2, 1), nn.SiLU(), nn.Flatten(),
        nn.Linear(32 * 64, 24),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (layers[0], layers[2], layers[5]):
            layer.weight *= torch.logspace(-2, 1, len(layer.weight)).view(-1, *[1] * (layer.weight.ndim - 1))
    return onnx_bytes(layers.eval(), torch.zeros(2, 3, 8, 8), inputs=["image"], outputs=["answer"])


def answers(data):
    given = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    return onnxruntime.InferenceSession(data).run(None, {"image": given})[0]


@pytest.mark.parametrize(("precision", "room", "off"), [("fp16", 0.52, 2e-3), ("int8", 0.28, 8e-2)])
def test_stored_weights_take_less_room_and_round_the_answers(network, precision, room, off):
    small = stored(network, precision)

    exact, got = answers(network), answers(small)
    assert len(small) < room * len(network) and precision_of(small) == precision
    assert 0 < np.abs(got - exact).max() < off * exact.std()
    assert precision_of(network) is None


def test_eight_bits_have_a_step_for_each_channel(network):
    graph = byte_weights(onnx.load_from_string(network)).graph

    sizes = {item.name: onnx.numpy_helper.to_array(item).shape for item in graph.initializer}
    steps = [shape for name, shape in sizes.items() if name.endswith(".step")]
    assert len(steps) == 3 and {max(shape) for shape in steps} == {48, 24}  # the second has a row for each it takes


def test_what_is_stored_small_can_be_stored_again(network):
    small = stored(network, "int8")

    assert answers(stored(small, "int8")) == pytest.approx(answers(small))
    assert answers(stored(stored(network, "fp16"), "int8")) == pytest.approx(answers(small), abs=0.1)
    assert answers(stored(small, "fp16")) == pytest.approx(answers(small))


def test_what_is_no_factor_is_kept_in_half_precision_and_small_weights_as_they_are():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.randn(2000))
            self.few = nn.Parameter(torch.randn(7))

        def forward(self, x):
            return x * self.shift[:, None] + self.few

    data = onnx_bytes(Shifted().eval(), torch.zeros(2, 2000, 7), inputs=["x"], outputs=["y"])
    kinds = {max(item.dims): item.data_type for item in byte_weights(onnx.load_from_string(data)).graph.initializer}

    assert kinds[2000] == onnx.TensorProto.FLOAT16 and kinds[7] == onnx.TensorProto.FLOAT


def test_weights_too_large_for_half_precision_stay():
    layer = nn.Linear(64, 64, bias=False)
    nn.init.constant_(layer.weight, 1e5)
    data = onnx_bytes(layer, torch.zeros(2, 64), inputs=["x"], outputs=["y"])

    kinds = [item.data_type for item in half_weights(onnx.load_from_string(data)).graph.initializer]

    assert kinds == [onnx.TensorProto.FLOAT]


def test_a_generator_is_written_small_into_a_folder_that_can_be_audited(tmp_path):
    run = save_generator(tmp_path / "run", kind="vae", labels=LABELS, components=((0, 0.6), (1, 0.4)), encoder=True)
    (run / LEARNED).write_text("a" * 64)

    told = CliRunner().invoke(export, [str(run), "--quantize", "int8", "--json"])

    report, small = json.loads(told.stdout), tmp_path / "run-int8"
    assert report["schema"] == "mien/export-generator/1" and report["out"] == str(small)
    assert report["bytes"] == sum(file.stat().st_size for file in small.glob("*.onnx")) < report["bytes_before"]
    assert (small / LEARNED).read_text() == "a" * 64 and Generator(small).has_encoder
    assert Generator(small).card.id != Generator(run).card.id
    faces, same = (Generator(folder).generate(64).astype(float) for folder in (run, small))
    assert report["difference"] == pytest.approx(np.abs(faces - same).mean()) and report["difference"] < 1


def test_what_cannot_be_stored_small_is_refused_in_one_line(tmp_path):
    run = save_generator(tmp_path / "run", kind="vae")
    with pytest.raises(UsageError, match="is no run folder"):
        store_generator(Path("face-vae-64"), tmp_path / "out", "int8")
    with pytest.raises(UsageError, match="holds a model already"):
        store_generator(run, run, "fp16")
    result = CliRunner().invoke(export, [str(run)])
    assert isinstance(result.exception, UsageError) and "Give --quantize fp16 or int8" in str(result.exception)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"Cannot write '.*file/model'"):
        store_generator(run, tmp_path / "file" / "model", "fp16")


def test_constants_are_named_once_and_the_answers_stay_to_the_bit():
    nodes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.float32([2]), "a")),
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.float32([2]), "b")),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([3]), "c")),
        helper.make_node("Constant", [], ["flow/d"], value=numpy_helper.from_array(np.float32([2]), "d")),
        helper.make_node("Mul", ["x", "a"], ["ax"], name="long/name"),
        helper.make_node("Mul", ["ax", "b"], ["abx"]),
        helper.make_node("Add", ["abx", "c"], ["sum"]),
        helper.make_node("Add", ["sum", "flow/d"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )

    small = share_constants(model)

    made = [node.output[0] for node in small.graph.node if node.op_type == "Constant"]
    assert made == ["a", "c", "flow/d"] and not any(node.name for node in small.graph.node)
    x = np.float32([1.5])
    before, after = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"x": x})[0] for one in (model, small)
    )
    assert np.array_equal(before, after) and len(model.graph.node) == 8
