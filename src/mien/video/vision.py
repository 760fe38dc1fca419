"""The second thread: find faces, follow them, and cut out those that somebody should look at more closely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from mien.types import Box, Quality, Reason
from mien.video.eyes import EyesLike, portrait
from mien.video.frames import Frame
from mien.video.options import Options
from mien.video.records import Entered, Event, Identity, Left, Notice
from mien.video.tracker import Appearance, Track, Tracker
from mien.vision.detector import Detection

__all__ = ["Followed", "Request", "Step", "Vision"]

_DIFFERENCE, _PART = 24, 0.006  # of grey levels, and of the picture that has to differ by so much
_AROUND = 0.6  # of its side, around a followed face, where changes are its own
_DARK, _DARK_S = 8, 2.0  # mean grey of a picture in which nothing is to be seen, and for how long
_SHOWN_S = 0.25  # for so long a face that was looked for and not found is still told of
_BEST_STEP = 0.05  # of quality, by which a face is worth another portrait


@dataclass(frozen=True, slots=True)
class Followed:
    """A face in one picture, before anybody asked who it is."""

    key: int
    number: int
    box: Box
    found: bool


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A face that is to be embedded, read, or kept as the track's best.

    Attributes:
        key: Of the track.
        detection: The face.
        quality: How fit it is.
        crop: To be embedded; None where it is not.
        read: To be read; None where it is not.
        picture: For people to look at; None where an earlier one is as good.
    """

    key: int
    detection: Detection
    quality: Quality
    crop: UInt8[np.ndarray, "side side 3"] | None = None
    read: UInt8[np.ndarray, "side side 3"] | None = None
    picture: UInt8[np.ndarray, "side side 3"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One picture on its way from vision to the batcher."""

    frame: Frame
    faces: tuple[Followed, ...]
    requests: tuple[Request, ...] = ()
    events: tuple[Event, ...] = ()
    is_over: bool = False


@dataclass(slots=True)
class _Diary:
    """When a track was last looked at for what."""

    embedded_s: float = -1e9
    read_s: float = -1e9
    asked: int = 0
    best: float = 0.0
    pictured: float = 0.0


@dataclass(slots=True)
class _Pace:
    """Whether a picture is to be searched, looked at where faces are expected, or only counted on."""

    options: Options
    searched_s: float = -1e9
    looked_s: float = -1e9
    thumb: UInt8[np.ndarray, "36 64"] | None = None
    size: tuple[int, int] = (0, 0)
    hurry: bool = True

    def needs_search(self, frame: Frame, tracker: Tracker) -> bool:
        """Whether the whole picture is to be searched now.

        That is so when the last look was no success, when faces could be taken for one another, when something
        changed where nobody is followed, and every so often.
        """
        since = frame.time_s - self.searched_s
        if self.hurry or since < 0 or (frame.width, frame.height) != self.size:
            return True
        if any(not track.number or track.missing for track in tracker.tracks if not track.away):
            return True
        if tracker.touching():
            return True
        if since >= (self.options.search_s if tracker.present else self.options.idle_s):
            return True
        return since >= self.options.changed_s and self._has_changed(frame, tracker)

    def needs_look(self, frame: Frame, tracker: Tracker) -> bool:
        """Whether followed faces are to be looked at now: every so often, and before they have moved far."""
        since = frame.time_s - self.looked_s
        fastest = max((track.motion.speed for track in tracker.present), default=0.0)
        return bool(tracker.present) and (since >= self.options.look_s or since * fastest > 0.25)

    def searched(self, frame: Frame) -> None:
        """Note that a picture was searched."""
        self.searched_s = self.looked_s = frame.time_s
        self.size = (frame.width, frame.height)
        self.thumb = frame.thumb()
        self.hurry = False

    def _has_changed(self, frame: Frame, tracker: Tracker) -> bool:
        if self.thumb is None:
            return True
        differs = np.abs(frame.thumb().astype(np.int16) - self.thumb) > _DIFFERENCE
        height, width = differs.shape
        fx, fy = width / frame.width, height / frame.height
        for track in tracker.present:
            box, reach = track.box, _AROUND * track.box.side
            top, left = max(int((box.top - reach) * fy), 0), max(int((box.left - reach) * fx), 0)
            # Down to the bottom: whose face it is moves a body, too.
            differs[top:, left : int((box.right + reach) * fx) + 1] = False
        return float(differs.mean()) > _PART


class Vision:
    """Find and follow faces.

    Args:
        eyes: The networks.
        options: How closely.
        template: Returns the template of a track by its key; called from this thread.
        settle: Waits until all requests so far were dealt with, so that the answers of a file don't depend on speed.
        by_overlap: Follow by overlap alone.

    Attributes:
        searches: Pictures that were searched whole.
        looks: Second looks at followed faces.
    """

    def __init__(
        self,
        eyes: EyesLike,
        options: Options,
        *,
        template: Callable[[int], Float32[np.ndarray, " dimension"] | None],
        settle: Callable[[], None] = lambda: None,
        by_overlap: bool = False,
    ) -> None:
        self.searches = 0
        self._eyes, self._options = eyes, options
        self._template, self._settle = template, settle
        self._tracker = Tracker(options, by_overlap=by_overlap)
        self._pace = _Pace(options)
        self._diaries: dict[int, _Diary] = {}
        self._dark_since: float | None = None
        self._size: tuple[int, int] | None = None

    def step(self, frame: Frame) -> Step:
        """Take one picture; return the faces in it and what is to be asked about them."""
        tracker = self._tracker
        notices = [*self._size_notices(frame)]
        tracker.predict(frame.time_s)
        # Told now: a track that comes back with this very picture begins another visit.
        left = [self._left(track, frame) for track in tracker.left]
        seen: list[Track] = []
        if self._pace.needs_search(frame, tracker):
            notices += self._dark_notices(frame)
            self._search(frame)
            seen = [track for track in tracker.present if track.seen_s == frame.time_s]
        elif self._pace.needs_look(frame, tracker):
            seen = self._look(frame)
        requests = [request for track in seen if (request := self._request(track, frame)) is not None]
        if not tracker.tracks:
            self._diaries.clear()
        return Step(frame, self._faces(frame), tuple(requests), (*notices, *self._events(frame, left)))

    def end(self, frame: Frame) -> Step:
        """Return a last step, in which everybody leaves who is still there."""
        events = [self._left(track, frame) for track in self._tracker.present]
        return Step(frame, (), (), tuple(events), is_over=True)

    def _search(self, frame: Frame) -> None:
        self.searches += 1
        found = self._eyes.find(frame.image)
        self._tracker.search(found, frame.time_s, _Looks(self._eyes, frame, self._template, self._settle))
        self._pace.searched(frame)

    def _look(self, frame: Frame) -> list[Track]:
        tracks = self._tracker.present
        found = self._eyes.look_again(frame.image, [track.box for track in tracks])
        if found is None:
            self._search(frame)
            return [track for track in self._tracker.present if track.seen_s == frame.time_s]
        self._pace.looked_s = frame.time_s
        self._tracker.looked(list(zip(tracks, found, strict=True)), frame.time_s)
        # Two looks that end at one face: which of the two it is, a search has to say.
        if any(one is None for one in found) or self._tracker.touching():
            self._pace.hurry = True
        return [track for track in tracks if track.seen_s == frame.time_s]

    def _faces(self, frame: Frame) -> tuple[Followed, ...]:
        faces = []
        for track in self._tracker.present:
            box = _inside(track.box, frame)
            lost = track.missing and (track.hidden or frame.time_s - track.seen_s > _SHOWN_S)
            if box is not None and not lost:
                faces.append(Followed(track.key, track.number, box, track.seen_s == frame.time_s))
        return tuple(faces)

    def _request(self, track: Track, frame: Frame) -> Request | None:
        options, now = self._options, frame.time_s
        diary = self._diaries.setdefault(track.key, _Diary())
        wait_s = options.embed_s if diary.asked < options.crops else options.refresh_s
        may_embed = now - diary.embedded_s >= options.embed_s
        wants_read = bool(self._eyes.labels) and now - diary.read_s >= options.expression_s
        if not (may_embed or wants_read):
            return None
        crop, quality = self._eyes.judge(frame.image, track.detection)
        score = quality.score
        is_usable = score >= options.least_quality and not _is_cut(track.detection.box, frame)
        is_usable = is_usable and Reason.EXTREME_POSE not in quality.reasons
        is_due = now - diary.embedded_s >= wait_s or score > diary.best + _BEST_STEP
        embeds = is_usable and may_embed and is_due
        if embeds:
            diary.embedded_s, diary.asked, diary.best = now, diary.asked + 1, max(diary.best, score)
        picture = None
        # A face that is cut by the edge is shown only as long as there is none that is whole.
        worth = 0.1 * score if _is_cut(track.detection.box, frame) else score
        if worth > diary.pictured + _BEST_STEP or not diary.pictured:
            diary.pictured = max(worth, 1e-3)
            picture = portrait(frame.image, track.detection.box)
        read = None
        if wants_read:
            diary.read_s = now
            read = self._eyes.expression_crop(frame.image, track.detection)
        if not embeds and read is None and picture is None:
            return None
        return Request(track.key, track.detection, quality, crop if embeds else None, read, picture)

    def _events(self, frame: Frame, left: Sequence[Event]) -> list[Event]:
        entered: list[Event] = [
            Entered(frame.time_s, frame.number, track.number, track.detection.box, track.since_s > track.first_s)
            for track in self._tracker.entered
        ]
        return [*left, *entered]

    def _left(self, track: Track, frame: Frame) -> Left:
        return Left(frame.time_s, frame.number, track.number, track.since_s, track.seen_s, Identity())

    def _size_notices(self, frame: Frame) -> list[Event]:
        size, before = (frame.width, frame.height), self._size
        self._size = size
        if before is None or before == size:
            return []
        text = f"the picture is {size[0]} x {size[1]} px from {frame.time_s:.1f} s on; it was {before[0]} x {before[1]}"
        return [Notice(frame.time_s, frame.number, "resized", text)]

    def _dark_notices(self, frame: Frame) -> list[Event]:
        if float(frame.thumb().mean()) > _DARK:
            self._dark_since = None
            return []
        if self._dark_since is None:
            self._dark_since = frame.time_s
        elif 0 <= self._dark_since <= frame.time_s - _DARK_S:
            text = f"the picture has been black since {self._dark_since:.1f} s: is the lens covered?"
            self._dark_since = float("inf")  # said once, until there is light again
            return [Notice(frame.time_s, frame.number, "dark", text)]
        return []


@dataclass(slots=True)
class _Looks(Appearance):
    """What the faces of one picture look like, computed where the tracker asks."""

    eyes: EyesLike
    frame: Frame
    of_track: Callable[[int], Float32[np.ndarray, " dimension"] | None]
    settle: Callable[[], None]
    known: dict[int, Float32[np.ndarray, " dimension"]] = field(default_factory=dict)

    @property
    def same(self) -> float | None:  # type: ignore[override]
        return self.eyes.same

    @property
    def maybe(self) -> float | None:  # type: ignore[override]
        return self.eyes.maybe

    def describe(self, detections: Sequence[Detection]) -> Float32[np.ndarray, "faces dimension"] | None:
        new = [one for one in detections if id(one) not in self.known]
        if new:
            crops = [self.eyes.judge(self.frame.image, one)[0] for one in new]
            for one, vector in zip(new, self.eyes.comparable(self.eyes.embed(crops)), strict=True):
                self.known[id(one)] = vector
        return np.stack([self.known[id(one)] for one in detections])

    def template(self, key: int) -> Float32[np.ndarray, " dimension"] | None:
        self.settle()
        return self.of_track(key)


def _inside(box: Box, frame: Frame) -> Box | None:
    left, top = max(box.left, 0.0), max(box.top, 0.0)
    right, bottom = min(box.right, float(frame.width)), min(box.bottom, float(frame.height))
    return Box(left, top, right, bottom) if right - left > 2 and bottom - top > 2 else None


def _is_cut(box: Box, frame: Frame) -> bool:
    """Whether a part of a face is outside of the picture."""
    return box.left <= 1 or box.top <= 1 or box.right >= frame.width - 1 or box.bottom >= frame.height - 1
