import io
import math
from dataclasses import replace

import numpy as np
import pytest

import mien
from mien import zoo
from mien.analyzer import Analyzer
from mien.errors import ImageError, ModelError, UsageError
from mien.matching import compare, given_threshold, operating_point, probability, similarity, verify, worst_group
from mien.types import Embedding, GroupRate, as_unit
from squares import POINT_1, POINT_2, filled_store, save, scene, store  # noqa: F401

ANNA, BERT = 0, 200  # blues


@pytest.fixture
def card(store):  # noqa: F811
    return zoo.card("tiny")


@pytest.fixture
def analyzer(store):  # noqa: F811
    return Analyzer(embedder="tiny", threads=1)


def unit(*values, model="m"):
    return Embedding(model, as_unit(np.array(values, np.float32)))


def test_similarity_is_the_cosine():
    assert similarity(unit(1, 0), unit(1, 0)) == 1
    assert similarity(unit(1, 0), unit(0, 1)) == 0
    assert similarity(unit(1, 0), unit(-1, 0)) == -1
    assert similarity(unit(1, 0), unit(3, 4)) == pytest.approx(0.6)


def test_rounding_never_carries_a_similarity_beyond_one(rng):
    for _ in range(200):
        vector = unit(*rng.normal(size=128))
        assert similarity(vector, vector) <= 1


def test_embeddings_of_two_models_are_never_compared():
    with pytest.raises(ModelError, match=r"two models cannot be compared: 'a' and 'b'"):
        similarity(unit(1, 0, model="a"), unit(1, 0, model="b"))


def test_a_measured_rate_has_its_measured_point(card):
    assert operating_point(card, 1e-1) == POINT_1
    assert operating_point(card, 1e-3) == POINT_2


def test_between_two_measured_rates_the_threshold_goes_with_the_logarithm(card):
    point = operating_point(card, 1e-2)

    assert point.threshold == pytest.approx((POINT_1.threshold + POINT_2.threshold) / 2)
    assert point.target_fmr == 1e-2 and point.dataset == "squares, interpolated"
    # What is claimed is the stricter point's rates, with an interval that spans both.
    assert (point.fmr, point.fnmr) == (POINT_2.fmr, POINT_2.fnmr)
    assert point.fmr_interval == (POINT_2.fmr_interval[0], POINT_1.fmr_interval[1])


def test_a_smaller_rate_never_has_a_lower_threshold(card):
    rates = np.geomspace(0.5, 1e-3, 60)
    thresholds = [operating_point(card, float(rate)).threshold for rate in rates]

    assert (np.diff(thresholds) >= 0).all() and thresholds[0] == POINT_1.threshold


def test_a_rate_that_was_not_measured_is_refused(card):
    with pytest.raises(ModelError, match=r"'tiny' was measured down to FMR 0.001, not 1e-05"):
        operating_point(card, 1e-5)
    with pytest.raises(ModelError, match="no operating points yet"):
        operating_point(replace(card, operating_points=()), 1e-2)


@pytest.mark.parametrize("rate", [0, 1, -1, 2, math.nan])
def test_what_is_no_rate_is_refused(card, rate):
    with pytest.raises(UsageError, match="between 0 and 1"):
        operating_point(card, rate)


def test_a_threshold_of_ones_own_decides_but_claims_no_rates():
    point = given_threshold(0.4)

    assert point.threshold == 0.4 and point.fmr_interval == (0, 1) and math.isnan(point.fnmr)
    with pytest.raises(UsageError, match=r"between -1 and 1, got 1\.5"):
        given_threshold(1.5)


def test_probability_is_the_logistic_of_the_score(card):
    assert probability(card, 0.8) == pytest.approx(0.5)
    assert probability(card, 1.0) == pytest.approx(1 / (1 + math.exp(-2)))
    assert math.isnan(probability(replace(card, probability=None), 0.8))


def test_a_score_at_the_threshold_matches(card):
    a, b = unit(1, 0), unit(3, 4)
    point = given_threshold(similarity(a, b))

    assert compare(a, b, card=card, point=point).match
    assert not compare(a, b, card=card, point=replace(point, threshold=np.nextafter(point.threshold, 1))).match


def test_two_pictures_of_one_subject_match_and_of_two_do_not(analyzer, tmp_path):
    anna = save(tmp_path / "a.png", (20, 20, 60, ANNA))
    other = save(tmp_path / "b.png", (70, 40, 60, ANNA))
    bert = scene((20, 20, 60, BERT))

    same = verify(anna, str(other), analyzer=analyzer)
    different = verify(io.BytesIO(anna.read_bytes()), bert, analyzer=analyzer)

    assert same.match and same.score > 0.9999 and same.point == POINT_2 and same.probability > 0.8
    assert not different.match and different.score < same.score


def test_the_large_face_in_the_middle_is_the_one_compared(analyzer):
    portrait = scene((50, 30, 60, ANNA), (4, 4, 20, BERT))

    assert verify(portrait, scene((50, 30, 60, ANNA)), analyzer=analyzer).match


def test_verify_says_which_face_of_how_many_it_compared(analyzer):
    portrait = scene((50, 30, 60, ANNA), (4, 4, 20, BERT))
    one, other = verify(portrait, scene((50, 30, 60, ANNA)), analyzer=analyzer).sides

    assert (one.faces, one.face, one.box.as_tuple()) == (2, 1, (50, 30, 110, 90)) and (other.faces, other.face) == (
        1,
        1,
    )


def test_verify_refuses_to_choose_between_two_faces_alike_unless_told_how(analyzer):
    room = {"width": 600, "height": 400}  # for the crops
    both = scene((100, 170, 60, BERT), (440, 170, 60, ANNA), **room)
    anna = scene((270, 170, 60, ANNA), **room)

    with pytest.raises(ImageError, match=r"Which face of the first picture\? It shows 2 faces"):
        verify(both, anna, analyzer=analyzer)
    with pytest.raises(ImageError, match=r"Which face of the second picture\? It shows 2 faces, expected one"):
        verify(anna, both, face="only", analyzer=analyzer)
    best = verify(both, anna, face="best", analyzer=analyzer)
    assert best.match and best.pairs == 2 and best.sides[0].faces == 2
    numbers = [n for n in (1, 2) if verify(both, anna, face=n, analyzer=analyzer).match]
    assert numbers == [best.sides[0].face]


def test_verify_decides_at_the_point_that_is_given(analyzer):
    picture = scene((50, 30, 60, ANNA))

    assert verify(picture, picture, fmr=1e-1, analyzer=analyzer).point == POINT_1
    assert verify(picture, picture, point=given_threshold(0.25), analyzer=analyzer).point.threshold == 0.25


def test_verify_says_which_picture_has_no_face(analyzer):
    with pytest.raises(ImageError, match="No face was found in the second picture"):
        verify(scene((50, 30, 60, ANNA)), scene(), analyzer=analyzer)


def test_verify_refuses_a_rate_before_it_looks_at_pictures(analyzer):
    with pytest.raises(UsageError):
        verify("no such file", "nor this", fmr=7, analyzer=analyzer)


def test_verify_is_a_public_name():
    assert mien.verify is verify


def test_the_worst_group_is_that_of_the_cards_own_point_and_of_no_other(card):
    rates = [
        GroupRate(1e-3, "north", 2e-3, (1e-3, 3e-3), 100, "faces"),
        GroupRate(1e-3, "south", 4e-3, (1e-3, 9e-3), 100, "faces"),
        GroupRate(1e-2, "north", 5e-2, (1e-2, 9e-2), 100, "faces"),
    ]
    card = replace(card, groups=tuple(rates))
    (point,) = [point for point in card.operating_points if point.target_fmr == 1e-3]

    assert worst_group(card, point).group == "south"
    assert worst_group(card, replace(point, threshold=0.123)) is None
    assert worst_group(replace(card, groups=()), point) is None
