import io
import json
import re
from pathlib import Path

import av
import numpy as np
import pytest

from mien.errors import VideoError
from mien.types import Box
from mien.video.records import Entered, Watched
from mien.video.sinks import Film, JsonLines
from mien.video.sources import open_source
from video.fakes import frame


def watched(number, *, size=(160, 120), events=1, fps=30.0):
    one = frame(number, (40, 40, 40, 5, 0), width=size[0], height=size[1], fps=fps)
    happened = [Entered(one.time_s, number, k + 1, Box(0, 0, 9, 9)) for k in range(events)]
    return Watched(one, events=tuple(happened))


def lines_to(place, **options):
    return JsonLines(
        place,
        event=lambda event: {"event": event.kind, "track": event.track},
        head={"event": "start"},
        tail=lambda summary: {"event": "end"},
        **options,
    )


def test_each_event_is_a_line_that_is_there_at_once(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = lines_to(path)
    sink.write(watched(0, events=2))
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["start", "enter", "enter"]
    sink.close(object())
    assert json.loads(path.read_text().splitlines()[-1]) == {"event": "end"}
    sink.close(None)


def test_pictures_have_lines_of_their_own_on_request_and_the_end_is_none():
    stream = io.StringIO()
    sink = lines_to(stream, picture=lambda one: {"event": "picture", "frame": one.frame.number})
    sink.write(watched(7, events=0))
    sink.write(Watched(frame(8), is_over=True))
    assert [json.loads(line) for line in stream.getvalue().splitlines()][1:] == [{"event": "picture", "frame": 7}]


def test_a_watch_that_was_broken_off_has_no_last_line(tmp_path):
    sink = lines_to(tmp_path / "a.jsonl")
    sink.close(None)
    assert (tmp_path / "a.jsonl").read_text() == '{"event": "start"}\n'


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(VideoError, match=r"Cannot write '.*none/a.jsonl': No such file"):
        lines_to(tmp_path / "none" / "a.jsonl")
    with pytest.raises(VideoError, match=r"Cannot write '.*none/a.mp4': No such file"):
        Film(tmp_path / "none" / "a.mp4")


class _Filling:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        part = data[: self._room]
        self._room -= len(part)
        return self._file.write(part)

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_disk_that_fills_leaves_whole_lines(tmp_path, monkeypatch):
    opened = Path.open
    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(Path, "open", lambda *args, **how: _Filling(opened(*args, **how), 60))
        sink = lines_to(tmp_path / "a.jsonl")
    sink.write(watched(0))
    with pytest.raises(VideoError, match="No space left on device; the events up to here are kept"):
        sink.write(watched(1))
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", "enter"]
    sink.close(object())
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_that_is_full_is_one_line():
    with pytest.raises(VideoError, match="No space left"):
        lines_to(Path("/dev/full"))
    film = Film(Path("/dev/full"))
    with pytest.raises(VideoError, match="No space left on device; the film up to here"):
        for number in range(400):
            film.write(watched(number, fps=1))
    film.close(None)


def shown(path):
    with av.open(str(path)) as container:
        return [(picture.time, picture.to_ndarray(format="rgb24")) for picture in container.decode(video=0)]


def test_a_film_has_all_pictures_at_their_times_uneven_ones_too(tmp_path):
    film = Film(tmp_path / "a.mp4")
    times = [0.0, 0.1, 0.5, 0.52, 3.0]
    for number, time_s in enumerate(times):
        one = watched(number)
        one.frame.time_s = time_s
        film.write(one)
    film.write(Watched(frame(9), is_over=True))
    film.close(None)
    found = shown(tmp_path / "a.mp4")
    assert [time_s for time_s, _ in found] == pytest.approx(times, abs=1e-3)
    assert np.abs(found[0][1].astype(int) - watched(0).frame.image).mean() < 8


def test_a_film_that_is_cut_off_can_be_played_up_to_there(tmp_path):
    film = Film(tmp_path / "a.mp4")
    for number in range(95):
        film.write(watched(number))
    film.close(None)
    data = (tmp_path / "a.mp4").read_bytes()
    third = [found.start() for found in re.finditer(b"mdat", data)][2]  # a second of film each
    (tmp_path / "cut.mp4").write_bytes(data[: third + 40])
    said = []
    frames = list(open_source(str(tmp_path / "cut.mp4")).frames(lambda what, _: said.append(what)))
    assert 30 <= len(frames) < 95


def test_pictures_of_another_size_are_fitted_into_the_film(tmp_path):
    film = Film(tmp_path / "a.mp4")
    for number, size in enumerate([(160, 120), (161, 121), (120, 160), (320, 240)]):
        film.write(watched(number, size=size))
    film.close(None)
    assert [image.shape for _, image in shown(tmp_path / "a.mp4")] == [(120, 160, 3)] * 4
    assert shown(tmp_path / "a.mp4")[2][1][:, :30].mean() < 20  # black beside the upright one


def test_odd_sizes_can_be_encoded(tmp_path):
    film = Film(tmp_path / "a.mp4")
    film.write(watched(0, size=(161, 121)))
    film.close(None)
    assert shown(tmp_path / "a.mp4")[0][1].shape == (120, 160, 3)


def test_a_film_of_nothing_leaves_no_file(tmp_path):
    film = Film(tmp_path / "a.mp4")
    film.close(None)
    assert not (tmp_path / "a.mp4").exists()


def test_what_is_drawn_is_what_is_shown(tmp_path):
    film = Film(tmp_path / "a.mp4", draw=lambda one: np.full_like(one.frame.image, 200))
    film.write(watched(0))
    film.close(None)
    assert np.abs(shown(tmp_path / "a.mp4")[0][1].astype(int) - 200).max() < 8
