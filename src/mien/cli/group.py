"""`mien group`: sort photographs by person; a report, contact sheets and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mien
from mien import reporting
from mien.cli.common import (
    analyzer_options,
    counted,
    decision_point,
    echo_json,
    expression_model,
    find_pictures,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    make_folder,
    open_gallery,
    plain,
    progress,
    say_notes,
)
from mien.reporting import schemas

if TYPE_CHECKING:
    import numpy as np

    from mien.gallery import Gallery
    from mien.grouping import Grouping
    from mien.reporting.groups import Album, Name
    from mien.types import OperatingPoint, Picture

GROUP_FMR = 1e-4
"""Stricter than for one comparison: among n faces there are n * n / 2. Chosen by benchmarks/grouping.py."""
_THUMB_SIDE = 112


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR", help="Where to.")
@click.option(
    "--fmr", type=float, metavar="RATE", help=f"Largest false match rate of a pair.  [default: {GROUP_FMR:g}]"
)
@click.option("--threshold", type=float, help="Group at this mean cosine similarity instead of a rate.")
@click.option(
    "--min-quality", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Leave poorer faces out."
)
@click.option("--json", "as_json", is_flag=True, help="Print groups.json on stdout as well.")
@click.option(
    "--expression", metavar="MODEL", help="Expression model, run folder or ONNX file; none for none.  [default: ours]"
)
@gallery_options(required=False)
@analyzer_options
def group(
    pictures: tuple[str, ...],
    out: Path,
    fmr: float | None,
    threshold: float | None,
    min_quality: float,
    as_json: bool,
    expression: str | None,
    gallery: str | None,
    key: Path | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Sort the faces of PICTURES by person: who, how often, with whom.

    Writes report.html, groups.json and a contact sheet of each person who is seen more than once into DIR. With
    --gallery, people that it knows are named. The exit status is 1 if a picture could not be read.
    """
    from mien.grouping import group_faces

    analyzer = make_analyzer(detector, embedder, min_face, expression=expression_model(expression))
    known = open_gallery(gallery, key, read_only=True) if gallery else None
    if known is not None:
        analyzer = fit_analyzer(analyzer, known)
    point = decision_point(
        analyzer.card,
        fmr=GROUP_FMR if fmr is None and threshold is None else fmr,
        threshold=threshold,
        # The card of a gallery's own cohort has no thresholds: only the gallery's can decide.
        gallery=known if known is not None and known.cohort is not None else None,
    )
    paths = find_pictures(pictures, results=[out])
    make_folder(out)
    album, vectors = _read(analyzer.pictures(paths, crops=True, digests=True), total=len(paths))
    where = [face.picture for face in album.faces]
    quality = [face.quality for face in album.faces]
    grouping = group_faces(vectors, where, threshold=point.threshold, quality=quality, min_quality=min_quality)
    names = {}
    if known is not None:
        with known:
            names = _names(grouping, known, analyzer.card.id, point)
    result = schemas.groups(grouping, album, names, embedder=analyzer.card.id, point=point)
    _write(out, grouping, album, names, result, point)
    if as_json:
        echo_json(result)
    several = sum(len(person.faces) > 1 for person in grouping.people)
    line = counted(len(album.pictures) - album.num_copies, "picture")
    line += f" ({counted(album.num_copies, 'copy', 'copies')} left out)" if album.num_copies else ""
    line += f": {counted(len(album.faces), 'face')}, {counted(several, 'person', 'people')} seen more than once"
    line += f", {len(grouping.people) - several} seen once"
    line += f", {len(grouping.unassigned)} too poor to tell" if grouping.unassigned else ""
    line += f", {len(album.failures)} failed" if album.failures else ""
    click.echo(f"{line}\n{out / 'report.html'}", err=True)
    return 1 if album.failures else 0


def _read(results: Iterable[Picture], *, total: int) -> tuple[Album, np.ndarray]:
    """Keep of each picture what the report needs: vectors and small JPEGs."""
    import numpy as np

    from mien.images import encode_image

    album = reporting.Album()
    vectors: list[np.ndarray] = []
    with progress(total) as advance:
        for picture in results:
            if picture.error is not None:
                click.echo(f"mien: {picture.error}", err=True)
            say_notes(picture)
            thumbs = []
            for face in picture.faces if album.original(picture) is None else ():
                assert face.crop is not None and face.embedding is not None, "both were asked for"
                thumbs.append(encode_image(reporting.thumbnail(face.crop, _THUMB_SIDE), quality=85))
                vectors.append(face.embedding.vector)
            album.add(picture, thumbs)
            advance()
    return album, np.stack(vectors) if vectors else np.empty((0, 1), np.float32)


def _names(grouping: Grouping, gallery: Gallery, model: str, point: OperatingPoint) -> dict[int, Name]:
    """Look everybody up. A person whose looks form several groups is named in each of them.

    One group bears one name: of several that it is similar to, the most similar.
    """
    names = {}
    for person in grouping.people:
        candidates = gallery.identify(mien.Embedding(model, person.centre), point.threshold)
        if candidates:
            best = max(candidates, key=lambda candidate: candidate.score)
            names[person.id] = reporting.Name(best.subject, best.score)
    return names


def _write(
    out: Path,
    grouping: Grouping,
    album: Album,
    names: dict[int, Name],
    result: dict[str, object],
    point: OperatingPoint,
) -> None:
    from mien.images import save_image

    if (out / "groups.json").exists():
        # Sheets of an earlier run would pass for people of this one.
        for stale in out.glob("person-[0-9][0-9][0-9][0-9]*.png"):
            stale.unlink()
    several = [person for person in grouping.people if len(person.faces) > 1]
    with progress(len(several), "sheets") as advance:
        for person in several:
            name = names[person.id].subject if person.id in names else None
            save_image(out / f"person-{person.id:04}.png", reporting.person_sheet(person, album, name=name))
            advance()
    reporting.write_text(out / "groups.json", json.dumps(plain(result), allow_nan=False) + "\n")
    reporting.write_text(
        out / "report.html", reporting.group_page(grouping, album, title=_title(album), basis=basis(point), names=names)
    )


def _title(album: Album) -> str:
    return f"Who is in {counted(album.num_read, 'picture')}"


def basis(point: OperatingPoint) -> str:
    """Say in a sentence how it was decided."""
    where = f"Faces are one person where their mean cosine similarity is at least {point.threshold:.3f}"
    if math.isnan(point.fnmr):
        return f"{where}, as asked for."
    return f"{where}: a false match rate of {point.fmr:.1g} for two faces (measured on {point.dataset})."
