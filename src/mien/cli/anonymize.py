"""`mien anonymize`: photographs without the faces of the people in them."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien import zoo
from mien.cli.common import (
    counted,
    echo_json,
    find_pictures,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    open_gallery,
    places,
    progress,
)
from mien.errors import ImageError, UsageError
from mien.files import printable
from mien.reporting.schemas import ANONYMIZATION

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.anonymizer import Anonymizer, AnonymousPicture, People

__all__ = ["anonymize"]

_LEAST_KEY = 16  # bytes


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="A picture for one picture, otherwise a folder."
)
@click.option(
    "--mode",
    type=click.Choice(["generate", "blur", "mosaic"]),
    default="generate",
    show_default=True,
    help="A generated face of the same expression, the face blurred, or a mosaic of a few squares.",
)
@click.option("--model", metavar="MODEL", help="Generator with an encoder.  [default: the catalogue's]")
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Look at each result again: nobody may match at --fmr. Else try another face, and at last make a mosaic.",
)
@click.option("--fmr", type=float, default=1e-3, show_default=True, help="False match rate of that proof.")
@click.option(
    "--consistent",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEYFILE",
    help="One new face a person in all PICTURES, drawn from the secret in this file; made if missing.",
)
@click.option("--keep-faceless", is_flag=True, help="Also write pictures in which no face was found.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON, a line a picture.")
@gallery_options(required=False)
def anonymize(
    pictures: tuple[str, ...],
    out: Path,
    mode: str,
    model: str | None,
    verify: bool,
    fmr: float,
    consistent: Path | None,
    keep_faceless: bool,
    as_json: bool,
    gallery: str | None,
    key: Path | None,
) -> int:
    """Replace the faces of PICTURES, so that nobody is known by them; --gallery names people who must not match either.

    EXIF, with its places and times, is never copied. A face that was not found stays: look at the results. The exit
    status is 1 if a picture could not be read or a face still matches.
    """
    from mien.anonymizer import Anonymizer
    from mien.vision.generator import Generator

    paths = find_pictures(pictures, results=[out])
    wanted = places(paths, out, pictures)
    analyzer = make_analyzer(expression="default")
    opened = None if gallery is None else open_gallery(gallery, key, read_only=True)
    try:
        if opened is not None:
            analyzer = fit_analyzer(analyzer, opened)
        secret = None if consistent is None else _secret(consistent)
        worker = Anonymizer(
            analyzer,
            Generator(model or _generator()) if mode == "generate" else None,
            mode=mode,
            fmr=fmr,
            verify=verify,
            gallery=opened,
            secret=secret,
        )
        people = None if secret is None or mode != "generate" else _people(paths, analyzer, worker, secret)
        return _each(paths, wanted, worker, people, keep_faceless=keep_faceless, as_json=as_json)
    finally:
        if opened is not None:
            opened.close()


def _generator() -> str:
    return zoo.default("generator")


def _secret(file: Path) -> bytes:
    """Return the secret of a file; made, for the owner's eyes only, where there is none.

    Raises:
        UsageError: It is too short, or the file cannot be read or written.
    """
    try:
        if not file.exists():
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as made:
                made.write(secrets.token_bytes(32))
            click.echo(
                f"mien: '{printable(file)}' was made. Who has it and the pictures can draw the same faces.", err=True
            )
        secret = file.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot use the key '{printable(file)}': {error.strerror or error}.") from error
    if len(secret) < _LEAST_KEY:
        raise UsageError(
            f"The key '{printable(file)}' holds {len(secret)} bytes, expected {_LEAST_KEY} or more. Name a file that "
            f"does not exist yet, and one is made."
        )
    return secret


def _people(paths: tuple[Path, ...], analyzer: Analyzer, worker: Anonymizer, secret: bytes) -> People:
    """Look through all pictures once and group their faces by person."""
    from mien.anonymizer import People
    from mien.images import load_image

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


def _each(
    paths: tuple[Path, ...],
    wanted: list[Path],
    worker: Anonymizer,
    people: People | None,
    *,
    keep_faceless: bool,
    as_json: bool,
) -> int:
    """Do the work on each picture; a bad one is reported, and the rest is done."""
    from mien.images import load_image, save_image

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
