import numpy as np
import pytest

from mien.data.occlusion import OCCLUSIONS, covered_region, occlude
from mien.drawing import draw_face


@pytest.fixture(scope="module")
def drawn():
    return draw_face(2, side=160)


@pytest.mark.parametrize("kind", OCCLUSIONS)
def test_only_what_is_covered_changes_and_the_same_seed_covers_it_again(drawn, kind):
    (image, region), again = (occlude(drawn.image, drawn.landmarks, np.random.default_rng(5), kind) for _ in range(2))
    assert np.array_equal(image, again[0]) and np.array_equal(region, again[1])
    assert 0.001 < region.mean() < 0.7
    assert (image != drawn.image).any(axis=2)[region].mean() > 0.5
    away = ~np.asarray(dilated(region, 4))
    assert np.array_equal(image[away], drawn.image[away])


def dilated(region, by):
    grown = region.copy()
    for _ in range(by):
        grown[1:] |= grown[:-1].copy()
        grown[:-1] |= grown[1:].copy()
        grown[:, 1:] |= grown[:, :-1].copy()
        grown[:, :-1] |= grown[:, 1:].copy()
    return grown


def test_a_mask_covers_the_mouth_and_glasses_cover_the_eyes(drawn):
    def covers(kind, point):
        x, y = np.rint(drawn.landmarks[point]).astype(int)
        return covered_region(drawn.image.shape, drawn.landmarks, kind, np.random.default_rng(1))[y, x]

    assert covers("mask", 3) and covers("mask", 4) and not covers("mask", 0)
    assert covers("glasses", 0) and covers("glasses", 1) and not covers("glasses", 3)
