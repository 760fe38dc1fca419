"""Films into a gallery: the best faces of the person whom a film is of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mien.errors import GalleryError, ImageError, UsageError, VideoError
from mien.gallery.ingest import MIN_QUALITY, Outcome
from mien.gallery.names import clean_name
from mien.gallery.protocol import GalleryProtocol
from mien.gallery.records import Enrolment
from mien.images import digest
from mien.types import Embedding, Face, Picture, Reason, as_unit
from mien.video.eyes import Eyes, EyesLike
from mien.video.options import Options
from mien.video.pipeline import SourceLike
from mien.video.sources import open_source
from mien.video.vision import Vision

if TYPE_CHECKING:
    from mien.analyzer import Analyzer

__all__ = ["Sighting", "TrackFaces", "choose_track", "follow_faces", "ingest_films"]

_CLEARLY = 0.6  # of the prominence of the first track: a second one with more makes the choice arbitrary


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One good face of a track, and when it was seen, in seconds."""

    face: Face
    time_s: float


@dataclass(slots=True)
class TrackFaces:
    """The good faces of one track.

    Attributes:
        number: Of the track.
        faces: Best first, at most as many as a template is made of; they carry crops and no embeddings.
        seconds: For how long it was seen.
        side: Median side of the face, px.
    """

    number: int
    faces: list[Sighting] = field(default_factory=list)
    seconds: float = 0.0
    side: float = 0.0

    @property
    def prominence(self) -> float:
        """Seconds times px: whom a film is of is there for long, and near."""
        return self.seconds * self.side


def ingest_films(
    gallery: GalleryProtocol,
    analyzer: Analyzer,
    films: Iterable[str],
    subject: str,
    *,
    which: str = "main",
    min_quality: float = MIN_QUALITY,
    duplicates: float | None = None,
) -> Iterator[Outcome]:
    """Enrol the best faces of films of one subject, and yield what became of each face once it is stored.

    The paths of the outcomes end in the second at which the face was seen, as in ``clip.mp4#t=12.3``.

    Args:
        gallery: Where they go.
        analyzer: Finds and embeds their faces.
        films: Files, or what else `open_source` takes.
        subject: Whose they are.
        which: ``main``: who is there longest and nearest, refused where two are as prominent; ``largest``; ``only``;
            or a number, most prominent first.
        min_quality: Refuse faces below it.
        duplicates: Report other subjects that a face matches at this score; None: don't look.
    """
    clean_name(subject)
    eyes = Eyes(analyzer)
    for film in films:
        try:
            chosen = _main_track(film, eyes, which)
        except VideoError as error:
            yield Outcome(Picture(film), subject, error=str(error))
            continue
        except ImageError as error:
            refused = Enrolment("refused", reasons=(Reason.SEVERAL_FACES,))
            yield Outcome(Picture(film), subject, refused, note=str(error))
            continue
        if chosen is None or not chosen.faces:
            reason = Reason.NO_FACE if chosen is None else Reason.LOW_QUALITY
            yield Outcome(Picture(film), subject, Enrolment("refused", reasons=(reason,)))
            continue
        # One person, one look: the best face says whether somebody else has this one.
        thresholds = [duplicates] + [None] * (len(chosen.faces) - 1)
        for seen, threshold in zip(_embedded(eyes, analyzer.card.id, chosen), thresholds, strict=True):
            yield _enrolled(gallery, film, subject, seen, min_quality=min_quality, duplicates=threshold)


def _main_track(film: str, eyes: EyesLike, which: str) -> TrackFaces | None:
    tracks = follow_faces(open_source(film), eyes)
    return choose_track(tracks, which) if tracks else None


def _enrolled(
    gallery: GalleryProtocol, film: str, subject: str, seen: Sighting, *, min_quality: float, duplicates: float | None
) -> Outcome:
    face = seen.face
    assert face.crop is not None
    picture = Picture(f"{film}#t={seen.time_s:.1f}", faces=(face,))
    try:
        enrolment = gallery.enrol(
            subject,
            face,
            source_hash=digest(face.crop),
            min_quality=min_quality,
            duplicate_threshold=duplicates,
        )
    except GalleryError as error:
        return Outcome(picture, subject, error=str(error))
    quality = None if face.quality is None else face.quality.score
    return Outcome(picture, subject, enrolment, quality, face=(1, face))


def follow_faces(source: SourceLike, eyes: EyesLike, options: Options | None = None) -> list[TrackFaces]:
    """Return the tracks of a film with their best faces, most prominent first.

    Raises:
        VideoError: It cannot be read.
    """
    options = options or Options()
    vision = Vision(eyes, options, template=lambda _: None)
    tracks: dict[int, TrackFaces] = {}
    sides: dict[int, list[float]] = {}
    before = 0.0
    for frame in source.frames(lambda *_: None):
        step = vision.step(frame)
        numbers = {face.key: face.number for face in step.faces}
        for face in step.faces:
            track = tracks.setdefault(face.number, TrackFaces(face.number))
            track.seconds += frame.time_s - before
            if face.found:
                sides.setdefault(face.number, []).append(face.box.side)
        before = frame.time_s
        for request in step.requests:
            if request.crop is None or request.key not in numbers:
                continue
            found = request.detection
            best = Face(found.box, found.landmarks, found.score, quality=request.quality, crop=request.crop)
            kept = tracks[numbers[request.key]].faces
            kept.append(Sighting(best, frame.time_s))
            kept.sort(key=lambda one: -(one.face.quality.score if one.face.quality is not None else 0.0))
            del kept[options.crops :]
        frame.forget()
    for number, track in tracks.items():
        track.side = float(np.median(sides.get(number, [0.0])))
    return sorted(tracks.values(), key=lambda track: -track.prominence)


def choose_track(tracks: list[TrackFaces], which: str = "main") -> TrackFaces:
    """Return the track that is meant where a film shows several people, and refuse an arbitrary choice.

    Args:
        tracks: Most prominent first, at least one.
        which: As of `ingest_films`.

    Raises:
        ImageError: There are others beside the only one, fewer than that number, or two that are as prominent.
        UsageError: ``which`` is none of these.
    """
    said = f"it shows {len(tracks)} people"
    if len(tracks) == 1:
        return tracks[0]
    if which.isdecimal():
        if not 1 <= int(which) <= len(tracks):
            raise ImageError(f"{said}, there is no number {which}.")
        return tracks[int(which) - 1]
    if which == "largest":
        return max(tracks, key=lambda track: track.side)
    if which == "only":
        raise ImageError(f"{said}, expected one.")
    if which != "main":
        raise UsageError(f"A person is main, largest, only, or a number, most prominent first; got '{which}'.")
    if tracks[1].prominence > _CLEARLY * tracks[0].prominence:
        raise ImageError(f"{said}, and no single one is there longest and nearest. Say which one with --face.")
    return tracks[0]


def _embedded(eyes: EyesLike, model: str, track: TrackFaces) -> list[Sighting]:
    """Return the faces of a track with embeddings."""
    crops = [seen.face.crop for seen in track.faces if seen.face.crop is not None]
    vectors = as_unit(eyes.comparable(eyes.embed(crops)))
    return [
        replace(seen, face=replace(seen.face, embedding=Embedding(model, vector.copy())))
        for seen, vector in zip(track.faces, vectors, strict=True)
    ]
