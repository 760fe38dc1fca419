"""`mien identify` and `mien search`: who is in a picture, and which samples are most like it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mien
from mien import gallery as galleries
from mien.cli.common import (
    analyzer_options,
    counted,
    decision_options,
    echo_json,
    find_pictures,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    open_to_search,
    progress,
    say_notes,
)
from mien.cli.records import json_options, record_writer
from mien.errors import ImageError
from mien.files import printable
from mien.gallery.deciding import decide_search
from mien.gallery.names import shown
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.gallery.naming import Named
    from mien.types import Picture
    from mien.zoo import Card


@dataclass(frozen=True, slots=True)
class _Identified:
    picture: Picture
    faces: tuple[Named, ...] = ()


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@gallery_options()
@decision_options
@click.option(
    "--fpir", type=float, metavar="RATE", help="Largest share of strangers to be given a name, instead of --fmr."
)
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, help="Candidates to show a face, matching or not."
)
@click.option(
    "--once-per-picture", "once", is_flag=True, help="Give a name to one face of a picture at most, the most similar."
)
@json_options
@analyzer_options
def identify(
    pictures: tuple[str, ...],
    gallery: str,
    key: Path | None,
    fmr: float | None,
    threshold: float | None,
    fpir: float | None,
    top: int,
    once: bool,
    form: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Name the faces of PICTURES (files, folders, patterns) from a gallery.

    A face is given a name where its best subject reaches the threshold, and is unknown otherwise. --fmr is the rate a
    comparison; --fpir is the rate a search of the whole gallery and grows stricter with it. The exit status is 1 if a
    picture could not be read; an unknown face is no failure.
    """
    analyzer = make_analyzer(detector, embedder, min_face)
    known = unknown = failed = 0
    with open_to_search(gallery, key) as opened:
        analyzer = fit_analyzer(analyzer, opened)
        point, notes = decide_search(analyzer.card, opened, fmr=fmr, fpir=fpir, threshold=threshold)
        for note in notes:
            click.echo(f"mien: {note}", err=True)
        subjects = len(opened)
        paths = find_pictures(pictures)

        def as_json(found: _Identified) -> dict[str, object]:
            return schemas.identification(
                found.picture, found.faces, card=analyzer.card, threshold=point.threshold, subjects=subjects
            )

        def in_words(found: _Identified) -> None:
            _echo_words(found, analyzer.card, point.threshold, subjects, top)

        head = schemas.identification_head(analyzer.card.id, point)
        writer = record_writer(form, schemas.IDENTIFICATION, as_json=as_json, in_words=in_words, head=head)
        with writer as write, progress(len(paths), printing=True) as advance:
            for picture in analyzer.pictures(paths):
                faces = galleries.name_faces(opened, picture, threshold=point.threshold, top=top, once=once)
                write(_Identified(picture, faces))
                _say_oddities(picture, faces)
                failed += picture.error is not None
                matched = sum(named.candidate is not None for named in faces)
                known += matched
                unknown += len(faces) - matched
                advance()
    told = f"{counted(len(paths), 'picture')}: {known} known, {unknown} unknown"
    click.echo(told + (f", {failed} failed" if failed else ""), err=True)
    return 1 if failed else 0


@click.command()
@click.argument("picture")
@gallery_options()
@click.option("-k", "count", type=click.IntRange(1), default=10, show_default=True, help="Samples to show.")
@click.option("--subjects", is_flag=True, help="Show each subject once, scored by all its samples.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; see docs/json.md.")
@analyzer_options
def search(
    picture: str,
    gallery: str,
    key: Path | None,
    count: int,
    subjects: bool,
    as_json: bool,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> None:
    """Find the samples of a gallery that are most like the main face of PICTURE, matching or not."""
    from mien.analyzer import main_face

    analyzer = make_analyzer(detector, embedder, min_face)
    with open_to_search(gallery, key) as opened:
        analyzer = fit_analyzer(analyzer, opened)
        image = mien.load_image(picture)
        face = main_face(analyzer.analyze(image), image.shape[1], image.shape[0])
        if face is None or face.embedding is None:
            raise ImageError(f"'{printable(picture)}' shows no face. Try a sharper picture, or a smaller --min-face.")
        candidates = opened.search(face.embedding, count, per_subject=subjects)
        total = len(opened)
    if as_json:
        echo_json(schemas.search(picture, face, candidates, card=analyzer.card, subjects=total))
        return
    for rank, candidate in enumerate(candidates, start=1):
        click.echo(f"{rank:5}  {candidate.score:.3f}  {shown(candidate.subject)}, sample {candidate.sample_id}")
    click.echo(counted(len(candidates), "candidate"), err=True)


def _say_oddities(picture: Picture, faces: Sequence[Named]) -> None:
    """Say on stderr what failed, what was odd, and whose name stands at several faces of a picture."""
    if picture.error is not None:
        click.echo(f"mien: {picture.error}", err=True)
    say_notes(picture)
    for name, count in galleries.repeated_names(faces).items():
        click.echo(
            f"mien: '{printable(picture.path or '')}': {count} faces are named {shown(name)}; one person is "
            "there once, unless there is a mirror or a picture. --once-per-picture names the most similar only.",
            err=True,
        )


def _echo_words(found: _Identified, card: Card, threshold: float, subjects: int, top: int) -> None:
    """Print a picture for people: a line, and one a face below it."""
    if found.picture.error is not None:
        return
    click.echo(f"{printable(found.picture.path or '')}  {counted(len(found.faces), 'face')}")
    for number, named in enumerate(found.faces, start=1):
        box = named.face.box
        quality = named.face.quality
        poor = "  (poor quality)" if quality is not None and quality.poor else ""
        where = f"{number:5}  {f'{box.width:.0f} x {box.height:.0f} px at {box.left:.0f},{box.top:.0f}':<26}"
        if named.candidate is None:
            best = f"  best score {named.candidates[0].score:.3f}" if named.candidates else ""
            taken = ", the name of a more similar face" if best and named.candidates[0].score >= threshold else ""
            click.echo(f"{where}  unknown{best}{taken}{poor}")
            where = " " * len(where)
        given = [named.candidate] if named.candidate is not None else []
        others = [other for other in named.candidates if other != named.candidate] if top > 1 else []
        for candidate in given + others:
            share = galleries.chance(candidate, card, subjects)
            # Halves of a per mille would round to certainty, which no comparison gives.
            told = "" if math.isnan(share) else f"  probability {min(max(share, 0.0001), 0.9999):.2%}"
            sign = "" if candidate.score >= threshold else "no match: "
            click.echo(f"{where}  {sign}{shown(candidate.subject)}  score {candidate.score:.3f}{told}{poor}")
            where = " " * len(where)
