"""Which face is which from one picture to the next: by overlap first, then by what the faces look like.

Round one matches what overlaps where the motion says that a face should be. Overlap alone is not believed where faces
touch or cross: there embeddings have a say. Round two matches what is left by embedding, with tracks that are out of
sight as well, so that somebody who was hidden or went out keeps the number.

Source of the two rounds: Y. Zhang et al., "ByteTrack", arXiv:2110.06864, whose second round is by overlap too; of the
enlarged boxes: F. Yang et al., "C-BIoU", arXiv:2211.14317.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32
from scipy.optimize import linear_sum_assignment

from mien.types import Box
from mien.video.motion import Motion
from mien.video.options import Options
from mien.vision.detector import Detection

__all__ = ["Appearance", "Track", "Tracker", "overlaps"]

_LEAST, _WIDE_LEAST = 0.15, 0.10  # overlap of a match, and of one between enlarged boxes
_ENLARGED = 0.5  # of its side a box is enlarged all round
_GONE_S = 0.2  # out of sight for longer than a blink of the detector
_TOUCH = 0.05  # overlap from which on two faces may be taken for each other
_WEIGHT = 2.0  # of the cosine beside the overlap
_CLEARLY = 0.05  # a face out of sight is recognised if it is more like nobody else by so much
_LOOKS = 3  # times that a newcomer is compared with those out of sight


class Appearance(Protocol):
    """What faces look like, asked only where overlap does not decide."""

    same: float | None
    """Cosine from which on two faces are taken for one person; None where that is not known."""
    maybe: float | None
    """Cosine below which they are hardly one person; None where that is not known."""

    def describe(self, detections: Sequence[Detection]) -> Float32[np.ndarray, "faces dimension"] | None:
        """Return unit embeddings of faces of the present picture; None where faces are not embedded."""
        ...

    def template(self, key: int) -> Float32[np.ndarray, " dimension"] | None:
        """Return the unit embedding of a track; None where it has none yet."""
        ...


@dataclass(slots=True, eq=False)
class Track:
    """One face over time.

    Attributes:
        key: Tells tracks apart, those included that never count.
        number: From 1, in the order in which they began to count; 0 until then.
        motion: Where it is.
        detection: As it was last seen.
        first_s: When it was first seen.
        since_s: When it was first seen this time, having been away.
        seen_s: When it was last seen.
        hits: Times that it was seen.
        missing: It was looked for since and not seen.
        hidden: Another face was where it should be.
        away: It has left, and may come back.
        looks: Times that it was compared with those who left.
    """

    key: int
    number: int
    motion: Motion
    detection: Detection
    first_s: float
    since_s: float
    seen_s: float
    hits: int = 1
    missing: bool = False
    hidden: bool = False
    away: bool = False
    looks: int = 0

    @property
    def box(self) -> Box:
        """Where it is, or is expected to be."""
        return self.motion.box


class Tracker:
    """Follow faces.

    Args:
        options: How patiently.
        by_overlap: Never ask what faces look like.

    Attributes:
        tracks: All that are not forgotten, those away included.
        entered: Tracks that began to count, or came back, with the last `search`.
        left: Tracks that left with the last `predict` or `search`.
    """

    def __init__(self, options: Options, *, by_overlap: bool = False) -> None:
        self.options = options
        self.tracks: list[Track] = []
        self.entered: list[Track] = []
        self.left: list[Track] = []
        self._by_overlap = by_overlap
        self._keys = self._numbers = 0

    @property
    def present(self) -> list[Track]:
        """Tracks that count and have not left."""
        return [track for track in self.tracks if track.number and not track.away]

    def predict(self, time_s: float) -> None:
        """Go on to the time of a picture."""
        self.entered, self.left = [], []
        for track in self._active():
            track.motion.predict(time_s)
            if track.missing:
                track.motion.slow(0.9)
            limit = self.options.hidden_s if track.hidden else self.options.coast_s
            if track.missing and time_s - track.seen_s > limit and track.number:
                track.away = True
                self.left.append(track)
        self.tracks = [track for track in self.tracks if self._is_kept(track, time_s)]

    def touching(self) -> bool:
        """Whether faces are so close that one could be taken for another."""
        active = self._active()
        if len(active) < 2:
            return False
        boxes = _corners([track.box for track in active])
        return bool((np.triu(overlaps(boxes, boxes), 1) > _TOUCH).any())

    def looked(self, found: Sequence[tuple[Track, Detection | None]], time_s: float) -> None:
        """Take second looks into account, each at one track, where `touching` is false."""
        for track, detection in found:
            if detection is None:
                track.missing = True
            else:
                self._see(track, detection, time_s)

    def search(self, detections: Sequence[Detection], time_s: float, appearance: Appearance) -> None:
        """Take all faces of a picture into account; `predict` was called with its time."""
        active = self._active()
        pairs = self._by_place(active, detections, time_s, appearance)
        free = [i for i in range(len(detections)) if i not in pairs.values()]
        unseen = [track for track in self.tracks if track.key not in pairs]
        by_key = {track.key: track for track in self.tracks}
        recognised = self._by_appearance(unseen, [detections[i] for i in free], appearance)
        for track, place in recognised:
            pairs[track.key] = free[place]
        for track in active:
            if track.key not in pairs:
                track.missing = True
                track.hidden = self._is_hidden(track, detections)
        for key, place in pairs.items():
            self._see(by_key[key], detections[place], time_s)
        for i in free:
            if i not in pairs.values():
                self._begin(detections[i], time_s)
        self._recognise_newcomers(time_s, appearance)
        self._count_in()

    def _by_place(
        self, active: Sequence[Track], detections: Sequence[Detection], time_s: float, appearance: Appearance
    ) -> dict[int, int]:
        """Round one: return the place of the detection by the key of its track."""
        if not active or not detections:
            return {}
        boxes, found = _corners([track.box for track in active]), _corners([one.box for one in detections])
        shared = overlaps(boxes, found)
        gain, allowed = shared.copy(), shared >= _LEAST
        gone = np.array([track.missing and time_s - track.seen_s > _GONE_S for track in active])
        alike = self._alike(active, detections, shared > _TOUCH, gone, appearance)
        if alike is not None:
            gain = np.where(np.isnan(alike), gain, gain + _WEIGHT * np.nan_to_num(alike))
            # Who was out of sight is recognised and not assumed: somebody else may stand there now.
            allowed &= ~(gone[:, None] & (alike < (appearance.maybe or -1.0)))
        pairs = _assigned(gain, allowed)
        # A fast face, or one of a camera with few pictures a second, does not overlap where it was.
        rows = [i for i in range(len(active)) if i not in pairs and (self._by_overlap or not gone[i])]
        columns = [j for j in range(len(detections)) if j not in pairs.values()]
        if rows and columns:
            wide = overlaps(_enlarged(boxes[rows]), _enlarged(found[columns]))
            ratio = np.log(_sides(boxes[rows])[:, None] / _sides(found[columns])[None])
            near = _assigned(wide, (wide >= _WIDE_LEAST) & (np.abs(ratio) < np.log(1.7)))
            pairs |= {rows[i]: columns[j] for i, j in near.items()}
        return {active[i].key: j for i, j in pairs.items()}

    def _alike(
        self,
        active: Sequence[Track],
        detections: Sequence[Detection],
        close: np.ndarray,
        gone: np.ndarray,
        appearance: Appearance,
    ) -> Float[np.ndarray, "tracks faces"] | None:
        """Return cosines of tracks and faces where overlap alone does not decide, NaN elsewhere; None: it decides."""
        if self._by_overlap:
            return None
        in_doubt = close & ((close.sum(axis=0) > 1)[None] | (close.sum(axis=1) > 1)[:, None] | gone[:, None])
        columns = np.flatnonzero(in_doubt.any(axis=0))
        if not len(columns):
            return None
        templates = {i: appearance.template(active[i].key) for i in np.flatnonzero(in_doubt.any(axis=1)).tolist()}
        known = {i: template for i, template in templates.items() if template is not None}
        vectors = appearance.describe([detections[j] for j in columns.tolist()]) if known else None
        if vectors is None:
            return None
        alike = np.full(close.shape, np.nan)
        for i, template in known.items():
            alike[i, columns] = vectors @ template
        # A track without a template competes with those that have one: it is as like anybody as strangers are.
        alike[np.ix_([i for i in range(len(active)) if i not in known and not gone[i]], columns.tolist())] = 0.0
        return alike

    def _by_appearance(
        self, unseen: Sequence[Track], detections: Sequence[Detection], appearance: Appearance
    ) -> list[tuple[Track, int]]:
        """Round two: return tracks that are recognised, with the places of their detections."""
        if self._by_overlap or appearance.same is None or not detections:
            return []
        known = [(track, template) for track in unseen if (template := appearance.template(track.key)) is not None]
        vectors = appearance.describe(detections) if known else None
        if vectors is None:
            return []
        scores = np.stack([template for _, template in known]) @ vectors.T
        accepted = (scores >= appearance.same) & _stands_out(scores)
        return [(known[i][0], j) for i, j in _assigned(scores, accepted).items()]

    def _recognise_newcomers(self, time_s: float, appearance: Appearance) -> None:
        """Compare faces that do not count yet once more: the first sight of somebody at a door is seldom a good one."""
        new = [t for t in self.tracks if not t.number and not t.missing and t.hits > 1 and t.looks < _LOOKS]
        gone = [t for t in self.tracks if t.number and (t.away or t.missing)]
        if not new or not gone:
            return
        for track in new:
            track.looks += 1
        for old, place in self._by_appearance(gone, [track.detection for track in new], appearance):
            self._see(old, new[place].detection, time_s)
            old.motion = new[place].motion
            self.tracks.remove(new[place])

    def _begin(self, detection: Detection, time_s: float) -> None:
        self._keys += 1
        motion = Motion(detection.box, time_s)
        self.tracks.append(Track(self._keys, 0, motion, detection, time_s, time_s, time_s))

    def _see(self, track: Track, detection: Detection, time_s: float) -> None:
        if track.away or (track.missing and time_s - track.seen_s > self.options.coast_s):
            # What it did meanwhile nobody knows.
            track.motion = Motion(detection.box, time_s)
        else:
            track.motion.correct(detection.box)
        if track.away:
            track.away, track.since_s = False, time_s
            self.entered.append(track)
        track.detection, track.seen_s = detection, time_s
        track.missing = track.hidden = False
        track.hits += 1

    def _count_in(self) -> None:
        # While somebody is out of sight a newcomer waits for some more looks: it may be they.
        gone = not self._by_overlap and any(track.number and (track.away or track.missing) for track in self.tracks)
        needed = self.options.confirm + (_LOOKS - 1) * gone
        for track in self.tracks:
            if not track.number and track.hits >= needed:
                self._numbers += 1
                track.number = self._numbers
                self.entered.append(track)

    def _is_kept(self, track: Track, time_s: float) -> bool:
        if not track.number:
            return not track.missing
        return not track.away or time_s - track.seen_s <= self.options.revive_s

    def _is_hidden(self, track: Track, detections: Sequence[Detection]) -> bool:
        if not detections:
            return False
        mine = _corners([track.box])
        return bool(overlaps(mine, _corners([one.box for one in detections])).max() > _TOUCH)

    def _active(self) -> list[Track]:
        return [track for track in self.tracks if not track.away]


def overlaps(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Return intersection over union of boxes (left, top, right, bottom)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9))


def _corners(boxes: Sequence[Box]) -> Float[np.ndarray, "boxes 4"]:
    return np.array([box.as_tuple() for box in boxes], np.float64).reshape(-1, 4)


def _sides(boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, " boxes"]:
    return np.asarray(np.sqrt(np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1.0)))


def _enlarged(boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    reach = _ENLARGED * _sides(boxes)[:, None]
    return np.concatenate([boxes[:, :2] - reach, boxes[:, 2:] + reach], axis=1)


def _assigned(gain: Float[np.ndarray, "n m"], allowed: np.ndarray) -> dict[int, int]:
    """Return the pairs with the largest sum of gains, of those that are allowed."""
    if not allowed.any():
        return {}
    rows, columns = linear_sum_assignment(np.where(allowed, gain, -1e3), maximize=True)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if allowed[i, j]}


def _stands_out(scores: Float[np.ndarray, "tracks faces"]) -> np.ndarray:
    """Whether each is clearly the largest of its column: the face is less like any other track."""
    best = scores.argmax(axis=0)
    others = scores.copy()
    others[best, np.arange(scores.shape[1])] = -np.inf
    clear = scores.max(axis=0) - others.max(axis=0) >= _CLEARLY
    stands = np.zeros(scores.shape, bool)
    stands[best, np.arange(scores.shape[1])] = clear
    return stands
