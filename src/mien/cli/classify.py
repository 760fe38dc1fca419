"""`mien classify`: which of the subjects of a trained classifier the faces of pictures are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mien import zoo
from mien.cli.common import counted, find_pictures, make_analyzer, progress
from mien.cli.records import json_options, record_writer
from mien.files import printable
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.types import Face, Picture
    from mien.vision.subjects import Subjects


@dataclass(frozen=True, slots=True)
class _Classified:
    picture: Picture
    faces: tuple[tuple[Face, Subjects], ...] = ()


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--model", required=True, metavar="RUN", help="Run folder of `mien train classifier`.")
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, help="Subjects to show of a face, known or not."
)
@json_options
@click.option("--detector", default="auto", show_default=True, metavar="NAME", help="auto, fast, accurate, or a model.")
@click.option("--min-face", type=float, metavar="PX", help="Least face side to find; smaller takes longer.")
def classify(
    pictures: tuple[str, ...], model: str, top: int, form: str | None, detector: str, min_face: float | None
) -> int:
    """Name the faces of PICTURES (files, folders, patterns) by a closed-set classifier.

    A face is unknown where it is less like its most probable subject than the classifier's threshold. The exit status
    is 1 if a picture could not be read; an unknown face is no failure.
    """
    from mien.vision.subjects import SubjectReader

    reader = SubjectReader(zoo.named(model))
    analyzer = make_analyzer(detector, reader.convention.on, min_face)
    paths = find_pictures(pictures)
    known = unknown = failed = 0

    def in_words(found: _Classified) -> None:
        _echo_words(found, top)

    def as_json(found: _Classified) -> dict[str, object]:
        return schemas.classification(found.picture, found.faces)

    head = {"model": reader.card.id, "embedder": analyzer.card.id}
    with (
        record_writer(form, schemas.CLASSIFICATION, as_json=as_json, in_words=in_words, head=head) as write,
        progress(len(paths), printing=True) as advance,
    ):
        for picture in analyzer.pictures(paths):
            told = reader.read([face.embedding for face in picture.faces if face.embedding is not None])
            write(_Classified(picture, tuple(zip(picture.faces, told, strict=True))))
            if picture.error is not None:
                click.echo(f"mien: {picture.error}", err=True)
                failed += 1
            unknown += sum(one.unknown for one in told)
            known += sum(not one.unknown for one in told)
            advance()
    line = f"{counted(len(paths), 'picture')}: {known} known, {unknown} unknown"
    click.echo(line + (f", {failed} failed" if failed else ""), err=True)
    return 1 if failed else 0


def _echo_words(found: _Classified, top: int) -> None:
    """Print a picture for people: a line, and one a face below it."""
    if found.picture.error is not None:
        return
    click.echo(f"{printable(found.picture.path or '')}  {counted(len(found.faces), 'face')}")
    for number, (face, told) in enumerate(found.faces, start=1):
        box = face.box
        where = f"{number:5}  {f'{box.width:.0f} x {box.height:.0f} px at {box.left:.0f},{box.top:.0f}':<26}"
        if told.unknown:
            click.echo(f"{where}  unknown  score {told.score:.3f}")
        likely = sorted(told.probabilities.items(), key=lambda item: -item[1])[:top]
        for subject, probability in likely if top > 1 or not told.unknown else ():
            # Halves of a per mille would round to certainty, which no comparison gives.
            share = f"{min(max(probability, 0.0001), 0.9999):.2%}"
            click.echo(f"{where if not told.unknown else ' ' * len(where)}  {subject}  probability {share}")
            where = " " * len(where)
