"""`mien enroll`: pictures, folders or a CSV into a gallery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mien.cli.common import (
    analyzer_options,
    counted,
    find_pictures,
    gallery_options,
    make_analyzer,
    open_gallery,
    path_as_json,
    progress,
)
from mien.cli.records import json_options, record_writer
from mien.errors import DataError, GalleryError, ModelError, UsageError

if TYPE_CHECKING:
    from mien.gallery import Gallery
    from mien.gallery.records import Enrolment
    from mien.types import Face, Picture
    from mien.zoo import Card

SCHEMA = "mien/enrolment/1"

MIN_QUALITY = 0.3
"""Quality is the chance that a genuine comparison with a good picture is accepted at FMR 1e-3."""

DUPLICATE_FMR = 1e-4
"""At this rate a face is said to match another subject; the strictest that default models are measured at."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one picture: an enrolment, or an error in its place."""

    picture: Picture
    subject: str
    enrolment: Enrolment | None = None
    quality: float | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        """added, already, refused or failed."""
        return "failed" if self.enrolment is None else self.enrolment.status


@click.command()
@click.argument("pictures", nargs=-1, metavar="PICTURES... | FOLDER...")
@click.option(
    "--subject", metavar="NAME", help="Whose pictures these are. Without it: folders with a folder a subject."
)
@click.option(
    "--csv", "table", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Columns path and subject."
)
@gallery_options()
@click.option(
    "--min-quality", type=click.FloatRange(0, 1), default=MIN_QUALITY, show_default=True, help="Refuse faces below it."
)
@click.option(
    "--face",
    "which",
    type=click.Choice(["main", "largest", "only"]),
    default="main",
    show_default=True,
    help="Of a picture with several faces: large and central, the largest, or refuse the picture.",
)
@analyzer_options
@json_options
def enroll(
    pictures: tuple[str, ...],
    subject: str | None,
    table: Path | None,
    gallery: str,
    key: Path | None,
    min_quality: float,
    which: str,
    form: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Add subjects to a gallery.

    \b
    mien enroll a.jpg b.jpg --subject NAME     pictures of one subject
    mien enroll PEOPLE/                        a folder a subject: PEOPLE/NAME/*.jpg
    mien enroll --csv people.csv               columns path and subject

    A picture is reported when it is stored for good. The same picture of a subject twice is one sample. Status 1 if a
    picture was refused or failed; the others are stored all the same. A gallery that is made with --key is encrypted.
    """
    wanted = list(_wanted(pictures, subject, table))
    analyzer = make_analyzer(detector, embedder, min_face)
    counts = {"added": 0, "already": 0, "refused": 0, "failed": 0}
    with open_gallery(gallery, key, model=analyzer.card.id, create=True) as opened:
        threshold = _duplicate_threshold(opened, analyzer.card)
        writer = record_writer(form, SCHEMA, as_json=_as_json, in_words=_echo_words)
        with writer as write, progress(len(wanted), printing=True) as advance:
            found = analyzer.pictures([path for path, _ in wanted], crops=True, digests=True)
            for picture, (_, name) in zip(found, wanted, strict=True):
                outcome = _enrol(opened, picture, name, which, min_quality=min_quality, threshold=threshold)
                counts[outcome.status] += 1
                write(outcome)
                advance()
        subjects = len(opened)
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    click.echo(f"{counted(len(wanted), 'picture')}: {told}. {gallery} has {counted(subjects, 'subject')}.", err=True)
    return 1 if counts["refused"] or counts["failed"] else 0


def _wanted(pictures: tuple[str, ...], subject: str | None, table: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the picture files and whose they are."""
    if table is not None:
        if pictures or subject is not None:
            raise UsageError("--csv names pictures and subjects itself; give it alone.")
        yield from _rows(table)
    elif not pictures:
        raise UsageError(
            "Nothing to enrol. Name pictures with --subject NAME, a folder with a folder a subject, or --csv."
        )
    elif subject is not None:
        yield from ((path, subject) for path in find_pictures(pictures))
    else:
        for folder in map(Path, pictures):
            yield from _of_subjects(folder)


def _of_subjects(folder: Path) -> Iterator[tuple[Path, str]]:
    from mien.files import find_subjects, printable

    if not folder.is_dir():
        raise UsageError(f"Whose picture is '{printable(folder)}'? Add --subject NAME, or name a folder of folders.")
    found = find_subjects(folder)
    for line in (*found.failures, *found.notes):
        click.echo(f"mien: {line}", err=True)
    if not found.pictures:
        if found.failures:
            raise UsageError("Nothing is left to enrol.")
        raise UsageError(
            f"'{printable(folder)}' has no folder a subject. If all its pictures are of one, add --subject NAME."
        )
    yield from found.pictures


def _rows(table: Path) -> Iterator[tuple[Path, str]]:
    """Read the columns path and subject; relative paths are taken from the table's folder."""
    from mien.data.lists import existing_name, read_list, text_of
    from mien.files import printable

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
        yield place, subject


def _has_bytes(text: str) -> bool:
    """Whether a text holds bytes that are no UTF-8."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def _duplicate_threshold(gallery: Gallery, card: Card) -> float | None:
    """Return the score at which a face matches another subject; None where nothing was measured."""
    from mien.matching import operating_point

    stored = gallery.operating_point(DUPLICATE_FMR)
    if stored is not None:
        return stored.point.threshold
    try:
        return operating_point(card, DUPLICATE_FMR).threshold
    except ModelError:
        click.echo("mien: duplicates are not looked for: the model has no operating point at that rate.", err=True)
        return None


def _enrol(
    gallery: Gallery, picture: Picture, name: str, which: str, *, min_quality: float, threshold: float | None
) -> _Outcome:
    from mien.gallery.records import Enrolment
    from mien.gallery.store import clean_name
    from mien.types import Reason

    if picture.error is not None or picture.digest is None:
        return _Outcome(picture, name, error=picture.error)
    if not picture.faces:
        return _Outcome(picture, name, Enrolment("refused", reasons=(Reason.NO_FACE,)))
    if which == "only" and len(picture.faces) > 1:
        return _Outcome(picture, name, Enrolment("refused", reasons=(Reason.SEVERAL_FACES,)))
    try:
        # A folder's name need not be fit for a subject; the rest of the batch goes on.
        clean_name(name)
    except GalleryError as error:
        return _Outcome(picture, name, error=str(error))
    face = chosen_face(picture, which)
    quality = None if face.quality is None else face.quality.score
    enrolment = gallery.enrol(
        name, face, source_hash=picture.digest, min_quality=min_quality, duplicate_threshold=threshold
    )
    return _Outcome(picture, name, enrolment, quality)


def chosen_face(picture: Picture, which: str) -> Face:
    """Return the face that is meant: ``main`` (large and central), or the largest."""
    from mien.analyzer import main_face

    face = main_face(picture.faces, picture.width, picture.height) if which == "main" else picture.faces[0]
    assert face is not None, "a picture with faces has a main one"
    return face


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    facts: dict[str, Any] = {**path_as_json(outcome.picture.path or ""), "status": outcome.status}
    if outcome.enrolment is None:
        _say_error(outcome)
        return facts | {"error": outcome.error}
    return facts | {
        "subject": outcome.subject,
        "subject_id": outcome.enrolment.subject_id,
        "sample_id": outcome.enrolment.sample_id,
        "quality": outcome.quality,
        "reasons": outcome.enrolment.reasons,
        "duplicates": outcome.enrolment.duplicates,
    }


def _echo_words(outcome: _Outcome) -> None:
    from mien.images import printable

    enrolment = outcome.enrolment
    if enrolment is None:
        _say_error(outcome)
        return
    parts = [f"{enrolment.status:<8} {printable(outcome.picture.path or '')}"]
    parts += [f"{outcome.subject}, sample {enrolment.sample_id}"] if enrolment.sample_id is not None else []
    parts += [f"quality {outcome.quality:.2f}"] if outcome.quality is not None else []
    parts += [", ".join(reason.replace("_", " ") for reason in enrolment.reasons)] if enrolment.reasons else []
    click.echo("  ".join(parts))
    for other in enrolment.duplicates:
        click.echo(f"         also matches {other.subject} (score {other.score:.3f}): one person, two names?")


def _say_error(outcome: _Outcome) -> None:
    click.echo(f"mien: {outcome.error}", err=True)
