"""The work of `mien restore` and `mien enhance`: the faces of photographs restored, whole photographs made better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.cli.common import counted, echo_json, find_pictures, make_analyzer, places, progress
from mien.errors import ImageError, MienError, UsageError
from mien.files import printable
from mien.images import load_image, save_image
from mien.reporting.pictures import contact_sheet
from mien.reporting.schemas import RESTORATION
from mien.vision import classical
from mien.vision.restorer import COVERS, METHODS, RestoredPicture, Restorer

if TYPE_CHECKING:
    import numpy as np

    from mien.analyzer import Analyzer

_SHEET = 48  # faces of a sheet at most


def restored(
    restorer: Restorer, covered: np.ndarray | None, cover: str, image: np.ndarray, analyzer: Analyzer
) -> RestoredPicture:
    """Restore the faces of a picture."""
    faces = [face.landmarks for face in analyzer.analyze(image, embed=False)]
    return restorer.restore_picture(image, faces, covered=covered, cover=cover)


def enhanced(
    restorer: Restorer | None,
    image: np.ndarray,
    analyzer: Analyzer,
    *,
    scale: int,
    light: bool,
    denoise: bool,
    sharpen: bool,
) -> RestoredPicture:
    """Make a picture better to look at, and restore its faces where there is a restorer."""
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


def open_restorer(model: str | None, method: str, weight: float | None, gate: str) -> Restorer:
    """Return the restorer that the options ask for.

    Raises:
        MienError: There is none of this name, or an option is out of range.
    """
    if method not in METHODS:
        raise UsageError(f"--by is one of {', '.join(METHODS)}; got '{method}'.")
    levels = None if gate == "auto" else 0.0 if gate == "off" else _number(gate)
    return Restorer(model if method in ("network", "vae") else None, method=method, weight=weight, gate=levels)


def _number(gate: str) -> float:
    try:
        return float(gate)
    except ValueError:
        raise UsageError(f"--gate is auto, off, or grey levels such as 2.5; got '{gate}'.") from None


def read_cover(mask: str) -> tuple[np.ndarray | None, str]:
    """Return what --mask says is covered: pixels, or a place by its name beside none.

    Raises:
        UsageError: It is neither a place nor a file.
    """
    if mask in COVERS:
        return None, mask
    if not Path(mask).is_file():
        raise UsageError(f"--mask is a picture, or one of {', '.join(COVERS)}; there is no file '{printable(mask)}'.")
    covered: np.ndarray = load_image(mask).mean(axis=2) > 127
    return covered, "none"


def each(
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
        parts += [f"{self.left_alone} left alone"] if self.left_alone else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return f"{counted(self.pictures, 'picture')}: {', '.join(parts)}"


def in_words(done: RestoredPicture) -> str:
    """Say what became of a picture's faces."""
    if not done.faces:
        return f"{done.image.shape[1]} x {done.image.shape[0]} px, no face was restored"
    alone = sum(face.left_alone for face in done.faces)
    restored = len(done.faces) - alone
    parts = [f"{counted(restored, 'face')} restored"] if restored else []
    parts += [f"{counted(alone, 'face')} left alone, under the gate"] if alone else []
    covered = max(face.covered for face in done.faces)
    parts += [f"up to {covered:.0%} of a face filled in"] if covered else []
    return ", ".join(parts)


def _write_sheet(sheet: Path, shown: list[np.ndarray]) -> None:
    if not shown:
        click.echo("mien: no face was found, so there is no sheet.", err=True)
        return
    columns = min(8, len(shown) // 2)
    faces = []
    for start in range(0, len(shown), 2 * columns):
        row = shown[start : start + 2 * columns]
        for part in (row[::2], row[1::2]):
            faces += [*part, *[shown[0] * 0 + 246] * (columns - len(part))]
    title = "Before and after" if columns > 2 else ""  # narrow sheets have no room for it
    save_image(sheet, contact_sheet(faces, columns=columns, side=128, title=title))
