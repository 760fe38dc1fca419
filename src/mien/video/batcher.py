"""The third thread: embed faces and read expressions, those of several pictures at once, and decide who is who."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32

from mien.video.evidence import Evidence, Mood, Naming, expression_of
from mien.video.eyes import EyesLike
from mien.video.options import Options
from mien.video.records import Changed, Entered, Event, Identity, Left, Named, Seen, TrackSummary, Watched
from mien.video.vision import Step

__all__ = ["Batcher"]

_REMEMBERED = 2000  # tracks that a summary tells of: memory stays flat over a day at a station
_OVERLAP_S = 0.5  # by so much two tracks are there at once, and not one after the other
_FORGET_S = 60.0  # after a track has left for good, nobody asks for its template


@dataclass(slots=True, eq=False)
class _Person:
    """All that is known of one track."""

    evidence: Evidence
    mood: Mood
    number: int = 0
    visits: list[tuple[float, float]] = field(default_factory=list)
    left_s: float | None = None
    before: TrackSummary | None = None  # until it came back


class Batcher:
    """Turn steps into what is written.

    Args:
        eyes: The networks.
        options: How evidence is weighed.
        naming: Who templates belong to.
    """

    def __init__(self, eyes: EyesLike, options: Options, naming: Naming) -> None:
        self._eyes, self._options, self._naming = eyes, options, naming
        self._people: dict[int, _Person] = {}
        self._by_number: dict[int, int] = {}
        self._finished: dict[int, TrackSummary] = {}
        self._parts: list[TrackSummary] = []  # of tracks that turned out to be two people, one after the other

    def template(self, key: int) -> Float32[np.ndarray, " dimension"] | None:
        """Return the template of a track, for the thread that follows faces."""
        person = self._people.get(key)
        return None if person is None else person.evidence.template

    def process(self, steps: Sequence[Step]) -> Iterator[Watched]:
        """Run the networks once for several steps, then tell of each step in order."""
        requests = [request for step in steps for request in step.requests]
        crops = [(id(one), one.crop) for one in requests if one.crop is not None]
        reads = [(id(one), one.read) for one in requests if one.read is not None]
        vectors = list(self._eyes.embed([crop for _, crop in crops])) if crops else []
        likely = list(self._eyes.read([crop for _, crop in reads])) if reads else []
        embedded = {key: vector for (key, _), vector in zip(crops, vectors, strict=True)}
        read = {key: row for (key, _), row in zip(reads, likely, strict=True)}
        for step in steps:
            yield self._tell(step, embedded, read)

    def summaries(self) -> tuple[TrackSummary, ...]:
        """Return all tracks that are remembered, by number."""
        for person in self._people.values():
            if person.number:
                self._finished[person.number] = self._summary(person)
        return tuple(sorted([*self._parts, *self._finished.values()], key=lambda track: (track.track, track.visits)))

    def _tell(self, step: Step, embedded: dict[int, np.ndarray], read: dict[int, np.ndarray]) -> Watched:
        frame = step.frame
        for face in step.faces:
            self._person(face.key).number = face.number
            self._by_number[face.number] = face.key
        for event in step.events:
            if isinstance(event, Entered) and event.again and event.track in self._by_number:
                self._come_back(self._person(self._by_number[event.track]))
        events: list[Event] = []
        changed: list[Event] = []
        for request in step.requests:
            person = self._person(request.key)
            if request.picture is not None:
                person.evidence.best = (request.picture, request.quality.score)
            if id(request) in embedded:
                if person.evidence.take(embedded[id(request)], request.quality.score, frame.time_s):
                    self._split(person)
                if person.evidence.decide(self._naming, taken=self._taken(person, frame.time_s)):
                    changed.append(Named(frame.time_s, frame.number, person.number, person.evidence.identity))
            if id(request) in read:
                before = person.mood.label
                if person.mood.take(read[id(request)], request.quality.score, frame.time_s):
                    told = expression_of(person.mood, self._eyes.outcome)
                    assert told is not None
                    changed.append(Changed(frame.time_s, frame.number, person.number, told, before))
        for event in step.events:
            if isinstance(event, Left):
                events += self._leave(event)
            else:
                events.append(event)
        self._forget(frame.time_s)
        faces = tuple(
            Seen(
                face.number,
                face.box,
                face.found,
                self._person(face.key).evidence.identity,
                expression_of(self._person(face.key).mood, self._eyes.outcome),
            )
            for face in step.faces
        )
        return Watched(frame, faces, (*events, *changed), step.is_over)

    def _leave(self, event: Left) -> list[Event]:
        """Decide by what there is, and close the visit."""
        key = self._by_number.get(event.track)
        if key is None:
            return [event]
        person = self._person(key)
        person.visits.append((event.since_s, event.until_s))
        person.left_s = event.time_s
        events: list[Event] = []
        if person.evidence.decide(self._naming, taken=self._taken(person, event.until_s), final=True):
            events.append(Named(event.time_s, event.frame, event.track, person.evidence.identity))
        return [*events, replace(event, identity=person.evidence.identity)]

    def _person(self, key: int) -> _Person:
        if key not in self._people:
            evidence = Evidence(self._options, self._eyes.comparable, same=self._eyes.surely_same)
            self._people[key] = _Person(evidence, Mood(self._options, self._eyes.labels))
        return self._people[key]

    def _come_back(self, person: _Person) -> None:
        person.left_s = None
        person.before = self._summary(person)
        person.evidence.come_back()

    def _split(self, person: _Person) -> None:
        """Close what is known of the one who left: somebody else has come back in their place."""
        if person.before is not None:
            self._parts = [*self._parts, person.before][-_REMEMBERED:]
        person.visits, person.mood = [], Mood(self._options, self._eyes.labels)

    def _taken(self, person: _Person, time_s: float) -> dict[str, float]:
        """Return the names of all others who are there, with their scores: nobody is in two places."""
        taken: dict[str, float] = {}
        for other in self._people.values():
            known = other.evidence.identity
            is_there = other.left_s is None or time_s < other.left_s - _OVERLAP_S
            if other is not person and is_there and known.subject is not None and known.score is not None:
                taken[known.subject] = max(known.score, taken.get(known.subject, -1.0))
        return taken

    def _forget(self, time_s: float) -> None:
        gone = [key for key, p in self._people.items() if p.left_s is not None and time_s - p.left_s > _FORGET_S]
        for key in gone:
            person = self._people.pop(key)
            self._by_number.pop(person.number, None)
            self._finished[person.number] = self._summary(person)
            while len(self._finished) > _REMEMBERED:
                del self._finished[min(self._finished)]

    def _summary(self, person: _Person) -> TrackSummary:
        picture, quality = person.evidence.best
        return TrackSummary(
            person.number,
            tuple(person.visits),
            person.evidence.identity if person.number else Identity(),
            dict(person.mood.seconds),
            tuple(person.mood.series),
            self._eyes.labels,
            picture,
            quality,
        )
