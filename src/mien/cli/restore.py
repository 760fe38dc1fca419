"""`mien restore` and `mien enhance`: the faces of photographs restored, and whole photographs made better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from mien import zoo
from mien.cli.common import counted, echo_json, find_pictures, make_analyzer, make_folder, progress
from mien.errors import ImageError, MienError, UsageError
from mien.files import printable
from mien.reporting.schemas import RESTORATION

if TYPE_CHECKING:
    import numpy as np

    from mien.analyzer import Analyzer
    from mien.vision.restorer import RestoredPicture, Restorer

__all__ = ["enhance", "restore"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_SHEET = 48  # faces of a sheet at most

Command = TypeVar("Command", bound=Callable[..., object])


def default_model() -> str | None:
    """Return the restorer of the catalogue; None where it has none."""
    return zoo.defaults().get("restorer")


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
            "--model", metavar="MODEL", help="A restorer: name, run folder or ONNX file; a generator for --by vae."
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
    "--by", "method", metavar="METHOD",
    help="network, unsharp, clahe, denoise, telea, vae.  [default: network, if there is one]",
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
    method: str | None,
    mask: str,
) -> int:
    """Restore the faces of PICTURES: small, blurred, noisy or covered ones; the rest of each picture stays as it is.

    What is added is a guess from other faces: look at it, and don't take it for evidence of who it is. Faces that are
    clean already are left alone, and that is said.
    """
    from mien.vision.restorer import COVERS

    restorer = open_restorer(model, method, weight, gate)
    covered = None if mask in COVERS else _read_mask(mask)
    cover = mask if covered is None else "none"
    if cover in ("mouth", "eyes") or covered is not None:
        if restorer.method not in ("network", "telea", "vae"):
            raise UsageError(f"'{restorer.method}' fills nothing in. Take --by telea, vae or network with --mask.")
    elif restorer.method in ("telea", "vae"):
        raise UsageError(f"'{restorer.method}' is to be told what is covered: --mask mouth, eyes, or a picture.")

    def work(image: np.ndarray, analyzer: Analyzer) -> RestoredPicture:
        faces = [face.landmarks for face in analyzer.analyze(image, embed=False)]
        return restorer.restore_picture(image, faces, covered=covered, cover=cover)

    return _each(pictures, out, sheet, as_json, work)


@click.command()
@restoring_options
@click.option(
    "--scale", type=click.IntRange(1, 4), default=1, show_default=True, help="Make the picture so many times larger."
)
@click.option("--light", is_flag=True, help="Even out the light (CLAHE).")
@click.option("--denoise", is_flag=True, help="Take noise out of the whole picture (non-local means): slow.")
@click.option("--sharpen", is_flag=True, help="Sharpen the whole picture (unsharp mask).")
@click.option("--faces/--no-faces", default=True, help="Restore the faces with the network, if there is one.")
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
    from mien.vision import classical
    from mien.vision.restorer import RestoredPicture

    named = model or default_model()
    restorer = open_restorer(named, "network", weight, gate) if faces and named else None
    if restorer is None and not (light or denoise or sharpen) and scale == 1:
        raise UsageError("There is nothing to do: no restorer is there for faces. Add --scale, --light, --denoise or "
                         "--sharpen, or name one with --model.")  # fmt: skip

    def work(image: np.ndarray, analyzer: Analyzer) -> RestoredPicture:
        marks = [face.landmarks for face in analyzer.analyze(image, embed=False)] if restorer is not None else []
        if denoise:
            image = classical.denoise(image)
        if scale > 1:
            image = classical.enlarge(image, scale)
            # Pixel centres lie at halves.
            marks = [(points + 0.5) * scale - 0.5 for points in marks]
        done = RestoredPicture(image, ()) if restorer is None else restorer.restore_picture(image, marks)
        image = classical.even_light(done.image) if light else done.image
        return RestoredPicture(classical.sharpen(image) if sharpen else image, done.faces)

    return _each(pictures, out, sheet, as_json, work)


def open_restorer(model: str | None, method: str | None, weight: float | None, gate: str) -> Restorer:
    """Return the restorer that the options ask for.

    Raises:
        MienError: There is none, or an option is out of range.
    """
    from mien.vision.restorer import METHODS, Restorer

    named = model or default_model()
    if named is None and method in (None, "network"):
        # None of the classical methods does no harm: see docs/restoration.md.
        raise UsageError(
            "No restorer is shipped, so say what is wrong with the faces: --by denoise for noise, unsharp for blur, "
            "telea or vae with --mask for what is covered; or name a run with --model."
        )
    chosen = method or "network"
    if chosen not in METHODS:
        raise UsageError(f"--by is one of {', '.join(METHODS)}; got '{chosen}'.")
    levels = None if gate == "auto" else 0.0 if gate == "off" else _number(gate)
    return Restorer(
        named if chosen == "network" else model if chosen == "vae" else None, method=chosen, weight=weight, gate=levels
    )


def _number(gate: str) -> float:
    try:
        return float(gate)
    except ValueError:
        raise UsageError(f"--gate is auto, off, or grey levels such as 2.5; got '{gate}'.") from None


def _read_mask(mask: str) -> np.ndarray:
    from mien.vision.restorer import COVERS

    if not Path(mask).is_file():
        raise UsageError(f"--mask is a picture, or one of {', '.join(COVERS)}; there is no file '{printable(mask)}'.")
    from mien.images import load_image

    covered: np.ndarray = load_image(mask).mean(axis=2) > 127
    return covered


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


def _each(
    pictures: tuple[str, ...],
    out: Path,
    sheet: Path | None,
    as_json: bool,
    work: Callable[[np.ndarray, Analyzer], RestoredPicture],
) -> int:
    """Do the work on each picture; a bad one is reported, and the rest is done."""
    paths = find_pictures(pictures, results=[out, sheet])
    wanted = places(paths, out, pictures)
    analyzer = make_analyzer()
    from mien.images import load_image, save_image

    shown: list[np.ndarray] = []
    tally = _Tally()
    with progress(len(paths), printing=True) as advance:
        for path, place in zip(paths, wanted, strict=True):
            try:
                done = work(load_image(path), analyzer)
                save_image(place, done.image, quality=95)
            except (ImageError, UsageError) as error:
                if len(paths) == 1:
                    raise
                click.echo(f"mien: {_named(path, error)}", err=True)
                tally.failed += 1
            else:
                tally.add(done)
                for face in done.faces[: max(_SHEET - len(shown) // 2, 0)]:
                    shown += [face.before, face.after]
                if as_json:
                    faces = [face.as_facts() for face in done.faces]
                    echo_json({"schema": RESTORATION, "path": str(path), "out": str(place), "faces": faces})
                else:
                    click.echo(f"{printable(place)}  {in_words(done)}")
            advance()
    if sheet is not None:
        _write_sheet(sheet, shown)
    click.echo(tally.line(), err=True)
    return 1 if tally.failed else 0


def _named(path: Path, error: MienError) -> str:
    text = str(error)
    return text if printable(path) in text else f"'{printable(path)}': {text}"


@dataclass(slots=True)
class _Tally:
    """Counts for the last line."""

    pictures: int = 0
    restored: int = 0
    left_alone: int = 0
    failed: int = 0

    def add(self, done: RestoredPicture) -> None:
        self.pictures += 1
        self.left_alone += sum(face.left_alone for face in done.faces)
        self.restored += sum(not face.left_alone for face in done.faces)

    def line(self) -> str:
        parts = [f"{counted(self.restored, 'face')} restored"]
        parts += [f"{self.left_alone} clean already and left alone"] if self.left_alone else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return f"{counted(self.pictures, 'picture')}: {', '.join(parts)}"


def in_words(done: RestoredPicture) -> str:
    """Say what became of a picture's faces."""
    if not done.faces:
        return f"{done.image.shape[1]} x {done.image.shape[0]} px, no face was restored"
    alone = sum(face.left_alone for face in done.faces)
    restored = len(done.faces) - alone
    parts = [f"{counted(restored, 'face')} restored"] if restored else []
    parts += [f"{counted(alone, 'face')} clean already, left alone"] if alone else []
    covered = max(face.covered for face in done.faces)
    parts += [f"up to {covered:.0%} of a face filled in"] if covered else []
    return ", ".join(parts)


def _write_sheet(sheet: Path, shown: list[np.ndarray]) -> None:
    from mien.images import save_image
    from mien.reporting.pictures import contact_sheet

    if not shown:
        click.echo("mien: no face was found, so there is no sheet.", err=True)
        return
    columns = min(8, len(shown) // 2)
    faces = []
    for start in range(0, len(shown), 2 * columns):
        row = shown[start : start + 2 * columns]
        for part in (row[::2], row[1::2]):
            faces += [*part, *[shown[0] * 0 + 246] * (columns - len(part))]
    save_image(sheet, contact_sheet(faces, columns=columns, side=128, title="Before, and below after"))
