"""Cameras and films that a service watches all the time, and what happens in them, for whoever asks by a cursor.

Which sources there are the operator says when the service starts; nobody else can name one. Events are kept in memory,
the last of them, and are gone when the service ends.
"""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mien import video
from mien.errors import MienError
from mien.gallery.deciding import decide_search
from mien.reporting import schemas
from mien.video.options import FPIR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mien.service.collections import Collection
    from mien.video.records import Summary, Watched
    from mien.video.sources import Source

__all__ = ["Stream", "Streams"]

_KEPT = 10_000  # events of a stream
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""Before a source that could not be watched is tried again: the first pause, and how long they grow."""
_GIVE_UP_S = 30.0  # without a picture, before a source counts as failed


@dataclass(eq=False)
class Stream:
    """One source, and what happened there.

    Attributes:
        name: As the operator calls it.
        state: starting, running, ended or failed.
        trouble: Why it failed; empty.
        run: Changes whenever the events start anew.
        first: Number of the oldest event that is kept.
        events: The last ones.
    """

    name: str
    state: str = "starting"
    trouble: str = ""
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    first: int = 0
    events: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, event: dict[str, object]) -> None:
        """Keep an event; the oldest goes where there are too many."""
        with self.lock:
            self.first += len(self.events) == self.events.maxlen
            self.events.append(event)

    def since(self, cursor: str | None, most: int) -> tuple[list[dict[str, object]], dict[str, object]]:
        """Return events after a cursor, and where to go on: the cursor, and whether something is missing before."""
        run, _, number = (cursor or "").rpartition("-")
        with self.lock:
            reset = cursor is not None and run != self.run
            wanted = self.first if cursor is None or reset else int(number)
            start = max(wanted, self.first)
            after = start - self.first
            some = list(itertools.islice(self.events, after, after + most))
            end = min(start + len(some), self.first + len(self.events))
        return some, {"cursor": f"{self.run}-{end}", "truncated": start > wanted, "stream_reset": reset}


class _Ring:
    """The sink that keeps events of a watch."""

    needs_pixels = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, watched: Watched) -> None:
        if not watched.is_over:
            self._stream.state, self._stream.trouble = "running", ""
        for event in watched.events:
            self._stream.put(schemas.watch_event(event) | {"at": time.time()})

    def close(self, summary: Summary | None) -> None:
        if summary is not None:
            self._stream.put({"event": "end", "ended": summary.ended, "at": time.time()})


class Streams:
    """Watches all sources, a thread each; one that breaks off is opened again.

    Args:
        sources: By name, as of `mien watch`.

    Raises:
        UsageError: PyAV is not installed, or a source cannot be one.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.streams = {name: Stream(name) for name in sources}
        self._sources = dict(sources)
        self._open: dict[str, Source] = {}
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, people: Callable[[], Collection]) -> None:
        """Begin to watch, for the people of a collection, which may not be there yet."""
        for stream in self.streams.values():
            thread = threading.Thread(
                target=self._follow, args=(stream, people), name=f"mien-stream-{stream.name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()
        for source in list(self._open.values()):
            source.stop()
        for thread in self._threads:
            thread.join(timeout=10)

    def _follow(self, stream: Stream, people: Callable[[], Collection]) -> None:
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            try:
                collection = people()
                source = self._open[stream.name] = video.open_source(self._sources[stream.name], give_up_s=_GIVE_UP_S)
                if self._closing.is_set():
                    return
                self._watch(stream, source, collection)
                if not source.live:
                    stream.state = "ended"
                    return
            except Exception as error:  # noqa: BLE001 - whatever it was, the camera is tried again
                text = str(error) if isinstance(error, MienError) else f"{type(error).__name__}: {error}"
                if text != stream.trouble:
                    sys.stderr.write(f"mien: stream {stream.name}: {text}\n")
                pause = FIRST_PAUSE_S if stream.state == "running" else pause
                stream.state, stream.trouble = "failed", text
                stream.put({"event": "notice", "what": "failed", "text": text, "at": time.time()})
            finally:
                self._open.pop(stream.name, None)
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    @staticmethod
    def _watch(stream: Stream, source: Source, collection: Collection) -> None:
        analyzer, gallery = collection.expressive, collection.gallery
        eyes = video.Eyes(analyzer)
        point, _ = decide_search(analyzer.card, gallery, fpir=FPIR)
        naming = video.Naming(gallery, model=analyzer.card.id, threshold=point.threshold, same=eyes.surely_same)

        def warn(text: str) -> None:
            stream.state, stream.trouble = "failed", text  # until the next picture

        video.watch(source, eyes, naming=naming, sinks=[_Ring(stream)], warn=warn)
