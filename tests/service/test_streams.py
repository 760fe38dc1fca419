"""Sources that a service watches: what is told of them, by cursor, to whom."""

import threading
import time
from collections import deque

import pytest

from mien.images import save_image
from mien.service.streams import Stream, Streams
from video.fakes import FakeEyes
from video.fakes import picture as scene

from .conftest import picture, problem


@pytest.fixture
def frames(tmp_path):
    """A film of one person, as a folder of pictures."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(12):
        save_image(folder / f"{number:03}.png", scene((10 + number, 30, 40, 1, 0)))
    return folder


@pytest.fixture
def watching(start, frames, monkeypatch):
    monkeypatch.setattr("mien.video.eyes.Eyes", lambda analyzer: FakeEyes())
    monkeypatch.setattr("mien.video.Eyes", lambda analyzer: FakeEyes(), raising=False)
    service = start(streams={"door": str(frames), "gone": str(frames / "nothing.mp4")})
    service.core.streams.start(lambda: service.core.collections.get("default"))
    for _ in range(200):
        if {one.state for one in service.core.streams.streams.values()} == {"ended", "failed"}:
            return service
        time.sleep(0.05)
    raise AssertionError([(one.state, one.trouble) for one in service.core.streams.streams.values()])


def test_what_happens_before_a_source_is_told_in_order_and_once(watching):
    first = watching.get("/v1/streams/door/events", params={"limit": 2}).json()
    rest = watching.get("/v1/streams/door/events", params={"cursor": first["cursor"]}).json()
    told = first["events"] + rest["events"]

    assert [one["event"] for one in told][:1] == ["enter"] and told[-1]["event"] == "end" and len(told) >= 3
    assert all(one["at"] > 1.7e9 for one in told)
    assert not rest["truncated"] and not rest["stream_reset"]
    again = watching.get("/v1/streams/door/events", params={"cursor": rest["cursor"], "wait": 0.2}).json()
    assert again["events"] == [] and again["cursor"] == rest["cursor"]


def test_sources_are_listed_and_one_that_cannot_be_read_says_why(watching):
    listed = {one["name"]: one for one in watching.get("/v1/streams").json()["streams"]}

    assert listed["door"]["state"] == "ended" and listed["door"]["events"] >= 3
    assert listed["gone"]["state"] == "failed" and "nothing.mp4" in listed["gone"]["trouble"]


def test_whatever_ends_a_watch_is_said_and_the_source_is_tried_again(start, frames, monkeypatch):
    monkeypatch.setattr("mien.service.streams.FIRST_PAUSE_S", 0.05)
    tries = []

    def broken(*_, **__):
        tries.append(1)
        raise RuntimeError("the networks fell over")

    monkeypatch.setattr("mien.video.Eyes", broken, raising=False)
    service = start(streams={"door": str(frames)})
    service.core.streams.start(lambda: service.core.collections.get("default"))
    for _ in range(100):
        if len(tries) > 1:
            break
        time.sleep(0.05)
    (told,) = service.get("/v1/streams").json()["streams"]

    assert len(tries) > 1 and told["state"] == "failed" and "the networks fell over" in told["trouble"]


def test_a_cursor_of_a_service_before_begins_anew_and_that_is_said(watching):
    told = watching.get("/v1/streams/door/events", params={"cursor": "00000000-7"}).json()
    assert told["stream_reset"] and told["events"][0]["event"] == "enter"


def test_other_collections_see_no_streams(watching):
    watching.http.post("/v1/collections", json={"name": "other"})

    assert watching.get("/v1/streams", params={"collection": "other"}).json()["streams"] == []
    problem(watching.get("/v1/streams/door/events", params={"collection": "other"}), 404)
    problem(watching.get("/v1/streams/window/events"), 404)
    problem(watching.get("/v1/streams/door/events", params={"cursor": "x"}), 400)


def test_the_name_of_somebody_erased_is_told_no_more(watching):
    ada = watching.enrol("ada", picture(1))
    stream = watching.core.streams.streams["door"]
    stream.put({"event": "identity", "subject": "ada", "at": 0.0})

    def names():
        events = watching.get("/v1/streams/door/events").json()["events"]
        return [one["subject"] for one in events if one["event"] == "identity" and one["at"] == 0.0]

    assert names() == ["ada"]
    assert watching.http.delete(f"/v1/subjects/{ada['id']}").status_code == 200
    assert names() == [None]


def test_events_beyond_what_is_kept_are_gone_and_that_is_said():
    stream = Stream("door", events=deque(maxlen=3))
    stream.put({"n": 0})
    _, before = stream.since(None, 10)
    for n in range(1, 6):
        stream.put({"n": n})
    found, now = stream.since(str(before["cursor"]), 10)

    assert [one["n"] for one in found] == [3, 4, 5] and now["truncated"] and not now["stream_reset"]
    assert stream.since(str(now["cursor"]), 10)[0] == []


def test_streams_that_end_with_the_service_leave_no_thread(frames, start, monkeypatch):
    streams = Streams({"door": str(frames)})
    streams.close()
    streams.start(lambda: None)
    streams.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien-stream-")]
