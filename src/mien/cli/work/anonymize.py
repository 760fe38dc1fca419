"""The work of `mien anonymize`: photographs without the faces of the people in them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.anonymizer import AnonymousPicture, People
from mien.cli.common import counted, echo_json, progress
from mien.errors import ImageError
from mien.files import printable
from mien.images import load_image, save_image
from mien.reporting.schemas import ANONYMIZATION

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.anonymizer import Anonymizer


def find_people(paths: tuple[Path, ...], analyzer: Analyzer, worker: Anonymizer, secret: bytes) -> People:
    """Look through all pictures once and group their faces by person."""
    with progress(len(paths), label="looking who is who") as advance:
        seen = []
        for path in paths:
            with suppress(ImageError):  # said when its turn comes
                seen.append((str(path), analyzer.analyze(load_image(path))))
            advance()
    return People.of(seen, worker.threshold, secret)


@dataclass(slots=True)
class _Tally:
    """Counts for the last line."""

    pictures: int = 0
    faces: int = 0
    mosaics: int = 0
    matching: int = 0
    read: int = 0
    kept: int = 0
    faceless: int = 0
    failed: int = 0

    def add(self, done: AnonymousPicture, threshold: float) -> None:
        self.pictures += 1
        for face in done.faces:
            self.faces += 1
            self.mosaics += face.fell_back
            self.matching += face.matches(threshold)
            self.read += face.mode == "generate" and face.expression_after is not None
            self.kept += face.mode == "generate" and face.keeps_expression

    def line(self, *, verified: bool, fmr_line: str) -> str:
        parts = [f"{counted(self.faces, 'face')} replaced"]
        parts += [f"{self.mosaics} by a mosaic"] if self.mosaics else []
        if verified:
            parts.append(f"{self.matching} still matching at {fmr_line}")
            parts += [f"expression kept in {self.kept} of {self.read}"] if self.read else []
        parts += [f"{self.faceless} without a face"] if self.faceless else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return f"{counted(self.pictures, 'picture')}: {', '.join(parts)}"


def each(
    paths: tuple[Path, ...],
    wanted: list[Path],
    worker: Anonymizer,
    people: People | None,
    *,
    keep_faceless: bool,
    as_json: bool,
) -> int:
    """Do the work on each picture; a bad one is reported, and the rest is done."""
    tally = _Tally()
    with progress(len(paths), printing=True) as advance:
        for path, place in zip(paths, wanted, strict=True):
            try:
                done = worker.anonymize(load_image(path), name=str(path), people=people)
                if done.faces or keep_faceless:
                    save_image(place, done.image, quality=95)
            except ImageError as error:
                if len(paths) == 1:
                    raise
                click.echo(f"mien: {error}", err=True)
                tally.failed += 1
                advance()
                continue
            if not done.faces:
                tally.faceless += 1
                kept = "written as it is" if keep_faceless else "not written; --keep-faceless writes it as it is"
                click.echo(f"mien: '{printable(path)}': no face was found, {kept}.", err=True)
            else:
                tally.add(done, worker.threshold)
                _say(place, done, worker.threshold, as_json=as_json, source=path)
            advance()
    fmr_line = f"similarity {worker.threshold:.3f}"
    click.echo(tally.line(verified=worker.verify, fmr_line=fmr_line), err=True)
    return 1 if tally.failed or tally.matching else 0


def _say(place: Path, done: AnonymousPicture, threshold: float, *, as_json: bool, source: Path) -> None:
    if as_json:
        faces = [face.as_facts() for face in done.faces]
        echo_json(
            {"schema": ANONYMIZATION, "path": str(source), "out": str(place), "threshold": threshold, "faces": faces}
        )
        return
    parts = [f"{counted(len(done.faces), 'face')} replaced"]
    if mosaics := sum(face.fell_back for face in done.faces):
        parts.append(f"{mosaics} by a mosaic: no generated face was safe there, or it was too small")
    similar = [face.similarity for face in done.faces if face.similarity is not None]
    if similar:
        parts.append(f"similarity to anybody who was there at most {max(similar):.2f} (a match from {threshold:.2f})")
    nearest = [face.nearest for face in done.faces if face.nearest is not None]
    if nearest:
        parts.append(f"to the gallery at most {max(nearest):.2f}")
    click.echo(f"{printable(place)}  {', '.join(parts)}")
