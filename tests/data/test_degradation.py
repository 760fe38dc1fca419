import numpy as np
import pytest

from mien.data.degradation import (
    Damage,
    add_noise,
    blur,
    change_light,
    compress,
    cover,
    degrade,
    flatten,
    rotate,
    shrink,
    spoil,
)
from mien.drawing import draw_face


@pytest.fixture(scope="module")
def face():
    return draw_face(1, side=96).image


def flat(value, side=8):
    return np.full((side, side, 3), value, np.uint8)


def test_light_contrast_and_size_are_what_they_say():
    assert (change_light(flat(200), 0.1) == 20).all() and (change_light(flat(200), 2.0) == 255).all()
    two = np.concatenate([flat(100), flat(200)])
    assert set(flatten(two, 0.5).ravel().tolist()) == {125, 175}
    assert shrink(flat(7, 40), 0.25).shape == (10, 10, 3) and shrink(flat(7, 40), 0.01, least=8).shape == (8, 8, 3)


def test_noise_has_the_spread_asked_for_and_repeats_with_its_seed():
    grey = flat(128, 64)
    one, again = (add_noise(grey, 10, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, again) and one.std() == pytest.approx(10, rel=0.05)
    dark = change_light(grey, 0.5, noise=4, rng=np.random.default_rng(3))
    assert dark.mean() == pytest.approx(64, abs=0.2) and dark.std() == pytest.approx(4, rel=0.05)


def test_blur_and_compression_lose_detail_but_not_the_light(face):
    def detail(image):
        return np.abs(np.diff(image.astype(int), axis=1)).mean()

    assert detail(blur(face, 3)) < 0.7 * detail(face) and blur(face, 3).mean() == pytest.approx(face.mean(), abs=2)
    coded = compress(face, 5)
    assert coded.shape == face.shape and 0 < np.abs(coded.astype(int) - face).mean() < 20


def test_a_quarter_of_a_turn_is_that_of_numpy():
    image = np.zeros((9, 9, 3), np.uint8)
    image[4, 8] = 255
    turned = rotate(image, 90)
    assert turned[0:2, 4].max() > 200 and turned[4, 8].max() < 50


def test_a_cover_lies_where_it_is_put(face):
    covered = cover(face, np.array([48.0, 30.0]), width=20, height=10, colour=(1, 2, 3))
    assert (covered[30, 40:57] == (1, 2, 3)).all()
    assert np.array_equal(covered[45:], face[45:]) and not np.array_equal(covered, face)


def test_random_degradation_repeats_with_its_seed_and_leaves_some_as_they_are(face):
    pictures = [degrade(face, np.random.default_rng(seed)) for seed in range(40)]
    again = [degrade(face, np.random.default_rng(seed)) for seed in range(40)]
    assert all(np.array_equal(a, b) for a, b in zip(pictures, again, strict=True))
    same = sum(picture.shape == face.shape and np.array_equal(picture, face) for picture in pictures)
    assert 5 < same < 30


def test_a_spoilt_picture_keeps_its_size_and_follows_from_its_seed(face):
    for seed in range(12):
        one, again = (spoil(face, np.random.default_rng(seed)) for _ in range(2))
        assert one.shape == face.shape and one.dtype == np.uint8 and np.array_equal(one, again)


def test_the_share_asked_for_stays_clean(face):
    clean = sum(np.array_equal(spoil(face, np.random.default_rng(seed), Damage(clean=0.5)), face) for seed in range(60))
    assert 20 <= clean <= 40
    always = Damage(clean=1.0)
    assert np.array_equal(spoil(face, np.random.default_rng(0), always), face)
