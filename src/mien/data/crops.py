"""Faces cut out of labelled pictures as run time cuts them, and with room around them for augmentation."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, similarity_transform
from mien.data.reading import work_on_each
from mien.data.samples import Samples
from mien.errors import DataError, ImageError
from mien.images import printable
from mien.vision.detector import Detection
from mien.vision.finding import TIGHT, DetectorLike, cut_face, find_face, patient_detector

__all__ = ["Crops", "DetectorLike", "cut_crops", "join_crops", "locate", "rgb_faces"]

Image = UInt8[np.ndarray, "height width 3"]
Matrix = Float64[np.ndarray, "2 3"]

_VERSION = 1  # of how crops are cut: older caches are not read


@dataclass(frozen=True, eq=False)
class Crops:
    """Faces of the samples, in their order. Grey crops have no last axis.

    Attributes:
        faces: What run time would show a network: aligned to the template, uint8 (samples, side, side[, 3]).
        canvas: The same alignment at ``frame`` px per side, with context all round, uint8 (samples, C, C[, 3]).
        frame: Px of the canvas, in its middle, that the crop fills.
        whole: From px of a crop to px of the canvas for the picture as it came, unaligned, where it is a ready-made
            crop; elsewhere for the aligned face; shape (samples, 2, 3).
        found: Whether a face was found; otherwise the middle of the picture stands in for one.
        readable: Whether the picture could be read; otherwise its crops are black.
        unreadable: Name and reason of those that could not.
    """

    faces: UInt8[np.ndarray, "samples side side *colour"]
    canvas: UInt8[np.ndarray, "samples canvas canvas *colour"]
    frame: int
    whole: Float32[np.ndarray, "samples 2 3"]
    found: Bool[np.ndarray, " samples"]
    readable: Bool[np.ndarray, " samples"]
    unreadable: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.faces)

    def rgb(self) -> UInt8[np.ndarray, "samples side side 3"]:
        """Return the faces as RGB."""
        return rgb_faces(self.faces)

    @property
    def side(self) -> int:
        """Px of a crop's side."""
        return int(self.faces.shape[1])


def rgb_faces(faces: UInt8[np.ndarray, "faces side side *colour"]) -> UInt8[np.ndarray, "faces side side 3"]:
    """Return grey or RGB faces as RGB."""
    return faces if faces.ndim == 4 else np.repeat(faces[..., None], 3, axis=3)


def locate(image: Image, detector: DetectorLike) -> Float32[np.ndarray, "5 2"] | None:
    """Return the landmarks (x, y) of the face that a picture is of, px, as `find_face` finds it; None without one."""
    found = find_face(image, detector)
    return None if found is None else found.landmarks


def cut_crops(
    samples: Samples,
    *,
    template: str = "fer-48",
    side: int = 48,
    colour: bool = False,
    frame: int = 64,
    canvas: int = 96,
    cache: Path | None = None,
    detector: DetectorLike | None = None,
    search: bool = True,
    threads: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Crops:
    """Cut the face out of every sample, once as run time does and once with context for augmentation.

    Args:
        samples: The pictures.
        template: Where the landmarks go, a name of `mien.alignment.TEMPLATES`.
        side: Of the crops, px.
        colour: RGB crops instead of grey ones.
        frame: Px of the canvas that a crop fills; more than ``side`` keeps detail for enlarging.
        canvas: Side of the canvas, px, at least ``frame``.
        cache: Folder where crops are kept; a second call for the same pictures and sizes reads them there.
        detector: Finds the faces; default the one of run time, asked a little more kindly.
        search: Find the face; otherwise each picture is one face that fills it.
        threads: Pictures at once; default the CPU quota.
        progress: Called after each picture.

    Raises:
        DataError: None of the pictures can be read, or the cache cannot be written.
    """
    assert template in TEMPLATES and canvas >= frame > 0 and side > 0
    place = None
    if cache is not None:
        finder = zoo.default("detector") if search else "whole"
        facts = (_VERSION, samples.fingerprint(), template, side, colour, frame, canvas, finder)
        place = cache / f"crops-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"
        if (place / "done.json").is_file():
            return _load(place)
    detector = detector or (patient_detector() if search else _Blind())
    cutter = _Cutter(template, side, colour, frame, canvas, detector)
    depth = (3,) if colour else ()
    crops = Crops(
        faces=np.zeros((len(samples), side, side, *depth), np.uint8),
        canvas=np.zeros((len(samples), canvas, canvas, *depth), np.uint8),
        frame=frame,
        whole=np.zeros((len(samples), 2, 3), np.float32),
        found=np.zeros(len(samples), dtype=bool),
        readable=np.zeros(len(samples), dtype=bool),
    )

    def work(index: int) -> str | None:
        try:
            image = samples.picture(index)
        except ImageError as error:
            crops.whole[index] = cutter.aligned
            return str(error)
        crops.readable[index] = True
        crops.faces[index], crops.canvas[index], crops.whole[index], crops.found[index] = cutter.cut(image)
        return None

    reasons = work_on_each(samples, work, threads=threads, progress=progress)
    if len(reasons) == len(samples):
        why = f": {reasons[0][1]}" if reasons else "."
        raise DataError(f"None of the {len(samples)} pictures of '{printable(samples.source)}' can be read{why}")
    crops = Crops(crops.faces, crops.canvas, frame, crops.whole, crops.found, crops.readable, unreadable=tuple(reasons))
    if place is not None:
        _save(crops, place)
    return crops


def join_crops(parts: Sequence[Crops]) -> Crops:
    """Return the crops of several data sets, cut alike, after one another."""
    if len(parts) == 1:
        return parts[0]
    assert len({part.frame for part in parts}) == 1, "cut alike"
    faces, canvas, whole, found, readable = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("faces", "canvas", "whole", "found", "readable")
    )
    unreadable = tuple(row for part in parts for row in part.unreadable)
    return Crops(faces, canvas, parts[0].frame, whole, found, readable, unreadable)


class _Blind:
    """Finds no face: every picture is taken as a whole."""

    def detect(self, image: Image) -> list[Detection]:
        return []


class _Cutter:
    """Cuts one picture; all sizes in px."""

    def __init__(self, template: str, side: int, colour: bool, frame: int, canvas: int, detector: DetectorLike) -> None:
        self.points = TEMPLATES[template].points_at(side)
        self.side, self.colour, self.canvas, self.detector = side, colour, canvas, detector
        # From px of a crop to px of the canvas.
        margin, zoom = (canvas - frame) / 2, frame / side
        self.aligned = np.array([[zoom, 0, margin], [0, zoom, margin]])

    def cut(self, image: Image) -> tuple[np.ndarray, np.ndarray, Matrix, bool]:
        """Return crop, canvas, the map of the whole picture, and whether a face was found."""
        height, width = image.shape[:2]
        marks = locate(image, self.detector)
        # From px of the picture, its middle square, to px of a crop: pixel centres lie at halves.
        length = min(height, width)
        zoom = self.side / length
        corner = np.array([(width - length) / 2, (height - length) / 2])
        square = np.hstack([np.eye(2) * zoom, ((0.5 - corner) * zoom - 0.5)[:, None]])
        matrix = square if marks is None else similarity_transform(marks, self.points)
        if marks is None:
            left, top = corner.astype(int)
            crop = _resized(image[top : top + length, left : left + length], self.side)
        else:
            crop = cut_face(image, marks, points=self.points, side=self.side)
        whole = self.aligned
        if max(height, width) < TIGHT:
            whole = _chained(_chained(_inverse(square), matrix), self.aligned)
        if not self.colour:
            crop, image = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (crop, image))
        canvas = _warped(image, _chained(matrix, self.aligned), self.canvas)
        return crop, canvas, whole, marks is not None


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def _warped(image: np.ndarray, matrix: Matrix, side: int) -> np.ndarray:
    """Warp to a square, border repeated; a much larger picture is averaged down first, so that it does not alias."""
    zoom = math.hypot(matrix[0, 0], matrix[1, 0])
    if zoom < 0.5:
        size = (max(round(image.shape[1] * zoom), 1), max(round(image.shape[0] * zoom), 1))
        scale = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        matrix = _chained(np.hstack([np.diag(scale), (0.5 * scale - 0.5)[:, None]]), matrix)
    method = cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_LINEAR
    warped = cv2.warpAffine(image, matrix, (side, side), flags=method, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def _chained(first: Matrix, then: Matrix) -> Matrix:
    """Return the matrix of one map after another."""
    return np.asarray(then @ np.vstack([first, [0, 0, 1]]), dtype=np.float64)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)


def _save(crops: Crops, place: Path) -> None:
    """Write a cache, all of it or nothing."""
    temporary = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".crops-"))
        for name in ("faces", "canvas", "whole", "found", "readable"):
            np.save(temporary / f"{name}.npy", getattr(crops, name))
        (temporary / "done.json").write_text(json.dumps({"frame": crops.frame, "unreadable": crops.unreadable}))
        if not place.exists():  # another process may have been faster
            temporary.replace(place)
    except OSError as error:
        raise DataError(f"Cannot keep crops in '{printable(place.parent)}': {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _load(place: Path) -> Crops:
    """Read a cache; processes that read the same one share its memory."""
    facts = json.loads((place / "done.json").read_text())
    reasons: Sequence[tuple[str, str]] = [(str(name), str(reason)) for name, reason in facts["unreadable"]]
    try:
        arrays = {
            name: np.load(place / f"{name}.npy", mmap_mode="c")
            for name in ("faces", "canvas", "whole", "found", "readable")
        }
    except (OSError, ValueError):
        raise DataError(f"The crops kept in '{printable(place)}' are damaged. Delete that folder.") from None
    return Crops(frame=int(facts["frame"]), unreadable=tuple(reasons), **arrays)
