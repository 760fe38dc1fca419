import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import EvaluationError
from mien.metrics.intervals import (
    bootstrap_rate,
    mcnemar,
    paired_bootstrap,
    percentile_interval,
    rule_of_thirty,
    rule_of_three,
    subject_weights,
    wilson,
)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_where_the_score_test_just_rejects(case):
    errors, trials = case
    rate = errors / trials

    for limit in wilson(errors, trials):
        if 0 < limit < 1:
            z = (rate - limit) / math.sqrt(limit * (1 - limit) / trials)
            assert abs(z) == pytest.approx(1.959964, abs=1e-4)


def test_wilson_agrees_with_published_figures():
    # 99.83 % of 6,000 LFW pairs.
    low, high = wilson(5990, 6000)
    assert (round(100 * low, 2), round(100 * high, 2)) == (99.69, 99.91)
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0


@pytest.mark.parametrize(("errors", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_counts_that_are_no_rate(errors, trials):
    with pytest.raises(EvaluationError, match=f"got {errors} of {trials}"):
        wilson(errors, trials)


def test_rules_of_three_and_thirty_by_hand():
    assert rule_of_three(30_000) == pytest.approx(1e-4)
    assert rule_of_thirty(300_000) == pytest.approx(1e-4)
    assert rule_of_three(1) == rule_of_thirty(10) == 1.0
    # The rule stands for the exact 95 % limit of no error in n: (1 - p)^n = 0.05.
    assert rule_of_three(1000) == pytest.approx(1 - 0.05 ** (1 / 1000), rel=0.01)
    for rule in (rule_of_three, rule_of_thirty):
        with pytest.raises(EvaluationError, match="got 0"):
            rule(0)


def test_weights_count_what_a_resample_of_subjects_holds():
    within, between = np.array(["a", "a", "b", "c"]), np.array([["a", "b"], ["b", "c"], ["c", "c"]])

    for genuine, impostor in subject_weights(within, between, replicates=50, seed=3):
        drawn = genuine[:, [0, 2, 3]]
        assert np.all(drawn.sum(axis=1) == 3)  # Three subjects, drawn three times.
        assert np.array_equal(genuine[:, 0], genuine[:, 1])
        a, b, c = drawn.T
        assert np.array_equal(impostor, np.stack([a * b, b * c, c], axis=1))


def test_weights_come_in_chunks_that_make_up_all_replicates(monkeypatch):
    monkeypatch.setattr("mien.metrics.intervals.CHUNK", 100)
    subjects = np.arange(30)
    chunks = [w for (w,) in subject_weights(subjects, replicates=10, seed=1)]
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    monkeypatch.setattr("mien.metrics.intervals.CHUNK", 10_000)
    (whole,) = [w for (w,) in subject_weights(subjects, replicates=10, seed=1)]
    assert np.array_equal(np.concatenate(chunks), whole)


def test_one_seed_gives_one_answer():
    events, subjects = np.arange(60) % 7 == 0, np.arange(60) // 3

    first, again, other = (bootstrap_rate(events, subjects, seed=seed) for seed in (1, 1, 2))

    assert first == again != other


def test_the_bootstrap_agrees_with_resampling_written_out():
    rng = np.random.default_rng(0)
    subjects = rng.integers(0, 20, size=(300, 2))
    subjects = subjects[subjects[:, 0] != subjects[:, 1]]
    events = rng.random(len(subjects)) < 0.3 + 0.3 * (subjects[:, 0] % 2)

    rates = []
    for _ in range(3000):
        draw = np.bincount(rng.integers(20, size=20), minlength=20)
        weight = draw[subjects[:, 0]] * draw[subjects[:, 1]]
        rates.append((weight * events).sum() / weight.sum())
    slow = np.percentile(rates, [2.5, 97.5])

    assert bootstrap_rate(events, subjects, replicates=3000) == pytest.approx(tuple(slow), abs=0.02)


def test_the_interval_of_many_pairs_of_few_subjects_is_the_same_by_either_route():
    rng = np.random.default_rng(0)
    subjects = rng.integers(0, 30, size=(2000, 2))  # 30 * 30 <= 4 * 2000: takes the quadratic form.
    events = rng.random(2000) < 0.1

    quick = bootstrap_rate(events, subjects)
    weights = np.concatenate([w for (w,) in subject_weights(subjects)])
    direct = percentile_interval((weights @ events) / weights.sum(axis=1, dtype=np.float64))

    assert quick == pytest.approx(direct, rel=1e-5)


def test_comparisons_of_independent_subjects_give_wilsons_interval():
    rng = np.random.default_rng(1)
    events = rng.random(2000) < 0.2

    low, high = bootstrap_rate(events, np.arange(2000))

    assert (low, high) == pytest.approx(wilson(np.count_nonzero(events), 2000), abs=0.004)


def test_without_an_event_the_bootstrap_admits_what_it_cannot_see():
    nothing, everything = np.zeros(100, bool), np.ones(100, bool)

    assert bootstrap_rate(nothing, np.arange(100)) == wilson(0, 100)
    assert bootstrap_rate(everything, np.arange(100)) == wilson(100, 100)


def test_a_single_subject_cannot_be_resampled():
    assert all(math.isnan(limit) for limit in bootstrap_rate(np.array([True, False]), np.zeros(2)))
    with pytest.raises(EvaluationError, match="at least 2 of them, got 1"):
        next(subject_weights(np.zeros(2)))


def test_subjects_of_three_sides_are_refused():
    with pytest.raises(EvaluationError, match="shape"):
        bootstrap_rate(np.array([True, False]), np.zeros((2, 3)))


def test_a_thousand_replicates_of_lfw_take_under_two_seconds():
    rng = np.random.default_rng(0)
    genuine, impostor = rng.integers(0, 4000, 3000), rng.integers(0, 4000, (3000, 2))

    start = time.process_time()
    count = sum(len(g) for g, _ in subject_weights(genuine, impostor, replicates=1000))
    elapsed = time.process_time() - start

    assert count == 1000
    assert elapsed < 2.0


def test_a_percentile_interval_leaves_out_what_is_not_a_number():
    assert percentile_interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert all(math.isnan(limit) for limit in percentile_interval(np.array([np.nan])))


def test_a_real_difference_is_seen_and_an_absent_one_is_not():
    rng = np.random.default_rng(0)
    subjects = np.arange(600) // 3
    weak = rng.random(600) < 0.8
    strong = weak | (rng.random(600) < 0.5)
    other = rng.permutation(weak)

    clear, unclear = paired_bootstrap(strong, weak, subjects), paired_bootstrap(other, weak, subjects)

    assert clear.estimate == pytest.approx(np.mean(strong) - np.mean(weak))
    assert clear.interval[0] > 0 and clear.p_value < 0.01
    assert unclear.interval[0] <= 0 <= unclear.interval[1] and unclear.p_value > 0.05


def test_a_system_does_not_differ_from_itself():
    right = np.array([True, False, True])
    assert paired_bootstrap(right, right, np.arange(3)).p_value == 1.0
    with pytest.raises(EvaluationError, match="got 3 and 2"):
        paired_bootstrap(right, right[:2], np.arange(3))


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second):
    first = np.repeat([True, False, True], [only_first, only_second, 5])
    second = np.repeat([False, True, True], [only_first, only_second, 5])
    n, k = only_first + only_second, min(only_first, only_second)
    exact = min(2 * sum(math.comb(n, j) for j in range(k + 1)) / 2**n, 1.0)

    result = mcnemar(first, second)

    assert (result.only_first, result.only_second) == (only_first, only_second)
    assert result.p_value == pytest.approx(exact)


def test_mcnemar_needs_the_same_cases():
    with pytest.raises(EvaluationError, match="got 2 and 3"):
        mcnemar(np.zeros(2, bool), np.zeros(3, bool))


def test_the_interval_covers_the_truth_where_subjects_differ_and_wilsons_does_not():
    # Some subjects resemble everybody: a comparison's score is the sum of both subjects' and its own.
    def comparisons(rng, subjects, count):
        alike = rng.normal(0, 0.5, subjects)
        a = rng.integers(subjects, size=count)
        b = (a + rng.integers(1, subjects, size=count)) % subjects
        return alike[a] + alike[b] + rng.normal(0, 1, count) >= 2.0, np.stack([a, b], axis=1)

    truth = comparisons(np.random.default_rng(1000), 4000, 1_000_000)[0].mean()
    covered = np.zeros(2)
    for seed in range(60):
        events, subjects = comparisons(np.random.default_rng(seed), 100, 2000)
        limits = bootstrap_rate(events, subjects, replicates=300), wilson(np.count_nonzero(events), 2000)
        covered += [low <= truth <= high for low, high in limits]

    assert covered[0] / 60 > 0.85 > 0.75 > covered[1] / 60
