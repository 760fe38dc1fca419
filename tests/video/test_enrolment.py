import pytest

from mien.errors import ImageError, UsageError
from mien.gallery import Gallery
from mien.types import Reason
from mien.video import enrolment
from mien.video.enrolment import TrackFaces, choose_track, follow_faces, ingest_films
from video.clips import write_clip
from video.fakes import FakeEyes, FakeSource, frame, picture


class Eyes(FakeEyes):
    """Embeds as the gallery stores it."""


@pytest.fixture(autouse=True)
def _fakes(monkeypatch):
    monkeypatch.setattr(enrolment, "Eyes", lambda analyzer: Eyes())


class Analyzer:
    class card:  # noqa: N801
        id = "fake-1-00000000"


def two(i):
    return frame(i, (60, 40, 44, 1, 0), *([(10, 10, 24, 2, 0)] if i > 40 else []))


def test_tracks_come_with_their_best_faces_most_prominent_first():
    tracks = follow_faces(FakeSource([two(i) for i in range(60)]), FakeEyes())
    assert [track.number for track in tracks] == [1, 2]
    assert len(tracks[0].faces) == 5 and tracks[0].side == pytest.approx(44, abs=1)
    assert tracks[0].seconds == pytest.approx(2.0, abs=0.2) and tracks[1].seconds < 0.7
    assert all(seen.face.crop is not None and seen.face.embedding is None for seen in tracks[0].faces)


def made(*prominences):
    return [TrackFaces(i + 1, [], seconds, 40.0 + i) for i, seconds in enumerate(prominences)]


def test_the_person_whom_a_film_is_of_is_there_longest_and_nearest():
    assert choose_track(made(9.0)).number == 1 and choose_track(made(9.0, 2.0)).number == 1
    with pytest.raises(ImageError, match="it shows 2 people, and no single one"):
        choose_track(made(9.0, 8.0))


@pytest.mark.parametrize(("which", "number"), [("2", 2), ("largest", 3), ("1", 1)])
def test_another_one_can_be_asked_for(which, number):
    assert choose_track(made(9.0, 8.0, 1.0), which).number == number


@pytest.mark.parametrize(
    ("which", "error", "said"),
    [("only", ImageError, "expected one"), ("7", ImageError, "no number 7"), ("x", UsageError, "main")],
)
def test_what_cannot_be_chosen_is_refused(which, error, said):
    with pytest.raises(error, match=said):
        choose_track(made(9.0, 8.0), which)


def film(path, *people, count=40):
    return str(write_clip(path, [picture(*people) for _ in range(count)], codec="libx264rgb", pixels="rgb24"))


def test_the_best_faces_of_a_film_are_enrolled_and_a_second_time_they_are_there_already(tmp_path):
    clip = film(tmp_path / "a.mp4", (60, 40, 44, 1, 0))
    with Gallery(tmp_path / "g.mien") as gallery:
        outcomes = list(ingest_films(gallery, Analyzer(), [clip], "ada"))
        assert [one.status for one in outcomes] == ["added"] + ["already"] * (len(outcomes) - 1)  # a still: one face
        assert "#t=" in outcomes[0].picture.path and outcomes[0].quality == 0.9
        again = list(ingest_films(gallery, Analyzer(), [clip], "ada"))
        assert {one.status for one in again} == {"already"} and len(gallery) == 1


def test_films_that_cannot_be_used_are_told_of_and_the_rest_is_done(tmp_path):
    (tmp_path / "broken.mp4").write_text("no film")
    films = [
        str(tmp_path / "broken.mp4"),
        film(tmp_path / "empty.mp4"),
        film(tmp_path / "two.mp4", (20, 40, 44, 1, 0), (90, 40, 44, 2, 0)),
        film(tmp_path / "good.mp4", (60, 40, 44, 1, 0)),
    ]
    with Gallery(tmp_path / "g.mien") as gallery:
        broken, empty, several, *good = ingest_films(gallery, Analyzer(), films, "ada")
    assert "damaged" in broken.error and broken.status == "failed"
    assert empty.enrolment.reasons == (Reason.NO_FACE,)
    assert several.enrolment.reasons == (Reason.SEVERAL_FACES,) and "2 people" in several.note
    assert good[0].status == "added"
