"""The work of `mien generate`, `encode`, `decode` and `edit`: faces from VAEs and GANs, and given ones changed."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

import click
import numpy as np

from mien import zoo
from mien.cli.common import counted, echo_json, make_folder, progress
from mien.errors import ImageError, UsageError
from mien.images import digest, encode_image, find_images, load_image, printable, save_image, write_whole
from mien.reporting import animation, contact_sheet
from mien.vision.expression import ExpressionReader
from mien.vision.finding import find_face, patient_detector
from mien.vision.generator import Edit, Generator, Request

SCHEMA_GENERATE, SCHEMA_DECODE, SCHEMA_EDIT = "mien/generated/1", "mien/decoded/1", "mien/edit/1"
_SHEETS = (".png", ".jpg", ".jpeg", ".webp")
_TABLES = (".npz", ".csv", ".parquet")
_MOST_ON_A_SHEET = 4096
_SHOWN_SIDE = 96  # px: about how large a picture stands on a sheet, in whole multiples of its own size
STEPS, FRAMES = 8, 32  # of the way between two faces, on a sheet or in a folder and in a GIF
FACES = 64  # that are drawn unless said
_EDIT_SIDE = 256
_FACTS, _MANIFEST = "generated.json", "manifest.csv"


def open_generator(model: str | None) -> Generator:
    """Open the generator that --model names, or the default one."""
    if model is None and "generator" not in zoo.defaults():
        raise UsageError("Name a generator: --model RUN, a run folder of `mien train vae` or `mien train gan`.")
    return Generator(model or zoo.default("generator"))


def is_sheet(out: Path) -> bool:
    """Whether pictures go onto one sheet; otherwise into a folder."""
    suffix = out.suffix.lower()
    if suffix in _SHEETS and not out.is_dir():
        return True
    if suffix and not out.is_dir():
        raise UsageError(
            f"-o takes a sheet ({', '.join(_SHEETS)}) or a folder without a suffix, got '{printable(out)}'."
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{printable(out)}' is a file. Name a folder, or a sheet ending in {', '.join(_SHEETS)}.")
    return False


# Sheets ---------------------------------------------------------------------------------------------------------------


def save_sheet(generator: Generator, count: int, request: Request, out: Path) -> None:
    """Write one picture with all of them on it."""
    rows = () if request.expression is None or isinstance(request.expression, str) else tuple(request.expression)
    if rows:  # A row each, the same noise in a column.
        count = max(count // len(rows), 1) * len(rows) if count >= 1 else count
        request = replace(request, share_noise=True)
    if count > _MOST_ON_A_SHEET:
        raise UsageError(f"A sheet holds at most {_MOST_ON_A_SHEET} pictures, got {count}. Name a folder with -o.")
    batches = generator.batches(count, request)
    images: list[np.ndarray] = []
    with progress(count) as advance:
        for batch in batches:
            for image in batch.images:
                images.append(image)
                advance()
    columns = _columns(count)
    if rows:
        images = [image for row in range(len(rows)) for image in images[row :: len(rows)]]
        columns = count // len(rows)
    save_image(out, contact_sheet(images, columns=columns, side=_side(generator.side, count), rows=rows or None))
    click.echo(f"{printable(out)}: {counted(count, 'picture')} by {generator.card.name}")


def _columns(count: int) -> int:
    """Return so many that the sheet is about square or wider, and its last row full where that is possible."""
    root = math.ceil(math.sqrt(max(count, 1)))
    return next((columns for columns in range(root, 2 * root + 1) if count % columns == 0), root)


def _side(side: int, count: int) -> int:
    return side * max(1, round(_SHOWN_SIDE / side)) if count <= 256 else side


def walk(
    generator: Generator,
    ends: tuple[str, str],
    steps: int,
    expression: str | None,
    truncation: float,
    out: Path,
    to_sheet: bool,
) -> None:
    """Write the way between two faces: of seeds, or of pictures."""
    whole = [int(end) if end.isdecimal() and not Path(end).exists() else end for end in ends]
    images = generator.between(whole[0], whole[1], steps, expression=expression, truncation=truncation)
    save_way(generator, images, out, to_sheet)
    click.echo(f"{printable(out)}: {steps} steps between {printable(ends[0])} and {printable(ends[1])}")


def save_way(generator: Generator, images: np.ndarray, out: Path, to_sheet: bool) -> None:
    """Write faces in order: moving, side by side, or a file each."""
    if out.suffix.lower() == ".gif":
        _save(out, animation(list(images), side=_side(generator.side, 1)))
    elif to_sheet:
        save_image(out, contact_sheet(list(images), columns=len(images), side=_side(generator.side, len(images))))
    else:
        make_folder(out)
        for number, image in enumerate(images):
            save_image(out / f"{number:04d}.png", image)


# Folders --------------------------------------------------------------------------------------------------------------


def fill_folder(generator: Generator, count: int, request: Request, out: Path, scores: bool) -> None:
    """Write pictures into a folder with its manifest, going on with what is there."""
    facts: dict[str, Any] = {
        "schema": SCHEMA_GENERATE,
        "model": generator.card.id,
        "seed": request.seed,
        "expression": request.expression if request.expression is None else list(_several(request.expression)),
        "attributes": sorted(request.attributes),
        # What the picture shows, wherever it lies.
        "like": None if request.like is None else digest(load_image(request.like)),
        "truncation": request.truncation,
        "prior": request.prior,
        **({} if request.guidance is None else {"guidance": request.guidance}),
        "scores": scores,
    }
    columns = ("file", "label", "seed", "number", "model", "bytes", *(("face", "seen") if scores else ()))
    generator.batches(count, request)  # Refuses what cannot be made, before there is a folder.
    judge = _judge(generator) if scores else None
    folder = _Folder(out, facts, columns if generator.labels else (columns[0], *columns[2:]))
    with folder, progress(max(count - folder.done, 0)) as advance:
        if folder.done:
            click.echo(f"mien: {counted(folder.done, 'picture')} are there already; going on.", err=True)
        for batch in generator.batches(count, request, start=folder.done) if folder.done < count else ():
            rows = []
            for number, (image, label) in enumerate(zip(batch.images, batch.labels, strict=True), start=batch.first):
                row = {"label": label, "seed": request.seed, "number": number, "model": generator.card.id}
                rows.append(folder.write(image, label, number, row | (judge(image) if judge else {})))
                advance()
            folder.note(rows)
    click.echo(f"{printable(out)}: {counted(max(folder.done, count), 'picture')} by {generator.card.name}")


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def _judge(generator: Generator) -> Callable[[np.ndarray], dict[str, Any]]:
    """Return what says how sure the detector is of a face, and what the default network sees in it."""
    detector = patient_detector()
    reader = ExpressionReader(zoo.card(zoo.default("expression")))

    def judge(image: np.ndarray) -> dict[str, Any]:
        face = find_face(image, detector)
        if face is None:
            return {"face": 0.0, "seen": ""}
        return {"face": round(face.score, 4), "seen": reader.read(image, [face])[0].label}

    return judge


class _Folder:
    """Pictures in a folder for each label and a manifest, so that a killed call is gone on with.

    A row is written after its picture: what has no row is made again.

    Attributes:
        done: Pictures that the manifest lists.
    """

    def __init__(self, place: Path, facts: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.place, self.columns, self.done = place, columns, 0
        self._facts = facts
        self._file: BinaryIO | None = None
        self._made: set[str] = set()

    def __enter__(self) -> _Folder:
        make_folder(self.place)
        facts, manifest = self.place / _FACTS, self.place / _MANIFEST
        with self._refusing():
            if facts.is_file():
                self._compare(facts)
            elif any(self.place.iterdir()):
                raise UsageError(f"'{printable(self.place)}' holds other files. Name a new or an empty folder.")
            else:
                write_whole(facts, (json.dumps(self._facts, indent=1) + "\n").encode())
            for half in self.place.glob("*/.mien-*"):  # left by a process that was killed
                half.unlink()
            whole, lines = 0, 0
            if manifest.is_file():
                with manifest.open("rb") as file:
                    for line in file:
                        if line.endswith(b"\n"):
                            whole, lines = whole + len(line), lines + 1
            self.done = max(lines - 1, 0)
            self._file = manifest.open("r+b" if manifest.exists() else "w+b")
            self._file.truncate(whole)
            self._file.seek(whole)
            if not lines:
                self._append([self.columns])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, image: np.ndarray, label: str | None, number: int, row: Mapping[str, Any]) -> list[Any]:
        """Write a picture; return its row of the manifest."""
        inside = label or "faces"
        with self._refusing():
            if inside not in self._made:
                (self.place / inside).mkdir(exist_ok=True)
                self._made.add(inside)
            data = encode_image(image, suffix=".png")
            name = f"{inside}/{number:07d}.png"
            write_whole(self.place / name, data)
        facts = {**row, "file": name, "bytes": len(data)}
        return [facts[column] for column in self.columns]

    def note(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows to the manifest."""
        with self._refusing():
            self._append(rows)
        self.done += len(rows)

    def _append(self, rows: Sequence[Sequence[Any]]) -> None:
        assert self._file is not None, "the folder is open"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())
        self._file.flush()

    def _compare(self, file: Path) -> None:
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise UsageError(f"'{printable(file)}' is damaged. Name a new folder.") from None
        for key, value in self._facts.items():
            if there.get(key) != value:
                raise UsageError(
                    f"'{printable(self.place)}' holds pictures of another call: {key} {json.dumps(there.get(key))}, "
                    f"here {json.dumps(value)}. Name another folder, or give the same options."
                )

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._refuse(error)

    def _refuse(self, error: OSError) -> NoReturn:
        cure = "Free some space" if error.errno == errno.ENOSPC else "Mend that"
        raise UsageError(
            f"Cannot write into '{printable(self.place)}': {error.strerror or error}. {counted(self.done, 'picture')} "
            f"are there. {cure} and run the same command again: it goes on."
        ) from error


def _save(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise UsageError(f"Cannot write '{printable(path)}': {error.strerror or error}. Name another file.") from error


# Latents --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """Latents of pictures, and the model that made them; a label is '' where the model knows none."""

    model: str
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    latents: np.ndarray


def encode(pictures: tuple[str, ...], model: str | None, out: Path) -> int:
    """Write the latents of the faces of pictures; return the exit status, 1 if one gave none."""
    _expect_table(out)
    generator = open_generator(model)
    generator.encode(np.empty((0, generator.side, generator.side, 3), np.uint8))  # Is there an encoder?
    paths = find_images(pictures)
    names, labels, parts = [], [], []
    failed = 0
    with progress(len(paths)) as advance:
        for path in paths:
            try:
                cut = generator.cut(path)
            except ImageError as error:
                click.echo(f"mien: {error}", err=True)
                failed += 1
            else:
                names.append(printable(path))
                labels.append(generator.expression_of(cut) if generator.labels else "")
                parts.append(generator.encode([cut]))
            advance()
    if not parts:
        raise ImageError("None of the pictures gave latents; nothing was written.")
    _write_table(out, _Table(generator.card.id, tuple(names), tuple(labels), np.concatenate(parts)))
    line = f"{printable(out)}: latents of {counted(len(parts), 'face')}, {generator.latents} each"
    click.echo(line + (f"; {failed} failed" if failed else ""))
    return 1 if failed else 0


def decode(latents: Path, model: str | None, out: Path, expression: str | None) -> None:
    """Make pictures of the latents in a file of `encode`."""
    to_sheet = is_sheet(out)
    table = _read_table(latents)
    generator = open_generator(model)
    if table.model != generator.card.id:
        raise UsageError(f"These latents are of '{table.model}', not of '{generator.card.id}'. Name that with --model.")
    labels: tuple[str | None, ...] = (None,) * len(table.latents)
    if generator.labels:
        labels = (expression,) * len(labels) if expression else table.labels
    elif expression:
        generator.decode(table.latents[:1], expression=expression)  # Says that it cannot.
    if to_sheet:
        if len(labels) > _MOST_ON_A_SHEET:
            raise UsageError(f"A sheet holds at most {_MOST_ON_A_SHEET} pictures, got {len(labels)}. Name a folder.")
        images = generator.decode(table.latents, expression=_known(labels))
        side = _side(generator.side, len(images))
        save_image(out, contact_sheet(list(images), columns=_columns(len(images)), side=side))
    else:
        facts = {"schema": SCHEMA_DECODE, "model": table.model, "latents": _digest(table), "expression": expression}
        columns = ("file", *(("label",) if generator.labels else ()), "source", "model", "bytes")
        with _Folder(out, facts, columns) as folder, progress(len(labels) - folder.done) as advance:
            for start in range(folder.done, len(labels), 64):
                some = slice(start, start + 64)
                images = generator.decode(table.latents[some], expression=_known(labels[some]))
                rows = []
                for number, (image, label) in enumerate(zip(images, labels[some], strict=True), start=start):
                    row = {"label": label, "source": table.paths[number], "model": table.model}
                    rows.append(folder.write(image, label, number, row))
                    advance()
                folder.note(rows)
    click.echo(f"{printable(out)}: {counted(len(labels), 'picture')} by {generator.card.name}")


def _known(labels: Sequence[str | None]) -> list[str] | None:
    return [label for label in labels if label is not None] or None


def _digest(table: _Table) -> str:
    return hashlib.sha256(table.latents.tobytes() + "\n".join(table.labels).encode()).hexdigest()


def _expect_table(path: Path) -> None:
    if path.suffix.lower() not in _TABLES:
        raise UsageError(f"Latents are written as {', '.join(_TABLES)}, got '{printable(path)}'.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def _write_table(path: Path, table: _Table) -> None:
    buffer = io.BytesIO()
    rows = len(table.paths)
    match path.suffix.lower():
        case ".npz":
            paths, labels = np.array(table.paths), np.array(table.labels)
            np.savez(buffer, latents=table.latents, paths=paths, labels=labels, model=np.array(table.model))
        case ".csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["path", "label", "model", *(f"z{k}" for k in range(table.latents.shape[1]))])
            # Nine digits give a float32 back to the last bit.
            for name, label, latents in zip(table.paths, table.labels, table.latents, strict=True):
                writer.writerow([name, label, table.model, *(f"{value:.9g}" for value in latents.tolist())])
            buffer.write(text.getvalue().encode())
        case _:
            arrow, parquet = _pyarrow()
            columns = {"path": list(table.paths), "label": list(table.labels), "model": [table.model] * rows}
            columns |= {f"z{k}": column for k, column in enumerate(table.latents.T)}
            parquet.write_table(arrow.table(columns), buffer)
    _save(path, buffer.getvalue())


def _read_table(path: Path) -> _Table:
    _expect_table(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"'{printable(path)}' cannot be read: {error.strerror}.") from None
    try:
        if path.suffix.lower() == ".npz":
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                latents = np.asarray(file["latents"], dtype=np.float32)
                paths, labels = (tuple(str(text) for text in file[key]) for key in ("paths", "labels"))
                model = str(file["model"])
        else:
            if path.suffix.lower() == ".csv":
                rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
            else:
                arrow, parquet = _pyarrow()
                rows = parquet.read_table(arrow.BufferReader(data)).to_pylist()
            width = sum(key[:1] == "z" and key[1:].isdecimal() for key in rows[0])
            latents = np.array([[float(row[f"z{k}"]) for k in range(width)] for row in rows], dtype=np.float32)
            paths, labels = (tuple(str(row[key]) for row in rows) for key in ("path", "label"))
            model = str(rows[0]["model"])
    except (ValueError, KeyError, TypeError, IndexError, EOFError, OSError, zipfile.BadZipFile):
        raise UsageError(f"'{printable(path)}' holds no latents of `mien encode`, or is damaged.") from None
    if not len(latents) or len(latents) != len(paths) or len(latents) != len(labels):
        raise UsageError(f"'{printable(path)}' holds no latents of `mien encode`, or is damaged.")
    return _Table(model, paths, labels, latents)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-not-found, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install pyarrow. Or name a .npz or .csv file.") from None
    return pyarrow, pyarrow.parquet


# Editing --------------------------------------------------------------------------------------------------------------


def edit(
    picture: str, model: str | None, expression: str, out: Path, *, strength: float | None, paste: bool, as_json: bool
) -> None:
    """Give the main face of a picture another expression, and say how far it stays who it is."""
    if out.suffix.lower() not in _SHEETS:
        raise UsageError(f"A picture is written as {', '.join(_SHEETS)}, got '{printable(out)}'.")
    if paste and expression == "all":
        raise UsageError("--paste writes one picture. Name one expression.")
    generator = open_generator(model)
    names = generator.edits if expression == "all" and generator.edits else (expression,)
    with progress(len(names), "expressions") as advance:
        edits: list[Edit] = []
        for name in names:
            edits.append(generator.edit(picture, expression=name, strength=strength))
            advance()
    first = edits[0]
    if paste:
        save_image(out, first.picture)
    else:
        captions = [f"before: {first.shown}", *(f"{done.wanted} ({done.identity:.2f})" for done in edits)]
        faces = [first.before, *(done.after for done in edits)]
        save_image(out, contact_sheet(faces, columns=_columns(len(faces)), side=_EDIT_SIDE, captions=captions))
    if as_json:
        told = [
            {
                "expression": done.wanted,
                "strength": done.strength,
                "identity": done.identity,
                "reconstruction": done.reconstruction,
            }
            for done in edits
        ]
        head = {"schema": SCHEMA_EDIT, "model": generator.card.id, "embedder": first.embedder, "shown": first.shown}
        echo_json({**head, "strength": strength, "edits": told}, indent=1)
        return
    click.echo(printable(out))
    for done in edits:
        same = "  (shows it already)" if done.wanted == done.shown else ""
        click.echo(
            f"  {done.shown} to {done.wanted:<12}  identity {done.identity:.3f}  strength {done.strength:g}{same}"
        )
    click.echo(f"  encoded and decoded alone       identity {first.reconstruction:.3f}")
