import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.metrics.calibration import Calibration, cllr, expected_calibration_error, fit_logistic


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_recovers_the_line_that_made_the_scores(rng):
    # Two normals of one width have log-likelihood ratio (m1 - m0) / s^2 * (x - (m0 + m1) / 2).
    genuine, impostor = rng.normal(0.6, 0.2, 20_000), rng.normal(0.2, 0.2, 40_000)

    fit = fit_logistic(genuine, impostor)

    assert fit.slope == pytest.approx(0.4 / 0.04, rel=0.03)
    assert fit.intercept == pytest.approx(-10 * 0.4, rel=0.03)
    assert fit.probability(np.array([0.4]))[0] == pytest.approx(0.5, abs=0.02)


def test_no_other_line_is_likelier(rng):
    genuine, impostor = rng.normal(1, 1, 300), rng.normal(-1, 1, 500)
    fit = fit_logistic(genuine, impostor)

    def loss(slope, intercept):
        line = Calibration(slope, intercept)
        # Platt's targets, each kind weighing one half.
        p, q = line.probability(genuine), line.probability(impostor)
        high, low = 301 / 302, 1 / 502
        return -np.mean(high * np.log(p) + (1 - high) * np.log1p(-p)) - np.mean(
            low * np.log(q) + (1 - low) * np.log1p(-q)
        )

    best = loss(fit.slope, fit.intercept)
    for slope in (-1e-3, 0, 1e-3):
        for intercept in (-1e-3, 0, 1e-3):
            assert loss(fit.slope + slope, fit.intercept + intercept) >= best - 1e-12


def test_how_many_there_are_of_each_kind_does_not_move_the_probability(rng):
    genuine, impostor = rng.normal(1, 1, 2000), rng.normal(-1, 1, 2000)

    even, uneven = fit_logistic(genuine, impostor), fit_logistic(genuine, np.tile(impostor, 20))

    assert uneven.slope == pytest.approx(even.slope, rel=0.01)
    assert uneven.intercept == pytest.approx(even.intercept, abs=0.02)


def test_separable_scores_give_a_finite_slope():
    fit = fit_logistic(np.array([0.8, 0.9, 1.0]), np.array([0.0, 0.1, 0.2]))

    assert np.isfinite(fit.slope) and fit.slope > 0
    assert 0.5 < fit.probability(np.array([0.9]))[0] < 1.0


def test_binned_scores_give_the_same_line(rng):
    genuine, impostor = rng.normal(0.6, 0.2, 70_000), rng.normal(0.2, 0.2, 60_000)

    binned = fit_logistic(genuine, impostor)
    exact = fit_logistic(genuine[:60_000], impostor)

    assert binned.slope == pytest.approx(exact.slope, rel=0.02)


def test_failures_to_acquire_are_left_out():
    genuine, impostor = np.array([0.8, 0.5, 0.9]), np.array([0.6, 0.1, 0.2])

    with_failures = fit_logistic(np.append(genuine, -np.inf), np.append(impostor, -np.inf))

    assert with_failures == fit_logistic(genuine, impostor)


def test_extreme_scores_do_not_overflow():
    assert Calibration(1e6, 0.0).probability(np.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("genuine", "message"), [([0.5], "got 1"), ([0.5, np.nan], "NaN")])
def test_refuses_scores_that_fit_no_line(genuine, message):
    with pytest.raises(EvaluationError, match=message):
        fit_logistic(np.array(genuine), np.array([0.1, 0.2]))


def test_cllr_by_hand():
    # log2(1 + 1/3) for a genuine at 3:1, log2(1 + 3) = 2 for an impostor at 3:1.
    ratio = np.log([3.0])
    assert cllr(ratio, ratio) == pytest.approx((np.log2(4 / 3) + 2) / 2)
    assert cllr(np.array([50.0]), np.array([-50.0])) == pytest.approx(0, abs=1e-12)
    with pytest.raises(EvaluationError, match="0 genuine"):
        cllr(np.array([]), ratio)


def test_calibrating_lowers_cllr(rng):
    genuine, impostor = rng.normal(0.6, 0.2, 500), rng.normal(0.2, 0.2, 500)
    fit = fit_logistic(genuine, impostor)

    assert cllr(fit.llr(genuine), fit.llr(impostor)) < cllr(genuine, impostor)


def test_expected_calibration_error_by_hand():
    # Bin of 0.9: two of three right; bin of 0.3: none of one.
    probability, correct = np.array([0.9, 0.9, 0.9, 0.3]), np.array([True, True, False, False])

    assert expected_calibration_error(probability, correct, bins=10) == pytest.approx((abs(2 - 2.7) + 0.3) / 4)


def test_honest_confidence_has_little_calibration_error(rng):
    probability = rng.random(50_000)
    correct = rng.random(50_000) < probability

    assert expected_calibration_error(probability, correct) < 0.01
    assert expected_calibration_error(np.sqrt(probability), correct) > 0.1
    assert expected_calibration_error(np.ones(2), np.ones(2, bool)) == 0.0


@pytest.mark.parametrize(("probability", "message"), [([1.2, 0.1], "lie in"), ([0.5], "got 2 for 1")])
def test_refuses_what_is_no_probability(probability, message):
    with pytest.raises(EvaluationError, match=message):
        expected_calibration_error(np.array(probability), np.array([True, False]))
