import math
from dataclasses import replace

import numpy as np
import pytest

from mien.errors import EvaluationError, GalleryError
from mien.gallery import calibration
from mien.gallery.records import Entry
from mien.types import Box

from .made_up import enrol


def all_scores(gallery):
    """Every pair of templates, by loops; slow, and obviously right."""
    vectors = [(s.name, vector) for s in gallery.subjects() for vector in gallery.vectors(s.name)]
    genuine, impostor = [], []
    for place, (name, vector) in enumerate(vectors):
        for other, another in vectors[place + 1 :]:
            (genuine if name == other else impostor).append(float(vector @ another))
    return np.array(genuine), np.array(impostor)


@pytest.fixture
def enrolled(gallery, people):
    gallery.enrol_many(
        Entry(name, people.face(name, crop=False), f"{name} {picture}") for name in "abcdefgh" for picture in range(3)
    )
    return gallery


def test_the_threshold_keeps_the_rate_on_the_gallery_itself(enrolled):
    stored = enrolled.calibrate(0.02)
    genuine, impostor = all_scores(enrolled)
    point = stored.point
    refused, accepted = np.sort(impostor)[[-6, -5]]
    assert point.fmr == pytest.approx(5 / 252)
    assert refused - 1e-6 <= point.threshold <= accepted + 1e-6
    assert point.fnmr == pytest.approx((genuine < point.threshold).mean())
    assert (point.num_genuine, point.num_impostor) == (len(genuine), len(impostor)) == (24, 252)
    assert point.fmr_interval[0] <= point.fmr <= point.fmr_interval[1]


def test_it_is_kept_with_the_gallery(enrolled):
    stored = enrolled.calibrate(0.05)
    assert enrolled.operating_point(0.05) == stored
    assert (stored.subjects, stored.templates) == (8, 24)


def test_one_sample_a_subject_gives_a_threshold_without_fnmr(gallery, people):
    for number in range(20):
        enrol(gallery, people, f"s{number}", crop=False)
    point = gallery.calibrate(0.05).point
    assert math.isnan(point.fnmr) and point.num_genuine == 0 and 0 < point.fmr <= 0.05
    assert math.isnan(gallery.operating_point(0.05).point.fnmr)


def test_a_rate_the_gallery_is_too_small_for_is_refused(enrolled):
    with pytest.raises(EvaluationError, match="needs at least 10000 impostor scores, got 252"):
        enrolled.calibrate(1e-4)


def test_one_subject_is_not_enough(gallery, people):
    with pytest.raises(GalleryError, match="Enrol first"):
        gallery.calibrate(0.1)
    enrol(gallery, people, "ada", count=3)
    with pytest.raises(GalleryError, match="at least 2 subjects"):
        gallery.calibrate(0.1)


def test_of_a_large_gallery_whole_subjects_are_compared(enrolled, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_TEMPLATES", 12)
    point = enrolled.calibrate(0.1).point
    assert (point.num_genuine, point.num_impostor) == (4 * 3, 66 - 12)
    assert enrolled.calibrate(0.1).point == point


def test_two_subjects_larger_than_the_limit_are_still_compared(enrolled, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_TEMPLATES", 2)
    assert enrolled.calibrate(0.5).point.num_impostor == 9


def test_a_folder_enrolled_again_under_another_name_is_left_out(gallery, people):
    for name in "abcdefgh":
        enrol(gallery, people, name, count=2, crop=False)
    alone = gallery.calibrate(0.02).point
    faces = [people.face("z", crop=False) for _ in range(3)]
    for name in ("z", "z renamed"):
        for number, face in enumerate(faces):
            gallery.enrol(name, face, source_hash=f"picture {number}")

    point = gallery.calibrate(0.02).point

    assert point.num_impostor == alone.num_impostor + 2 * 3 * 16
    assert point.threshold < 0.8 and point.dataset.endswith("not compared: 1 pair")


def test_two_people_of_one_group_picture_are_compared(gallery, people):
    one, two = people.face("a", crop=False), people.face("b", crop=False)
    two = replace(two, box=Box(200, 20, 260, 80))
    for name, face in (("a", one), ("b", two)):
        gallery.enrol(name, face, source_hash="the group")
    enrol(gallery, people, "c", crop=False)
    assert gallery.calibrate(0.9).point.num_impostor == 3


def test_subjects_of_nothing_but_the_same_pictures_give_no_threshold(gallery, people):
    face = people.face("z", crop=False)
    for name in ("z", "z renamed"):
        gallery.enrol(name, face, source_hash="a")
    with pytest.raises(GalleryError, match="same pictures"):
        gallery.calibrate(0.1)


def test_a_gallery_whose_last_subject_was_erased_has_no_scores(gallery, people):
    enrol(gallery, people, "ada")
    gallery.erase("ada")

    with pytest.raises(GalleryError, match="Enrol first"):
        gallery.scores()
