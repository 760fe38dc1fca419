import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.metrics.quality import error_versus_discard


def test_the_curve_by_hand():
    genuine = np.array([0.9, 0.2, 0.8, 0.1])  # Two errors below 0.5.
    quality = np.array([0.9, 0.1, 0.2, 0.3])

    curve = error_versus_discard(genuine, quality, threshold=0.5, max_discard=0.75)

    assert curve.discarded.tolist() == [0, 0.25, 0.5, 0.75]
    assert curve.fnmr == pytest.approx([2 / 4, 1 / 3, 1 / 2, 0])
    assert curve.oracle == pytest.approx([2 / 4, 1 / 3, 0, 0])
    assert curve.area_random == 0.5
    assert curve.area == pytest.approx(((0.5 + 1 / 3) / 2 + (1 / 3 + 0.5) / 2 + 0.25) / 3)


def test_the_oracle_gains_everything_and_a_constant_quality_nothing():
    rng = np.random.default_rng(0)
    genuine = rng.normal(0.6, 0.2, 400)

    oracle = error_versus_discard(genuine, genuine, threshold=0.4)
    constant = error_versus_discard(genuine, np.ones(400), threshold=0.4)
    reverse = error_versus_discard(genuine, -genuine, threshold=0.4)

    assert oracle.gain == pytest.approx(1.0)
    assert oracle.area == oracle.area_oracle < oracle.area_random
    assert constant.gain == pytest.approx(0.0, abs=1e-9)
    assert np.allclose(constant.fnmr, np.mean(genuine < 0.4))
    assert reverse.gain < 0


@pytest.mark.slow
def test_ties_give_the_mean_over_all_orders():
    rng = np.random.default_rng(1)
    genuine, quality = rng.normal(0.5, 0.2, 60), rng.integers(0, 4, 60)

    curve = error_versus_discard(genuine, quality, threshold=0.4)

    slow = np.zeros(60)
    for _ in range(4000):
        order = np.lexsort([rng.random(60), quality])
        errors = (genuine < 0.4)[order]
        slow += [errors[k:].mean() for k in range(60)]
    assert curve.fnmr == pytest.approx(slow / 4000, abs=0.02)


def test_without_errors_there_is_nothing_to_gain():
    curve = error_versus_discard(np.ones(10), np.arange(10), threshold=0.5)

    assert (curve.area, curve.gain) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("quality", "options", "message"),
    [
        (np.ones(3), {}, "got 3 for 2"),
        (np.ones(2), {"max_discard": 1.0}, "between 0 and 1"),
        (np.array([0.5, np.nan]), {}, "NaN"),
    ],
)
def test_refuses_what_makes_no_curve(quality, options, message):
    with pytest.raises(EvaluationError, match=message):
        error_versus_discard(np.ones(2), quality, threshold=0.5, **options)
