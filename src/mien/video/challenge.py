"""Challenges to somebody before a camera: blink, turn the head, smile. A cue that a face is alive, and no proof.

Who holds up a print cannot blink, and a recording does not know in which order it will be asked. A mask with holes, a
face that is made up while one watches, or a recording that happens to fit passes: this is no detection of presentation
attacks as ISO/IEC 30107 means it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from mien.errors import MienError, UsageError
from mien.video.handover import Everything, HandOver, hand_over
from mien.vision.attributes import EYE_OPEN, AttributeReader, pose_of
from mien.vision.detector import Detection

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.video.frames import Frame
    from mien.video.pipeline import SourceLike

__all__ = ["WISHES", "Challenge", "Outcome", "Sight", "SightReader", "choose_wishes", "frames_of"]

WISHES = {
    "blink": "close your eyes for a moment, and open them again",
    "turn-left": "turn your head to your left",
    "turn-right": "turn your head to your right",
    "smile": "smile",
    "surprise": "look surprised, mouth open",
}
"""What can be asked, in words for who is asked."""

_STRAIGHT, _TURNED = 12.0, 22.0  # degrees: looks into the camera; has turned the head
_JUMP, _FASTEST = 25.0, 170.0  # degrees between two pictures, and degrees a second, that no neck makes
_QUICK_S = 0.6  # between two pictures, so that what lies between them is known
_LONGEST_BLINK_S = 1.5
_SHOWN, _NOT_SHOWN = 0.6, 0.35  # probability of an expression that is there, and that is not there yet
_SHOWS = {"smile": "happiness", "surprise": "surprise"}
_AT_REST = 3  # pictures in a row before something is asked

RGB = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen in one picture.

    Attributes:
        time_s: Of the picture.
        faces: How many there are; the rest is of the largest.
        yaw: Of the head, degrees, positive to its own left.
        eyes_open: Whether both are.
        eyes_closed: Whether both are.
        shows: Probabilities of expressions.
        vector: Its embedding; None where the head is turned.
    """

    time_s: float
    faces: int
    yaw: float = 0.0
    eyes_open: bool = True
    eyes_closed: bool = False
    shows: Mapping[str, float] = field(default_factory=dict)
    vector: Float32[np.ndarray, " dimension"] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one wish.

    Attributes:
        wish: One of `WISHES`.
        passed: Whether it was done.
        seconds: From the asking.
        why: What was missing; empty where it was done.
    """

    wish: str
    passed: bool
    seconds: float
    why: str = ""


def choose_wishes(count: int, *, seed: int | None = None) -> tuple[str, ...]:
    """Draw what to ask: a blink, which no print does, is always among it, and nothing comes twice.

    Args:
        count: How many, up to all of `WISHES`.
        seed: Of the draw; None: nobody knows.

    Raises:
        UsageError: There are not so many.
    """
    if not 1 <= count <= len(WISHES):
        raise UsageError(f"There are {len(WISHES)} things to ask, and at least one is needed; got {count}.")
    chance = random.SystemRandom() if seed is None else random.Random(seed)
    drawn = ["blink", *chance.sample([wish for wish in WISHES if wish != "blink"], count - 1)]
    chance.shuffle(drawn)
    return tuple(drawn)


class Challenge:
    """Asks for one thing after another, and looks whether it is done by one and the same face.

    Args:
        wishes: What to ask, in order.
        timeout_s: For each.
        same: Least score of two embeddings of one subject.

    Attributes:
        asked: What is asked now; None while the face is not yet at rest, or when all is over.
        outcomes: What became of the wishes so far.

    Raises:
        UsageError: There is nothing to ask, or something unknown.
    """

    def __init__(self, wishes: Sequence[str], *, timeout_s: float = 8.0, same: float) -> None:
        if not wishes:
            raise UsageError(f"Nothing is asked. Choose from {', '.join(WISHES)}.")
        if unknown := [wish for wish in wishes if wish not in WISHES]:
            raise UsageError(f"'{unknown[0]}' cannot be asked. Choose from {', '.join(WISHES)}.")
        if not timeout_s > 0:
            raise UsageError(f"There should be some time for each, got {timeout_s:g} s.")
        self._wishes, self._timeout_s, self._same = tuple(wishes), timeout_s, same
        self.asked: str | None = None
        self.outcomes: list[Outcome] = []
        self._since_s: float | None = None  # of waiting for rest, or of asking
        self._rested = 0
        self._who: Float32[np.ndarray, " dimension"] | None = None
        self._confirmed = False  # who did the last thing is who was there first
        self._strange = 0  # pictures in a row of somebody else
        self._closed_s: float | None = None
        self._ready = False  # what is asked was not there when it was asked
        self._last: Sight | None = None

    @property
    def is_over(self) -> bool:
        """Whether all was done by one face, or something was not."""
        return self._confirmed or any(not one.passed for one in self.outcomes)

    @property
    def passed(self) -> bool:
        """Whether everything that was asked was done, and the face looked into the camera again after it."""
        return self._confirmed

    def take(self, sight: Sight) -> bool:
        """Look at the next picture; return whether something new is asked, or was decided."""
        if self.is_over:
            return False
        if self._since_s is None:
            self._since_s = sight.time_s
        before, self._last = self._last, sight
        if sight.time_s - self._since_s > self._timeout_s:
            return self._decide(sight, self._missing(sight))
        if sight.faces > 1:
            return self._decide(sight, "somebody else is in the picture") if self.asked else self._restless()
        if sight.faces == 0:
            return self._restless() if self.asked is None else False
        if before is not None and self._jumps(before, sight):
            return self._decide(sight, "the picture jumped, as where one is held up after another")
        if self._is_somebody_else(sight):
            return self._decide(sight, "it is somebody else than before")
        if self.asked is not None:
            return self._decide(sight, "") if self._is_done(sight) else False
        return self._rest(sight)

    def end(self) -> None:
        """The source has ended: what is still asked was not done."""
        if not self.is_over:
            last = self._last or Sight(0.0, 0)
            self._decide(last, "the pictures ended" if last.faces == 1 else self._missing(last))

    def _rest(self, sight: Sight) -> bool:
        """Count pictures of a face that looks into the camera; ask once there are enough."""
        if abs(sight.yaw) > _STRAIGHT or not sight.eyes_open or sight.vector is None:
            return self._restless()
        if self._who is None:
            self._who = sight.vector
        self._rested += 1
        if self._rested < _AT_REST:
            return False
        if len(self.outcomes) == len(self._wishes):
            self._confirmed = True
            return True
        self.asked = self._wishes[len(self.outcomes)]
        self._since_s, self._closed_s, self._ready = sight.time_s, None, False
        return True

    def _is_somebody_else(self, sight: Sight) -> bool:
        """Whether several pictures in a row are not of who was there first: one alone may show a grimace."""
        if self._who is None or sight.vector is None:
            return False
        self._strange = self._strange + 1 if float(self._who @ sight.vector) < self._same else 0
        return self._strange >= _AT_REST

    def _restless(self) -> bool:
        self._rested = 0
        return False

    def _is_done(self, sight: Sight) -> bool:
        if self.asked == "blink":
            if sight.eyes_closed:
                self._closed_s = sight.time_s if self._closed_s is None else self._closed_s
            elif sight.eyes_open and self._closed_s is not None:
                short = sight.time_s - self._closed_s <= _LONGEST_BLINK_S
                self._closed_s = None
                return short
            return False
        if self.asked in _SHOWS:
            share = sight.shows.get(_SHOWS[self.asked], 0.0)
            self._ready |= share <= _NOT_SHOWN
            return self._ready and share >= _SHOWN
        return sight.yaw >= _TURNED if self.asked == "turn-left" else sight.yaw <= -_TURNED

    @staticmethod
    def _jumps(before: Sight, sight: Sight) -> bool:
        between_s = sight.time_s - before.time_s
        near = before.faces == 1 and between_s <= _QUICK_S
        return near and abs(sight.yaw - before.yaw) > max(_JUMP, _FASTEST * between_s)

    def _missing(self, sight: Sight) -> str:
        if sight.faces != 1:
            return "no face was there" if sight.faces == 0 else "somebody else is in the picture"
        if self.asked is None:
            again = " again" if self.outcomes else ""
            return f"the face did not look into the camera{again} with open eyes"
        return f"it was not seen within {self._timeout_s:g} s"

    def _decide(self, sight: Sight, why: str) -> bool:
        if len(self.outcomes) == len(self._wishes):  # done, but by whom?
            self.outcomes[-1] = replace(self.outcomes[-1], passed=False, why=why)
            return True
        wish = self._wishes[len(self.outcomes)]
        since = sight.time_s if self._since_s is None else self._since_s
        self.outcomes.append(Outcome(wish, not why, round(max(sight.time_s - since, 0.0), 3), why))
        self.asked, self._since_s, self._rested = None, sight.time_s, 0
        return True


def frames_of(source: SourceLike, notify: Callable[[str, str], None]) -> Generator[Frame, None, None]:
    """Yield the pictures of a source; of a live one the newest, whatever was missed meanwhile.

    Raises:
        MienError: The source cannot be read.
    """
    slot: HandOver[Frame] = hand_over(source.live)
    broken: list[MienError] = []

    def read() -> None:
        try:
            for frame in source.frames(notify):
                if not slot.put(frame):
                    return
        except MienError as error:  # raised below, where somebody waits for pictures
            broken.append(error)
        finally:
            slot.close()

    reader = threading.Thread(target=read, name="mien-challenge-reader", daemon=True)
    reader.start()
    try:
        while (frame := slot.get()) is not None:
            yield frame
            if isinstance(slot, Everything):
                slot.done()
        if broken:
            raise broken[0]
    finally:
        slot.close(drain=False)
        reader.join(timeout=5)


class SightReader:
    """Reads what a challenge wants to know of a picture.

    Args:
        analyzer: Finds faces, embeds them and reads expressions.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._attributes = AttributeReader(threads=1)

    def read(self, image: RGB, time_s: float) -> Sight:
        """Return what is seen in a picture that was taken at a time."""
        faces = self._analyzer.analyze(image)
        if not faces:
            return Sight(time_s, 0)
        face = faces[0]
        meshes, _ = self._attributes.meshes.read(image, [Detection(face.box, face.landmarks, face.score)])
        ((left, right),) = self._attributes.eyes(image, meshes)
        yaw = pose_of(meshes[0]).yaw  # the viewer's right is the left of who is seen
        straight = abs(yaw) <= _STRAIGHT and face.embedding is not None
        return Sight(
            time_s,
            len(faces),
            yaw,
            eyes_open=min(left, right) >= EYE_OPEN,
            eyes_closed=max(left, right) < EYE_OPEN,
            shows={} if face.expression is None else dict(face.expression.probabilities),
            vector=face.embedding.vector if straight and face.embedding is not None else None,
        )
