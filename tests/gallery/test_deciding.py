import pytest

from mien.errors import UsageError
from mien.gallery.deciding import decide, decide_search

from .fake_analyzer import card, point
from .made_up import enrol


def test_without_a_gallery_the_models_own_point_decides_and_nothing_is_to_be_said():
    assert decide(card()) == (card().operating_points[1], ())
    assert decide(card(), fmr=1e-4).point.threshold == 0.7


def test_a_threshold_of_ones_own_decides_alone(gallery):
    decision = decide_search(card(), gallery, threshold=0.3)
    assert (decision.point.threshold, decision.point.num_impostor, decision.notes) == (0.3, 0, ())


def test_a_calibrated_gallery_decides_with_its_own_point(gallery, people):
    enrol(gallery, people, "ada")
    assert "not calibrated" in decide(card(), gallery=gallery).notes[0]
    gallery.keep_point(point(1e-3, 0.42))
    assert decide(card(), gallery=gallery) == (point(1e-3, 0.42), ())


def test_a_rate_for_the_whole_search_is_divided_by_the_size_of_the_gallery(gallery, people):
    for number in range(10):
        enrol(gallery, people, f"s{number}", crop=False)
    decision = decide_search(card(), gallery, fpir=0.01)
    assert decision.point.threshold == pytest.approx(0.6, abs=2e-3)
    strict = decide_search(card(), gallery, fpir=1e-5)
    assert strict.point.threshold == 0.7 and "none below 0.0001 was measured" in strict.notes[0]


def test_a_gallery_that_has_grown_since_is_worth_a_note(gallery, people):
    enrol(gallery, people, "ada")
    gallery.keep_point(point(1e-3, 0.42))
    for number in range(3):
        enrol(gallery, people, f"s{number}", crop=False)
    assert "has grown from 1 to 4 subjects" in decide_search(card(), gallery).notes[0]


def test_strangers_that_would_be_named_are_worth_a_note(gallery, people):
    for number in range(20):
        enrol(gallery, people, f"s{number}", crop=False)
    notes = decide_search(card(), gallery, fmr=1e-2).notes
    assert any("% of strangers may be given one of 20 names" in note for note in notes)


@pytest.mark.parametrize("wish", [{"fmr": 1e-3, "threshold": 0.5}, {"fpir": 0.1, "fmr": 1e-3}, {"fpir": 1.0}])
def test_wishes_that_contradict_each_other_are_refused(gallery, wish):
    with pytest.raises(UsageError, match=r"^(Give|--fpir should)"):
        decide_search(card(), gallery, **wish)
