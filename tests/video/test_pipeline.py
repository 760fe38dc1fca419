import _thread
import signal
import threading
import time

import pytest

from mien.errors import VideoError
from mien.video.evidence import Naming
from mien.video.pipeline import watch
from video.fakes import Collector, FakeEyes, FakeSource, frame
from video.test_evidence import FakeGallery


def one(i):
    return frame(i, (60, 40, 40, 1, int(i >= 45)))


def run(source, eyes=None, *, sinks=(), gallery=None, **options):
    sink = Collector()
    naming = Naming(gallery, model="fake", threshold=0.7, same=0.8)
    summary = watch(source, eyes or FakeEyes(), naming=naming, sinks=[sink, *sinks], **options)
    return summary, sink


def test_a_person_enters_is_named_shows_something_and_leaves():
    summary, sink = run(FakeSource([one(i) for i in range(90)]), gallery=FakeGallery(ada=1))
    kinds = [event.kind for event in sink.events]
    assert kinds == ["enter", "identity", "expression", "expression", "exit"]
    assert sink.of("identity")[0].identity.subject == "ada" and sink.of("identity")[0].time_s < 0.5
    assert [event.expression.label for event in sink.of("expression")] == ["neutral", "happiness"]
    assert 1.5 <= sink.of("expression")[1].time_s <= 2.4 and sink.of("expression")[1].before == "neutral"
    assert sink.of("exit")[0].identity.subject == "ada" and sink.of("exit")[0].until_s > 2.8
    (track,) = summary.tracks
    assert track.seconds == pytest.approx(2.9, abs=0.2) and track.face is not None and summary.ended == "end"
    assert set(track.expressions) == {"neutral", "happiness"} and len(track.series) > 10


def test_every_picture_of_a_file_comes_once_and_in_order_though_the_networks_are_slow():
    eyes = FakeEyes(slow_s=0.004)
    summary, sink = run(FakeSource([frame(i, (40, 40, 40, 1, 0), (68, 60, 40, 2, 0)) for i in range(60)]), eyes)
    assert [w.frame.number for w in sink.watched if not w.is_over] == list(range(60))
    assert summary.dropped == 0 and summary.frames == 60 and summary.latency is None


def test_of_a_live_source_the_newest_picture_is_taken_and_the_rest_is_counted():
    eyes = FakeEyes(slow_s=0.03, can_look=False)
    frames = [frame(i, (40, 40, 40, 1, 0), (68, 60, 40, 2, 0)) for i in range(100)]
    summary, sink = run(FakeSource(frames, live=True, every_s=0.002), eyes)
    numbers = [w.frame.number for w in sink.watched if not w.is_over]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 99
    assert summary.dropped == 100 - len(numbers) > 20 and summary.frames == len(numbers)
    assert 0 < summary.latency.p50 <= summary.latency.p95 <= summary.latency.p99


def facts(sink):
    return [(e.kind, e.frame, getattr(e, "track", None)) for e in sink.events]


def test_what_is_told_of_a_file_does_not_depend_on_speed():
    def frames():
        return [frame(i, (20 + i, 40, 40, 1, 0), (130 - i, 44, 40, 2, 1), width=220) for i in range(80)]

    quick, slow = run(FakeSource(frames()))[1], run(FakeSource(frames()), FakeEyes(slow_s=0.003))[1]
    assert facts(quick) == facts(slow) and len(facts(quick)) >= 6


def test_faces_of_several_pictures_are_embedded_together():
    eyes = FakeEyes()
    people = [(10 + 45 * k, 40, 30, k + 1, 0) for k in range(4)]
    run(FakeSource([frame(i, *people, width=220) for i in range(30)]), eyes)
    assert max(eyes.batches) >= 4


def test_notices_of_the_source_are_events_and_warnings():
    said = []
    source = FakeSource([one(i) for i in range(10)], notices={5: ("stalled", "it stalled")})
    summary, sink = run(source, warn=said.append)
    assert [(e.what, e.text) for e in sink.of("notice")] == [("stalled", "it stalled")]
    assert said == ["it stalled"] and summary.notices == ("it stalled",)


def test_a_watch_can_end_after_some_seconds():
    summary, sink = run(FakeSource([one(i) for i in range(90)]), limit_s=1.0)
    assert summary.frames == 30 and summary.ended == "limit" and sink.of("exit")


class Full(Collector):
    """A sink whose disk is full after some pictures."""

    def write(self, watched):
        if len(self.watched) == 5:
            raise VideoError("Cannot write 'x': no space left on device.")
        super().write(watched)


def test_a_sink_that_fails_is_closed_and_the_others_go_on():
    said, full = [], Full()
    summary, sink = run(FakeSource([one(i) for i in range(30)]), sinks=[full], warn=said.append)
    assert len(sink.watched) == 31 and len(full.watched) == 5 and full.closed == 1
    assert said == ["Cannot write 'x': no space left on device."] and said[0] in summary.notices


class Broken(FakeSource):
    def frames(self, notify):
        yield from super().frames(notify)
        raise VideoError("the camera was pulled out")


def test_what_was_seen_before_a_source_failed_is_kept():
    sink = Collector()
    with pytest.raises(VideoError, match="pulled out"):
        watch(Broken([one(i) for i in range(40)]), FakeEyes(), naming=Naming(None, model="fake"), sinks=[sink])
    assert len(sink.watched) == 41 and sink.of("exit") and sink.closed == 1 and sink.summary.frames == 40


def test_an_error_of_ours_in_any_thread_ends_the_watch_and_is_raised():
    class Failing(FakeEyes):
        def embed(self, crops):
            raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run(FakeSource([one(i) for i in range(2000)]), Failing())
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


class Impatient(Collector):
    """Presses Ctrl-C once, when it has been given a picture."""

    def write(self, watched):
        super().write(watched)
        if len(self.watched) == 1:
            _thread.interrupt_main()


def test_ctrl_c_ends_the_watch_and_the_sinks_are_whole():
    sink = Impatient()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
    source = FakeSource([one(i) for i in range(5000)], every_s=0.002)
    try:
        with pytest.raises(KeyboardInterrupt):
            watch(source, FakeEyes(), naming=Naming(None, model="fake"), sinks=[sink])
    finally:
        signal.signal(signal.SIGINT, before)
    assert sink.summary.ended == "interrupted" and sink.closed == 1 and 0 < sink.summary.frames < 5000
    assert sink.watched[-1].is_over
