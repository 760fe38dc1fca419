from dataclasses import replace

import numpy as np
import pytest

from mien.errors import UsageError, VideoError
from mien.video.challenge import WISHES, Challenge, Sight, choose_wishes, frames_of
from video.fakes import vector

FPS = 15


def sights(*acts, start=0.0, who=1):
    """Sights of acts, a second and a half each: rest, blink, left, right, smile, gone, or two faces."""
    told, time_s = [], start
    for act in acts:
        for i in range(round(1.5 * FPS)):
            part = i / (1.5 * FPS)
            middle = max(0.0, 1 - abs(2 * part - 1))  # there and back
            yaw = {"left": 40, "right": -40}.get(act, 0) * middle
            closed = act == "blink" and 0.3 < part < 0.45
            joy = 0.05 + (0.9 * middle if act == "smile" else 0)
            faces = {"gone": 0, "two": 2}.get(act, 1)
            seen = vector(who) if abs(yaw) <= 12 else None
            told.append(Sight(time_s, faces, yaw, not closed, closed, {"happiness": joy}, seen))
            time_s += 1 / FPS
    return told


def play(challenge, told):
    for sight in told:
        challenge.take(sight)
    challenge.end()
    return challenge


def challenge(*wishes, timeout_s=4.0):
    return Challenge(wishes, timeout_s=timeout_s, same=0.8)


def test_who_does_what_is_asked_passes():
    done = play(challenge("blink", "turn-left", "smile"), sights("rest", "blink", "left", "rest", "smile"))

    assert done.passed and done.is_over and [one.why for one in done.outcomes] == ["", "", ""]
    assert all(0 < one.seconds < 4 for one in done.outcomes)


def test_a_print_that_is_held_up_and_moved_does_not_blink():
    rng = np.random.default_rng(0)
    held = [
        Sight(i / FPS, 1, float(rng.normal(0, 3)), True, False, {"happiness": 0.9}, vector(1)) for i in range(20 * FPS)
    ]
    done = play(challenge("blink", "smile"), held)

    assert not done.passed and "not seen within 4 s" in done.outcomes[0].why and len(done.outcomes) == 1


def test_a_smile_that_was_there_before_it_was_asked_for_does_not_count():
    laughing = [Sight(i / FPS, 1, 0.0, shows={"happiness": 0.9}, vector=vector(1)) for i in range(10 * FPS)]
    assert not play(challenge("smile"), laughing).passed


def test_a_recording_that_acts_in_another_order_does_not_pass():
    recorded = sights("rest", "smile", "rest", "left", "blink", "rest", "rest")
    assert play(challenge("smile", "turn-left", "blink"), recorded).passed
    assert not play(challenge("turn-right", "smile", "blink"), recorded).passed
    assert not play(challenge("blink", "smile", "turn-left"), recorded).passed


def test_somebody_else_in_the_middle_is_noticed():
    swapped = sights("rest", "blink") + sights("rest", "left", start=3.0, who=2)
    done = play(challenge("blink", "turn-left"), swapped)

    assert [one.passed for one in done.outcomes] == [True, False] and "somebody else" in done.outcomes[1].why


def test_who_takes_the_place_while_nobody_was_there_does_not_do_the_last_thing():
    turned = [Sight(3.0 + i / FPS, 1, 30.0) for i in range(4)]
    other = sights("rest", start=3.5, who=2)
    gone = [Sight(2.8 + i / FPS, 0) for i in range(3)]
    done = play(challenge("blink", "turn-left"), [*sights("rest", "blink")[:40], *gone, *turned, *other])

    assert not done.passed and "somebody else" in done.outcomes[-1].why


def test_who_turns_and_never_looks_back_has_not_passed():
    away = [Sight(1.5 + i / FPS, 1, min(3.0 * i, 35.0), vector=vector(1) if i < 4 else None) for i in range(8 * FPS)]
    done = play(challenge("turn-left"), [*sights("rest"), *away])

    assert not done.passed and "again" in done.outcomes[0].why


def test_a_face_that_turns_faster_than_a_neck_is_noticed_at_three_pictures_a_second_too():
    told = [Sight(i / 3, 1, 0.0, vector=vector(1)) for i in range(5)] + [Sight(5 / 3, 1, 60.0)]
    assert "jumped" in play(challenge("turn-left"), told).outcomes[0].why


def test_a_source_that_cannot_be_read_raises_where_its_pictures_are_waited_for():
    class Broken:
        live = True

        def frames(self, notify):
            raise VideoError("no pictures come")
            yield

    with pytest.raises(VideoError, match="no pictures come"):
        list(frames_of(Broken(), lambda *_: None))


def test_one_picture_held_up_after_another_jumps():
    straight = [Sight(i / FPS, 1, 0.0, vector=vector(1)) for i in range(FPS)]
    turned = [Sight(1 + i / FPS, 1, 35.0) for i in range(FPS)]
    done = play(challenge("turn-left"), straight + turned)

    assert not done.passed and "jumped" in done.outcomes[0].why


def test_a_second_face_while_something_is_asked_ends_it():
    done = play(challenge("blink"), sights("rest", "two"))
    assert not done.passed and "somebody else is in the picture" in done.outcomes[0].why


@pytest.mark.parametrize(
    ("never", "why"),
    [
        (Sight(0.0, 0), "no face"),
        (Sight(0.0, 2), "somebody else is in the picture"),
        (Sight(0.0, 1, yaw=30.0), "look into the camera"),
    ],
)
def test_where_no_face_comes_to_rest_that_is_said(never, why):
    done = play(challenge("blink"), [replace(never, time_s=i / FPS) for i in range(5 * FPS)])
    assert not done.passed and why in done.outcomes[0].why


def test_a_source_that_ends_early_has_not_passed():
    done = play(challenge("blink"), sights("rest"))
    assert not done.passed and "ended" in done.outcomes[0].why


def test_what_is_drawn_has_a_blink_in_it_and_is_another_each_time():
    drawn = {choose_wishes(3, seed=seed) for seed in range(40)}
    assert all("blink" in wishes and len(set(wishes)) == 3 and set(wishes) <= set(WISHES) for wishes in drawn)
    assert len(drawn) > 20 and choose_wishes(2, seed=7) == choose_wishes(2, seed=7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: choose_wishes(0),
        lambda: choose_wishes(6),
        lambda: challenge(),
        lambda: challenge("jump"),
        lambda: challenge("blink", timeout_s=0),
    ],
)
def test_challenges_that_make_no_sense_are_refused(make):
    with pytest.raises(UsageError):
        make()
