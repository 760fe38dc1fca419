"""`mien anonymize`: photographs without the faces of the people in them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from mien.cli.common import (
    find_pictures,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    open_gallery,
    places,
)
from mien.errors import UsageError
from mien.files import printable

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
@click.option("--model", metavar="MODEL", help="Generator with an encoder.  [default: face-gan-64]")
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
    from mien.anonymizer import GENERATOR, Anonymizer
    from mien.cli.work import anonymize as work
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
            Generator(model or GENERATOR) if mode == "generate" else None,
            mode=mode,
            fmr=fmr,
            verify=verify,
            gallery=opened,
            secret=secret,
        )
        people = None if secret is None or mode != "generate" else work.find_people(paths, analyzer, worker, secret)
        return work.each(paths, wanted, worker, people, keep_faceless=keep_faceless, as_json=as_json)
    finally:
        if opened is not None:
            opened.close()


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
