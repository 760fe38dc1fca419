import numpy as np
import pytest

from mien.studies.motion import LatentPaths, Motion, Pair, Still, Warps, mean_shapes, render

SIDE = 24
POINTS = np.random.default_rng(0).uniform(6, 18, (468, 2))


class Meshes:
    """Finds the same points everywhere, lower in brighter faces."""

    def read(self, image, detections):
        moved = POINTS + np.array([0, image.mean() / 50])
        return [np.column_stack([moved, np.zeros(468)]).astype(np.float32)], [1.0]


class Autoencoder:
    """Its latents are the mean grey and the expression that was asked for."""

    def __init__(self):
        self.asked = []

    def encode(self, faces):
        return faces.mean(axis=(1, 2, 3))[:, None].astype(np.float32)

    def moved(self, latents, *, shown, wanted):
        self.asked.append((shown, wanted))
        return latents - 40

    def decode(self, latents, *, expression):
        return np.tile(latents[:, :, None, None], (1, SIDE, SIDE, 3)).astype(np.uint8)


def still(level, label):
    image = np.full((SIDE, SIDE, 3), level, np.uint8)
    image[10:14] += 20
    return Still(image, label, "S1")


@pytest.fixture
def pair():
    return Pair(still(40, "sadness"), still(120, "happiness"))


def test_a_latent_path_is_straight_between_its_ends(pair):
    way = LatentPaths(Autoencoder()).between(pair)

    levels = way(np.array([0, 0.5, 1]))[:, 0, 0, 0]

    assert levels[1] == pytest.approx((levels[0] + levels[2]) / 2, abs=1) and levels[2] > levels[0] + 70


def test_a_neutral_face_that_nobody_photographed_is_an_edit():
    model = Autoencoder()

    LatentPaths(model).between(Pair(None, still(120, "happiness")))

    assert model.asked == [("happiness", "neutral")]


def test_a_warp_begins_and_ends_with_the_stills_themselves(pair):
    way = Warps({}, Meshes()).between(pair)

    first, middle, last = way(np.array([0, 0.5, 1]))

    assert np.allclose(first, pair.a.face) and np.allclose(last, pair.b.face)
    assert not np.allclose(middle, (first + last) / 2)  # bent, not only faded


def test_without_a_neutral_still_the_expressive_one_is_bent_by_mean_shapes():
    shapes = {"neutral": POINTS + np.array([0, 2]), "happiness": POINTS}
    pair = Pair(None, still(120, "happiness"))

    neutral, happy = Warps(shapes, Meshes()).between(pair)(np.array([0.0, 1.0]))

    assert np.allclose(happy, pair.b.face)
    rows = [np.average(np.arange(SIDE), weights=face[:, 12, 0] - 119) for face in (neutral, happy)]
    assert rows[0] > rows[1] + 0.5  # the bar lies lower in the shape of neutral faces


def test_mean_shapes_are_of_each_expression():
    shapes = mean_shapes([still(40, "sadness"), still(60, "sadness"), still(200, "happiness")], Meshes())

    assert set(shapes) == {"sadness", "happiness"} and shapes["happiness"].mean() > shapes["sadness"].mean()


def test_a_clip_goes_forwards_within_its_way_and_depends_on_its_seed(pair):
    way = LatentPaths(Autoencoder()).between(pair)
    motion = Motion(frames=7, least=0.5)

    frames, at = render(way, motion, np.random.default_rng(3))
    again, _ = render(way, motion, np.random.default_rng(3))
    other, _ = render(way, motion, np.random.default_rng(4))

    assert frames.shape == (7, SIDE, SIDE, 3) and frames.dtype == np.uint8
    assert (np.diff(at) >= 0).all() and at[0] >= 0 and at[-1] <= 1 + 1e-9 and at[-1] - at[0] >= 0.5 - 1e-9
    assert np.array_equal(frames, again) and not np.array_equal(frames, other)


def test_a_clip_may_be_asked_to_begin_where_the_way_does(pair):
    way = LatentPaths(Autoencoder()).between(pair)

    _, at = render(way, Motion(from_start=True), np.random.default_rng(0))

    assert at[0] == 0
