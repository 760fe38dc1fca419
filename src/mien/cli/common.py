"""What the commands share: options, a progress bar, JSON, and the choice of an operating point."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import click

import mien
from mien.errors import UsageError
from mien.files import printable, search_images
from mien.gallery.deciding import DEFAULT_FMR, decide
from mien.gallery.postgres.address import is_address
from mien.reporting.schemas import face_as_json, path_as_json, plain, shown_path

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.types import OperatingPoint, Picture
    from mien.zoo import Card

__all__ = [
    "DEFAULT_FMR",
    "analyzer_options",
    "counted",
    "decision_options",
    "decision_point",
    "echo_json",
    "expression_model",
    "face_as_json",
    "face_option",
    "find_pictures",
    "gallery_options",
    "is_terminal",
    "machine_readable",
    "make_analyzer",
    "make_folder",
    "needs_torch",
    "open_gallery",
    "open_to_search",
    "path_as_json",
    "places",
    "plain",
    "progress",
    "say_notes",
    "shares_option",
]

BAR_AFTER_S = 1.0
_TURN = "mien.turn"

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of the pictures that are written."""
Command = TypeVar("Command", bound=Callable[..., object])


def face_option(*further: str) -> Callable[[Command], Command]:
    """Add --face as ``which``: main, largest, only, ``further`` ones, or a number."""

    def check(_: click.Context, __: click.Parameter, value: str) -> str:
        known = ("main", "largest", "only", *further)
        if value not in known and not (value.isdecimal() and int(value)):
            raise click.BadParameter(f"expected {', '.join(known)} or a number from 1, got '{value}'.")
        return value

    words = "Of a picture with several faces: large and central (main), the largest, refuse the picture (only), "
    words += "the best pair, " * ("best" in further) + "or a number, largest first."
    return click.option(
        "--face", "which", default="main", show_default=True, metavar="WHICH", callback=check, help=words
    )


def analyzer_options(command: Command) -> Command:
    """Add --detector, --embedder, --min-face and --turn; pass them on to `make_analyzer`."""

    def keep_turn(context: click.Context, _: click.Parameter, value: str) -> None:
        # Read by `make_analyzer`: no command has anything to do with it.
        context.meta[_TURN] = None if value == "auto" else int(value)

    for option in (
        click.option(
            "--turn",
            type=click.Choice(["auto", "0", "90", "180", "270"]),
            default="auto",
            show_default=True,
            expose_value=False,
            callback=keep_turn,
            help="Turn pictures clockwise by so many degrees; auto: where no face is upright, find out.",
        ),
        click.option("--min-face", type=float, metavar="PX", help="Least face side to find; smaller takes longer."),
        click.option("--embedder", metavar="NAME", help="Embedder; default: the catalogue's, see `mien models list`."),
        click.option(
            "--detector",
            default="auto",
            show_default=True,
            metavar="NAME",
            help="auto, fast, accurate, whole (tight crops), a model.",
        ),
    ):
        command = option(command)
    return command


def make_analyzer(
    detector: str = "auto",
    embedder: str | None = None,
    min_face: float | None = None,
    *,
    threshold: float | None = None,
    expression: str | None = None,
    shares: str | None = None,
    attributes: bool = False,
    restorer: str | None = None,
) -> Analyzer:
    """Return the analyzer that the options ask for; ``threshold`` is the detector's. None reads no expressions."""
    from mien.vision.shares import read_shares

    context = click.get_current_context(silent=True)
    turn = context.meta.get(_TURN) if context is not None else None
    return mien.Analyzer(
        detector=detector,
        embedder=embedder,
        expression=expression,
        min_face=min_face,
        threshold=threshold,
        turn=turn,
        shares=None if shares is None else read_shares(shares),
        attributes=attributes,
        restorer=restorer,
    )


def shares_option(command: Command) -> Command:
    """Add --shares as ``shares``; pass it on to `make_analyzer`, or to `mien.vision.shares.read_shares`."""
    return click.option(
        "--shares",
        metavar="SHARES",
        help="How common expressions are: learned (as in training), equal, or a file.  [default: the model's]",
    )(command)


def find_pictures(pictures: Sequence[str | Path], *, results: Sequence[Path | None] = ()) -> tuple[Path, ...]:
    """Return the pictures that arguments lead to, and say on stderr what was left out; see `search_images`."""
    found = search_images(pictures, results=results)
    for line in found.left_out():
        click.echo(f"mien: {line}", err=True)
    return found.paths


def say_notes(picture: Picture) -> None:
    """Say on stderr what was odd about a picture that was read all the same."""
    for note in picture.notes:
        click.echo(f"mien: '{printable(picture.path or '-')}': {note}.", err=True)


def expression_model(option: str | None) -> str | None:
    """Return what an analyzer is told for ``--expression``: ours unless another one, or none, is asked for."""
    return None if option == "none" else option or "default"


def gallery_options(*, required: bool = True) -> Callable[[Command], Command]:
    """Add --gallery and --key, as ``gallery`` and ``key``; pass them on to `open_gallery`."""

    def add(command: Command) -> Command:
        key = click.option(
            "--key",
            type=click.Path(path_type=Path),
            metavar="FILE",
            envvar="MIEN_GALLERY_KEY",
            help="Its key, if it is encrypted; same as MIEN_GALLERY_KEY.",
        )
        gallery = click.option(
            "--gallery",
            required=required,
            metavar="FILE|URL",
            # Where a gallery is optional, only the command line may bring it in.
            envvar="MIEN_GALLERY" if required else None,
            help="A file, or postgresql://...; same as MIEN_GALLERY." if required else "A file, or postgresql://...",
        )
        return gallery(key(command))

    return add


def open_gallery(gallery: str, key: Path | None = None, *, create: bool = False, read_only: bool = False) -> Gallery:
    """Open the gallery that the options name; as a rule one that is there already."""
    return mien.Gallery(gallery, key_file=key, create=create, read_only=read_only)


def open_to_search(gallery: str, key: Path | None = None) -> Gallery:
    """Open a gallery that is only read: for reading alone where its file may not be written."""
    return open_gallery(gallery, key, read_only=not is_address(gallery) and not os.access(gallery, os.W_OK))


def fit_analyzer(analyzer: Analyzer, gallery: Gallery) -> Analyzer:
    """Return the analyzer with the gallery's cohort.

    Raises:
        GalleryError: The gallery's templates are another embedder's.
    """
    fitting = analyzer.for_gallery(gallery)
    gallery.expect_model(fitting.card.id)
    return fitting


def decision_options(command: Command) -> Command:
    """Add --fmr and --threshold, both None unless given; pass them on to `decision_point`."""
    for option in (
        click.option("--threshold", type=float, help="Decide at this cosine similarity instead of a rate."),
        click.option(
            "--fmr", type=float, metavar="RATE", help=f"Largest false match rate allowed.  [default: {DEFAULT_FMR:g}]"
        ),
    ):
        command = option(command)
    return command


def decision_point(
    card: Card, *, fmr: float | None, threshold: float | None, gallery: Gallery | None = None
) -> OperatingPoint:
    """Return the operating point that the options ask for: a gallery's own where it was calibrated, else the model's.

    Raises:
        UsageError: Both a rate and a threshold were given, or one is out of range.
        ModelError: The model was not measured at so small a rate.
    """
    decision = decide(card, fmr=fmr, threshold=threshold, gallery=gallery)
    for note in decision.notes:
        click.echo(f"mien: {note}", err=True)
    return decision.point


@contextmanager
def progress(total: int | None, label: str = "pictures", *, printing: bool = False) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr once the work takes more than a second; nothing where stderr is no terminal.

    Args:
        total: Steps to be done; None where that is not known.
        label: What is counted.
        printing: Results are printed as they come: on a terminal they are the progress, and a bar would mix with them.

    Yields:
        What to call after each step.
    """
    if not is_terminal(sys.stderr) or (printing and is_terminal(sys.stdout)):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Data on stdout must not pass through the bar's console, which writes to stderr.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = bar.add_task("", total=total)
    start = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        if not bar.live.is_started and time.monotonic() - start > BAR_AFTER_S:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


def echo_json(value: object, *, indent: int | None = None, nl: bool = True) -> None:
    """Print a value as JSON on stdout; see `plain`."""
    click.echo(json.dumps(plain(value), indent=indent, allow_nan=False), nl=nl)


def machine_readable() -> None:
    """Write UTF-8 on stdout where a program or file takes it: other programs' code pages lack most names."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not is_terminal(sys.stdout):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 face`, `2 faces`; `1 person`, `2 people` where the plural is given."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def make_folder(folder: Path) -> Path:
    """Make a folder for results, with those above it.

    Raises:
        UsageError: It cannot be made or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        name = shown_path(folder)
        raise UsageError(f"Cannot make the folder '{name}': {error.strerror}. Name another one.") from error
    if not os.access(folder, os.W_OK):
        raise UsageError(f"Cannot write into the folder '{shown_path(folder)}'. Name another one.")
    return folder


def places(paths: tuple[Path, ...], out: Path, asked: tuple[str, ...]) -> list[Path]:
    """Return where the result for each picture goes.

    Raises:
        UsageError: Several pictures would go into one file, or onto themselves.
    """
    one_file = out.suffix.lower() in PICTURES
    if one_file:
        if len(paths) != 1 or (len(asked) == 1 and Path(asked[0]).is_dir()):
            raise UsageError(f"{counted(len(paths), 'picture')} do not go into one file. Name a folder with --out.")
        wanted = [out]
    else:
        make_folder(out)
        wanted, taken = [], set[str]()
        for path in paths:
            # PNG keeps what was done to the last px; a JPEG stays one, at high quality.
            suffix = path.suffix.lower() if path.suffix.lower() in PICTURES else ".png"
            name, number = f"{path.stem}{suffix}", 1
            while name.casefold() in taken:
                number += 1
                name = f"{path.stem}-{number}{suffix}"
            taken.add(name.casefold())
            wanted.append(out / name)
    for path, place in zip(paths, wanted, strict=True):
        if place.exists() and place.resolve() == path.resolve():
            raise UsageError(f"'{printable(path)}' would be written over itself. Name another --out.")
    return wanted


@contextmanager
def needs_torch() -> Iterator[None]:
    """Import what trains within this: where PyTorch is not installed, that is one line with the cure.

    Raises:
        UsageError: PyTorch, or what is installed with it, is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "safetensors", "tensorboard"):
            raise
        raise UsageError("Training needs PyTorch. Install it with: pip install 'mien[train]'") from None


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person reads this stream."""
    return stream.isatty()
