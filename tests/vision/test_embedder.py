"""The embedder around its network: the vector of a crop is the mean colour of its left and right half, and a one."""

import json

import numpy as np
import pytest

from mien import zoo
from mien.alignment import TEMPLATES, align
from mien.errors import ModelError
from mien.vision import embedder as module
from mien.vision.embedder import Embedder
from vision.planted import make
from zoo import nets

SIDE = 112


def halves_network():
    """Return a network of seven outputs: mean of each channel in the left, then in the right half, then 1."""
    net = nets.Net(["n", 3, SIDE, SIDE])
    x = net.node("AveragePool", "x", kernel_shape=[SIDE, SIDE // 2], strides=[SIDE, SIDE // 2])
    x = net.node("Transpose", x, perm=[0, 3, 1, 2])
    x = net.node("Reshape", x, net.weight(np.array([0, 6], np.int64)))
    net.outputs = [net.node("Pad", x, net.weight(np.array([0, 0, 0, 1])), net.weight(np.float32(1)))]
    return net


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return halves_network().save(tmp_path_factory.mktemp("net") / "m.onnx")


@pytest.fixture
def embedder(network, monkeypatch):
    """Make an embedder; arguments go into its convention."""
    monkeypatch.setattr(zoo, "path", lambda name: network)
    return lambda **convention: Embedder(make("embedder", template="arcface-112", **convention), threads=1)


@pytest.fixture
def crops(rng):
    """Crops of many colours: noise on a colour of their own, left and right."""
    colours = rng.uniform(0, 200, (17, 1, 2, 3)).repeat(SIDE // 2, axis=2)
    return (colours + rng.uniform(0, 55, (17, SIDE, SIDE, 3))).astype(np.uint8)


def raw(crops, *, mean=(0, 0, 0), scale=1.0):
    """Work out what the network answers, before any length is made one."""
    fed = (crops.astype(float) - mean) * scale
    left, right = fed[:, :, : SIDE // 2].mean(axis=(1, 2)), fed[:, :, SIDE // 2 :].mean(axis=(1, 2))
    return np.column_stack([left, right, np.ones(len(crops))])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# What the network is fed


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_channels_mean_and_scale_are_those_of_the_card(embedder, crops, order):
    mean, scale = (10.0, 20.0, 30.0), 0.5
    fed = crops if order == "RGB" else crops[..., ::-1]  # the mean is in the network's order

    vectors = embedder(order=order, mean=mean, scale=scale).embed(crops)

    np.testing.assert_allclose(vectors, unit(raw(fed, mean=mean, scale=scale)), atol=1e-5)


def test_a_card_without_a_word_feeds_pixels_as_they_are(embedder, crops):
    np.testing.assert_allclose(embedder().embed(crops), unit(raw(crops)), atol=1e-5)


# Vectors


@pytest.mark.parametrize("convention", [{}, {"flip": True}, {"batch": 1}, {"batch": 3, "flip": True}], ids=str)
def test_a_batch_is_embedded_like_its_crops_one_by_one(embedder, crops, convention):
    one = embedder(**convention)

    together = one.embed(crops)

    assert together.shape == (17, 7) and together.dtype == np.float32
    np.testing.assert_allclose(together, np.concatenate([one.embed(crop[None]) for crop in crops]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_no_crops_give_no_vectors_of_the_cards_dimension(embedder):
    assert embedder(dimension=7).embed(np.empty((0, SIDE, SIDE, 3), np.uint8)).shape == (0, 7)


def test_flipping_averages_the_vectors_of_a_crop_and_its_mirror_image(embedder, crops):
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    expected = unit((raw(crops) + raw(mirrored)) / 2)

    flipping = embedder(flip=True)

    np.testing.assert_allclose(flipping.embed(crops), expected, atol=1e-5)
    np.testing.assert_allclose(flipping.embed(mirrored), flipping.embed(crops), atol=1e-6)
    assert np.abs(embedder().embed(mirrored) - embedder().embed(crops)).max() > 0.05


@pytest.mark.parametrize("flip", [False, True], ids=["as it is", "flipped"])
@pytest.mark.parametrize("keep", [0.0, 0.4, 1.0])
def test_variation_along_the_mean_is_damped_by_the_plain_formula(embedder, crops, monkeypatch, tmp_path, keep, flip):
    mean = raw(crops).mean(axis=0)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "crowd.json").write_text(json.dumps({"mean": mean.tolist()}))
    monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)

    vectors = embedder(mean_embedding="crowd", keep_along_mean=keep, flip=flip).embed(crops)

    direction = mean / np.linalg.norm(mean)
    expected = []
    for vector in (raw(crops) + raw(crops[:, :, ::-1])) / 2 if flip else raw(crops):
        along = vector @ direction
        across = vector - along * direction
        expected.append(across + direction * (np.linalg.norm(mean) + keep * (along - np.linalg.norm(mean))))
    np.testing.assert_allclose(vectors, unit(np.array(expected)), atol=1e-5)


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((1, SIDE, SIDE, 1), np.uint8),
        np.zeros((1, 100, 100, 3), np.uint8),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
        np.zeros((1, SIDE, SIDE, 3), np.float32),
    ],
    ids=["no batch", "grey", "other side", "channels first", "float"],
)
def test_crops_of_another_shape_or_type_are_refused(embedder, crops):
    with pytest.raises(
        ModelError, match=r"embeds uint8 crops of shape \(n, 112, 112, 3\), got (uint8|float32) of shape"
    ):
        embedder().embed(crops)


# Crops


def test_the_template_is_scaled_to_the_side_of_the_card(embedder, rng):
    image = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    points = np.array(TEMPLATES["arcface-112"][1])
    landmarks = np.float32([30, 20]) + points.astype(np.float32)

    double = embedder(side=224)

    assert double.side == 224
    np.testing.assert_array_equal(double.crop(image, landmarks), align(image, landmarks, points=2 * points, side=224))
    np.testing.assert_array_equal(embedder().crop(image, landmarks), image[20:132, 30:142])


def test_the_cards_landmark_weights_decide_who_gives_way(embedder, rng):
    image = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    landmarks = np.float32([30, 20]) + np.array(TEMPLATES["arcface-112"][1], np.float32)
    landmarks[3:, 1] += 15

    weighted = embedder(landmark_weights=[1, 1, 1, 0, 0]).crop(image, landmarks)

    np.testing.assert_array_equal(weighted, image[20:132, 30:142])
    assert (embedder().crop(image, landmarks) != weighted).any()


def test_an_unknown_template_is_refused_with_those_that_are_known():
    with pytest.raises(
        ModelError, match="'odd' wants template 'square'; known are arcface-112, dlib-140, dlib-150, face-64"
    ):
        Embedder(make("embedder", "odd", template="square"))


def test_cutting_a_face_out_opens_no_network(monkeypatch):
    def never(name):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(zoo, "path", never)
    landmarks = np.array(TEMPLATES["dlib-150"][1], np.float32)

    crop = Embedder(make("embedder", template="dlib-150")).crop(np.zeros((150, 150, 3), np.uint8), landmarks)

    assert crop.shape == (150, 150, 3)
