"""`mien analyze`: the faces of pictures, as a table, JSON, annotated pictures or aligned crops."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien import reporting, zoo
from mien.cli.common import (
    analyzer_options,
    counted,
    expression_model,
    find_pictures,
    make_analyzer,
    make_folder,
    progress,
    say_notes,
    shares_option,
)
from mien.cli.records import json_options, record_writer
from mien.errors import ImageError, UsageError
from mien.files import printable
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.images import Source
    from mien.types import Attributes, Face, Picture

_FOLDER = click.Path(path_type=Path, file_okay=False)
_LONGEST_STEM = 80  # characters: with a suffix a name stays within 255 bytes in any script


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@json_options
@click.option("--embeddings", is_flag=True, help="Compute embeddings and put them into the JSON.")
@click.option("--save", type=_FOLDER, metavar="DIR", help="Write annotated pictures here: NAME.faces.jpg.")
@click.option("--crops", type=_FOLDER, metavar="DIR", help="Write aligned faces here: NAME.face-1.png, ...")
@click.option(
    "--attributes", is_flag=True, help="Also head pose, eyes, mouth, 468 points; age and apparent gender, as guesses."
)
@click.option(
    "--draw",
    type=click.Choice(["boxes", "mesh"]),
    help="What --save draws; the mesh is of --attributes.  [default: boxes]",
)
@click.option("--threshold", type=float, help="Least detection score; default: the detector's own.")
@click.option(
    "--expression", metavar="MODEL", help="Expression model, run folder or ONNX file; none for none.  [default: ours]"
)
@click.option(
    "--restore",
    metavar="MODEL",
    default="off",
    show_default=True,
    help="Restore spoilt faces before they are read: auto is the shipped restorer, or name one.",
)
@shares_option
@analyzer_options
def analyze(
    pictures: tuple[str, ...],
    form: str | None,
    embeddings: bool,
    save: Path | None,
    crops: Path | None,
    attributes: bool,
    draw: str | None,
    threshold: float | None,
    expression: str | None,
    restore: str,
    shares: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Find the faces of PICTURES: files, folders, patterns, or - for one picture on stdin.

    The exit status is 1 if a picture could not be read; a picture without a face is no failure.
    """
    if embeddings and form is None:
        raise UsageError("--embeddings go into JSON. Add --json or --jsonl.")
    if "-" in pictures and len(pictures) > 1:
        raise UsageError("- reads one picture from stdin. Give it alone.")
    if draw is not None and save is None:
        raise UsageError("--draw says what --save DIR draws. Add it.")
    if draw == "mesh" and not attributes:
        raise UsageError("--draw mesh is of --attributes. Add it.")
    model = expression_model(expression)
    if model is None and shares is not None:
        raise UsageError("--shares are of expressions, and none are read. Leave one of the two options out.")
    analyzer = make_analyzer(
        detector,
        embedder,
        min_face,
        threshold=threshold,
        expression=model,
        shares=shares,
        attributes=attributes,
        restorer=_restorer(restore),
    )
    keeper = _Keeper(save and make_folder(save), crops and make_folder(crops), mesh=draw == "mesh")
    options = {"embed": embeddings, "crops": crops is not None}
    tally = _Tally()
    if pictures == ("-",):
        data = sys.stdin.buffer.read()
        paths, results = tuple[Path, ...](), _one(analyzer, data, **options)
    else:
        data = None
        paths = find_pictures(pictures, results=[save, crops])
        results = analyzer.pictures(paths, **options)

    def as_json(picture: Picture) -> dict[str, object]:
        return schemas.analysis(picture, embeddings=embeddings)

    from mien.types import ATTRIBUTES_NOTE

    head = {"note": ATTRIBUTES_NOTE} if attributes else None
    writer = record_writer(form, schemas.ANALYSIS, as_json=as_json, in_words=_echo_words, head=head)
    with writer as write, progress(len(paths) or None, printing=True) as advance:
        for picture in results:
            kept = keeper.keep(picture, picture.path if data is None else data)
            if kept.error is not None:
                click.echo(f"mien: {kept.error}", err=True)
            say_notes(kept)
            write(kept)
            tally.add(kept)
            advance()
    click.echo(tally.line(), err=True)
    if attributes and tally.faces and form is None:
        click.echo(f"mien: {ATTRIBUTES_NOTE}", err=True)
    return 1 if tally.failed else 0


def _restorer(option: str) -> str | None:
    """Return the restorer that an option names; None for off."""
    return {"off": None, "auto": zoo.default("restorer")}.get(option, option)


def _one(analyzer: Analyzer, data: bytes, *, embed: bool, crops: bool) -> Iterator[Picture]:
    """Analyse a picture from stdin."""
    for picture in analyzer.pictures([data], embed=embed, crops=crops):
        yield replace(picture, path="-")


@dataclass(slots=True)
class _Tally:
    """Counts for the last line."""

    pictures: int = 0
    faces: int = 0
    faceless: int = 0
    failed: int = 0

    def add(self, picture: Picture) -> None:
        self.pictures += 1
        self.faces += len(picture.faces)
        self.failed += picture.error is not None
        self.faceless += picture.error is None and not picture.faces

    def line(self) -> str:
        parts = [counted(self.faces, "face")]
        parts += [f"{self.faceless} without a face"] if self.faceless else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return f"{counted(self.pictures, 'picture')}: {', '.join(parts)}"


class _Keeper:
    """Writes annotated pictures and crops into folders, no two under one name."""

    def __init__(self, save: Path | None, crops: Path | None, *, mesh: bool = False) -> None:
        self._save, self._crops, self._mesh = save, crops, mesh
        self._taken: set[str] = set()

    def keep(self, picture: Picture, source: Source | None) -> Picture:
        """Write what was asked for; return the picture, with an error if it can no longer be read."""
        if picture.error is not None or not (self._save or self._crops):
            return picture
        from mien.images import load_image, save_image

        name = self._name(picture)
        if self._save:
            assert source is not None, "a picture is from a file or from stdin"
            try:
                # Read again: keeping the pixels of all pictures in flight would cost more than it saves.
                image = load_image(source)
            except ImageError as error:
                return replace(picture, width=0, height=0, faces=(), error=str(error))
            drawn = reporting.annotate(image, picture.faces, mesh=self._mesh)
            save_image(self._save / f"{name}.faces.jpg", drawn)
        if self._crops:
            for number, face in enumerate(picture.faces, start=1):
                assert face.crop is not None, "crops were asked for"
                save_image(self._crops / f"{name}.face-{number}.png", face.crop)
        return picture

    def _name(self, picture: Picture) -> str:
        stem = "stdin" if picture.path in (None, "-") else Path(str(picture.path)).stem[:_LONGEST_STEM]
        name, number = stem, 1
        while name.casefold() in self._taken:  # Some file systems don't tell cases apart.
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return name


def _echo_words(picture: Picture) -> None:
    """Print a picture for people: a line, and one a face below it."""
    if picture.error is not None:
        return
    faces = counted(len(picture.faces), "face") if picture.faces else "no face"
    click.echo(f"{printable(picture.path or '-')}  {picture.width} x {picture.height} px  {faces}")
    for number, face in enumerate(picture.faces, start=1):
        click.echo(f"{number:5}  {'  '.join(_words(face))}")
        if face.attributes is not None:
            click.echo(f"{'':7}{'  '.join(_attribute_words(face.attributes))}")


def _words(face: Face) -> Iterator[str]:
    box = face.box
    yield f"{f'{box.width:.0f} x {box.height:.0f} px at {box.left:.0f},{box.top:.0f}':<26}"
    yield f"score {face.score:.2f}"
    if face.quality is not None:
        yield f"quality {face.quality.score:.2f}"
    if face.expression is not None:
        best = face.expression.label
        sure = " (uncertain)" if face.expression.uncertain else ""
        yield f"{best} {face.expression.probabilities[best]:.2f}{sure}"
    if face.quality is not None and face.quality.reasons:
        yield ", ".join(reason.replace("_", " ") for reason in face.quality.reasons)


def _attribute_words(seen: Attributes) -> Iterator[str]:
    pose = seen.pose
    yield f"yaw {pose.yaw:+.0f}, pitch {pose.pitch:+.0f}, roll {pose.roll:+.0f} degrees"
    closed = [name for name, eye in (("left", seen.left_eye), ("right", seen.right_eye)) if not eye.open]
    yield {0: "eyes open", 1: f"{''.join(closed)} eye closed", 2: "eyes closed"}[len(closed)]
    yield f"mouth {'open' if seen.mouth.open else 'closed'}"
    off = "error not measured" if seen.age.error is None else f"+-{seen.age.error:.0f}"
    yield f"looks {seen.age.years:.0f} years old ({off})"
    wrong = "error not measured" if seen.gender.error is None else f"wrong for {seen.gender.error:.0%}"
    yield f"looks {seen.gender.label} ({wrong})"
