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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, UInt8

from mien.errors import GalleryError, ImageError
from mien.gallery.records import Transfer
from mien.images import Limits, digest, load_image, save_image
from mien.types import Box, Reason

if TYPE_CHECKING:
    from mien.gallery.store import Gallery

__all__ = ["export", "import_"]

FORMAT = "mien-gallery"
VERSION = 1
_FILE = "gallery.jsonl"
_CROP = re.compile(r"crops/[0-9]+\.png")
_LONGEST_LINE = 1 << 20
_LARGEST_CROP = 2048 * 2048  # px


def export(gallery: Gallery, folder: Path) -> Transfer:
    """Write a new folder, all of it or nothing; see `Gallery.export`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GalleryError(f"{folder} exists and is not an empty folder. Name a new one.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (making / "crops").mkdir()
            with (making / _FILE).open("w", encoding="utf-8", newline="\n") as file:
                moved = _write(gallery, making, file)
            making.replace(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise GalleryError(f"The export cannot be written to {folder}: {error.strerror}.") from error
    return moved


def _write(gallery: Gallery, folder: Path, file: IO[str]) -> Transfer:
    active = gallery.active_model()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "model": active[1] if active else None,
        "dimension": active[2] if active else None,
    }
    _line(file, header)
    subjects = gallery.subjects()
    total = 0
    for subject in subjects:
        _line(file, {"kind": "subject", "id": subject.id, "name": subject.name, "created": subject.created})
        vectors = _vectors(gallery, subject.id, active)
        for sample in gallery.samples(subject.name):
            crop = gallery.crop(sample.id)
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
                "vector": None if vector is None else base64.b64encode(vector).decode(),
            }
            _line(file, record)
            total += 1
    return Transfer(len(subjects), total)


def _line(file: IO[str], record: dict[str, Any]) -> None:
    file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def _vectors(gallery: Gallery, subject_id: int, active: tuple[int, str, int] | None) -> dict[int, bytes]:
    if active is None:
        return {}
    rows = gallery.connection.execute(
        "SELECT sample_id, vector FROM template JOIN sample ON sample.id = sample_id "
        "WHERE subject_id = ? AND model_id = ?",
        (subject_id, active[0]),
    )
    return {sample: gallery.cipher.open(stored, "template", sample, active[0]) for sample, stored in rows}


@dataclass(frozen=True, slots=True)
class _Sample:
    """One line of a sample, checked."""

    source_hash: str
    box: Box
    quality: float | None
    reasons: tuple[Reason, ...]
    created: str
    crop: UInt8[np.ndarray, "side side 3"] | None
    vector: Float16[np.ndarray, " dimension"]


def import_(gallery: Gallery, folder: Path) -> Transfer:
    """Read a folder that `export` wrote, all of it or nothing; see `Gallery.import_`."""
    from mien.gallery.store import encode_crop

    subjects = added = already = 0
    with gallery.write():
        records = _records(folder)
        model, dimension = _header(folder, records)
        model_id = gallery.use_model(model, dimension) if model is not None else None
        before = gallery.connection.execute("SELECT count(*) FROM subject").fetchone()[0]
        ids: dict[int, int] = {}
        for number, record in records:
            try:
                if record["kind"] == "subject":
                    ids[int(record["id"])] = gallery.subject_row(str(record["name"]))
                    continue
                sample = _sample(folder, record, dimension)
                sample_id, is_new = gallery.add_sample(
                    ids[int(record["subject"])],
                    source_hash=sample.source_hash,
                    box=sample.box,
                    quality=sample.quality,
                    reasons=sample.reasons,
                    created=sample.created,
                )
            except (KeyError, TypeError, ValueError, AssertionError, OSError, GalleryError, ImageError) as error:
                raise GalleryError(
                    f"Line {number} of {folder / _FILE} is no valid record: {error or type(error).__name__}. "
                    "Nothing was imported."
                ) from error
            if not is_new:
                already += 1
                continue
            assert model_id is not None, "a checked sample has a vector, so the header names its model"
            if sample.crop is not None:
                gallery.add_crop(sample_id, encode_crop(sample.crop))
            gallery.add_template(sample_id, model_id, sample.vector)
            added += 1
        subjects = gallery.connection.execute("SELECT count(*) FROM subject").fetchone()[0] - before
        gallery.note("import", None, f"{subjects} subjects, {added} samples")
    return Transfer(int(subjects), added, already)


def _records(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with (folder / _FILE).open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("expected an object")
                yield number, record
    except OSError as error:
        raise GalleryError(
            f"There is no export in {folder}: {_FILE} cannot be read ({error.strerror}). "
            "Make one with: mien gallery export FOLDER"
        ) from error
    except ValueError as error:
        raise GalleryError(
            f"Line {number} of {folder / _FILE} is not JSON of at most {_LONGEST_LINE >> 20} MB. Nothing was imported."
        ) from error


def _header(folder: Path, records: Iterator[tuple[int, dict[str, Any]]]) -> tuple[str | None, int]:
    _, header = next(records, (0, {}))
    if header.get("format") != FORMAT:
        raise GalleryError(f"{folder / _FILE} does not begin with the header of a mien export.")
    version = header.get("version")
    if version != VERSION:
        raise GalleryError(
            f"{folder} is an export of version {version}; this mien reads version {VERSION}. "
            "Upgrade with: pip install --upgrade mien"
        )
    model, dimension = header.get("model"), header.get("dimension")
    if model is None:
        return None, 0
    if not isinstance(model, str) or not isinstance(dimension, int) or not 1 <= dimension <= 65_536:
        raise GalleryError(f"The header of {folder / _FILE} names no model and dimension.")
    return model, dimension


def _sample(folder: Path, record: dict[str, Any], dimension: int) -> _Sample:
    """Check one record; any error in it is raised as what it is."""
    if record["kind"] != "sample":
        raise ValueError("kind is neither subject nor sample")
    try:
        data = base64.b64decode(record["vector"], validate=True)
    except binascii.Error as error:
        raise ValueError("the vector is not base64") from error
    vector = np.frombuffer(data[: len(data) // 2 * 2], dtype="<f2")
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if len(vector) != dimension or not abs(norm - 1) < 2e-3:
        raise ValueError(f"the vector has {len(vector)} values of norm {norm:.3g}, expected {dimension} of norm 1")
    quality = record["quality"]
    if quality is not None and not 0 <= float(quality) <= 1:
        raise ValueError("quality is outside [0, 1]")
    box = Box(*(float(value) for value in record["box"]))
    if not np.isfinite(box.as_tuple()).all():
        raise ValueError("the box is not finite")
    return _Sample(
        source_hash=str(record["source_hash"]),
        box=box,
        quality=None if quality is None else float(quality),
        reasons=tuple(Reason(code) for code in record["reasons"]),
        created=str(record["created"])[:40],
        crop=_crop(folder, record),
        vector=vector.astype(np.float16),
    )


def _crop(folder: Path, record: dict[str, Any]) -> UInt8[np.ndarray, "side side 3"] | None:
    name = record["crop"]
    if name is None:
        return None
    # Only plain files that export could have written: no path out of the folder, by name or by link.
    path = folder / name
    if not isinstance(name, str) or not _CROP.fullmatch(name) or path.resolve().parent != (folder / "crops").resolve():
        raise ValueError("the crop is not a file of the export's crops folder")
    if path.is_symlink() or (folder / "crops").is_symlink():
        raise ValueError("the crop is a link")
    crop = load_image(path, limits=Limits(max_pixels=_LARGEST_CROP))
    if digest(crop) != record["crop_digest"]:
        raise ValueError("the crop differs from its digest")
    return crop
