import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError, UsageError
from mien.networks import ExpressionNetConfig, count_macs, count_parameters, expression_net

HEADS = {"ferplus": 8, "fer2013": 7}
SMALL = {"stem": 4, "widths": (4, 8), "blocks": (1, 1)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("arch", ["residual", "face-trunk", "tutorial-cnn"])
@pytest.mark.parametrize(("side", "colour"), [(48, False), (64, True), (112, False)])
def test_every_architecture_answers_each_head_for_every_size_of_picture(arch, side, colour):
    net = expression_net(ExpressionNetConfig(arch=arch, side=side, colour=colour, **SMALL), HEADS).eval()
    answers = net(torch.rand(2, 3 if colour else 1, side, side) * 255)
    assert {name: tuple(logits.shape) for name, logits in answers.items()} == {"ferplus": (2, 8), "fer2013": (2, 7)}


def test_a_net_for_odd_sides_keeps_every_line():
    net = expression_net(ExpressionNetConfig(side=50, stem=4, widths=(4, 8, 8), blocks=(1, 1, 1)), {"a": 3}).eval()
    assert net.trunk(torch.zeros(1, 1, 50, 50)).shape[2:] == (13, 13)


@pytest.mark.parametrize("arch", ["residual", "face-trunk", "tutorial-cnn"])
def test_no_default_network_has_more_than_five_million_parameters(arch):
    assert count_parameters(expression_net(ExpressionNetConfig(arch=arch), HEADS)) < 5e6


def test_a_residual_network_begins_as_its_shortcuts():
    net = expression_net(ExpressionNetConfig(**SMALL), HEADS)
    block = net.trunk[-2]
    x = torch.rand(3, 4, 6, 6)
    torch.testing.assert_close(block(x), torch.relu(x))


def test_macs_are_those_counted_by_hand():
    net = expression_net(ExpressionNetConfig(arch="tutorial-cnn"), {"a": 8})
    by_hand = 48 * 48 * 32 * 9 + 24 * 24 * 64 * 32 * 9 + 64 * 36 * 128 + 128 * 8
    assert count_macs(net, torch.zeros(1, 1, 48, 48)) == by_hand
    assert count_macs(net, torch.zeros(3, 1, 48, 48)) == 3 * by_hand
    assert net.training


def test_macs_of_a_strided_and_of_a_pointwise_convolution():
    net = expression_net(ExpressionNetConfig(side=16, stem=4, widths=(4, 8), blocks=(1, 1)), {"a": 5})
    first = 16 * 16 * (4 * 9 + 2 * 4 * 4 * 9)
    second = 8 * 8 * (8 * 4 * 9 + 8 * 8 * 9 + 8 * 4)
    assert count_macs(net, torch.zeros(1, 1, 16, 16)) == first + second + 8 * 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"arch": "vgg"},
        {"widths": (8, 8)},
        {"widths": (), "blocks": ()},
        {"blocks": (1, 0, 1)},
        {"side": 8},
        {"drop": 1.0},
        {"stride": 3},
        {"stem": 0},
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(wrong):
    with pytest.raises(UsageError):
        ExpressionNetConfig(**wrong)


def folded_recogniser(file):
    """A file laid out as the catalogue's recogniser, with small random weights."""
    rng, weights = np.random.default_rng(0), []

    def conv(name, shape):
        size = np.prod(shape[1:])
        weights.append(numpy_helper.from_array(rng.normal(0, size**-0.5, shape).astype(np.float32), f"{name}.weight"))
        weights.append(numpy_helper.from_array(rng.normal(0, 0.1, shape[0]).astype(np.float32), f"{name}.bias"))

    conv("stem", (32, 3, 7, 7))
    channels = 32
    widths = [32] * 3 + [64] * 4 + [128] * 3 + [256] * 4
    for index, width in enumerate(widths):
        conv(f"block{index}.conv1", (width, channels, 3, 3))
        conv(f"block{index}.conv2", (width, width, 3, 3))
        channels = width
    graph = helper.make_graph([], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [], weights)
    onnx.save(helper.make_model(graph), file)
    return {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in weights}


def test_a_face_trunk_computes_what_the_folded_recogniser_would(tmp_path):
    values = folded_recogniser(tmp_path / "net.onnx")
    net = expression_net(ExpressionNetConfig(arch="face-trunk", colour=True), HEADS).eval()
    images = torch.rand(4, 3, 48, 48) * 255
    net.load_recogniser(tmp_path / "net.onnx", images)

    x = torch.nn.functional.interpolate(images, scale_factor=2.0, mode="bilinear", align_corners=False)
    # Its border is the mean, not black: elsewhere the first layer is the recogniser's own, normalisation included.
    plain = torch.nn.functional.conv2d(x, values["stem.weight"], values["stem.bias"], 2, 3)
    ours = net.norm(net.stem((x - 128) / 64))
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], plain[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-2)

    y = torch.rand(4, 32, 12, 12)
    block = net.blocks[0]
    folded = torch.nn.functional.conv2d(y, values["block0.conv1.weight"], values["block0.conv1.bias"], 1, 1)
    torch.testing.assert_close(block.norm1(block.conv1(y)), folded, rtol=1e-3, atol=1e-3)
    assert net.norm.running_mean.abs().sum() > 0


def test_a_file_of_another_network_is_no_face_trunk(tmp_path):
    graph = helper.make_graph([], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [], [])
    onnx.save(helper.make_model(graph), tmp_path / "other.onnx")
    net = expression_net(ExpressionNetConfig(arch="face-trunk"), HEADS)
    with pytest.raises(ModelError, match="no fitting layer stem"):
        net.load_recogniser(tmp_path / "other.onnx", torch.zeros(1, 1, 48, 48))
