import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import EvaluationError
from mien.metrics.identification import (
    NO_RANK,
    cmc,
    fmr_for_fpir,
    fnir,
    fnir_at_fpir,
    fpir,
    fpir_from_fmr,
    mate_ranks,
)


def test_ranks_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.4, 0.6], [0.5, 0.5, 0.1], [-np.inf, -np.inf, -np.inf]])

    assert mate_ranks(scores, np.array([0, 0, 0, 1])).tolist() == [1, 3, 2, NO_RANK]


def test_cmc_agrees_with_sorting_every_list():
    rng = np.random.default_rng(0)
    scores, mates = rng.normal(size=(50, 8)), rng.integers(0, 8, 50)

    curve = cmc(mate_ranks(scores, mates), max_rank=8)

    lists = [list(np.argsort(-row)) for row in scores]
    for k in range(1, 9):
        assert curve[k - 1] == np.mean([m in found[:k] for found, m in zip(lists, mates, strict=True)])


def test_a_failure_to_acquire_is_found_at_no_rank():
    assert cmc(np.array([1, NO_RANK]), max_rank=3).tolist() == [0.5, 0.5, 0.5]


def test_cmc_needs_a_search():
    with pytest.raises(EvaluationError, match="at least one mated search"):
        cmc(np.array([], dtype=int), max_rank=3)


def test_open_set_rates_by_hand():
    mate_scores, ranks = np.array([0.9, 0.7, 0.5, 0.8, -np.inf]), np.array([1, 1, 1, 2, NO_RANK])
    best = np.array([0.6, 0.4, 0.3, 0.2])

    assert fnir(mate_scores, ranks, threshold=0.6, rank=1) == pytest.approx(3 / 5)
    assert fnir(mate_scores, ranks, threshold=0.6, rank=2) == pytest.approx(2 / 5)
    assert fpir(best, threshold=0.6) == 0.25

    point = fnir_at_fpir(mate_scores, ranks, best, fpir=0.25)
    assert (point.fpir, point.fnir) == (0.25, 2 / 5)
    assert 0.4 < point.threshold < 0.41
    assert (point.num_mated, point.num_nonmated, point.rank) == (5, 4, 1)
    assert point.fnir_interval[0] < point.fnir < point.fnir_interval[1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_no_threshold_that_keeps_fpir_misses_fewer(seed, allowed):
    rng = np.random.default_rng(seed)
    mate_scores, best = rng.normal(0.6, 0.2, 40).round(1), rng.normal(0.4, 0.2, 30).round(1)
    ranks = rng.integers(1, 4, 40)

    point = fnir_at_fpir(mate_scores, ranks, best, fpir=allowed / 30)

    assert point.fpir <= allowed / 30
    scores = np.concatenate([mate_scores, best])
    for t in [*scores, *np.nextafter(scores, np.inf)]:
        if fpir(best, threshold=t) <= allowed / 30:
            assert point.fnir <= fnir(mate_scores, ranks, threshold=t, rank=1)


def test_subjects_widen_the_intervals_of_searches():
    rng = np.random.default_rng(0)
    shift = np.repeat(rng.normal(0, 1, 10), 20)
    mate_scores, best = rng.normal(1, 0.3, 200) + shift, rng.normal(-1, 0.3, 200) + shift
    subjects, ranks = np.repeat(np.arange(10), 20), np.ones(200, dtype=int)

    alone = fnir_at_fpir(mate_scores, ranks, best, fpir=0.1)
    together = fnir_at_fpir(
        mate_scores, ranks, best, fpir=0.1, mated_subjects=subjects, nonmated_subjects=subjects + 10
    )

    assert np.ptp(together.fnir_interval) > np.ptp(alone.fnir_interval)
    assert np.ptp(together.fpir_interval) > np.ptp(alone.fpir_interval)


def test_refuses_too_few_searches():
    with pytest.raises(EvaluationError, match=r"FPIR 0\.01 needs at least 100 non-mated searches, got 5"):
        fnir_at_fpir(np.ones(3), np.ones(3, int), np.zeros(5), fpir=0.01)
    with pytest.raises(EvaluationError, match="mated search"):
        fnir_at_fpir(np.array([]), np.array([], int), np.zeros(5), fpir=0.5)


def test_an_fpir_of_one_reports_everybody():
    point = fnir_at_fpir(np.array([0.5, 0.1]), np.array([1, 1]), np.array([0.3]), fpir=1.0)

    assert (point.threshold, point.fpir, point.fnir) == (0.1, 1.0, 0.0)


def test_fpir_grows_with_the_gallery_as_independent_comparisons_would():
    assert fpir_from_fmr(0.5, 2) == pytest.approx(0.75)
    assert fpir_from_fmr(1e-9, 1000) == pytest.approx(1e-6, rel=1e-5)
    assert fpir_from_fmr(1.0, 3) == fmr_for_fpir(1.0, 3) == 1.0


@given(st.floats(1e-9, 0.999), st.integers(1, 10**7))
def test_fmr_for_fpir_is_the_inverse(rate, size):
    assert fpir_from_fmr(fmr_for_fpir(rate, size), size) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(("rate", "size"), [(-0.1, 5), (1.1, 5), (0.1, 0)])
def test_rates_and_sizes_that_make_no_sense_are_refused(rate, size):
    with pytest.raises(EvaluationError, match="Expected FMR"):
        fpir_from_fmr(rate, size)
