"""Four threads from pictures to events: reader, vision, batcher, writer.

A file is read as fast as its faces can be looked at, and every picture of it is. Of a live source the newest picture is
taken, the rest is counted as dropped, and little may wait between the threads: what waits is late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import numpy as np

from mien.errors import VideoError
from mien.video.batcher import Batcher
from mien.video.evidence import Naming
from mien.video.eyes import EyesLike
from mien.video.frames import Frame
from mien.video.handover import Everything, HandOver, hand_over
from mien.video.options import Options
from mien.video.records import Latency, Notice, Summary, Watched
from mien.video.vision import Step, Vision

__all__ = ["Sink", "SourceLike", "watch"]

_BETWEEN_FILE, _BETWEEN_LIVE = 8, 1  # steps that may wait between two threads
_BATCH = 8  # faces that the batcher waits for no longer
_LOOK_S = 0.1  # between two glances of the main thread at the others, so that Ctrl-C is seen
_LEAVE_S = 2.0  # that a reader, which may wait for a camera, has to end


class Sink(Protocol):
    """Takes what is told of each picture, in order, in the writer's thread."""

    needs_pixels: bool
    """Whether pictures are looked at, and not events alone."""

    def write(self, watched: Watched) -> None:
        """Take one picture.

        Raises:
            VideoError: It cannot be kept; this sink is closed and gets no more, the others go on.
        """
        ...

    def close(self, summary: Summary | None) -> None:
        """End; None where the watch was broken off by an error of ours."""
        ...


class SourceLike(Protocol):
    """Gives pictures; see `mien.video.sources`."""

    live: bool
    name: str

    def frames(self, notify: Callable[[str, str], None]) -> Iterator[Frame]:
        """Yield pictures; ``notify(code, sentence)`` tells of what happens to the source."""
        ...

    def stop(self) -> None:
        """Ask `frames` to end; called from another thread."""
        ...


def watch(
    source: SourceLike,
    eyes: EyesLike,
    *,
    naming: Naming,
    options: Options | None = None,
    sinks: Sequence[Sink] = (),
    limit_s: float | None = None,
    warn: Callable[[str], None] = lambda _: None,
    by_overlap: bool = False,
) -> Summary:
    """Follow the faces of a source until it ends.

    Args:
        source: Gives pictures.
        eyes: The networks.
        naming: Who templates belong to.
        options: How closely faces are followed.
        sinks: What takes events and pictures.
        limit_s: End after so many seconds of the video.
        warn: Takes a sentence when something is wrong that does not end the watch. Called from other threads.
        by_overlap: Follow by overlap alone.

    Raises:
        VideoError: The source cannot be read at all. What was seen until then is with the sinks.
        KeyboardInterrupt: Ctrl-C; the sinks are closed and whole.
    """
    run = _Run(source, eyes, naming, options or Options(), sinks, limit_s, warn, by_overlap)
    return run.run()


class _Run:
    """One watch: its threads and what they hand over."""

    def __init__(
        self,
        source: SourceLike,
        eyes: EyesLike,
        naming: Naming,
        options: Options,
        sinks: Sequence[Sink],
        limit_s: float | None,
        warn: Callable[[str], None],
        by_overlap: bool,
    ) -> None:
        between = _BETWEEN_LIVE if source.live else _BETWEEN_FILE
        self.source, self.limit_s, self.warn = source, limit_s, warn
        self.pictures: HandOver[Frame] = hand_over(source.live)
        self.steps: Everything[Step] = Everything(between)
        self.told: Everything[Watched] = Everything(between)
        self.sinks = list(sinks)
        self.keeps_pixels = any(sink.needs_pixels for sink in sinks)
        naming.notify = self._notify
        self.batcher = Batcher(eyes, options, naming)
        self.vision = Vision(
            eyes,
            options,
            template=self.batcher.template,
            settle=(lambda: None) if source.live else self.steps.settle,
            by_overlap=by_overlap,
        )
        self.notices: list[tuple[str, str]] = []  # of the source, until vision sends them on
        self.sentences: list[str] = []
        self.failure: BaseException | None = None
        self.ended = "end"
        self.frames = 0
        self.last: Frame | None = None
        self.delays = _Delays()
        self.lock = threading.Lock()

    def run(self) -> Summary:
        start = time.monotonic()
        summary: Summary | None = None
        interrupted: KeyboardInterrupt | None = None
        reader = self._thread(self._read, "reader")
        others = [self._thread(self._see, "vision"), self._thread(self._batch, "batcher")]
        others.append(self._thread(self._write, "writer"))
        try:
            for thread in (reader, *others):  # in here: the first picture may be written, and Ctrl-C come, at once
                thread.start()
            self._wait(others)
        except KeyboardInterrupt as error:
            interrupted = error
            self.ended = "interrupted"
            self.stop(drain=False)
            self._wait(others)
        finally:
            self.source.stop()
            if reader.ident is not None:
                reader.join(_LEAVE_S)
            if self.failure is None or isinstance(self.failure, VideoError):
                summary = self._summary(time.monotonic() - start)
            self._close(summary)
        if interrupted is not None:
            raise interrupted
        if self.failure is not None:
            raise self.failure
        assert summary is not None
        return summary

    def stop(self, *, drain: bool) -> None:
        """Let nothing more in."""
        self.source.stop()
        self.pictures.close(drain=drain)

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                with self.lock:
                    self.failure = self.failure or error
                # Whoever waits for this thread, or would fill its queue, has to wake up.
                self.stop(drain=isinstance(error, VideoError))
                if not isinstance(error, VideoError):
                    self.steps.close(drain=False)
                    self.told.close(drain=False)

        return threading.Thread(target=guarded, name=f"mien-{name}", daemon=True)

    @staticmethod
    def _wait(threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK_S)

    def _read(self) -> None:
        try:
            for frame in self.source.frames(self._notify):
                if self.limit_s is not None and frame.time_s >= self.limit_s:
                    self.ended = "limit"
                    break
                if not self.pictures.put(frame):
                    return
        finally:
            self.pictures.close()

    def _notify(self, what: str, text: str) -> None:
        with self.lock:
            self.notices.append((what, text))
            self.sentences.append(text)
            del self.sentences[:-100]
            if what in ("truncated", "gave up"):
                self.ended = what
        self.warn(text)

    def _see(self) -> None:
        try:
            while (frame := self.pictures.get()) is not None:
                self.frames += 1
                step = self._with_notices(self.vision.step(frame))
                if not self.keeps_pixels:
                    frame.forget()
                self.last = frame
                if not self.steps.put(step):
                    return
                if isinstance(self.pictures, Everything):
                    self.pictures.done()
            if self.last is not None:
                self.steps.put(self._with_notices(self.vision.end(self.last)))
        finally:
            self.steps.close()

    def _with_notices(self, step: Step) -> Step:
        with self.lock:
            new, self.notices = self.notices, []
        own = [event for event in step.events if isinstance(event, Notice)]
        for event in own:
            self.sentences.append(event.text)
            self.warn(event.text)
        told = [Notice(step.frame.time_s, step.frame.number, what, text) for what, text in new]
        return replace(step, events=(*told, *step.events))

    def _batch(self) -> None:
        try:
            while (step := self.steps.get()) is not None:
                taken = [step]
                while sum(len(one.requests) for one in taken) < _BATCH and (more := self.steps.get_ready()) is not None:
                    taken.append(more)
                for watched in self.batcher.process(taken):
                    if not self.told.put(watched):
                        return
                self.steps.done(len(taken))
        finally:
            self.told.close()

    def _write(self) -> None:
        while (watched := self.told.get()) is not None:
            for sink in list(self.sinks):
                try:
                    sink.write(watched)
                except VideoError as error:
                    self.sinks.remove(sink)
                    self.sentences.append(str(error))
                    self.warn(str(error))
                    with suppress(VideoError):
                        sink.close(None)
            if not watched.is_over:
                self.delays.add(time.monotonic() - watched.frame.arrived_s)
            watched.frame.forget()
            self.told.done()

    def _close(self, summary: Summary | None) -> None:
        for sink in self.sinks:
            try:
                sink.close(summary)
            except (VideoError, OSError) as error:  # the others are closed all the same
                self.warn(str(error) if isinstance(error, VideoError) else f"Cannot write: {error.strerror or error}.")

    def _summary(self, took_s: float) -> Summary:
        return Summary(
            self.frames,
            self.pictures.dropped,
            self.vision.searches,
            self.last.time_s if self.last is not None else 0.0,
            took_s,
            self.ended,
            self.batcher.summaries(),
            self.delays.percentiles() if self.source.live and self.frames else None,
            tuple(self.sentences),
        )


class _Delays:
    """A histogram of delays, whose memory does not grow."""

    def __init__(self) -> None:
        self._edges = np.geomspace(1e-4, 100.0, 600)
        self._counts = np.zeros(len(self._edges) + 1, np.int64)

    def add(self, seconds: float) -> None:
        self._counts[int(np.searchsorted(self._edges, seconds))] += 1

    def percentiles(self) -> Latency:
        total = np.cumsum(self._counts)
        places = (np.searchsorted(total, share * total[-1]) for share in (0.5, 0.95, 0.99))
        return Latency(*(float(self._edges[min(int(i), len(self._edges) - 1)]) * 1e3 for i in places))
