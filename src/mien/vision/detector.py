"""Face detectors as ONNX adapters: boxes and five landmarks.

Every decoder takes raw network outputs at one scale and returns rows (left, top, right, bottom, score, ten landmark
coordinates) in px of the network's input; `Detector` does the rest once for all: scale, padding, tiles, suppression.

Sources: CenterFace, Xu et al., arXiv:1911.03599; SCRFD, Guo et al., arXiv:2105.04714; YuNet, Wu et al., 2023;
BlazeFace, Bazarevsky et al., arXiv:1907.05047; RetinaFace, Deng et al., arXiv:1905.00641.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from mien import zoo
from mien.errors import ModelError
from mien.types import Box
from mien.vision.conventions import DetectorConvention
from mien.vision.feed import Feed, shrunk
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = ["Detection", "Detector", "suppress"]

Rows = Float32[np.ndarray, "faces 15"]
Image = UInt8[np.ndarray, "height width 3"]

_STRIDE = 32  # every network here halves its input five times
_SMALLEST_FOUND = 12  # px at the network's input: below this face side recall falls off, see docs/decisions.md
_LARGEST_CLOSE = 96  # px at the network's input: larger faces are found in a view from farther away
_TILE = 1280  # px: larger inputs are cut into tiles, so that memory stays flat
_OVERLAP = 192  # px of two neighbouring tiles at the network's input: the largest face that only tiles would see
_LOOKS = 4  # faces in one run of the second look: more are no faster, and take memory
_REFINED_FACE, _REFINED_SIDE = 72, 128  # px: a face is shown to the second look at one size, with room around it


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face found: box in px, five landmarks (5, 2) in px, score in [0, 1]."""

    box: Box
    landmarks: Float32[np.ndarray, "5 2"]
    score: float


class Detector:
    """Find faces with one ONNX network.

    Args:
        card: The model's card; its convention names the decoder, size and colour order.
        threshold: Least score of a face.
        min_face: Least face side in px that should be found. A smaller one costs time: the picture is shown to the
            network at the scale at which such a face still has 12 px.
        scale: Network px per picture px where ``min_face`` does not ask for another. Small pictures are shown larger.
        max_side: Long side at the network's input beyond which a picture is reduced, unless ``min_face`` forbids it.
        threads: ONNX Runtime threads; default the CPU quota.
        refine: Look at each face again, cut out at one standard size, and take box and landmarks from there.
        second: The detector that looks again, and that takes over where this one finds nothing; default itself.
            A network without mouth corners needs one.
    """

    def __init__(
        self,
        card: Card,
        *,
        threshold: float | None = None,
        min_face: float | None = None,
        scale: float = 0.5,
        max_side: int = 1280,
        threads: int | None = None,
        refine: bool = True,
        second: Detector | None = None,
    ) -> None:
        convention = DetectorConvention.of(card)
        kind = convention.kind
        if kind not in _DECODERS:
            raise ModelError(
                f"Detector '{card.name}' has convention '{kind}'; known are {', '.join(sorted(_DECODERS))}."
            )
        self.card = card
        self.threshold = convention.threshold if threshold is None else threshold
        self.min_face = min_face
        self.scale = scale
        self.max_side = max_side
        # A network of one size cannot be shown a small cut-out.
        self.refine = refine and convention.side is None
        self.second = second
        self._decode = _DECODERS[kind]
        self._fixed = convention.side
        self._feed = Feed(card.convention)
        self.session = make_session(zoo.path(card.name), options=session_options(threads=threads))
        self._input = self.session.get_inputs()[0].name

    def detect(self, image: Image) -> list[Detection]:
        """Return the faces of a picture, largest first.

        Args:
            image: RGB uint8, shape (height, width, 3).
        """
        scales = self._scales_for(image.shape[1], image.shape[0])
        views = [self._view(image, scale) for scale in scales]
        for i, scale in enumerate(scales[:-1]):
            # What looks large in a close view is a part of a face, or half of one at the edge of a tile.
            views[i] = views[i][_sides(views[i]) * scale <= _LARGEST_CLOSE]
        rows = suppress(np.concatenate(views))
        if self.second is not None:
            rows, sure = self.second.refine_boxes(image, rows)
            rows = suppress(rows[sure])
            if not len(rows):
                return self.second.detect(image)
        elif self.refine and len(rows):
            rows = suppress(self.refine_boxes(image, rows)[0])
        if self.min_face is not None:
            rows = rows[_sides(rows) >= self.min_face]
        inside = (rows[:, :2] < (image.shape[1], image.shape[0])).all(axis=1) & (rows[:, 2:4] > 0).all(axis=1)
        rows = rows[inside]
        order = np.argsort(-_sides(rows), kind="stable")
        return [_detection(rows[i], image.shape[1], image.shape[0]) for i in order]

    @property
    def can_look_again(self) -> bool:
        """Whether `look_again` is to be had: a network of one size cannot be shown a small cut-out."""
        return (self.second or self).refine

    def look_again(self, image: Image, boxes: Sequence[Box]) -> list[Detection | None]:
        """Look for faces that are expected, each at one standard size: a fraction of the time of a search.

        Args:
            image: RGB uint8, shape (height, width, 3).
            boxes: Where the faces should be, px.

        Returns:
            One a box, as `detect` would return it; None where there is no face.
        """
        assert self.can_look_again
        rows = np.zeros((len(boxes), 15), np.float32)
        for row, box in zip(rows, boxes, strict=True):
            row[:4] = box.as_tuple()
        rows, sure = (self.second or self).refine_boxes(image, rows)
        height, width = image.shape[:2]
        inside = (rows[:, :2] < (width, height)).all(axis=1) & (rows[:, 2:4] > 0).all(axis=1)
        return [_detection(row, width, height) if seen else None for row, seen in zip(rows, sure & inside, strict=True)]

    def _scales_for(self, width: int, height: int) -> list[float]:
        """Return network px per picture px: one view, or a close one for small faces and ever farther ones."""
        if self._fixed:
            return [self._fixed / max(width, height)]
        # A panorama is shown as large as a picture of 2 : 1 of its height: it is long, its faces are not smaller.
        long_side = min(max(width, height), 2 * min(width, height))
        usual = min(max(self.scale, 640 * self.scale / long_side), self.max_side / long_side, 4.0)
        if self.min_face is None:
            return [usual]
        scales = [min(_SMALLEST_FOUND / self.min_face, 4.0)]
        while scales[-1] > 1.5 * usual:
            scales.append(max(scales[-1] / 4, usual))
        return scales

    def _view(self, image: Image, scale: float) -> Rows:
        """Detect at one scale, in tiles where the picture is large."""
        return suppress(np.concatenate([self._rows(part, x, y, scale) for part, x, y in cut_tiles(image, scale)]))

    def _rows(self, image: Image, left: int, top: int, scale: float) -> Rows:
        """Detect in one tile; return rows in px of the whole picture."""
        height, width = image.shape[:2]
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = shrunk(image, size)
        stride = self._fixed or _STRIDE
        padded = (math.ceil(size[1] / stride) * stride, math.ceil(size[0] / stride) * stride)
        if padded != (size[1], size[0]):
            small = cv2.copyMakeBorder(small, 0, padded[0] - size[1], 0, padded[1] - size[0], cv2.BORDER_CONSTANT)
        rows = self._run(small[None])[0]
        rows[:, [0, 2, 5, 7, 9, 11, 13]] = rows[:, [0, 2, 5, 7, 9, 11, 13]] * (width / size[0]) + left
        rows[:, [1, 3, 6, 8, 10, 12, 14]] = rows[:, [1, 3, 6, 8, 10, 12, 14]] * (height / size[1]) + top
        return rows

    def _run(self, batch: UInt8[np.ndarray, "batch height width 3"]) -> list[Rows]:
        """Run the network on pictures of one size; return the rows of each above the threshold."""
        blob = self._feed(batch)
        # Some decoders read rows of one picture only.
        step = 1 if self._decode in (scrfd, yunet) else len(blob)
        parts = (self.session.run(None, {self._input: blob[i : i + step]}) for i in range(0, len(blob), step))
        return [rows for outputs in parts for rows in self._decode(outputs, batch.shape[1:3], self.threshold)]

    def refine_boxes(self, image: Image, rows: Rows) -> tuple[Rows, Bool[np.ndarray, " faces"]]:
        """Show each face again at one standard size; return boxes and landmarks from there, and where it was found.

        The first look may see a face with 12 px or with 600; the second sees all of them alike, so the crop that is
        embedded depends less on how far the person stood.
        """
        sure = np.zeros(len(rows), dtype=bool)
        scales = _REFINED_FACE / np.maximum(_sides(rows), 1.0)
        centres = (rows[:, 0:2] + rows[:, 2:4]) / 2
        matrices = [
            np.array([[s, 0, _REFINED_SIDE / 2 - s * x], [0, s, _REFINED_SIDE / 2 - s * y]])
            for s, (x, y) in zip(scales, centres, strict=True)
        ]
        margin = (_REFINED_SIDE - _REFINED_FACE) / 2
        expected = np.array([margin, margin, _REFINED_SIDE - margin, _REFINED_SIDE - margin], np.float32)
        refined = rows.copy()
        for start in range(0, len(rows), _LOOKS):
            part = range(start, min(start + _LOOKS, len(rows)))
            batch = np.stack([_cut(image, matrices[i], _REFINED_SIDE) for i in part])
            for i, found in zip(part, self._run(batch), strict=True):
                if not len(found):
                    continue
                middle = (found[:, 0:2] + found[:, 2:4]) / 2
                best = found[np.argmin(np.linalg.norm(middle - _REFINED_SIDE / 2, axis=1))]
                if _overlap(best[None, :4], expected)[0] < 0.3:
                    continue
                points = (best[[*range(4), *range(5, 15)]].reshape(7, 2) - matrices[i][:, 2]) / scales[i]
                refined[i, :4] = points[:2].ravel()
                refined[i, 5:] = points[2:].ravel()
                refined[i, 4] = best[4]
                sure[i] = True
        return refined, sure


def suppress(rows: Rows, *, overlap: float = 0.3) -> Rows:
    """Keep the best row of each heap of overlapping boxes (greedy non-maximum suppression), best first.

    Boxes without extent, which a network may answer where it is unsure, are dropped.
    """
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 2:4] > rows[:, :2]).all(axis=1)]
    boxes = np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2]], axis=1)
    keep = cv2.dnn.NMSBoxes(boxes.tolist(), rows[:, 4].tolist(), 0.0, overlap)
    return rows[np.asarray(keep, dtype=np.intp).ravel()]


def _sides(rows: Rows) -> Float32[np.ndarray, " faces"]:
    """Return face sides: geometric means of width and height."""
    return np.asarray(np.sqrt((rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])), dtype=np.float32)


def _overlap(boxes: Float32[np.ndarray, "n 4"], box: Float32[np.ndarray, "corners=4"]) -> Float32[np.ndarray, " n"]:
    """Return intersection over union of each box with one."""
    size = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.prod(np.maximum(size, 0), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - shared
    return np.asarray(shared / np.maximum(area, 1e-6), dtype=np.float32)


def cut_tiles(image: Image, scale: float) -> Sequence[tuple[Image, int, int]]:
    """Cut a picture so that no tile exceeds the limit at the network's input; one tile where it fits."""
    height, width = image.shape[:2]
    side, step = int(_TILE / scale), int((_TILE - _OVERLAP) / scale)

    def starts(length: int) -> list[int]:
        if length <= side:
            return [0]
        count = math.ceil((length - side) / step) + 1
        return [round(i * (length - side) / (count - 1)) for i in range(count)]

    return [(image[y : y + side, x : x + side], x, y) for y in starts(height) for x in starts(width)]


def _cut(image: Image, matrix: np.ndarray, side: int) -> Image:
    """Cut one square out; reduce a large face by area first, so that it does not alias."""
    factor = int(1 / max(matrix[0, 0], 1e-6))
    if factor >= 2:
        reach = side / matrix[0, 0]
        left, top = (max(int(-matrix[k, 2] / matrix[0, 0]) - factor, 0) for k in (0, 1))
        part = image[top : int(top + reach + 3 * factor), left : int(left + reach + 3 * factor)]
        if part.shape[0] >= factor and part.shape[1] >= factor:
            size = (part.shape[1] // factor, part.shape[0] // factor)
            fx, fy = part.shape[1] / size[0], part.shape[0] / size[1]
            image = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            offset = matrix[:, 2] + matrix[0, 0] * np.array([left + fx / 2 - 0.5, top + fy / 2 - 0.5])
            matrix = np.array([[matrix[0, 0] * fx, 0, offset[0]], [0, matrix[1, 1] * fy, offset[1]]])
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def _detection(row: Float32[np.ndarray, "columns=15"], width: int, height: int) -> Detection:
    left, right = np.clip(row[[0, 2]], 0, width)
    top, bottom = np.clip(row[[1, 3]], 0, height)
    return Detection(
        Box(float(left), float(top), float(right), float(bottom)),
        np.ascontiguousarray(row[5:].reshape(5, 2), dtype=np.float32),
        float(np.clip(row[4], 0, 1)),
    )


def centerface(outputs: Sequence[np.ndarray], size: tuple[int, int], threshold: float) -> list[Rows]:
    """Decode heat (537), log size (538), offset (539) and landmarks (540), all y before x, at stride 4."""
    heat, log_size, offset, marks = outputs
    found = []
    for item in range(len(heat)):
        y, x = np.nonzero(heat[item, 0] > threshold)
        height, width = np.exp(log_size[item][:, y, x]) * 4
        left = np.maximum((x + offset[item, 1, y, x] + 0.5) * 4 - width / 2, 0)
        top = np.maximum((y + offset[item, 0, y, x] + 0.5) * 4 - height / 2, 0)
        points = marks[item][:, y, x].reshape(5, 2, -1)
        rows = np.empty((len(x), 15), np.float32)
        rows[:, :5] = np.stack([left, top, left + width, top + height, heat[item, 0, y, x]], axis=1)
        rows[:, 5::2] = (points[:, 1] * width + left).T
        rows[:, 6::2] = (points[:, 0] * height + top).T
        found.append(suppress(rows))
    return found


def scrfd(outputs: Sequence[np.ndarray], size: tuple[int, int], threshold: float) -> list[Rows]:
    """Decode nine outputs: scores, distances to the box sides, landmark offsets, for strides 8, 16, 32; two anchors."""
    flat = [np.asarray(o).reshape(-1, np.asarray(o).shape[-1]) for o in outputs]
    scores, boxes, marks = flat[0:3], flat[3:6], flat[6:9]
    found = []
    for score, box, mark, stride in zip(scores, boxes, marks, (8, 16, 32), strict=True):
        centres = _grid(size, stride, anchors=2, shift=0.0)
        keep = np.nonzero(score[:, 0] > threshold)[0]
        c, b, m = centres[keep], box[keep] * stride, mark[keep] * stride
        corners = np.concatenate([c - b[:, :2], c + b[:, 2:]], axis=1)
        points = (c[:, None, :] + m.reshape(-1, 5, 2)).reshape(-1, 10)
        found.append(np.concatenate([corners, score[keep], points], axis=1).astype(np.float32))
    return [suppress(np.concatenate(found))]


def yunet(outputs: Sequence[np.ndarray], size: tuple[int, int], threshold: float) -> list[Rows]:
    """Decode twelve outputs: class, objectness, box, landmarks, each for strides 8, 16, 32; one anchor."""
    flat = [np.asarray(o).reshape(-1, np.asarray(o).shape[-1]) for o in outputs]
    found = []
    for level, stride in enumerate((8, 16, 32)):
        kind, objectness, box, mark = (flat[group * 3 + level] for group in range(4))
        score = np.sqrt(np.clip(kind[:, 0], 0, 1) * np.clip(objectness[:, 0], 0, 1))
        keep = np.nonzero(score > threshold)[0]
        c = _grid(size, stride, anchors=1, shift=0.0)[keep]
        centre = c + box[keep, :2] * stride
        half = np.exp(box[keep, 2:]) * stride / 2
        points = (c[:, None, :] + mark[keep].reshape(-1, 5, 2) * stride).reshape(-1, 10)
        rows = np.concatenate([centre - half, centre + half, score[keep, None], points], axis=1)
        found.append(rows.astype(np.float32))
    return [suppress(np.concatenate(found))]


def blazeface(outputs: Sequence[np.ndarray], size: tuple[int, int], threshold: float) -> list[Rows]:
    """Decode offsets from the cell centres: box, eyes, nose, mouth, ears; two anchors at stride 16, six at 32.

    There are no mouth corners: both landmarks stand at the middle of the mouth until a second look moves them.
    """
    centres = np.concatenate([_grid(size, 16, anchors=2, shift=0.5), _grid(size, 32, anchors=6, shift=0.5)])
    found = []
    for values, logit in zip(*(np.asarray(o) for o in outputs), strict=True):
        keep = np.nonzero(logit[:, 0] > math.log(threshold / (1 - threshold)))[0]
        v, c = values[keep], centres[keep]
        middle, half = c + v[:, :2], v[:, 2:4] / 2
        points = (c[:, None, :] + v[:, 4:12].reshape(-1, 4, 2))[:, [0, 1, 2, 3, 3]].reshape(-1, 10)
        score = 1 / (1 + np.exp(-logit[keep]))
        found.append(suppress(np.concatenate([middle - half, middle + half, score, points], axis=1).astype(np.float32)))
    return found


def retinaface(outputs: Sequence[np.ndarray], size: tuple[int, int], threshold: float) -> list[Rows]:
    """Decode boxes, scores and landmarks relative to priors, two a cell for strides 8, 16, 32 (variances 0.1, 0.2)."""
    centres = np.concatenate([_grid(size, stride, anchors=2, shift=0.5) for stride in _PRIORS])
    sides = np.concatenate(
        [np.tile(pair, (size[0] // stride) * (size[1] // stride)) for stride, pair in _PRIORS.items()]
    )
    found = []
    for box, score, mark in zip(*(np.asarray(o) for o in outputs), strict=True):
        keep = np.nonzero(score[:, 1] > threshold)[0]
        c, side = centres[keep], sides[keep, None]
        middle, half = c + 0.1 * side * box[keep, :2], side * np.exp(0.2 * box[keep, 2:]) / 2
        points = (c[:, None, :] + 0.1 * side[:, None] * mark[keep].reshape(-1, 5, 2)).reshape(-1, 10)
        rows = np.concatenate([middle - half, middle + half, score[keep, 1:], points], axis=1)
        found.append(suppress(rows.astype(np.float32)))
    return found


_PRIORS = {8: (16.0, 32.0), 16: (64.0, 128.0), 32: (256.0, 512.0)}
"""Sides in px of RetinaFace's two priors in each cell, by stride."""


@lru_cache(maxsize=32)
def _grid(size: tuple[int, int], stride: int, *, anchors: int, shift: float) -> Float32[np.ndarray, "cells 2"]:
    """Return the anchor centres (x, y) in px, row by row, each repeated for its anchors."""
    rows, columns = size[0] // stride, size[1] // stride
    y, x = np.mgrid[:rows, :columns]
    centres = np.stack([x, y], axis=-1).reshape(-1, 2)
    return np.asarray((np.repeat(centres, anchors, axis=0) + shift) * stride, dtype=np.float32)


_DECODERS: dict[str, Callable[[Sequence[np.ndarray], tuple[int, int], float], list[Rows]]] = {
    "blazeface": blazeface,
    "centerface": centerface,
    "retinaface": retinaface,
    "scrfd": scrfd,
    "yunet": yunet,
}
