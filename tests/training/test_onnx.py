"""Networks as ONNX: the same answers, smaller or faster."""

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession

from mien.errors import TrainingError
from mien.networks import ExpressionNetConfig, expression_net
from mien.training import onnx as written
from mien.training.onnx import half_weights, quantised, write_onnx

HEADS = {"ferplus": 8, "fer2013": 7}


@pytest.fixture
def network(rng):
    """A small network that has seen some faces, so that its normalisation is no identity."""
    torch.manual_seed(0)
    net = expression_net(ExpressionNetConfig(side=24, stem=8, widths=(16, 32), blocks=(1, 1)), HEADS)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)  # blocks begin as mere shortcuts
    for _ in range(30):
        net(torch.rand(16, 1, 24, 24) * 255)
    return net.eval()


def answers(model, faces):
    session = InferenceSession(model if isinstance(model, bytes) else model.SerializeToString())
    return dict(zip(HEADS, session.run(list(HEADS), {"image": faces}), strict=True))


def faces(rng, count=5):
    return (rng.random((count, 1, 24, 24)) * 255).astype(np.float32)


@pytest.mark.parametrize("arch", ["residual", "face-trunk", "tutorial-cnn"])
def test_every_architecture_answers_as_in_pytorch_for_any_number_of_faces(tmp_path, rng, arch):
    torch.manual_seed(0)
    net = expression_net(ExpressionNetConfig(arch=arch, side=48, widths=(16, 32), blocks=(1, 1)), HEADS).eval()

    difference = write_onnx(net, tmp_path / "model.onnx", side=48, channels=1)

    assert difference < 1e-4
    shown = (rng.random((3, 1, 48, 48)) * 255).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(shown))
    for name, got in answers((tmp_path / "model.onnx").read_bytes(), shown).items():
        np.testing.assert_allclose(got, expected[name].numpy(), atol=1e-4)


def test_normalisation_is_folded_and_the_network_left_as_it_was(tmp_path, network):
    network.train()
    network.heads.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    write_onnx(network, tmp_path / "model.onnx", side=24, channels=1)

    assert "BatchNormalization" not in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert network.training and not network.heads.training and network.trunk.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_file_that_answers_otherwise_is_not_written(tmp_path, network, monkeypatch):
    def wrong(data, faces, heads):
        return {name: np.zeros((len(faces), HEADS[name]), np.float32) + 9 for name in heads}

    monkeypatch.setattr(written, "_run", wrong)

    with pytest.raises(TrainingError, match="answers otherwise than PyTorch"):
        write_onnx(network, tmp_path / "model.onnx", side=24, channels=1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, network):
    with pytest.raises(TrainingError, match="Cannot write"):
        write_onnx(network, tmp_path / "none" / "model.onnx", side=24, channels=1)


@pytest.fixture
def model(tmp_path, network):
    write_onnx(network, tmp_path / "model.onnx", side=24, channels=1)
    return onnx.load(tmp_path / "model.onnx")


def test_half_weights_take_half_the_room_and_round_the_answers(model, rng):
    half = half_weights(model)

    assert half.ByteSize() < 0.6 * model.ByteSize()
    for name, got in answers(half, faces(rng)).items():
        exact = answers(model, faces(np.random.default_rng(0)))[name]
        np.testing.assert_allclose(got, exact, atol=5e-3)
        assert (got != exact).any()


def test_eight_bits_take_little_room_and_keep_the_answers_near(model, rng):
    small = quantised(model, faces(rng, 64))

    weights = {weight.name: weight.data_type for weight in small.graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for kind in weights.values()) >= 8  # all convolutions and both heads
    assert small.ByteSize() < 0.6 * model.ByteSize()  # of a real network less: scales and names take room, too
    shown = faces(rng)
    exact, got = answers(model, shown), answers(small, shown)
    for name in HEADS:
        spread = exact[name].std()
        assert 0 < np.abs(got[name] - exact[name]).max() < 0.5 * spread


def test_nodes_can_be_kept_in_float(model, rng):
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")

    kept = quantised(model, faces(rng, 32), keep_float=(first,))

    inputs = {node.output[0]: node.op_type for node in kept.graph.node}
    assert inputs.get(next(node for node in kept.graph.node if node.name == first).input[1]) != "DequantizeLinear"
