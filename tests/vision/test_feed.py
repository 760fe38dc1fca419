import numpy as np
import pytest

from mien.vision.feed import Feed, shrunk


@pytest.fixture
def batch(rng):
    return rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize(
    ("mean", "scale"), [((0, 0, 0), 1.0), ((127.5, 127.5, 127.5), 1 / 128), ((10, 20, 30), [0.5, 1.0, 2.0])]
)
def test_pictures_are_fed_by_the_plain_formula(batch, order, mean, scale):
    fed = Feed({"order": order, "mean": list(mean), "scale": scale})(batch)

    channels = [0, 1, 2] if order == "RGB" else [2, 1, 0]
    expected = np.stack(
        [(batch[..., c].astype(float) - mean[k]) * np.broadcast_to(scale, 3)[k] for k, c in enumerate(channels)], 1
    )
    assert fed.dtype == np.float32 and fed.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(fed, expected, rtol=1e-6, atol=1e-6)


def test_grey_is_the_weighted_sum_of_the_colours(batch):
    fed = Feed({"order": "GRAY", "mean": [100.0], "scale": 0.5})(batch)

    assert fed.shape == (3, 1, 20, 30)
    np.testing.assert_allclose(fed[:, 0], (batch @ [0.299, 0.587, 0.114] - 100) / 2, atol=0.3)


def test_feeding_leaves_the_pictures_as_they_were(batch):
    before = batch.copy()

    Feed({"mean": [1.0, 2.0, 3.0], "scale": 2.0})(batch)

    np.testing.assert_array_equal(batch, before)


@pytest.mark.parametrize("size", [(320, 240), (160, 120), (97, 71), (40, 30), (641, 481), (700, 60), (1, 1)], ids=str)
def test_a_resized_picture_keeps_everything_in_its_place(size):
    width, height = 641, 481
    x, y = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    ramps = np.stack(np.broadcast_arrays(x, y, 0 * x + 0 * y), axis=-1).round().astype(np.uint8)

    small = shrunk(ramps, size)

    # A ramp's value at the centre of each new pixel.
    across = ((np.arange(size[0]) + 0.5) * width / size[0] - 0.5) / (width - 1) * 255
    down = ((np.arange(size[1]) + 0.5) * height / size[1] - 0.5) / (height - 1) * 255
    assert small.shape == (size[1], size[0], 3)
    np.testing.assert_allclose(small[..., 0].mean(axis=0), across, atol=2)  # halving rounds up
    np.testing.assert_allclose(small[..., 1].mean(axis=1), down, atol=2)


@pytest.mark.parametrize("factor", [2, 3.3, 4, 7.9])
def test_a_checkerboard_turns_grey(factor):
    board = (np.indices((480, 640)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)

    small = shrunk(board, (round(640 / factor), round(480 / factor)))

    assert small.std() < 2 and abs(small.mean() - 127.5) < 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (3, 2)])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (2, 600)], ids=str)
def test_pictures_of_odd_shapes_can_be_resized(width, height, size):
    small = shrunk(np.full((height, width, 3), 77, np.uint8), size)

    assert small.shape == (size[1], size[0], 3) and (small == 77).all()
