"""Pictures into a gallery: whose each picture is, which face of it is meant, and what became of it.

Each picture is stored for good before the next one is yielded, and the same picture of a subject twice is one sample: a
run that was broken off is gone on with by running it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mien.analyzer import choose_face
from mien.data.lists import existing_name, read_list, text_of
from mien.errors import DataError, GalleryError, ImageError, ModelError, UsageError
from mien.files import find_subjects, printable, search_images
from mien.gallery.names import clean_name
from mien.gallery.protocol import GalleryProtocol
from mien.gallery.records import Enrolment
from mien.gallery.simulation import simulate as with_views
from mien.matching import operating_point
from mien.types import Face, Picture, Reason

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.zoo import Card

__all__ = [
    "DUPLICATE_FMR",
    "MIN_QUALITY",
    "Outcome",
    "Wanted",
    "Wish",
    "duplicate_threshold",
    "enrol_picture",
    "ingest",
    "wanted",
]

MIN_QUALITY = 0.3
"""Quality is the chance that a genuine comparison with a good picture is accepted at FMR 1e-3."""

DUPLICATE_FMR = 1e-4
"""At this rate a face is said to match another subject; the strictest that default models are measured at."""


class Wanted(NamedTuple):
    """A picture file, and whose it is."""

    path: Path
    subject: str


class Wish(NamedTuple):
    """What is to be enrolled.

    Attributes:
        pictures: Files, and whose they are.
        notes: What was left out, or taken together, a line each.
        failures: Folders of which nobody can tell whose pictures they hold, a line each.
    """

    pictures: tuple[Wanted, ...]
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture: an enrolment, or an error in its place.

    Attributes:
        picture: With all its faces.
        subject: Whose it was said to be.
        enrolment: None where it failed.
        quality: Of the face that was taken; None where none was, or it was not measured.
        error: One line; None where all went well.
        face: Number, from 1, largest first, and face that was taken; None where none was.
        note: Why none of several faces was taken; None otherwise.
        simulated: Simulated views that went into its template.
    """

    picture: Picture
    subject: str
    enrolment: Enrolment | None = None
    quality: float | None = None
    error: str | None = None
    face: tuple[int, Face] | None = None
    note: str | None = None
    simulated: int = 0

    @property
    def status(self) -> str:
        """added, already, refused or failed."""
        return "failed" if self.enrolment is None else self.enrolment.status


def ingest(
    gallery: GalleryProtocol,
    analyzer: Analyzer,
    pictures: Iterable[Wanted],
    *,
    which: str = "main",
    min_quality: float = MIN_QUALITY,
    duplicates: float | None = None,
    simulate: int = 0,
) -> Iterator[Outcome]:
    """Enrol pictures, and yield what became of each once it is stored for good.

    Args:
        gallery: Where they go.
        analyzer: Finds and embeds their faces.
        pictures: Files, and whose they are.
        which: Face of a picture that is meant, as of `mien.analyzer.choose_face`.
        min_quality: Refuse faces below it.
        duplicates: Report other subjects that a face matches at this score; None: don't look.
        simulate: Simulated views that go into each template beside the picture; see `mien.gallery.simulation`.
    """
    listed = list(pictures)

    def prepare(face: Face) -> Face:
        return with_views(face, analyzer.embed_crops, simulate)

    found = analyzer.pictures([one.path for one in listed], crops=True, digests=True)
    for picture, (_, subject) in zip(found, listed, strict=True):
        yield enrol_picture(
            gallery, picture, subject, which, min_quality=min_quality, duplicates=duplicates, prepare=prepare
        )


def enrol_picture(
    gallery: GalleryProtocol,
    picture: Picture,
    subject: str,
    which: str = "main",
    *,
    min_quality: float = MIN_QUALITY,
    duplicates: float | None = None,
    prepare: Callable[[Face], Face] = lambda face: face,
) -> Outcome:
    """Enrol a face of a picture that was analysed with crops and digest; arguments as of `ingest`.

    ``prepare`` makes of the face that was chosen the one that is enrolled.
    """
    if picture.error is not None or picture.digest is None:
        return Outcome(picture, subject, error=picture.error)
    if not picture.faces:
        return Outcome(picture, subject, Enrolment("refused", reasons=(Reason.NO_FACE,)))
    try:
        face = choose_face(picture.faces, picture.width, picture.height, which)
    except ImageError as error:
        return Outcome(picture, subject, Enrolment("refused", reasons=(Reason.SEVERAL_FACES,)), note=str(error))
    try:
        # A folder's name need not be fit for a subject; the rest of the batch goes on.
        clean_name(subject)
    except GalleryError as error:
        return Outcome(picture, subject, error=str(error))
    prepared = prepare(face)
    simulated = 0 if prepared.embedding is None else prepared.embedding.simulated
    enrolment = gallery.enrol(
        subject, prepared, source_hash=picture.digest, min_quality=min_quality, duplicate_threshold=duplicates
    )
    number = next(number for number, one in enumerate(picture.faces, start=1) if one is face)
    quality = None if face.quality is None else face.quality.score
    return Outcome(picture, subject, enrolment, quality, face=(number, face), simulated=simulated)


def duplicate_threshold(gallery: GalleryProtocol, card: Card) -> float | None:
    """Return the score at which a face matches another subject; None where nothing was measured."""
    stored = gallery.operating_point(DUPLICATE_FMR)
    if stored is not None:
        return stored.point.threshold
    try:
        return operating_point(card, DUPLICATE_FMR).threshold
    except ModelError:
        return None


def wanted(pictures: Iterable[str], *, subject: str | None = None, table: Path | None = None) -> Wish:
    """Return picture files and whose they are, and what was left out of account.

    Args:
        pictures: Files, folders and patterns of ``subject``; without it, folders with a folder a subject.
        subject: Whose all pictures are.
        table: A CSV with the columns path and subject, in place of both.

    Raises:
        UsageError: Nothing to enrol, or what was named does not go together.
    """
    named = list(pictures)
    if table is not None:
        if named or subject is not None:
            raise UsageError("--csv names pictures and subjects itself; give it alone.")
        return Wish(tuple(_of_table(table)))
    if not named:
        raise UsageError(
            "Nothing to enrol. Name pictures with --subject NAME, a folder with a folder a subject, or --csv."
        )
    if subject is not None:
        found = search_images(named)
        return Wish(tuple(Wanted(path, subject) for path in found.paths), tuple(found.left_out()))
    listed: list[Wanted] = []
    notes: list[str] = []
    failures: list[str] = []
    for folder in map(Path, named):
        if not folder.is_dir():
            raise UsageError(
                f"Whose picture is '{printable(folder)}'? Add --subject NAME, or name a folder of folders."
            )
        of_folder = find_subjects(folder)
        if not of_folder.pictures and not of_folder.failures:
            raise UsageError(
                f"'{printable(folder)}' has no folder a subject. If all its pictures are of one, add --subject NAME."
            )
        listed += [Wanted(path, name) for path, name in of_folder.pictures]
        notes += of_folder.notes
        failures += of_folder.failures
    return Wish(tuple(listed), tuple(notes), tuple(failures))


def _of_table(table: Path) -> Iterator[Wanted]:
    """Read the columns path and subject; relative paths are taken from the table's folder."""
    try:
        text = text_of(table.read_bytes(), printable(table), keep_bytes=True)
        rows = read_list(text, printable(table), columns=("path", "subject"))
    except OSError as error:
        raise UsageError(f"{printable(table)} cannot be read: {error.strerror}.") from error
    except DataError as error:
        raise UsageError(str(error)) from error
    for row in rows:
        path, subject = row.values["path"], row.values["subject"]
        if not path or not subject:
            raise UsageError(f"Line {row.line} of {printable(table)} lacks its path or subject.")
        place = table.parent / existing_name(table.parent, path)
        # Names of files may hold any bytes; all the rest is text.
        if _has_bytes(subject) or (_has_bytes(path) and not place.exists()):
            raise UsageError(f"{printable(table)} line {row.line} is no text in UTF-8. Save it as a CSV in UTF-8.")
        yield Wanted(place, subject)


def _has_bytes(text: str) -> bool:
    """Whether a text holds bytes that are no UTF-8."""
    return any("\udc80" <= character <= "\udcff" for character in text)
