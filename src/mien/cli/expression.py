"""`mien expression`: what the faces of pictures show, and how sure that is."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING

import click

from mien import zoo
from mien.cli.common import (
    analyzer_options,
    counted,
    find_pictures,
    machine_readable,
    make_analyzer,
    path_as_json,
    progress,
    say_notes,
    shares_option,
)
from mien.cli.records import json_options, record_writer
from mien.errors import UsageError
from mien.files import printable
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.types import Expression, Face, Picture

_SHOWN = 3  # classes in a line for people, most probable first
_LEAST_SHOWN = 0.05


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@json_options
@click.option("--csv", "form", flag_value="csv", help="A row a face: path, box, expression, probability, ...")
@click.option(
    "--model", metavar="MODEL", help="A model's name, a run folder, or an ONNX file with its card; default: ours."
)
@click.option(
    "--sequence", metavar="RUN", help="PICTURES are clips (a video, a folder of frames); of `mien train sequence`."
)
@shares_option
@analyzer_options
def expression(
    pictures: tuple[str, ...],
    form: str | None,
    model: str | None,
    sequence: str | None,
    shares: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Read what the faces of PICTURES show: files, folders or patterns.

    Judged by raters, an expression is what a face shows, not what somebody feels. Where the model's operating point
    says that a face is not clear, the outcome is called uncertain. The exit status is 1 if a picture could not be
    read.
    """
    if sequence is not None:
        if model or shares or form == "csv":
            raise UsageError("--sequence goes with --json and --jsonl, not with --csv, --model or --shares.")
        from mien.cli.clips import read_clips

        return read_clips(pictures, sequence, form)
    model = model or zoo.default("expression")
    analyzer = make_analyzer(detector, embedder, min_face, expression=model, shares=shares)
    paths = find_pictures(pictures)
    if form == "csv":
        machine_readable()
        _echo_row("path", "face", "left", "top", "right", "bottom", "expression", "probability", "uncertain")
    writer = record_writer(
        None if form == "csv" else form,
        schemas.EXPRESSIONS,
        as_json=schemas.expressions,
        in_words=_echo_rows if form == "csv" else _echo_words,
        head={"model": zoo.named(model).id},
    )
    seen: Counter[str] = Counter()
    failed = faces = 0
    with writer as write, progress(len(paths), printing=True) as advance:
        for picture in analyzer.pictures(paths, embed=False):
            if picture.error is not None:
                click.echo(f"mien: {picture.error}", err=True)
            say_notes(picture)
            write(picture)
            failed += picture.error is not None
            faces += len(picture.faces)
            seen.update(_outcome(face) for face in picture.faces)
            advance()
    line = f"{counted(len(paths), 'picture')}: {counted(faces, 'face')}"
    line += "".join(f", {count} {name}" for name, count in seen.most_common())
    click.echo(line + (f", {failed} failed" if failed else ""), err=True)
    return 1 if failed else 0


def _expression(face: Face) -> Expression:
    assert face.expression is not None, "an expression model is in use"
    return face.expression


def _outcome(face: Face) -> str:
    told = _expression(face)
    return "uncertain" if told.uncertain else told.label


def _echo_words(picture: Picture) -> None:
    """Print a picture for people: a line, and one a face below it."""
    if picture.error is not None:
        return
    faces = "" if picture.faces else "  no face"
    click.echo(f"{printable(picture.path or '')}{faces}")
    for number, face in enumerate(picture.faces, start=1):
        told = _expression(face)
        ranked = sorted(told.probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
        shares = ", ".join(f"{label} {p:.2f}" for label, p in ranked if p >= _LEAST_SHOWN or label == told.label)
        where = f"{face.box.side:.0f} px at {face.box.left:.0f},{face.box.top:.0f}"
        click.echo(f"{number:5}  {where:<20}  {_outcome(face):<10}  {shares}")


def _echo_rows(picture: Picture) -> None:
    """Print a CSV row a face; a picture without one has a row without one."""
    if picture.error is not None:
        return
    path = path_as_json(picture.path or "")["path"]
    for number, face in enumerate(picture.faces, start=1):
        told = _expression(face)
        box = [f"{value:.2f}" for value in face.box.as_tuple()]
        _echo_row(path, number, *box, told.label, f"{told.probabilities[told.label]:.4f}", int(told.uncertain))
    if not picture.faces:
        _echo_row(path, *[""] * 8)


def _echo_row(*values: object) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    click.echo(line.getvalue())
