import numpy as np
import pytest

from mien.alignment import similarity_transform
from mien.vision.blending import Layers, feather, match_border, transfer_colour


@pytest.fixture
def photograph():
    return np.random.default_rng(0).integers(60, 200, (60, 80, 3)).astype(np.uint8)


def at(left, top, size, side=32):
    """From px of the photograph to px of an aligned face of so many px."""
    corners = np.array([[left, top], [left + size - 1, top], [left, top + size - 1]], dtype=float)
    return similarity_transform(corners, np.array([[0, 0], [side - 1, 0], [0, side - 1]], dtype=float))


def test_a_change_lands_where_the_face_is_and_nowhere_else(photograph):
    layers = Layers(photograph)
    layers.add(np.full((32, 32, 3), 20, np.float32), feather(32, 0.1), at(30, 10, 32))
    change = layers.blended().astype(int) - photograph
    assert (change[18:34, 38:54] == 20).all()
    outside = np.ones((60, 80), dtype=bool)
    outside[9:43, 29:63] = False
    assert (change[outside] == 0).all()


def test_a_face_outside_of_the_picture_changes_nothing(photograph):
    layers = Layers(photograph)
    layers.add(np.full((32, 32, 3), 20, np.float32), feather(32), at(500, 500, 32))
    layers.replace(np.zeros((32, 32, 3), np.uint8), feather(32), at(-300, 0, 32))
    assert np.array_equal(layers.blended(), photograph)


def test_nothing_of_the_old_face_shines_through_where_the_mask_is_one(photograph):
    layers = Layers(photograph)
    layers.replace(np.full((32, 32, 3), 77, np.uint8), np.ones((32, 32), np.float32), at(20, 10, 40))
    assert (layers.blended()[14:46, 24:56] == 77).all()


def test_the_new_face_gets_the_grain_of_the_photograph():
    rng = np.random.default_rng(1)
    noisy = np.clip(128 + rng.normal(0, 8, (80, 80, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    smooth = np.full((32, 32, 3), 128, np.uint8)
    spreads = []
    for photograph in (noisy, np.full((80, 80, 3), 128, np.uint8)):
        layers = Layers(photograph)
        layers.replace(smooth, np.ones((32, 32), np.float32), at(10, 10, 60), grain=np.random.default_rng(2))
        spreads.append(layers.blended()[20:60, 20:60].std())
    assert spreads[0] == pytest.approx(8, rel=0.25) and spreads[1] == 0


def test_colour_and_light_follow_the_other_face():
    rng = np.random.default_rng(3)
    face, like = (
        np.clip(rng.normal(mean, 15, (32, 32, 3)), 0, 255).astype(np.uint8) for mean in ((90, 90, 90), (170, 120, 90))
    )
    moved = transfer_colour(face, like, np.ones((32, 32), np.float32))
    assert np.abs(moved.mean((0, 1)) - like.mean((0, 1))).max() < 4


def test_the_border_is_met_by_no_more_than_a_little():
    mask = feather(64, 0.3)
    face, like = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 108, np.uint8)
    assert np.abs(match_border(face, like, mask).astype(int) - 108).max() <= 1
    far = match_border(face, np.full((64, 64, 3), 250, np.uint8), mask)
    assert far.max() <= 120
