import numpy as np
import onnxruntime
import pytest
import torch

from mien.errors import ModelError
from mien.networks.perceptual import IMAGENET, ImageFeatures
from mien.zoo.convert import convert
from mien.zoo.foreign.mobilenet import mobilenet
from zoo.mobilenet import legacy_file, random_network


@pytest.fixture(scope="module")
def network():
    return random_network()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "mobilenet.onnx"
    path.write_bytes(convert("mobilenet", legacy_file(network.state_dict())))
    return path


def test_the_converted_file_answers_as_the_network_it_came_from_at_any_size_and_batch(network, file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 32, 32), (3, 3, 64, 48)):
        images = 255 * torch.rand(shape)
        with torch.no_grad():
            wanted = network.maps(images)[-1].numpy()
        (got,) = session.run(["features"], {"image": images.numpy()})
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def test_another_state_dict_is_refused(network):
    state = network.state_dict()
    state["features.3.conv.1.0.weight"] = torch.zeros(2, 2)
    with pytest.raises(
        ModelError, match=r"expected features.3.conv.1.0.weight of shape \(144, 1, 3, 3\), got \(2, 2\)"
    ):
        mobilenet(legacy_file(state))


def test_feature_maps_are_those_of_the_network(network, file):
    images = 255 * torch.rand(2, 3, 64, 64)
    features = ImageFeatures((1, 3, 6, 13), file=file)

    with torch.no_grad():
        wanted = network.maps(images)
        maps = features(images)

    assert [m.shape[2] for m in maps] == [32, 16, 8, 4]
    assert features.channels == tuple(m.shape[1] for m in maps) == (16, 24, 32, 96)
    for got, stage in zip(maps, features.stages, strict=True):
        torch.testing.assert_close(got, wanted[stage - 1], rtol=0, atol=1e-4 * wanted[stage - 1].abs().max().item())


def test_a_grey_picture_is_seen_as_its_three_equal_channels(file):
    grey = 255 * torch.rand(2, 1, 32, 32)
    features = ImageFeatures((2,), file=file)

    assert torch.equal(features(grey)[0], features(grey.repeat(1, 3, 1, 1))[0])


def test_gradients_reach_the_picture_and_nothing_of_the_network_is_learned_or_kept(file):
    images = (255 * torch.rand(1, 3, 32, 32)).requires_grad_()
    features = ImageFeatures(file=file)
    features(images)[-1].sum().backward()

    assert images.grad is not None and images.grad.abs().sum() > 0
    assert not list(features.parameters()) and not features.state_dict()


def test_half_precision_moves_the_maps_by_a_little(file):
    images = 255 * torch.rand(2, 3, 32, 32)
    features = ImageFeatures((3,), file=file)
    (full,) = features(images)
    with torch.autocast("cpu", torch.bfloat16):
        (half,) = features(images)

    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize("stages", [(), (0, 1), (3, 1), (17, 18)])
def test_stages_that_the_network_has_not_are_refused(stages, file):
    with pytest.raises(ModelError, match="blocks from 1 to 17, ascending"):
        ImageFeatures(stages, file=file)


@pytest.mark.integration
def test_the_zoos_own_network_is_the_one_of_torchvision(pulled):
    session = onnxruntime.InferenceSession(pulled(IMAGENET), providers=["CPUExecutionProvider"])
    ramp = np.linspace(0, 255, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)

    (features,) = session.run(None, {"image": ramp})
    maps = ImageFeatures()(torch.from_numpy(ramp))

    # torchvision's module with these weights: two of the numbers, and the mean of all.
    np.testing.assert_allclose(features[0, [5, 6]], [0.0135841, 0.2971990], atol=1e-4)
    np.testing.assert_allclose(features.mean(), 0.0759252, atol=1e-5)
    assert [m.shape[1:] for m in maps] == [(16, 32, 32), (24, 16, 16), (32, 8, 8), (96, 4, 4)]
