"""`mien enroll`: pictures, folders or a CSV into a gallery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from mien.cli.common import (
    analyzer_options,
    counted,
    face_option,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    open_gallery,
    progress,
    say_notes,
)
from mien.cli.records import json_options, record_writer
from mien.errors import UsageError
from mien.files import printable
from mien.gallery.names import shown
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.gallery.ingest import Outcome

MIN_QUALITY = 0.3  # of `mien.gallery.ingest`, which is not imported for `mien --help`; a test compares the two
MOST_VIEWS = 64  # of `mien.gallery.records`, likewise


class _Rules(TypedDict):
    which: str
    min_quality: float
    duplicates: float | None


@click.command()
@click.argument("pictures", nargs=-1, metavar="PICTURES... | FOLDER...")
@click.option(
    "--subject", metavar="NAME", help="Whose pictures these are. Without it: folders with a folder a subject."
)
@click.option(
    "--csv", "table", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Columns path and subject."
)
@click.option("--video", "videos", is_flag=True, help="PICTURES are films of --subject: its best faces are taken.")
@gallery_options()
@click.option(
    "--min-quality", type=click.FloatRange(0, 1), default=MIN_QUALITY, show_default=True, help="Refuse faces below it."
)
@click.option(
    "--simulate",
    type=click.IntRange(0, MOST_VIEWS),
    default=0,
    show_default=True,
    metavar="N",
    help="Average each template over N simulated views; see docs/few_shot.md.",
)
@face_option()
@analyzer_options
@json_options
def enroll(
    pictures: tuple[str, ...],
    subject: str | None,
    table: Path | None,
    videos: bool,
    gallery: str,
    key: Path | None,
    min_quality: float,
    simulate: int,
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
    mien enroll --video clip.mp4 --subject NAME    the best faces of who is there longest

    A picture is reported when it is stored for good. The same picture of a subject twice is one sample. Status 1 if a
    picture was refused or failed; the others are stored all the same. A gallery that is made with --key is encrypted.

    Of a picture with several faces the large and central one is taken, and it is said which; a picture where none
    stands out is refused. See --face.

    With --simulate N a template is the mean over the picture and N variations of it: mirrored, turned, moved. Such
    templates are marked; the variations are not kept.
    """
    from mien.gallery.ingest import DUPLICATE_FMR, Wish, duplicate_threshold, ingest, wanted

    if videos and (subject is None or table is not None or not pictures):
        raise UsageError("--video takes films of one subject: name files, and whose they are with --subject NAME.")
    if videos and simulate:
        raise UsageError("--simulate takes pictures: a film shows its faces in views of its own. Leave it out.")
    wish = Wish(()) if videos else wanted(pictures, subject=subject, table=table)
    for line in (*wish.notes, *wish.failures):
        click.echo(f"mien: {line}", err=True)
    analyzer = make_analyzer(detector, embedder, min_face)
    counts = {"added": 0, "already": 0, "refused": 0, "failed": 0}
    with open_gallery(gallery, key, create=True) as opened:
        analyzer = fit_analyzer(analyzer, opened)
        threshold = duplicate_threshold(opened, analyzer.card)
        if threshold is None:
            rate = f"FMR {DUPLICATE_FMR:g}"
            click.echo(f"mien: duplicates are not looked for: the model has no operating point at {rate}.", err=True)
        writer = record_writer(form, schemas.ENROLMENT, as_json=schemas.enrolment, in_words=echo_words)
        with writer as write, progress(len(wish.pictures), printing=True) as advance:
            rules: _Rules = {"which": which, "min_quality": min_quality, "duplicates": threshold}
            outcomes = (
                _ingest_films(opened, analyzer, pictures, str(subject), rules)
                if videos
                else ingest(opened, analyzer, wish.pictures, simulate=simulate, **rules)
            )
            for outcome in outcomes:
                counts[outcome.status] += 1
                write(outcome)
                say_oddities(outcome, which)
                advance()
        subjects, place = len(opened), opened.path
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    taken = counted(len(pictures), "film") if videos else counted(len(wish.pictures), "picture")
    summary = f"{taken}: {told or 'none'}."
    click.echo(f"{summary} {place} has {counted(subjects, 'subject')}.", err=True)
    return 1 if counts["refused"] or counts["failed"] or wish.failures else 0


def _ingest_films(
    gallery: Gallery, analyzer: Analyzer, films: Sequence[str], subject: str, rules: _Rules
) -> Iterator[Outcome]:
    from mien.video.enrolment import ingest_films

    return ingest_films(gallery, analyzer, films, subject, **rules)


def echo_words(outcome: Outcome) -> None:
    """Print what became of one picture."""
    enrolment = outcome.enrolment
    if enrolment is None:
        return
    parts = [f"{enrolment.status:<8} {printable(outcome.picture.path or '')}"]
    parts += [f"{shown(outcome.subject)}, sample {enrolment.sample_id}"] if enrolment.sample_id is not None else []
    parts += [f"quality {outcome.quality:.2f}"] if outcome.quality is not None else []
    if enrolment.status == "added" and outcome.simulated:
        parts += [f"with {counted(outcome.simulated, 'simulated view')}"]
    parts += [", ".join(reason.replace("_", " ") for reason in enrolment.reasons)] if enrolment.reasons else []
    click.echo("  ".join(parts))
    same = set(enrolment.same_face)
    for name in enrolment.same_face:
        click.echo(f"         this very picture is enrolled as {shown(name)} too: one person, two names?")
    for other in enrolment.duplicates:
        if other.subject not in same:
            name = shown(other.subject)
            click.echo(f"         also matches {name} (score {other.score:.3f}): one person, two names?")


def say_oddities(outcome: Outcome, which: str) -> None:
    """Say on stderr what failed, which of several faces was taken, and what was odd about the picture."""
    if outcome.error is not None:
        click.echo(f"mien: {outcome.error}", err=True)
    say_notes(outcome.picture)
    name = printable(outcome.picture.path or "")
    if outcome.note is not None:
        click.echo(f"mien: '{name}' is refused: {outcome.note}", err=True)
    elif outcome.face is not None and len(outcome.picture.faces) > 1:
        number, face = outcome.face
        where = f"{face.box.side:.0f} px at {face.box.left:.0f},{face.box.top:.0f}"
        click.echo(
            f"mien: '{name}' shows {len(outcome.picture.faces)} faces; taken is number {number} ({where}), "
            f"by --face {which}.",
            err=True,
        )
