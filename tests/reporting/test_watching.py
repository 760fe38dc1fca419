import re

import numpy as np
import pytest

from mien.reporting.overlay import draw_watched, label_of
from mien.reporting.watching import clock, watch_page
from mien.types import Box, Expression
from mien.video.frames import Frame
from mien.video.records import Identity, Latency, Seen, Summary, TrackSummary, Watched

LABELS = ("neutral", "happiness")
FACE = np.full((64, 64, 3), 120, np.uint8)


def track(number, identity, *visits, **more):
    series = tuple((t, (0.25, 0.75)) for t in np.arange(visits[0][0], visits[0][1], 0.2).tolist())
    return TrackSummary(
        number, visits, identity, {"happiness": 3.0, "neutral": 1.0}, series, LABELS, more.get("face", FACE), 0.8
    )


def summary(*tracks, **more):
    facts = {"frames": 300, "dropped": 0, "searches": 40, "seconds": 10.0, "took_s": 3.0, "ended": "end", **more}
    return Summary(tracks=tracks, **facts)


ADA = Identity("identified", "<b>Ada</b> & co", None, 0.912, 5)
STRANGER = Identity("unknown", None, 1, 0.3, 5)


def page(*tracks, **more):
    return watch_page(summary(*tracks, **more), source="<i>clip</i>.mp4", basis="Names are from somewhere.")


def test_names_and_sources_are_escaped():
    text = page(track(1, ADA, (0.0, 4.0)), notices=("<script>alert(1)</script>",))
    assert "&lt;b&gt;Ada&lt;/b&gt; &amp; co" in text and "&lt;i&gt;clip" in text and "&lt;script&gt;" in text
    assert "<script" not in text and "<b>Ada" not in text and "<i>clip" not in text


def test_tracks_of_one_person_are_one_card_with_all_visits():
    text = page(track(1, ADA, (0.0, 2.0)), track(3, ADA, (5.0, 6.0)), track(2, STRANGER, (1.0, 9.0)))
    assert text.count('class="card person"') == 2
    assert "3.0 s in 2 visits" in text and "0.0 s to 2.0 s, 5.0 s to 6.0 s" in text
    assert text.index("Ada") < text.index("unknown-1")  # those of the gallery first
    assert "in the gallery, 0.912" in text


def test_bars_stand_where_the_visits_were():
    bars = re.findall(r"left: ([\d.]+)%; width: ([\d.]+)%", page(track(1, ADA, (2.0, 4.5), (9.0, 10.0))))
    assert [(float(a), float(b)) for a, b in bars] == [(20, 25), (90, 10)]


def test_the_plot_has_gaps_where_nobody_was_and_shares_add_up():
    text = page(track(1, ADA, (0.0, 2.0), (6.0, 7.0)))
    happy = re.findall(r'points="([^"]+)" fill="#f59e0b"', text)
    assert len(happy) == 2
    xs = [float(pair.split(",")[0]) for pair in happy[0].split()]
    ys = [float(pair.split(",")[1]) for pair in happy[0].split()]
    assert max(xs) <= 0.25 * 720 and min(ys) == pytest.approx(0, abs=0.5) and max(ys) == pytest.approx(72, abs=0.5)
    assert "happiness 75 %" in text and "neutral 25 %" in text


def test_nobody_seen_is_said_and_who_was_seen_too_briefly_too():
    assert "Nobody was seen." in page()
    assert "track 4, seen too briefly" in page(track(4, Identity(), (0.0, 0.2), face=None))


def test_a_page_loads_nothing():
    text = page(track(1, ADA, (0.0, 4.0)))
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text) and "default-src 'none'" in text


def test_what_was_dropped_and_how_late_it_was_are_told_of_a_live_source():
    text = page(track(1, ADA, (0.0, 4.0)), dropped=1234, latency=Latency(20, 48, 60), ended="interrupted")
    assert "1,234" in text and "48 ms" in text and "It was stopped." in text


def test_many_visits_are_cut_short():
    visits = [(float(i), i + 0.5) for i in range(20)]
    assert "and 8 more" in page(track(1, ADA, *visits), seconds=20.0)


def test_times_read_as_people_write_them():
    assert [clock(s) for s in (0, 59.94, 83, 3723)] == ["0.0 s", "59.9 s", "1:23", "1:02:03"]


def seen(found=True, box=(40, 40, 100, 100), identity=ADA):
    return Seen(2, Box(*map(float, box)), found, identity, Expression("neutral", {"neutral": 1.0}))


def drawn(*faces):
    image = np.full((160, 200, 3), 90, np.uint8)
    frame = Frame(image, number=0, time_s=0.0)
    result = draw_watched(Watched(frame, faces))
    assert (image == 90).all(), "the picture itself is left alone"
    return result


def test_faces_are_drawn_on_a_copy_at_their_corners_and_not_across():
    image = drawn(seen())
    assert (image[38:44, 38:54] != 90).any() and (image[97:103, 86:103] != 90).any()
    assert (image[60:80, 60:80] == 90).all() and (image[36:44, 66:74] == 90).all()


@pytest.mark.parametrize("box", [(-20, -20, 30, 30), (170, 130, 230, 190), (0, 0, 200, 160)])
def test_labels_stay_in_the_picture(box):
    assert drawn(seen(box=box)).shape == (160, 200, 3)


def test_a_face_that_is_only_expected_is_drawn_more_lightly():
    assert (drawn(seen(found=False)) != 90).sum() < (drawn(seen()) != 90).sum()


def test_labels_say_who_and_what():
    assert label_of(seen(identity=STRANGER)) == "unknown-1 · neutral"
    assert label_of(Seen(2, Box(0, 0, 9, 9), True)) == "track 2"
