"""`mien identify` and `mien search`: who is in a picture, and which samples are most like it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mien.cli.common import (
    DEFAULT_FMR,
    analyzer_options,
    counted,
    decision_options,
    decision_point,
    echo_json,
    face_as_json,
    gallery_options,
    make_analyzer,
    open_gallery,
    path_as_json,
    plain,
    progress,
)
from mien.cli.records import json_options, record_writer
from mien.errors import ImageError, UsageError

if TYPE_CHECKING:
    from mien.gallery import Gallery
    from mien.types import Candidate, Face, OperatingPoint, Picture
    from mien.zoo import Card

IDENTIFICATION = "mien/identification/1"
SEARCH = "mien/search/1"

_NOTEWORTHY_FPIR = 0.05
_GROWTH = 2  # times as many subjects as at calibration are worth a note


@dataclass(frozen=True, slots=True)
class _Named:
    """A face and who it may be, best first."""

    face: Face
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class _Identified:
    picture: Picture
    faces: tuple[_Named, ...] = ()


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
    from mien.images import find_images

    analyzer = make_analyzer(detector, embedder, min_face)
    known = unknown = failed = 0
    with open_gallery(gallery, key, model=analyzer.card.id, read_only=not os.access(gallery, os.W_OK)) as opened:
        point = _point(opened, analyzer.card, fmr=fmr, fpir=fpir, threshold=threshold)
        subjects = len(opened)
        paths = find_images(pictures)

        def as_json(found: _Identified) -> dict[str, Any]:
            return _as_json(found, analyzer.card, point.threshold, subjects)

        def in_words(found: _Identified) -> None:
            _echo_words(found, analyzer.card, point.threshold, subjects, top)

        writer = record_writer(
            form,
            IDENTIFICATION,
            as_json=as_json,
            in_words=in_words,
            head={"embedder": analyzer.card.id, "threshold": point.threshold, "operating_point": plain(point)},
        )
        with writer as write, progress(len(paths), printing=True) as advance:
            for picture in analyzer.pictures(paths):
                found = _identified(opened, picture, top)
                write(found)
                failed += picture.error is not None
                matched = sum(_matches(named, point.threshold) for named in found.faces)
                known += matched
                unknown += len(found.faces) - matched
                advance()
    told = f"{counted(len(paths), 'picture')}: {known} known, {unknown} unknown"
    click.echo(told + (f", {failed} failed" if failed else ""), err=True)
    return 1 if failed else 0


@click.command()
@click.argument("picture")
@gallery_options()
@click.option("-k", "count", type=click.IntRange(1), default=10, show_default=True, help="Samples to show.")
@click.option("--subjects", is_flag=True, help="Show each subject once, by its best sample.")
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
    from mien.images import load_image, printable

    analyzer = make_analyzer(detector, embedder, min_face)
    with open_gallery(gallery, key, model=analyzer.card.id, read_only=not os.access(gallery, os.W_OK)) as opened:
        image = load_image(picture)
        face = main_face(analyzer.analyze(image), image.shape[1], image.shape[0])
        if face is None or face.embedding is None:
            raise ImageError(f"'{printable(picture)}' shows no face. Try a sharper picture, or a smaller --min-face.")
        candidates = opened.search(face.embedding, count, per_subject=subjects)
        total = len(opened)
    if as_json:
        facts = {"schema": SEARCH, **path_as_json(picture), "face": face_as_json(face)}
        echo_json(facts | {"candidates": [_candidate_as_json(c, analyzer.card, total) for c in candidates]})
        return
    for rank, candidate in enumerate(candidates, start=1):
        click.echo(f"{rank:5}  {candidate.score:.3f}  {candidate.subject}, sample {candidate.sample_id}")
    click.echo(counted(len(candidates), "candidate"), err=True)


def _point(
    gallery: Gallery, card: Card, *, fmr: float | None, fpir: float | None, threshold: float | None
) -> OperatingPoint:
    """Return the operating point for a search of this gallery, and say what it means for one of its size."""
    from mien.metrics.identification import fmr_for_fpir, fpir_from_fmr

    subjects = max(len(gallery), 1)
    if fpir is not None:
        if fmr is not None or threshold is not None:
            raise UsageError("Give one of --fmr, --fpir and --threshold.")
        if not 0 < fpir < 1:
            raise UsageError(f"--fpir should lie between 0 and 1, for instance 0.01, got {fpir:g}.")
        fmr = fmr_for_fpir(fpir, subjects)
        measured = [stored.point.target_fmr for stored in gallery.points()]
        measured += [point.target_fmr for point in card.operating_points]
        if measured and fmr < min(measured):
            reached = fpir_from_fmr(min(measured), subjects)
            click.echo(
                f"mien: FPIR {fpir:g} among {counted(subjects, 'subject')} needs FMR {fmr:.1e}, but none below "
                f"{min(measured):g} was measured. Up to {100 * reached:.2g} % of strangers may get a name.",
                err=True,
            )
            fmr = min(measured)
        # A stricter rate that was measured on this gallery says more than the exact one measured elsewhere.
        own = [stored.point for stored in gallery.points() if stored.point.target_fmr <= fmr * 1.001]
        if own:
            return max(own, key=lambda point: point.target_fmr)
    point = decision_point(card, fmr=fmr, threshold=threshold, gallery=gallery)
    if threshold is None:
        _say_what_it_means(gallery, point, DEFAULT_FMR if fmr is None else fmr, subjects, quiet=fpir is not None)
    return point


def _say_what_it_means(gallery: Gallery, point: OperatingPoint, fmr: float, subjects: int, *, quiet: bool) -> None:
    from mien.metrics.identification import fpir_from_fmr

    stored = gallery.operating_point(fmr)
    if stored is not None and subjects > _GROWTH * stored.subjects:
        click.echo(
            f"mien: the gallery has grown from {stored.subjects} to {subjects} subjects since it was calibrated. "
            "Run mien calibrate again.",
            err=True,
        )
    expected = fpir_from_fmr(point.fmr, subjects)
    if expected > _NOTEWORTHY_FPIR and not quiet:
        click.echo(
            f"mien: at FMR {fmr:g} up to {100 * expected:.2g} % of strangers may be given one of "
            f"{counted(subjects, 'name')}. --fpir takes the size of the gallery into account.",
            err=True,
        )


def _identified(gallery: Gallery, picture: Picture, top: int) -> _Identified:
    if picture.error is not None or not picture.faces:
        return _Identified(picture)
    embeddings = [face.embedding for face in picture.faces if face.embedding is not None]
    found = gallery.search_many(embeddings, top, per_subject=True)
    return _Identified(picture, tuple(map(_Named, picture.faces, found)))


def _matches(named: _Named, threshold: float) -> bool:
    return bool(named.candidates) and named.candidates[0].score >= threshold


def _chance(candidate: Candidate, card: Card, subjects: int) -> float:
    from mien.gallery.calibration import identification_probability
    from mien.matching import probability

    return identification_probability(probability(card, candidate.score), subjects)


def _candidate_as_json(candidate: Candidate, card: Card, subjects: int) -> dict[str, Any]:
    return {
        "subject": candidate.subject,
        "subject_id": candidate.subject_id,
        "sample_id": candidate.sample_id,
        "score": round(candidate.score, 6),
        "probability": _chance(candidate, card, subjects),
    }


def _as_json(found: _Identified, card: Card, threshold: float, subjects: int) -> dict[str, Any]:
    name = path_as_json(found.picture.path or "")
    if found.picture.error is not None:
        _say_error(found.picture)
        return {**name, "error": found.picture.error}
    faces = [
        face_as_json(named.face)
        | {
            "subject": named.candidates[0].subject if _matches(named, threshold) else None,
            "candidates": [
                _candidate_as_json(candidate, card, subjects) | {"match": candidate.score >= threshold}
                for candidate in named.candidates
            ],
        }
        for named in found.faces
    ]
    return {**name, "width": found.picture.width, "height": found.picture.height, "faces": faces}


def _echo_words(found: _Identified, card: Card, threshold: float, subjects: int, top: int) -> None:
    """Print a picture for people: a line, and one a face below it."""
    from mien.images import printable

    if found.picture.error is not None:
        _say_error(found.picture)
        return
    click.echo(f"{printable(found.picture.path or '')}  {counted(len(found.faces), 'face')}")
    for number, named in enumerate(found.faces, start=1):
        box = named.face.box
        where = f"{number:5}  {f'{box.width:.0f} x {box.height:.0f} px at {box.left:.0f},{box.top:.0f}':<26}"
        if not _matches(named, threshold):
            best = f"  best score {named.candidates[0].score:.3f}" if named.candidates else ""
            click.echo(f"{where}  unknown{best}")
        for candidate in named.candidates:
            match = candidate.score >= threshold
            if not match and top == 1:
                continue
            chance = _chance(candidate, card, subjects)
            # Halves of a per mille would round to certainty, which no comparison gives.
            told = "" if math.isnan(chance) else f"  probability {min(max(chance, 0.0001), 0.9999):.2%}"
            sign = "" if match else "no match: "
            click.echo(
                f"{where if match else ' ' * len(where)}  {sign}{candidate.subject}  score {candidate.score:.3f}{told}"
            )
            where = " " * len(where)


def _say_error(picture: Picture) -> None:
    click.echo(f"mien: {picture.error}", err=True)
