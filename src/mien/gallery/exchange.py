"""Export and import: JSON Lines and PNG, readable without mien.

`gallery.jsonl` begins with a header, then has one object a line: each subject, followed by its samples. Vectors are
little-endian float16 in base64, crops are files under `crops/`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Never

import numpy as np
from jaxtyping import Float16, UInt8

from mien.errors import GalleryError, ImageError, ModelError
from mien.gallery.crops import decode_crop, encode_crop
from mien.gallery.index import is_unit
from mien.gallery.names import clean_name, folded_name, shown
from mien.gallery.records import MOST_VIEWS, Transfer
from mien.gallery.rows import Rows
from mien.types import Box, Reason
from mien.vision.cohort import Cohort

__all__ = ["export", "import_"]

FORMAT = "mien-gallery"
VERSION = 1
_FILE = "gallery.jsonl"
_CROP = re.compile(r"crops/[0-9]+\.png")
_LONGEST_LINE = 1 << 20
_LARGEST_CROP = 2048 * 2048  # px
_LARGEST_NUMBER = 1e9
_LONGEST_TEXT = 500  # characters


def export(rows: Rows, folder: Path) -> Transfer:
    """Write a new folder, all of it or nothing; see `Gallery.export`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GalleryError(f"{folder} exists and is not an empty folder. Name a new one.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (making / "crops").mkdir()
            with (making / _FILE).open("w", encoding="utf-8", newline="\n") as file:
                moved = _write(rows, making, file)
            making.replace(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise GalleryError(f"The export cannot be written to {folder}: {error.strerror}.") from error
    return moved


def _write(rows: Rows, folder: Path, file: IO[str]) -> Transfer:
    from mien.images import digest, save_image  # Pillow, which no search needs

    active = rows.active_model()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "model": active.name if active else None,
        "dimension": active.dimension if active else None,
    }
    cohort = rows.cohort()
    if cohort is not None:
        header["cohort"] = cohort.to_text()
    _line(file, header)
    subjects = rows.subjects()
    total = 0
    for subject in subjects:
        _line(file, {"kind": "subject", "id": subject.id, "name": subject.name, "created": subject.created})
        vectors = {} if active is None else rows.vectors(subject.id, active)
        for sample in rows.samples(subject.id):
            image = rows.crop(sample.id)
            crop = None if image is None else decode_crop(image)
            if crop is not None:
                save_image(folder / "crops" / f"{sample.id}.png", crop)
            vector = vectors.get(sample.id)
            record = {
                "kind": "sample",
                "subject": subject.id,
                "source_hash": sample.source_hash,
                "box": sample.box.as_tuple(),
                "quality": sample.quality,
                "reasons": sample.reasons,
                "created": sample.created,
                "crop": None if crop is None else f"crops/{sample.id}.png",
                "crop_digest": None if crop is None else digest(crop),
                "vector": None if vector is None else base64.b64encode(vector.astype("<f2").tobytes()).decode(),
            }
            if sample.simulated:
                record["simulated"] = sample.simulated
            _line(file, record)
            total += 1
    return Transfer(len(subjects), total)


def _line(file: IO[str], record: dict[str, object]) -> None:
    file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


@dataclass(frozen=True, slots=True)
class _Sample:
    """One line of a sample, checked."""

    subject: int
    source_hash: str
    box: Box
    quality: float | None
    reasons: tuple[Reason, ...]
    created: str
    crop: UInt8[np.ndarray, "side side 3"] | None
    vector: Float16[np.ndarray, " dimension"]
    simulated: int


def import_(rows: Rows, folder: Path) -> Transfer:
    """Read a folder that `export` wrote, all of it or nothing; see `Gallery.import_`."""
    added = already = 0
    with rows.write():
        records = _records(folder)
        name, dimension, cohort = _header(folder, records)
        if cohort is not None and rows.active_model() is None:
            rows.keep_cohort(cohort)
        model = rows.use_model(name, dimension) if name is not None else None
        before = rows.count("subject")
        ids: dict[int, int] = {}
        spellings: dict[str, int] = {}
        for number, record in records:
            try:
                if record.get("kind") == "subject":
                    _subject(rows, record, number, ids, spellings)
                    continue
                sample = _sample(folder, record, dimension)
                if sample.subject not in ids:
                    raise ValueError(f"no line before it names the subject {sample.subject}")
                sample_id, is_new = rows.add_sample(
                    ids[sample.subject],
                    source_hash=sample.source_hash,
                    box=sample.box,
                    quality=sample.quality,
                    reasons=sample.reasons,
                    created=sample.created,
                )
            except (ValueError, OSError, GalleryError, ImageError) as error:
                raise GalleryError(
                    f"Line {number} of {folder / _FILE} is no valid record: {shown(error)}. Nothing was imported."
                ) from error
            if not is_new:
                already += 1
                continue
            assert model is not None, "a checked sample has a vector, so the header names its model"
            if sample.crop is not None:
                rows.add_crop(sample_id, encode_crop(sample.crop))
            rows.add_template(sample_id, model, sample.vector)
            if sample.simulated:
                rows.mark_simulated(model, {sample_id: sample.simulated})
            added += 1
        subjects = rows.count("subject") - before
        rows.note("import", None, f"{subjects} subjects, {added} samples")
    return Transfer(subjects, added, already)


def _subject(
    rows: Rows, record: dict[str, object], number: int, ids: dict[int, int], spellings: dict[str, int]
) -> None:
    """Check the line of a subject and enrol the name; note its id, and which line has a name that looks like it."""
    given, name = _whole(record, "id"), _text(record, "name")
    _time(record)
    if given in ids:
        raise ValueError(f"the id {given} is another subject's")
    looks = folded_name(clean_name(name))
    if looks in spellings:
        raise ValueError(
            f"the name looks like that of line {spellings[looks]}; if they are two people give one another name there, "
            "if they are one merge them before the export"
        )
    spellings[looks] = number
    ids[given] = rows.add_subject(name)


def _records(folder: Path) -> Iterator[tuple[int, dict[str, object]]]:
    number = 0
    try:
        with (folder / _FILE).open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                record = json.loads(line, parse_constant=_no_number)
                if not isinstance(record, dict):
                    raise ValueError("expected an object")
                yield number, record
    except OSError as error:
        raise GalleryError(
            f"There is no export in {folder}: {_FILE} cannot be read ({error.strerror}). "
            "Make one with: mien gallery export FOLDER"
        ) from error
    except (ValueError, RecursionError) as error:
        raise GalleryError(
            f"Line {number} of {folder / _FILE} is not JSON of at most {_LONGEST_LINE >> 20} MB. Nothing was imported."
        ) from error


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is no number of JSON")


def _header(folder: Path, records: Iterator[tuple[int, dict[str, object]]]) -> tuple[str | None, int, Cohort | None]:
    """Return model, dimension and the gallery's own cohort, if it had one."""
    _, header = next(records, (0, {}))
    if header.get("format") != FORMAT:
        raise GalleryError(f"{folder / _FILE} does not begin with the header of a mien export.")
    version = header.get("version")
    if version != VERSION or isinstance(version, bool):
        raise GalleryError(
            f"{folder} is an export of version {shown(version)[:40]}; this mien reads version {VERSION}. "
            "Upgrade with: pip install --upgrade mien"
        )
    if header.get("model") is None:
        return None, 0, None
    cohort = header.get("cohort")
    try:
        model, dimension = _text(header, "model"), _whole(header, "dimension")
        if not 1 <= dimension <= 65_536:
            raise ValueError("dimension is not between 1 and 65536")
        return model, dimension, None if cohort is None else Cohort.of_text(str(cohort))
    except (ValueError, ModelError) as error:
        raise GalleryError(f"The header of {folder / _FILE} names no model and dimension: {error}.") from error


def _sample(folder: Path, record: dict[str, object], dimension: int) -> _Sample:
    """Check one record; a ValueError says what is wrong with it."""
    if record.get("kind") != "sample":
        raise ValueError("kind is neither subject nor sample")
    quality = record.get("quality")
    score = None if quality is None else _number(quality, "quality")
    if score is not None and not 0 <= score <= 1:
        raise ValueError("quality is outside [0, 1]")
    corners = record.get("box")
    if not isinstance(corners, list) or len(corners) != 4:
        raise ValueError("box is no list of four numbers")
    left, top, right, bottom = (_number(value, "box") for value in corners)
    if right < left or bottom < top:
        raise ValueError("box has its corners out of order")
    codes = record.get("reasons")
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise ValueError("reasons is no list of codes")
    return _Sample(
        subject=_whole(record, "subject"),
        source_hash=_text(record, "source_hash"),
        box=Box(left, top, right, bottom),
        quality=score,
        reasons=tuple(Reason(code) for code in codes),
        created=_time(record),
        crop=_crop(folder, record),
        vector=_vector(record, dimension),
        simulated=_views(record),
    )


def _views(record: dict[str, object]) -> int:
    views = _whole(record, "simulated") if "simulated" in record else 0
    if not 0 <= views <= MOST_VIEWS:
        raise ValueError(f"simulated is {views}, expected 0 to {MOST_VIEWS}")
    return views


def _vector(record: dict[str, object], dimension: int) -> Float16[np.ndarray, " dimension"]:
    text = record.get("vector")
    if not isinstance(text, str):
        raise ValueError("there is no vector in base64")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("the vector is not base64") from error
    vector = np.frombuffer(data[: len(data) // 2 * 2], dtype="<f2")
    if len(data) != 2 * dimension or not is_unit(vector):
        norm = float(np.linalg.norm(vector.astype(np.float64)))
        raise ValueError(f"the vector has {len(vector)} values of norm {norm:.3g}, expected {dimension} of norm 1")
    return vector.astype(np.float16)


def _number(value: object, what: str) -> float:
    """Return a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_NUMBER:
        raise ValueError(f"{what} is no number within {_LARGEST_NUMBER:g}")
    return float(value)


def _whole(record: dict[str, object], key: str) -> int:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_NUMBER:
        raise ValueError(f"{key} is no whole number within {_LARGEST_NUMBER:g}")
    return value


def _text(record: dict[str, object], key: str) -> str:
    """Return text that does nothing to a terminal."""
    value = record.get(key)
    if not isinstance(value, str) or not value or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{key} is no text of 1 to {_LONGEST_TEXT} characters")
    if key != "name" and not value.isprintable():  # names have their own rule
        raise ValueError(f"{key} has characters that cannot be printed")
    return value


def _time(record: dict[str, object]) -> str:
    value = _text(record, "created")
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError("created is no time of ISO 8601") from error
    return value


def _crop(folder: Path, record: dict[str, object]) -> UInt8[np.ndarray, "side side 3"] | None:
    from mien.images import Limits, digest, load_image  # Pillow, which no search needs

    name = record.get("crop")
    if name is None:
        return None
    # Only plain files that export could have written: no path out of the folder, by name or by link.
    if not isinstance(name, str) or not _CROP.fullmatch(name):
        raise ValueError("the crop is not a file of the export's crops folder")
    path = folder / name
    if path.is_symlink() or (folder / "crops").is_symlink():
        raise ValueError("the crop is a link")
    crop = load_image(path, limits=Limits(max_pixels=_LARGEST_CROP))
    if crop.shape[0] != crop.shape[1]:
        raise ValueError(f"the crop is not square: {crop.shape[1]} x {crop.shape[0]} px")
    if digest(crop) != record.get("crop_digest"):
        raise ValueError("the crop differs from its digest")
    return crop
