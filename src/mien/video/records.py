"""What watching answers: frozen records, one a thing that happens, one a face, one for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from mien.types import Box, Expression
from mien.video.frames import Frame

__all__ = [
    "Changed",
    "Entered",
    "Event",
    "Identity",
    "Latency",
    "Left",
    "Named",
    "Notice",
    "Seen",
    "Summary",
    "TrackSummary",
    "Watched",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a track is taken to be.

    Attributes:
        state: ``pending`` while too little was seen; ``identified``: a subject of the gallery; ``unknown``: none.
        subject: The subject's name where identified.
        number: Of somebody unknown, from 1; the same person has the same number as long as the watch goes on.
        score: Cosine of the track's template and the best template of the gallery; None where there is none.
        crops: Faces of the track that the template is made of.
    """

    state: Literal["pending", "identified", "unknown"] = "pending"
    subject: str | None = None
    number: int | None = None
    score: float | None = None
    crops: int = 0

    @property
    def label(self) -> str:
        """The name, `unknown-3`, or nothing while it is pending."""
        if self.state == "identified":
            return self.subject or ""
        return f"unknown-{self.number}" if self.state == "unknown" else ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        time_s: When, in seconds of the video.
        frame: Number of the picture.
    """

    kind: ClassVar[str] = ""
    time_s: float
    frame: int


@dataclass(frozen=True, slots=True)
class Entered(Event):
    """A face began to count as a track, or came back."""

    kind: ClassVar[str] = "enter"
    track: int
    box: Box
    again: bool = False


@dataclass(frozen=True, slots=True)
class Named(Event):
    """It is decided who a track is, or decided anew."""

    kind: ClassVar[str] = "identity"
    track: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Changed(Event):
    """A face shows another expression."""

    kind: ClassVar[str] = "expression"
    track: int
    expression: Expression
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Left(Event):
    """A face is gone.

    Attributes:
        track: Its number.
        since_s: When it came.
        until_s: When it was last seen.
        identity: Who it was.
    """

    kind: ClassVar[str] = "exit"
    track: int
    since_s: float
    until_s: float
    identity: Identity


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something about the source itself.

    Attributes:
        what: A stable code: stalled, reconnected, resized, truncated, dark, ...
        text: The same as a sentence.
    """

    kind: ClassVar[str] = "notice"
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A face in one picture.

    Attributes:
        track: Its number.
        box: Where it is, px of the upright picture.
        found: Whether it was found in this very picture; otherwise its place follows from its motion.
        identity: Who it is taken to be by now.
        expression: What it shows, averaged; None where that is not read, or not yet.
    """

    track: int
    box: Box
    found: bool
    identity: Identity = field(default_factory=Identity)
    expression: Expression | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What became of one picture.

    Attributes:
        frame: The picture.
        faces: Those in it.
        events: What happened with it, in order.
        is_over: This is no further picture: the watch is over, and events alone are told.
    """

    frame: Frame
    faces: tuple[Seen, ...] = ()
    events: tuple[Event, ...] = ()
    is_over: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TrackSummary:
    """One track, all of it.

    Attributes:
        track: Its number.
        visits: When it was there, pairs of seconds.
        identity: Who it was.
        expressions: Seconds that each expression was shown.
        series: Times in seconds, and the averaged probabilities at each, rows in the order of ``labels``.
        labels: Classes of ``series``.
        face: Its best face, RGB uint8; None where none was fit to be kept.
        quality: Of that face.
    """

    track: int
    visits: tuple[tuple[float, float], ...]
    identity: Identity
    expressions: Mapping[str, float]
    series: tuple[tuple[float, tuple[float, ...]], ...] = ()
    labels: tuple[str, ...] = ()
    face: UInt8[np.ndarray, "side side 3"] | None = None
    quality: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it was there."""
        return sum(until - since for since, until in self.visits)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a picture's arrival to the end of all that is done with it."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole watch.

    Attributes:
        frames: Pictures that were looked at.
        dropped: Pictures of a live source that came while older ones were still looked at.
        searches: Searches of a whole picture.
        seconds: Of the video.
        took_s: By the clock.
        ended: Why it ended: end, interrupted, truncated, gave up, limit.
        tracks: In the order of their numbers, at most the latest 2,000.
        latency: Of a live source; None of a file.
        notices: What was odd, a sentence each.
    """

    frames: int
    dropped: int
    searches: int
    seconds: float
    took_s: float
    ended: str
    tracks: tuple[TrackSummary, ...]
    latency: Latency | None = None
    notices: tuple[str, ...] = ()
