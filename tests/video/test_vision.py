import numpy as np
import pytest

from mien.types import Box, Quality, Reason
from mien.video.eyes import portrait
from mien.video.options import Options
from mien.video.vision import Vision
from video.fakes import FakeEyes, frame, vector


def see(frames, eyes=None, **options):
    eyes = eyes or FakeEyes()
    vision = Vision(eyes, Options(), template=lambda key: None, **options)
    return [vision.step(one) for one in frames], eyes, vision


def still(count, *people):
    return [frame(i, *people) for i in range(count)]


def test_a_face_that_stands_still_is_searched_for_rarely_and_looked_at_often():
    steps, eyes, vision = see(still(60, (60, 40, 40, 1, 0)))
    assert vision.searches <= 8 and 10 <= eyes.looks <= 24
    assert all(len(step.faces) == 1 for step in steps[1:])


def test_an_empty_picture_is_searched_once_a_second():
    _, _, vision = see(still(90))
    assert vision.searches <= 4


def test_somebody_who_appears_is_found_at_once_since_the_picture_has_changed():
    frames = still(40, (100, 40, 40, 1, 0)) + [frame(i, (100, 40, 40, 1, 0), (10, 10, 40, 2, 0)) for i in range(40, 60)]
    steps, _, _ = see(frames)
    entered = [e for step in steps for e in step.events if e.kind == "enter"]
    assert [event.track for event in entered] == [1, 2] and entered[1].frame <= 45


def test_faces_that_touch_are_searched_in_every_picture():
    _, _, vision = see(still(30, (40, 40, 40, 1, 0), (68, 60, 40, 2, 0)))
    assert vision.searches >= 29


def test_a_detector_without_second_looks_searches_instead():
    _, eyes, vision = see(still(30, (60, 40, 40, 1, 0)), FakeEyes(can_look=False))
    assert eyes.looks == 0 and 8 <= vision.searches <= 14


def test_between_looks_a_face_is_where_its_motion_takes_it():
    steps, _, _ = see([frame(i, (10 + 2 * i, 40, 40, 1, 0)) for i in range(50)])
    off = [abs(step.faces[0].box.left - (10 + 2 * step.frame.number)) for step in steps[5:]]
    assert max(off) < 4 and any(not step.faces[0].found for step in steps[5:])


def test_a_track_is_embedded_some_times_and_then_rarely():
    steps, _, _ = see(still(150, (60, 40, 40, 1, 0)))
    times = [step.frame.time_s for step in steps for one in step.requests if one.crop is not None]
    assert 5 <= len(times) <= 7 and (np.diff(times) >= 0.19).all() and times[4] < 1.3


def test_expressions_are_read_five_times_a_second():
    steps, _, _ = see(still(90, (60, 40, 40, 1, 0)))
    assert 10 <= sum(one.read is not None for step in steps for one in step.requests) <= 16


def test_a_face_cut_by_the_edge_has_no_vote():
    steps, _, _ = see(still(30, (-4, 40, 40, 1, 0)))
    assert any(step.faces for step in steps)
    assert not [one for step in steps for one in step.requests if one.crop is not None]


@pytest.mark.parametrize("quality", [Quality(0.1), Quality(0.9, (Reason.EXTREME_POSE,))], ids=["poor", "turned"])
def test_a_face_not_fit_to_be_recognised_has_no_vote(monkeypatch, quality):
    eyes = FakeEyes()
    judge = eyes.judge
    monkeypatch.setattr(eyes, "judge", lambda image, one: (judge(image, one)[0], quality))
    steps, _, _ = see(still(30, (60, 40, 40, 1, 0)), eyes)
    assert not [one for step in steps for one in step.requests if one.crop is not None]


def test_another_size_of_the_picture_is_said_and_searched_anew():
    frames = still(20, (60, 40, 40, 1, 0)) + [frame(i, (60, 40, 40, 1, 0), width=200, height=140) for i in (20, 21)]
    steps, _, _ = see(frames)
    (notice,) = [event for event in steps[20].events if event.kind == "notice"]
    assert notice.what == "resized" and "200 x 140 px" in notice.text and steps[20].faces


def black(number):
    from mien.video.frames import Frame

    return Frame(np.zeros((60, 80, 3), np.uint8), number=number, time_s=number / 10)


def test_black_pictures_are_said_once_until_there_is_light():
    steps, _, _ = see([black(i) for i in range(60)] + [frame(60, fps=10)] + [black(i) for i in range(61, 100)])
    notices = [event for step in steps for event in step.events if event.kind == "notice" and event.what == "dark"]
    assert [2.0 <= notices[0].time_s <= 3.0, len(notices)] == [True, 2] and "lens" in notices[0].text


def test_at_the_end_everybody_leaves():
    frames = still(20, (60, 40, 40, 1, 0))
    _, _, vision = see(frames)
    last = vision.end(frames[-1])
    assert last.is_over and [event.kind for event in last.events] == ["exit"] and last.faces == ()


def test_looks_of_faces_are_compared_where_overlap_does_not_decide():
    asked = []

    def template(key):
        asked.append(key)
        return vector(key)

    vision = Vision(FakeEyes(), Options(), template=template)
    for i in range(12):
        vision.step(frame(i, (40, 40, 40, 1, 0), (62, 56, 40, 2, 0)))
    assert asked


def test_a_portrait_shows_the_face_in_the_middle_with_room_around_it(rng):
    image = np.zeros((300, 400, 3), np.uint8)
    image[100:160, 200:260] = 255
    for side in (64, 128, 24):
        cut = portrait(image, Box(200, 100, 260, 160), side)
        lit = cut[..., 0] > 128
        rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
        assert cut.shape == (side, side, 3)
        assert len(rows) == pytest.approx(side / 1.6, abs=2) and rows.mean() == pytest.approx(side / 2 - 0.5, abs=1.2)
        assert columns.mean() == pytest.approx(side / 2 - 0.5, abs=1.2)
