"""What is known of a track: who it is, from its best faces together, and what it shows, averaged over time.

One face of one picture decides nothing. A trial is the track: its template is the mean of its best faces, weighted by
quality, and its decision has inertia, so that one blurred picture cannot make a known person a stranger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mien.errors import GalleryError
from mien.gallery.protocol import GalleryProtocol
from mien.gallery.records import UnreachableError
from mien.types import Embedding, Expression, as_unit
from mien.video.options import Options
from mien.video.records import Identity

__all__ = ["Evidence", "Mood", "Naming"]

Vector = Float32[np.ndarray, " dimension"]
T = TypeVar("T")

_MARGIN = 0.03  # of the cosine, by which a score has to leave the threshold before a decision is taken back
_AGAIN = 2  # searches in a row that have to agree before that
_ENOUGH, _PLENTY = 5, 8  # faces of somebody who is called unknown: clearly below the threshold, or anyhow
_MOVED = 0.98  # cosine of a template with that of its last search, below which it is searched again
_PAUSE_S = 5.0  # before a gallery that could not be reached is asked again: each try waits for the server
_POINTS = 400  # of a track's series: twice as many are thinned to half
_NOBODY: Mapping[str, float] = MappingProxyType({})
_FLOOR = 1e-3  # of a probability, before its logarithm is averaged: one sure mistake must not outweigh a second


@dataclass(slots=True)
class Mood:
    """What a face shows, averaged over time.

    The mean is of log probabilities, weighted by quality, over the last ``smoothing_s``. Which expression is told is
    decided by Page's test: another one is told when the log ratios by which readings prefer it, summed up since they
    last spoke against it, exceed ``evidence``. Sure readings so change it at once, unsure ones slowly or never.

    Source: E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954.

    Args:
        options: How long expressions are averaged, and how much changes them.
        labels: Classes.

    Attributes:
        label: The expression that is told; None until there were readings for ``first_s``.
        smoothed: Averaged probabilities.
        seconds: How long each expression was told.
        series: Times and averaged probabilities, at most some hundred.
    """

    options: Options
    labels: tuple[str, ...]
    label: str | None = None
    smoothed: Float64[np.ndarray, " classes"] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    series: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)
    _sum: Float64[np.ndarray, " classes"] | None = None
    _weight: float = 0.0
    _time_s: float = 0.0
    _against: Float64[np.ndarray, " classes"] | None = None  # evidence for each other expression
    _every_s: float = 0.0
    _first_s: float | None = None

    def take(self, probabilities: Float64[np.ndarray, " classes"], weight: float, time_s: float) -> bool:
        """Take one reading into account; return whether another expression is told from now on."""
        logs = np.log(np.maximum(probabilities, _FLOOR))
        weight = max(weight, 1e-3)
        step = max(time_s - self._time_s, 0.0)
        if self._sum is None or self.options.smoothing_s <= 0:
            self._sum, self._weight = weight * logs, weight
        else:
            # After a gap (the face was away) what was shown before counts for little.
            keep = float(np.exp(-step / self.options.smoothing_s))
            self._sum, self._weight = keep * self._sum + weight * logs, keep * self._weight + weight
        if self.label is not None and step < 1.0:
            self.seconds[self.label] = self.seconds.get(self.label, 0.0) + step
        self._time_s = time_s
        likely = np.exp(self._sum / self._weight)
        self.smoothed = likely / likely.sum()
        self._note(time_s)
        return self._decide(logs, weight, time_s)

    def _decide(self, logs: Float64[np.ndarray, " classes"], weight: float, time_s: float) -> bool:
        assert self.smoothed is not None
        best = self.labels[int(self.smoothed.argmax())]
        if self.options.smoothing_s <= 0:
            changed, self.label = best != self.label, best
            return changed
        if self.label is None:
            self._first_s = time_s if self._first_s is None else self._first_s
            if time_s - self._first_s < self.options.first_s:
                return False
            self.label = best
            self.seconds[best] = time_s - self._first_s
            return True
        told = self.labels.index(self.label)
        against = np.zeros(len(self.labels)) if self._against is None else self._against
        # A face that is not poor counts in full.
        self._against = np.maximum(against + min(2 * weight, 1.0) * (logs - logs[told]), 0.0)
        if float(self._against.max()) <= self.options.evidence:
            return False
        self.label = self.labels[int(self._against.argmax())]
        self._against = None
        return True

    def _note(self, time_s: float) -> None:
        assert self.smoothed is not None
        if self.series and time_s - self.series[-1][0] < self._every_s:
            return
        self.series.append((time_s, tuple(round(float(p), 4) for p in self.smoothed)))
        if len(self.series) > 2 * _POINTS:
            # Memory stays flat over a day, and the plot has no more px than that.
            self.series = self.series[::2]
            self._every_s = max((time_s - self.series[0][0]) / _POINTS, self._every_s)


@dataclass(slots=True)
class _Vote:
    quality: float
    vector: Vector
    time_s: float


class Evidence:
    """Who a track is, as far as that is known.

    Args:
        options: How many faces make a template.
        comparable: Makes a mean of plain embeddings comparable, see `EyesLike.comparable`.
        same: Cosine from which on somebody who came back is the one who left; None where that is not known.

    Attributes:
        identity: The decision so far.
        votes: Faces that were embedded, also those that are not among the best any more.
        best: Picture of the best face, and its quality.
    """

    def __init__(
        self, options: Options, comparable: Callable[[np.ndarray], np.ndarray], *, same: float | None = None
    ) -> None:
        self.identity = Identity()
        self.votes = 0
        self.best: tuple[UInt8[np.ndarray, "side side 3"] | None, float] = (None, 0.0)
        self.template: Vector | None = None
        self._options, self._comparable, self._same = options, comparable, same
        self._earlier: tuple[list[_Vote], Vector] | None = None
        self._kept: list[_Vote] = []
        self._searched: Vector | None = None
        self._against: tuple[str | None, int] = (None, 0)

    def come_back(self) -> None:
        """Begin anew beside what is known: the track was followed by looks, and it may be somebody else."""
        if self._earlier is None and self.template is not None:
            self._earlier, self._kept = (self._kept, self.template), []

    def take(self, vector: Vector, quality: float, time_s: float) -> bool:
        """Take one more face into account; return whether it became clear that somebody else came back.

        What was known then is forgotten, but for the faces since.
        """
        self.votes += 1
        self._kept.append(_Vote(quality, vector, time_s))
        self._average()
        is_other = False
        if self._earlier is not None and len(self._kept) >= 2 and self.template is not None:
            (votes, before), self._earlier = self._earlier, None
            if self._same is None or float(before @ self.template) >= self._same:
                self._kept += votes
                self._average()
            else:
                is_other, self.votes, self.identity = True, len(self._kept), Identity()
                self._searched, self._against, self.best = None, (None, 0), (None, 0.0)
        return is_other

    def _average(self) -> None:
        self._kept = sorted(self._kept, key=lambda vote: (-vote.quality, -vote.time_s))[: self._options.crops]
        weights = np.array([vote.quality for vote in self._kept], np.float32)
        mean = as_unit(weights @ np.stack([vote.vector for vote in self._kept]))
        self.template = np.asarray(self._comparable(mean[None])[0], dtype=np.float32)

    def decide(self, naming: Naming, *, taken: Mapping[str, float] = _NOBODY, final: bool = False) -> bool:
        """Search for the template if it has changed, and decide; return whether the decision is another one.

        Args:
            naming: The gallery and those who were met before.
            taken: Names of others who are there now, with their scores: a name goes to the more similar one.
            final: The track has ended: decide by what there is.
        """
        enough = self.votes >= (1 if final else 2)
        if self.template is None or not enough:
            return False
        undecided = self.identity.state == "pending"
        is_new = self._searched is None or float(self.template @ self._searched) < _MOVED
        is_contested = taken.get(self.identity.subject or "", -1.0) > (self.identity.score or 0.0)
        try:
            if not (is_new or undecided or is_contested or naming.changed(self.identity)):
                self.identity = replace(self.identity, crops=len(self._kept))
                return False
            decided = self._decided(naming, taken, final)
        except UnreachableError:  # said by `naming`; a name stays what it was
            return False
        self._searched = self.template
        if (decided.state, decided.label) == (self.identity.state, self.identity.label):
            self.identity = decided
            return False
        self.identity = decided
        return True

    def _decided(self, naming: Naming, taken: Mapping[str, float], final: bool) -> Identity:
        assert self.template is not None
        before = self.identity
        subject, score = naming.best(self.template, taken)
        found = replace(before, score=score, crops=len(self._kept))
        threshold = naming.threshold
        if subject is not None and score is not None and score >= threshold:
            if before.state != "identified" or before.subject == subject:
                self._against = (None, 0)
                return Identity("identified", subject, None, score, len(self._kept))
            # Somebody else now: not before it is said twice, and clearly.
            if score < threshold + _MARGIN or not self._is_repeated(subject):
                return before
            return Identity("identified", subject, None, score, len(self._kept))
        if before.state == "identified":
            near = score is not None and score >= threshold - _MARGIN and not naming.changed(before)
            if near or not self._is_repeated(None):
                return before
            return naming.unknown(self.template, score, len(self._kept))
        if before.state == "unknown":
            return found
        clear = score is None or score < threshold - _MARGIN
        if final or self.votes >= (_ENOUGH if clear else _PLENTY) or (naming.is_empty and self.votes >= 2):
            return naming.unknown(self.template, score, len(self._kept))
        return found

    def _is_repeated(self, claim: str | None) -> bool:
        same = self._against[0] == claim and self._against[1] > 0
        self._against = (claim, self._against[1] + 1 if same else 1)
        if self._against[1] < _AGAIN:
            return False
        self._against = (None, 0)
        return True


class Naming:
    """Who templates belong to: subjects of a gallery, and unknown people by number.

    Args:
        gallery: What is searched; None where everybody is unknown.
        model: Id of the embedder.
        threshold: Least score of a match with the gallery.
        same: Least score of two templates of one unknown person; None where that is not known.

    Attributes:
        threshold: As given.
        notify: Takes what happened and a sentence when the gallery cannot be reached, and when it can be again.
    """

    def __init__(
        self, gallery: GalleryProtocol | None, *, model: str, threshold: float = 1.0, same: float | None = None
    ) -> None:
        self.threshold = threshold
        self._gallery, self._model, self._same = gallery, model, same
        self._unknown: list[Vector] = []
        self.notify: Callable[[str, str], None] = lambda *_: None
        self._trouble = ""
        self._not_before = 0.0  # seconds, of the clock that only goes forward

    @property
    def is_empty(self) -> bool:
        """Whether there is nobody to be identified as."""
        return self._gallery is None

    def best(self, template: Vector, taken: Mapping[str, float] = _NOBODY) -> tuple[str | None, float | None]:
        """Return the most similar subject whose name is not taken by somebody more similar, and its score.

        None, None where there is none.

        Raises:
            UnreachableError: The gallery cannot be reached.
        """
        gallery = self._gallery
        if gallery is None:
            return None, None
        probe = Embedding(self._model, template.copy())
        found = self._asked(lambda: gallery.search(probe, 1 + len(taken), per_subject=True))
        free = [one for one in found if taken.get(one.subject, -1.0) <= one.score]
        return (free[0].subject, free[0].score) if free else (None, None)

    def changed(self, identity: Identity) -> bool:
        """Whether a decision may be out of date, though the track's template is not: its subject is gone.

        Raises:
            UnreachableError: The gallery cannot be reached.
        """
        gallery, name = self._gallery, identity.subject
        if gallery is None or name is None:
            return False
        try:
            self._asked(lambda: gallery.subject(name))
        except UnreachableError:
            raise
        except GalleryError:
            return True
        return False

    def _asked(self, question: Callable[[], T]) -> T:
        """Ask the gallery, but not again and again while it cannot be reached."""
        if time.monotonic() < self._not_before:
            raise UnreachableError(self._trouble)
        try:
            answer = question()
        except UnreachableError as error:
            if not self._trouble:
                self.notify("gallery lost", f"{error} Names stay as they are until it is back.")
            self._trouble, self._not_before = str(error), time.monotonic() + _PAUSE_S
            raise
        if self._trouble:
            self.notify("gallery back", "The gallery can be reached again.")
            self._trouble = ""
        return answer

    def unknown(self, template: Vector, score: float | None, crops: int) -> Identity:
        """Return the number of somebody unknown: an old one where the template was met before."""
        if self._unknown and self._same is not None:
            alike = np.stack(self._unknown) @ template
            if float(alike.max()) >= self._same:
                return Identity("unknown", None, int(alike.argmax()) + 1, score, crops)
        self._unknown.append(template)
        return Identity("unknown", None, len(self._unknown), score, crops)


def expression_of(mood: Mood, outcome: Callable[[np.ndarray], Expression]) -> Expression | None:
    """Return what a mood tells as a record; the label is the one that is told, not the likeliest of this moment."""
    if mood.smoothed is None or mood.label is None:
        return None
    told = outcome(mood.smoothed)
    return told if told.label == mood.label else replace(told, label=mood.label)
