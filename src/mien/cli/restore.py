"""`mien restore` and `mien enhance`: the faces of photographs restored, and whole photographs made better."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from mien.errors import UsageError

__all__ = ["enhance", "restore"]

Command = TypeVar("Command", bound=Callable[..., object])


def restoring_options(command: Command) -> Command:
    """Add what `restore` and `enhance` share."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON, a line a picture."),
        click.option(
            "--sheet", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
            help="Write the faces here, before above after.",
        ),
        click.option(
            "--gate", metavar="LEVELS", default="auto", show_default=True,
            help="Leave faces alone that would change by less, grey levels; off restores all; auto: the model's own.",
        ),
        click.option(
            "--weight", type=float, metavar="W",
            help="From what was seen (0) to what the method makes of it (1).  [default: the model's]",
        ),
        click.option(
            "--model", metavar="MODEL",
            help="A restorer: name, run folder or ONNX file; a generator for --by vae.  [default: the shipped one]",
        ),
        click.option(
            "-o", "--out", type=click.Path(path_type=Path), required=True,
            help="A picture for one picture, otherwise a folder.",
        ),
        click.argument("pictures", nargs=-1, required=True),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@restoring_options
@click.option(
    "--by", "method", metavar="METHOD", default="network", show_default=True,
    help="network, unsharp, clahe, denoise, telea, vae.",
)  # fmt: skip
@click.option(
    "--mask", metavar="WHERE", default="found", show_default=True,
    help="Where something stands before the face: a black and white picture, mouth, eyes, found, none.",
)  # fmt: skip
def restore(
    pictures: tuple[str, ...],
    out: Path,
    model: str | None,
    weight: float | None,
    gate: str,
    sheet: Path | None,
    as_json: bool,
    method: str,
    mask: str,
) -> int:
    """Restore the faces of PICTURES: small, blurred, noisy or covered ones; the rest of each picture stays as it is.

    What is added is a guess from other faces: look at it, and don't take it for evidence of who it is. Faces that
    would hardly change are left alone, and that is said (--gate).
    """
    from mien.cli.work import restore as work

    restorer = work.open_restorer(model, method, weight, gate)
    covered, cover = work.read_cover(mask)
    if cover in ("mouth", "eyes") or covered is not None:
        if restorer.method not in ("network", "telea", "vae"):
            raise UsageError(f"'{restorer.method}' fills nothing in. Take --by telea, vae or network with --mask.")
    elif restorer.method in ("telea", "vae"):
        raise UsageError(f"'{restorer.method}' is to be told what is covered: --mask mouth, eyes, or a picture.")
    return work.each(pictures, out, sheet, as_json, partial(work.restored, restorer, covered, cover))


@click.command()
@restoring_options
@click.option(
    "--scale", type=click.IntRange(1, 4), default=1, show_default=True, help="Make the picture so many times larger."
)
@click.option("--light", is_flag=True, help="Even out the light (CLAHE).")
@click.option("--denoise", is_flag=True, help="Take noise out of the whole picture (non-local means): slow.")
@click.option("--sharpen", is_flag=True, help="Sharpen the whole picture (unsharp mask).")
@click.option("--faces/--no-faces", default=True, help="Restore the faces with the network.")
def enhance(
    pictures: tuple[str, ...],
    out: Path,
    model: str | None,
    weight: float | None,
    gate: str,
    sheet: Path | None,
    as_json: bool,
    scale: int,
    light: bool,
    denoise: bool,
    sharpen: bool,
    faces: bool,
) -> int:
    """Make PICTURES better to look at: larger, evenly lit, less noisy, sharper; their faces restored.

    Without options only faces are restored.
    """
    from mien.cli.work import restore as work

    restorer = work.open_restorer(model, "network", weight, gate) if faces else None
    if restorer is None and not (light or denoise or sharpen) and scale == 1:
        raise UsageError("There is nothing to do. Add --scale, --light, --denoise or --sharpen, or leave --no-faces "
                         "out.")  # fmt: skip
    enhanced = partial(work.enhanced, restorer, scale=scale, light=light, denoise=denoise, sharpen=sharpen)
    return work.each(pictures, out, sheet, as_json, enhanced)
