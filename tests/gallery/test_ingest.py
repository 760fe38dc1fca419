from dataclasses import replace

import pytest

from mien.errors import UsageError
from mien.gallery import ingest as ingesting
from mien.gallery.ingest import Wanted, ingest, wanted
from mien.types import Box, Reason

from .fake_analyzer import FakeAnalyzer, write_picture


class Twins(FakeAnalyzer):
    """Sees two faces that are equally large and equally far from the middle."""

    def analyze(self, image, **options):
        one, two, *_ = super().analyze(image, **options)
        return (replace(one, box=Box(10, 20, 30, 40)), replace(two, box=Box(50, 20, 70, 40)))


def test_each_picture_is_stored_before_the_next_is_looked_at(gallery, tmp_path):
    pictures = [Wanted(write_picture(tmp_path / f"{n}.png", n), f"s{n}") for n in (1, 2, 3)]
    outcomes = ingest(gallery, FakeAnalyzer(), pictures)
    assert (next(outcomes).status, len(gallery)) == ("added", 1)
    outcomes.close()
    assert [one.status for one in ingest(gallery, FakeAnalyzer(), pictures)] == ["already", "added", "added"]


def test_an_arbitrary_choice_between_faces_is_refused_and_says_how_many_there_are(gallery, tmp_path):
    picture = Wanted(write_picture(tmp_path / "both.png", 1, 2), "ada")
    (outcome,) = ingest(gallery, Twins(), [picture])
    assert outcome.status == "refused" and outcome.enrolment.reasons == (Reason.SEVERAL_FACES,)
    assert "2 faces" in outcome.note and len(gallery) == 0
    (outcome,) = ingest(gallery, Twins(), [picture], which="2")
    assert outcome.status == "added" and outcome.face[0] == 2 and outcome.note is None


def test_a_clear_choice_says_which_face_was_taken(gallery, tmp_path):
    (outcome,) = ingest(
        gallery, FakeAnalyzer(), [Wanted(write_picture(tmp_path / "a.png", 1, 2), "ada")], which="largest"
    )
    assert outcome.face[0] == 1 and outcome.face[1].box.side == 30


def test_a_renamed_folder_enrolled_again_is_told_by_its_pictures(gallery, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    outcomes = list(ingest(gallery, FakeAnalyzer(), [Wanted(picture, "ada"), Wanted(picture, "countess")]))
    assert [one.enrolment.same_face for one in outcomes] == [(), ("ada",)]


def test_what_is_left_out_and_what_nobody_can_tell_is_said(tmp_path):
    write_picture(tmp_path / "people" / "ada" / "1.png", 1)
    write_picture(tmp_path / "people" / "loose.png", 2)
    for name in ("x", "y"):
        write_picture(tmp_path / "people" / "mixed" / name / "1.png", 3)
    wish = wanted([str(tmp_path / "people")])
    assert [one.subject for one in wish.pictures] == ["ada"]
    assert "1 picture directly in" in wish.notes[0] and "mixed" in wish.failures[0]


def test_a_folder_of_nothing_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no folder a subject"):
        wanted([str(tmp_path / "empty")])


def test_the_command_line_knows_the_default_quality():
    from mien.cli import enroll

    assert enroll.MIN_QUALITY == ingesting.MIN_QUALITY
