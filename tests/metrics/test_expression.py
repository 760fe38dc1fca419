"""Figures of classes, against counting by hand."""

import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.metrics.calibration import expected_calibration_error, reliability
from mien.metrics.expression import accuracy, area_under_roc, confusion, intervals, macro_f1, per_class


def drawn(rng, pictures=400, classes=4, skill=1.0):
    """Draw labels, and probabilities that know them somewhat."""
    labels = rng.integers(classes, size=pictures)
    logits = rng.normal(size=(pictures, classes))
    logits[np.arange(pictures), labels] += skill
    shares = np.exp(logits)
    return labels, shares / shares.sum(axis=1, keepdims=True)


def test_agrees_with_counting(rng):
    labels, answers = rng.integers(3, size=60), rng.integers(3, size=60)

    table = confusion(labels, answers, classes=3)

    assert all(table[i, j] == sum((labels == i) & (answers == j)) for i in range(3) for j in range(3))
    assert accuracy(table) == np.mean(labels == answers)
    f1 = []
    for k, score in enumerate(per_class(table)):
        right = sum((labels == k) & (answers == k))
        precision, recall = right / sum(answers == k), right / sum(labels == k)
        f1.append(2 * precision * recall / (precision + recall))
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision, recall, f1[-1]))
        assert score.n == sum(labels == k)
    assert macro_f1(table) == pytest.approx(np.mean(f1))


def test_a_class_without_pictures_is_no_part_of_the_mean_but_costs_precision_of_nobody():
    table = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])

    scores = per_class(table)

    assert np.isnan(scores[2].f1) and np.isnan(scores[2].recall) and scores[2].precision == 0
    assert macro_f1(table) == pytest.approx((2 * 3 / 7 + 1) / 2)


def test_a_class_that_is_never_told_right_counts_nought():
    table = np.array([[5, 0], [5, 0]])

    assert per_class(table)[1].f1 == 0 and np.isnan(per_class(table)[1].precision)
    assert macro_f1(table) == pytest.approx((2 * 5 / 15) / 2)


@pytest.mark.parametrize("decimals", [1, 9], ids=["many ties", "no ties"])
def test_area_under_roc_is_the_share_of_pairs_in_the_right_order(rng, decimals):
    positive = rng.random(80) < 0.3
    scores = (rng.normal(size=80) + positive).round(decimals)

    pairs = scores[positive][:, None] - scores[~positive][None]

    assert area_under_roc(scores, positive) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_area_under_roc_needs_both_kinds():
    with pytest.raises(EvaluationError, match="got 3 positive, 0 negative"):
        area_under_roc(np.zeros(3), np.ones(3, bool))


def test_resampling_agrees_with_doing_it_picture_by_picture(rng):
    labels, probabilities = drawn(rng)
    answers = probabilities.argmax(axis=1)
    draws = np.random.default_rng(0).integers(len(labels), size=(300, len(labels)))  # the same draws

    tables = [confusion(labels[draw], answers[draw], classes=4) for draw in draws]
    limits = intervals(labels, probabilities, replicates=300)

    for measured, value in ((limits.accuracy, accuracy), (limits.macro_f1, macro_f1)):
        assert measured == pytest.approx(np.percentile([value(t) for t in tables], [2.5, 97.5]), abs=1e-6)
    second = [per_class(table)[1].f1 for table in tables]
    assert limits.f1[1] == pytest.approx(np.percentile(second, [2.5, 97.5]), abs=1e-6)


def test_pictures_of_one_subject_make_the_interval_wider(rng):
    # Each subject is told right always or never.
    subjects = np.repeat(np.arange(30), 10)
    labels = np.zeros(300, np.int64)
    probabilities = np.where((subjects % 3 == 0)[:, None], [[0.2, 0.8]], [[0.8, 0.2]])

    alone, grouped = intervals(labels, probabilities), intervals(labels, probabilities, subjects=subjects)

    width, wide = (np.ptp(limits.accuracy) for limits in (alone, grouped))
    assert wide > 2.5 * width


def test_all_right_still_has_an_interval(rng):
    labels = rng.integers(2, size=40)

    limits = intervals(labels, np.eye(2)[labels])

    assert limits.accuracy[1] == 1 and 0.9 < limits.accuracy[0] < 0.95


def test_of_a_single_subject_nothing_can_be_said(rng):
    labels, probabilities = drawn(rng, 20)

    assert np.isnan(intervals(labels, probabilities, subjects=np.zeros(20)).macro_f1).all()


def test_the_interval_of_the_calibration_error_holds_the_true_one(rng):
    """Cases whose confidence is 0.12 too high, drawn often: the interval covers 0.12 about as often as it says."""
    covered = 0
    for _ in range(40):
        confidence = rng.choice([0.7, 0.9], size=400)
        correct = rng.random(400) < confidence - 0.12
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        low, high = intervals((~correct).astype(np.int64), probabilities, replicates=200).ece
        covered += low <= 0.12 <= high
    assert covered >= 34


def test_reliability_tells_where_the_error_is():
    probability = np.array([0.95, 0.95, 0.95, 0.95, 0.55])
    correct = np.array([True, True, True, False, False])

    curve = reliability(probability, correct, bins=10)

    np.testing.assert_allclose(curve.confidence, [0.55, 0.95])
    np.testing.assert_allclose(curve.accuracy, [0.0, 0.75])
    assert curve.error == pytest.approx(expected_calibration_error(probability, correct, bins=10))
    assert curve.error == pytest.approx((0.55 + 4 * 0.2) / 5)


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(EvaluationError, match="labels should be 0 to 1, got 0 to 2"):
        confusion(np.array([0, 2]), np.array([0, 1]), classes=2)
    with pytest.raises(EvaluationError, match="one answer a picture, got 1 for 2"):
        confusion(np.array([0, 1]), np.array([0]), classes=2)
