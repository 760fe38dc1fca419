import numpy as np
import pytest

from mien.types import Box
from mien.video.motion import Motion


def at(x, side=40.0):
    return Box(x, 10.0, x + side, 10.0 + side)


def moved(scale=1.0, steps=12):
    motion = Motion(at(0.0, 40.0 * scale), 0.0)
    for i in range(1, steps):
        motion.predict(i / 10)
        motion.correct(at(6.0 * i * scale, 40.0 * scale))
    return motion


def test_a_face_that_walks_is_expected_where_it_walks_to():
    motion = moved()
    motion.predict(1.4)
    assert motion.box.left == pytest.approx(6.0 * 14, abs=2) and motion.box.width == pytest.approx(40, abs=1)
    assert motion.speed == pytest.approx(60 / 40, rel=0.05)


def test_twice_as_near_is_twice_as_many_px_and_nothing_else():
    small, large = moved(1.0), moved(2.0)
    small.predict(1.5), large.predict(1.5)
    # Only the height above the picture's edge does not grow with it.
    assert large.box.left == pytest.approx(2 * small.box.left) and large.speed == pytest.approx(small.speed)


def test_uneven_steps_lead_to_the_same_place(rng):
    motion = Motion(at(0.0), 0.0)
    for time_s in np.sort(rng.uniform(0, 2, 30)):
        motion.predict(time_s)
        motion.correct(at(50.0 * motion.time_s))
    motion.predict(2.2)
    assert motion.box.left == pytest.approx(110, abs=3)


def test_time_that_has_passed_changes_nothing():
    motion = moved()
    before = motion.box
    motion.predict(0.3)
    assert motion.box == before


def test_a_slowed_face_stays_where_it_is():
    motion = moved()
    left = motion.box.left
    motion.slow(0.0)
    motion.predict(2.0)
    assert motion.box.left == pytest.approx(left)
