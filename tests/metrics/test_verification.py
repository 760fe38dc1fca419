import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import EvaluationError
from mien.metrics.verification import (
    accuracy,
    at_threshold,
    best_accuracy_threshold,
    det,
    eer,
    fnmr_at_fmr,
    folded_accuracy,
    folds_in_order,
    permissive_threshold,
    resampled_eer,
    resampled_fnmr,
    roc,
    tar_at_fmr,
)

FAILED = -np.inf


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def every_threshold(genuine, impostor):
    """All thresholds that can change a decision, except those that would accept a failure to acquire."""
    scores = np.concatenate([genuine, impostor])
    scores = scores[np.isfinite(scores)]
    return np.unique(np.concatenate([scores, np.nextafter(scores, np.inf)]))


def fnmr_by_brute_force(genuine, impostor, fmr):
    """Try every threshold that can change a decision; slow, and obviously right."""
    return min(np.mean(genuine < t) for t in every_threshold(genuine, impostor) if np.mean(impostor >= t) <= fmr)


def eer_by_brute_force(genuine, impostor):
    """Walk up the thresholds to the crossing of FMR and FNMR and join the two points around it by a line."""
    before = None
    for t in every_threshold(genuine, impostor):
        point = (np.mean(impostor >= t), np.mean(genuine < t))
        if point[1] >= point[0]:
            if before is None:
                return point[1]
            (x0, y0), (x1, y1) = before, point
            share = (x0 - y0) / ((x0 - y0) + (y1 - x1))
            return x0 + share * (x1 - x0)
        before = point
    raise AssertionError("the highest threshold refuses everybody")


# Few distinct values, so that ties are common; a failure now and then.
score_lists = st.lists(st.sampled_from([FAILED, *np.round(np.linspace(-1, 1, 21), 1)]), min_size=1, max_size=40).map(
    np.array
)
usable = st.tuples(score_lists, score_lists).filter(lambda pair: np.isfinite(np.concatenate(pair)).any())


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "few ties"])
@pytest.mark.parametrize("fmr", [0.01, 0.1, 0.29, 1.0])
def test_fnmr_at_fmr_agrees_with_brute_force(rng, decimals, fmr):
    genuine = rng.normal(0.6, 0.2, size=150).round(decimals)
    impostor = rng.normal(0.3, 0.2, size=100).round(decimals)

    point = fnmr_at_fmr(genuine, impostor, fmr=fmr)

    assert point.fnmr == fnmr_by_brute_force(genuine, impostor, fmr)
    assert point.fmr == np.mean(impostor >= point.threshold) <= fmr


@given(usable, st.integers(1, 40))
def test_the_threshold_is_the_most_permissive_that_keeps_the_rate(scores, count):
    genuine, impostor = scores
    fmr = min(count, len(impostor)) / len(impostor)

    point = fnmr_at_fmr(genuine, impostor, fmr=fmr)

    assert point.fmr <= fmr
    assert point.fnmr == fnmr_by_brute_force(genuine, impostor, fmr)
    allowed = [t for t in every_threshold(genuine, impostor) if np.mean(impostor >= t) <= fmr]
    assert point.threshold == min(allowed)


def test_the_docstring_example_by_hand():
    point = fnmr_at_fmr(np.array([0.9, 0.4]), np.array([0.5, 0.1]), fmr=0.5)

    assert (point.fnmr, point.fmr, point.num_genuine, point.num_impostor) == (0.0, 0.5, 2, 2)
    assert 0.1 < point.threshold < 0.1 + 1e-9


def test_ties_at_the_threshold_are_all_refused():
    point = fnmr_at_fmr(np.array([0.5, 0.9]), np.array([0.5, 0.5, 0.5, 0.1]), fmr=0.5)

    assert (point.fmr, point.fnmr) == (0.0, 0.5)


@pytest.mark.parametrize("count", [29, 100, 1000, 3000])
def test_a_rate_of_k_in_n_allows_exactly_k_false_matches(count):
    impostor = np.linspace(0, 1, count)
    for k in (1, 7, count // 3, count - 1):
        point = fnmr_at_fmr(np.ones(1), impostor, fmr=k / count)
        assert np.count_nonzero(impostor >= point.threshold) == k


def test_float32_scores_decide_the_same_when_compared_later(rng):
    impostor = rng.normal(size=5000).astype(np.float32)

    point = fnmr_at_fmr(impostor + np.float32(2), impostor, fmr=1e-3)

    assert np.count_nonzero(impostor >= point.threshold) == 5
    assert isinstance(point.threshold, float)


def test_refuses_a_rate_too_small_to_measure():
    with pytest.raises(EvaluationError, match="needs at least 1000 impostor scores, got 50"):
        fnmr_at_fmr(np.ones(10), np.zeros(50), fmr=1e-3)


@pytest.mark.parametrize("fmr", [0.0, -0.1, 1.5, np.nan])
def test_refuses_a_rate_that_is_no_fraction(fmr):
    with pytest.raises(EvaluationError, match="fraction above 0"):
        fnmr_at_fmr(np.ones(10), np.zeros(50), fmr=fmr)


@pytest.mark.parametrize(
    ("genuine", "impostor", "message"),
    [
        ([], [0.1], "genuine scores, got shape"),
        ([0.1], [], "impostor scores, got shape"),
        ([np.nan, 0.1], [0.1], "genuine scores hold NaN"),
        ([0.1], [np.inf], "impostor scores hold NaN or"),
        ([FAILED], [FAILED], "nothing to measure"),
    ],
)
def test_refuses_scores_that_cannot_be_measured(genuine, impostor, message):
    with pytest.raises(EvaluationError, match=message):
        roc(np.array(genuine), np.array(impostor))


def test_intervals_are_wilsons_without_subjects_and_wider_with_few_subjects(rng):
    genuine, impostor = rng.normal(1, 1, 400), rng.normal(-1, 1, 400)
    subjects = np.arange(400) // 40  # Ten subjects of 40 comparisons, whose scores move together.
    genuine, impostor = genuine + np.repeat(rng.normal(0, 1, 10), 40), impostor + np.repeat(rng.normal(0, 1, 10), 40)
    pairs = np.stack([subjects, (subjects + 1) % 10], axis=1)

    alone = fnmr_at_fmr(genuine, impostor, fmr=0.1)
    together = fnmr_at_fmr(genuine, impostor, fmr=0.1, genuine_subjects=subjects, impostor_subjects=pairs)

    assert alone.fnmr_interval[0] < alone.fnmr < alone.fnmr_interval[1]
    assert np.ptp(together.fnmr_interval) > np.ptp(alone.fnmr_interval)
    assert np.ptp(together.fmr_interval) > np.ptp(alone.fmr_interval)


def test_a_foreign_threshold_is_measured_as_it_stands():
    point = at_threshold(
        np.array([0.9, 0.5, FAILED]), np.array([0.6, 0.5, 0.1]), threshold=0.5, target_fmr=1e-3, dataset="drawn"
    )

    assert point.fmr == pytest.approx(2 / 3)
    assert point.fnmr == pytest.approx(1 / 3)
    assert (point.target_fmr, point.threshold, point.dataset) == (1e-3, 0.5, "drawn")


@given(usable)
def test_the_curve_passes_through_every_corner_of_the_staircase(scores):
    genuine, impostor = scores
    curve = roc(genuine, impostor)

    points = set(zip(curve.fmr, curve.fnmr, strict=True))
    for t in every_threshold(genuine, impostor):
        fmr, fnmr = np.mean(impostor >= t), np.mean(genuine < t)
        # On or above the curve: some point of it is at least as good in both.
        assert any(f <= fmr and n <= fnmr for f, n in points)
    for t, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        assert (fmr, fnmr) == (np.mean(impostor >= t), np.mean(genuine < t))
    assert curve.fmr[-1] == 0.0 and curve.fnmr[-1] == 1.0


def test_the_curve_starts_at_the_failures_to_acquire():
    curve = roc(np.array([0.9, FAILED]), np.array([0.1, 0.2]))

    assert (curve.fmr[0], curve.fnmr[0]) == (1.0, 0.5)
    assert curve.tar[0] == 0.5


@given(usable)
def test_eer_agrees_with_brute_force(scores):
    assert eer(*scores) == pytest.approx(eer_by_brute_force(*scores), abs=1e-12)


@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.9, 0.8], 1.0),
        ([0.5, 0.5], [0.5, 0.5], 0.5),
        ([0.9, 0.8, 0.3], [0.5, 0.2, 0.1], 1 / 3),
        ([FAILED, FAILED, 0.9], [0.1, FAILED], 2 / 3),
    ],
    ids=["separable", "reversed", "all tied", "one swap each", "mostly failures"],
)
def test_eer_by_hand(genuine, impostor, expected):
    assert eer(np.array(genuine), np.array(impostor)) == pytest.approx(expected)


def test_det_keeps_each_target_and_equals_the_operating_points(rng):
    genuine, impostor = rng.normal(1, 1, 80).round(1), rng.normal(-1, 1, 200).round(1)
    targets = np.array([0.005, 0.05, 0.5, 1.0])

    curve = det(genuine, impostor, fmr=targets)

    for target, threshold, fmr, fnmr in zip(targets[::-1], curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        point = fnmr_at_fmr(genuine, impostor, fmr=target)
        assert (threshold, fmr, fnmr) == (point.threshold, point.fmr, point.fnmr)


@given(usable)
def test_det_falls_and_rises_and_never_accepts_a_failure(scores):
    curve = det(*scores)

    assert np.all(np.diff(curve.fmr) <= 0) and np.all(np.diff(curve.fnmr) >= 0)
    assert np.all(curve.fnmr >= np.mean(np.isneginf(scores[0])))
    assert np.all(np.isfinite(curve.thresholds))


def test_tar_counts_failures_as_refused():
    assert tar_at_fmr(np.array([0.9, 0.8, FAILED, 0.0]), np.array([0.1, 0.2]), fmr=0.5) == 0.5


def test_accuracy_counts_failures_of_both_kinds_as_errors():
    genuine, impostor = np.array([0.9, FAILED, 0.4]), np.array([0.1, FAILED, 0.6])

    assert accuracy(genuine, impostor, threshold=0.5) == pytest.approx(2 / 6)


@given(usable)
def test_no_threshold_is_more_accurate_than_the_best(scores):
    genuine, impostor = scores
    best = accuracy(genuine, impostor, threshold=best_accuracy_threshold(genuine, impostor))

    for t in every_threshold(genuine, impostor):
        assert accuracy(genuine, impostor, threshold=t) <= best


def test_the_best_threshold_lies_in_the_middle_of_the_gap():
    assert best_accuracy_threshold(np.array([0.8, 0.9]), np.array([0.2, 0.4])) == pytest.approx(0.6)


def test_the_best_threshold_between_neighbouring_floats_still_divides_them():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))

    threshold = best_accuracy_threshold(np.array([high]), np.array([low]))

    assert accuracy(np.array([high]), np.array([low]), threshold=threshold) == 1.0


def test_without_any_face_no_threshold_is_chosen():
    with pytest.raises(EvaluationError, match="failed to acquire"):
        best_accuracy_threshold(np.array([FAILED]), np.array([FAILED]))


def test_folded_accuracy_agrees_with_the_protocol_written_out(rng):
    same = np.tile(np.repeat([True, False], 30), 10)
    scores = rng.normal(np.where(same, 0.6, 0.3), 0.15)
    folds = np.repeat(np.arange(10), 60)

    result = folded_accuracy(scores, same, folds)

    for fold in range(10):
        rest = folds != fold
        best = max(np.mean((scores[rest] >= t) == same[rest]) for t in scores[rest])
        chosen = result.thresholds[fold]
        assert np.mean((scores[rest] >= chosen) == same[rest]) == pytest.approx(best)
        assert result.folds[fold] == pytest.approx(np.mean((scores[~rest] >= chosen) == same[~rest]))
    assert result.mean == pytest.approx(np.mean(result.folds))
    assert result.stderr == pytest.approx(np.std(result.folds, ddof=1) / np.sqrt(10))
    assert result.correct.mean() == pytest.approx(result.mean)


def test_a_fold_never_chooses_its_own_threshold():
    # Fold 1 would be right only with a threshold of its own; fold 0 never offers one.
    scores = np.array([0.9, 0.8, 0.2, 0.1, 0.4, 0.3])
    same = np.array([True, True, False, False, True, False])
    folds = np.array([0, 0, 0, 0, 1, 1])

    result = folded_accuracy(scores, same, folds)

    assert result.thresholds[1] == pytest.approx(0.5)
    assert result.folds[1] == 0.5


def test_failures_of_both_kinds_are_errors_in_folds():
    same = np.tile([True, False], 20)
    scores = np.where(same, 0.9, 0.1)
    scores[:2] = FAILED

    result = folded_accuracy(scores, same)

    assert result.folds[0] == 0.5 and result.folds[1] == 1.0
    assert not result.correct[:2].any()


def test_default_folds_hold_equally_many_of_each_kind():
    same = np.repeat([True, False], [30, 50])

    folds = folds_in_order(same)

    assert np.bincount(folds[same]).tolist() == [3] * 10
    assert np.bincount(folds[~same]).tolist() == [5] * 10
    assert np.all(np.diff(folds[same]) >= 0)


@pytest.mark.parametrize(("folds", "message"), [(np.zeros(4), "at least 2 folds, got 1"), (np.zeros(3), "4, 4 and 3")])
def test_refuses_folds_that_cannot_cross_validate(folds, message):
    with pytest.raises(EvaluationError, match=message):
        folded_accuracy(np.zeros(4), np.array([True, False] * 2), folds)


@settings(max_examples=40)
@given(usable, st.integers(0, 2**32 - 1))
def test_a_weighted_rate_equals_the_rate_of_repeated_comparisons(scores, seed):
    genuine, impostor = scores
    rng = np.random.default_rng(seed)
    genuine_weights = rng.integers(0, 3, size=(5, len(genuine))).astype(np.float32)
    impostor_weights = rng.integers(0, 3, size=(5, len(impostor))).astype(np.float32)
    targets = np.array([0.1, 0.5, 1.0])

    fnmr = resampled_fnmr(genuine, impostor, genuine_weights, impostor_weights, fmr=targets)
    equal = resampled_eer(genuine, impostor, genuine_weights, impostor_weights)

    for row in range(5):
        g = np.repeat(genuine, genuine_weights[row].astype(int))
        i = np.repeat(impostor, impostor_weights[row].astype(int))
        if not len(g) or not len(i):
            assert np.isnan(fnmr[row]).all() and np.isnan(equal[row])
        elif np.isfinite(np.concatenate([g, i])).any():
            assert equal[row] == pytest.approx(eer_by_brute_force(g, i), abs=1e-9)
            for column, target in enumerate(targets):
                assert fnmr[row, column] == pytest.approx(fnmr_by_brute_force(g, i, target))


def test_a_threshold_that_may_accept_all_is_minus_infinity():
    assert permissive_threshold(np.array([0.1, 0.2]), rate=1.0) == FAILED
