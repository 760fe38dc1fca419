"""`mien ingest`: a folder of subjects into a gallery, by any number of workers."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from mien.cli.enroll import MIN_QUALITY, echo_words, say_oddities
from mien.cli.records import json_options, record_writer
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.gallery.work import Work


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@gallery_options()
@click.option(
    "--job",
    metavar="NAME",
    help="What the workers of one job call it, where SOURCE has another path on each machine.  [default: its path]",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    is_flag=False,
    flag_value="local",
    help="Start workers on a Ray cluster: auto, or HOST:PORT; without ADDRESS on this machine.",
)
@click.option("--again", is_flag=True, help="Try anew what was refused or failed before.")
@click.option(
    "--min-quality", type=click.FloatRange(0, 1), default=MIN_QUALITY, show_default=True, help="Refuse faces below it."
)
@face_option()
@analyzer_options
@json_options
def ingest(
    source: Path,
    gallery: str,
    key: Path | None,
    job: str | None,
    ray: str | None,
    again: bool,
    min_quality: float,
    which: str,
    form: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Enrol the pictures of SOURCE together with other workers.

    \b
    mien ingest PEOPLE/ --gallery postgresql://HOST/faces     on every machine
    mien ingest people.csv --gallery faces.mien               columns path and subject

    SOURCE is a folder with a folder a subject, or a CSV. Start it as often and on as many machines as there are cores:
    each worker claims a few pictures from the gallery's database, enrols them and claims more, until all are done.
    Start it again to go on with a job that was broken off. What a killed worker had claimed is taken up by others after
    a minute. Status 1 if this worker met a picture that was refused or failed.
    """
    from mien.gallery.cluster import run_on_ray, run_worker
    from mien.gallery.ingest import duplicate_threshold, wanted
    from mien.gallery.work import Work, work_through

    table = source if source.suffix.lower() == ".csv" else None
    wish = wanted([] if table else [str(source)], table=table)
    for line in (*wish.notes, *wish.failures):
        click.echo(f"mien: {line}", err=True)
    root = (source.parent if table else source).absolute()
    called = job or str(source.resolve())
    analyzer = make_analyzer(detector, embedder, min_face)
    counts = {"added": 0, "already": 0, "refused": 0, "failed": 0}
    with open_gallery(gallery, key, create=True) as opened:
        analyzer = fit_analyzer(analyzer, opened)
        work = Work(opened, called)
        if again:
            work.again()
        work.offer((_below(one.path, root), one.subject) for one in wish.pictures)
        options: dict[str, Any] = {
            "which": which,
            "min_quality": min_quality,
            "duplicates": duplicate_threshold(opened, analyzer.card),
        }
        if ray is not None:
            make = partial(_fitting, detector, embedder, min_face)
            worker = partial(run_worker, make, gallery, key, called, root, options)
            for done in run_on_ray(worker, address=None if ray == "local" else ray):
                counts.update({status: counts[status] + number for status, number in done.items()})
            _say_summary(work, counts)
            return 1 if counts["refused"] or counts["failed"] or wish.failures else 0
        writer = record_writer(form, schemas.ENROLMENT, as_json=schemas.enrolment, in_words=echo_words)
        with writer as write, progress(None, printing=True) as advance:
            for outcome in work_through(
                opened,
                analyzer,
                work,
                root,
                say=lambda line: click.echo(f"mien: {line}", err=True),
                **options,
            ):
                counts[outcome.status] += 1
                write(outcome)
                say_oddities(outcome, which)
                advance()
        _say_summary(work, counts)
    return 1 if counts["refused"] or counts["failed"] or wish.failures else 0


def _fitting(detector: str, embedder: str | None, min_face: float | None, gallery: Gallery) -> Analyzer:
    """Return the analyzer of the options with the gallery's cohort; on the worker's machine."""
    return fit_analyzer(make_analyzer(detector, embedder, min_face), gallery)


def _say_summary(work: Work, counts: dict[str, int]) -> None:
    """Say what this worker did, and what became of the whole job."""

    def told(numbers: dict[str, int]) -> str:
        return ", ".join(f"{number} {status}" for status, number in numbers.items() if number) or "none"

    mine, done = sum(counts.values()), work.left().done
    click.echo(f"{counted(mine, 'picture')} by this worker: {told(counts)}.", err=True)
    click.echo(f"{counted(sum(done.values()), 'picture')} of the job done by all: {told(done)}.", err=True)


def _below(path: Path, root: Path) -> str:
    """Return a picture's path as all machines know it: below the source, wherever that is mounted."""
    return os.path.relpath(path.absolute(), root)
