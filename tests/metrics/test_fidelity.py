import numpy as np
import pytest

from mien.data.degradation import add_noise, blur
from mien.drawing import draw_face
from mien.errors import EvaluationError
from mien.metrics.fidelity import psnr, ssim


@pytest.fixture(scope="module")
def face():
    return draw_face(3, side=64).image


def test_equal_pictures_are_as_near_as_can_be(face):
    assert psnr(face, face) == 60 and ssim(face, face) == pytest.approx(1)


def test_psnr_worked_by_hand():
    one, other = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(one, other) == pytest.approx(20 * np.log10(5))


def test_ssim_of_flat_pictures_compares_their_light_alone():
    one, other = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 200, np.uint8)
    light = 2.55**2
    assert ssim(one, other) == pytest.approx((2 * 100 * 200 + light) / (100**2 + 200**2 + light))


def test_the_more_a_picture_is_spoilt_the_farther_it_is(face, rng):
    for measure in (psnr, ssim):
        assert measure(blur(face, 1), face) > measure(blur(face, 4), face)
        assert measure(add_noise(face, 5, rng), face) > measure(add_noise(face, 40, rng), face)


def test_pictures_of_different_sizes_are_not_compared(face):
    with pytest.raises(EvaluationError, match="64 x 64 px beside 32 x 64 px"):
        ssim(face, face[:, :32])
