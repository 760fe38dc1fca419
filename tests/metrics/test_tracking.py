import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.metrics.tracking import score_tracking
from mien.types import Box


def at(x):
    return Box(x, 0.0, x + 10.0, 10.0)


TRUTH = [{1: at(0), 2: at(100)}] * 10


def test_a_perfect_tracker_has_one_everywhere_whatever_its_numbers():
    scores = score_tracking(TRUTH, [{7: at(0), 5: at(100)}] * 10)
    assert (scores.idf1, scores.hota, scores.deta, scores.assa) == pytest.approx((1, 1, 1, 1))
    assert (scores.switches, scores.fragments, scores.missed, scores.false, scores.faces) == (0, 0, 0, 0, 20)


def test_swapping_two_people_half_way_costs_two_switches_and_half_of_the_identities():
    scores = score_tracking(TRUTH, [{1: at(0), 2: at(100)}] * 5 + [{2: at(0), 1: at(100)}] * 5)
    assert scores.switches == 2 and scores.idf1 == pytest.approx(0.5) and scores.deta == pytest.approx(1)
    # Each pair of person and track is together in 5 of 15 pictures that either is in.
    assert scores.assa == pytest.approx(1 / 3) and scores.hota == pytest.approx(np.sqrt(1 / 3))


def test_a_person_who_is_lost_for_a_while_is_missed_and_fragmented_but_not_switched():
    found = [{1: at(0), 2: at(100)}] * 4 + [{2: at(100)}] * 2 + [{1: at(0), 2: at(100)}] * 4
    scores = score_tracking(TRUTH, found)
    assert (scores.switches, scores.fragments, scores.missed, scores.false) == (0, 1, 2, 0)
    assert scores.idf1 == pytest.approx(2 * 18 / (20 + 18))


def test_a_new_number_after_a_gap_is_a_switch():
    found = [{1: at(0)}] * 4 + [{}] * 2 + [{3: at(0)}] * 4
    assert score_tracking([{1: at(0)}] * 10, found).switches == 1


def test_boxes_that_fit_badly_count_at_loose_overlaps_only():
    scores = score_tracking([{1: at(0)}] * 5, [{1: at(4)}] * 5)  # overlap 6 / 14
    assert scores.idf1 == 0.0 and (scores.missed, scores.false) == (5, 5)
    assert scores.hota == pytest.approx(8 / 19)  # 0.05 to 0.40 of 19 thresholds


def test_what_fits_less_well_is_kept_while_it_goes_on():
    found = [{1: at(0)}] + [{1: at(2), 2: at(0)}] * 3
    assert score_tracking([{1: at(0)}] * 4, found).switches == 0


def test_nothing_found_and_nothing_to_be_found():
    assert score_tracking(TRUTH, [{}] * 10).hota == 0.0
    with pytest.raises(EvaluationError, match="no faces"):
        score_tracking([{}], [{}])
    with pytest.raises(EvaluationError, match="as many pictures"):
        score_tracking(TRUTH, [{}])
