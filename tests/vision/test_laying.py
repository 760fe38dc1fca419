import numpy as np
import pytest

from mien.vision.laying import HARDLY, MUCH, blur_kernel, damp_colours, lay_change, spreads

SIDE = 48


@pytest.fixture
def face():
    # A smooth face with two lines across it, which the decoder does not draw.
    smooth = np.broadcast_to(np.linspace(60, 180, SIDE, dtype=np.float32)[:, None, None], (SIDE, SIDE, 3))
    lined = smooth.copy()
    lined[12] += 60
    lined[36] += 60
    return lined, smooth.copy()


def change_at(rows, levels):
    change = np.zeros((SIDE, SIDE, 3), np.float32)
    change[rows] = levels
    return change


def test_no_change_leaves_a_face_as_it_is(face):
    lined, smooth = face
    assert np.array_equal(lay_change(lined, smooth, np.zeros_like(lined)), lined)


def test_where_much_changes_details_make_room_and_elsewhere_they_stay(face):
    lined, smooth = face
    after = lay_change(lined, smooth, change_at(slice(4, 20), 2 * MUCH))
    stands_out = after - np.roll(after, 2, axis=0)
    assert np.abs(stands_out[12]).max() < 15  # of 60
    assert np.array_equal(after[36], lined[36])
    # Light is no detail: the change itself comes whole.
    assert np.allclose(after[16].mean() - smooth[16].mean(), 2 * MUCH, atol=12)


def test_what_hardly_changes_keeps_all_of_its_details(face):
    lined, smooth = face
    change = change_at(slice(None), 0.9 * HARDLY)
    assert np.allclose(lay_change(lined, smooth, change), lined + change)


def test_kernels_keep_the_light_and_reach_as_far_as_the_side_says():
    for side in (48, 96, 128):
        for sigma in spreads(side):
            kernel = blur_kernel(sigma)
            assert len(kernel) % 2 == 1 and np.isclose(kernel.sum(), 1) and np.allclose(kernel, kernel[::-1])
    assert spreads(96) == (4.0, 2.0)


def test_damped_colours_keep_lightness_and_a_quarter_of_the_rest():
    grey = np.full((2, 2, 3), 7, np.float32)
    assert np.allclose(damp_colours(grey), grey)
    red = np.zeros((1, 1, 3), np.float32)
    red[..., 0] = 40
    damped = damp_colours(red)[0, 0]
    assert np.isclose(damped[0] - damped[1], 10) and damped[1] == damped[2]
