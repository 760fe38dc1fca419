"""Other views of a picture in which the first shows no upright face: with room around it, and turned.

Scans and messengers store pictures sideways without a note; other tools cut faces so tight that no detector knows them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.finding import DetectorLike

__all__ = ["TURNS", "View", "WholePicture", "is_upright", "look"]

Image = UInt8[np.ndarray, "height width 3"]

TURNS = (0, 90, 180, 270)
"""Degrees clockwise by which a picture can be turned."""

_UPRIGHT = 45.0  # degrees: beyond, the landmarks of a face in a picture of this orientation are not to be trusted
_LEAST_SCORE = 0.5  # of a face that only another view shows
_GREY = (128, 128, 128)  # put around a tight crop: of grey, black, mirrored and repeated borders it hides fewest faces
_LONG_SIDE = 960  # px: what fills a picture is large enough in one of this size
_ROOM = 3  # a third of the long side is put around
# Of a face that fills its picture, in shares of width and height; the mean of drawn faces in their boxes.
_USUAL = np.array([[0.27, 0.38], [0.74, 0.38], [0.50, 0.59], [0.31, 0.76], [0.69, 0.76]])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture as it was shown to the detector.

    Attributes:
        image: What was shown.
        turn: By how many degrees clockwise the picture was turned.
        border: Px that were put around it, after it was reduced.
        scale: Px of the view per px of the picture.
    """

    image: Image
    turn: int = 0
    border: int = 0
    scale: float = 1.0

    @property
    def is_picture(self) -> bool:
        """Whether this is the picture itself."""
        return not self.turn and not self.border

    def to_picture(self, box: Box, landmarks: Float32[np.ndarray, "5 2"]) -> tuple[Box, Float32[np.ndarray, "5 2"]]:
        """Return box and landmarks in px of the picture itself."""
        corners = (np.reshape(box.as_tuple(), (2, 2)) - self.border) / self.scale
        height, width = self._extent()
        for _ in range(self.turn // 90):
            # Back by a quarter: the top of the view is the left of what it was turned from.
            corners = np.stack([corners[:, 1], width - corners[:, 0]], axis=1)
            height, width = width, height
        left, right = np.clip(np.sort(corners[:, 0]), 0, width)
        top, bottom = np.clip(np.sort(corners[:, 1]), 0, height)
        return Box(float(left), float(top), float(right), float(bottom)), self.points_to_picture(landmarks)

    def points_to_picture(self, points: Float32[np.ndarray, "points 2"]) -> Float32[np.ndarray, "points 2"]:
        """Return points of the view in px of the picture itself."""
        points = (points - self.border + 0.5) / self.scale - 0.5
        height, width = self._extent()
        for _ in range(self.turn // 90):
            points = np.stack([points[:, 1], width - 1 - points[:, 0]], axis=1)
            height, width = width, height
        return points.astype(np.float32)

    def _extent(self) -> tuple[float, float]:
        """Return height and width of the view in px of the picture."""
        height, width = ((side - 2 * self.border) / self.scale for side in self.image.shape[:2])
        return height, width


class WholePicture:
    """Stands in for a detector where other tools have cut the faces: each picture is one face that fills it.

    Args:
        find: Finds the face in the picture with room around it; where it does not, usual landmarks are taken.
    """

    def __init__(self, find: Callable[[Image], Sequence[Detection]]) -> None:
        self._find = find

    def detect(self, image: Image) -> list[Detection]:
        """Return one face, the whole picture."""
        height, width = image.shape[:2]
        whole = Box(0.0, 0.0, float(width), float(height))
        view = _framed(image)
        found = [face for face in self._find(view.image) if is_upright(face.landmarks)]
        if found:
            best = max(found, key=lambda face: face.box.area)
            box, landmarks = view.to_picture(best.box, best.landmarks)
            if box.area > whole.area / 4:
                return [Detection(whole, landmarks, best.score)]
        return [Detection(whole, (_USUAL * (width, height) - 0.5).astype(np.float32), 1.0)]


def look(image: Image, detector: DetectorLike, *, turn: int | None = None) -> tuple[View, list[Detection]]:
    """Find the faces of a picture; where none is upright, look at it with room around it and turned.

    Args:
        image: The picture.
        detector: Finds faces in a view.
        turn: Turn the picture by this first, and look no further; None decides by what is found.

    Returns:
        The view that shows most, and its faces in px of that view.
    """
    if turn is not None:
        view = _turned(image, turn)
        return view, detector.detect(view.image)
    first = View(image), detector.detect(image)
    if isinstance(detector, WholePicture) or any(is_upright(face.landmarks) for face in first[1]):
        return first
    seen = [] if first[1] else [_seen(_framed(image), detector)]
    if not any(faces for _, faces in seen):
        seen += [_seen(_turned(image, turn), detector) for turn in TURNS[1:]]
    best = max(seen, key=lambda pair: sum(face.score for face in pair[1]))
    return best if best[1] else first


def is_upright(landmarks: Float32[np.ndarray, "5 2"]) -> bool:
    """Whether the mouth is below the eyes; landmarks that all stand in one place say nothing against it."""
    down = (landmarks[3] + landmarks[4] - landmarks[0] - landmarks[1]).astype(np.float64)
    return not down.any() or abs(math.degrees(math.atan2(down[0], down[1]))) <= _UPRIGHT


def _seen(view: View, detector: DetectorLike) -> tuple[View, list[Detection]]:
    faces = [f for f in detector.detect(view.image) if f.score >= _LEAST_SCORE and is_upright(f.landmarks)]
    if view.border:
        # Beside the picture there is nothing but its border.
        faces = [face for face in faces if _is_inside(face.box, view)]
    return view, faces


def _is_inside(box: Box, view: View) -> bool:
    height, width = view.image.shape[:2]
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return bool(view.border <= x <= width - view.border and view.border <= y <= height - view.border)


def _turned(image: Image, turn: int) -> View:
    return View(np.ascontiguousarray(np.rot90(image, -turn // 90)), turn=turn)


def _framed(image: Image) -> View:
    height, width = image.shape[:2]
    scale = min(_LONG_SIDE / max(height, width), 1.0)
    if scale < 1.0:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    border = max(image.shape[:2]) // _ROOM + 1
    framed = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT, value=_GREY)
    return View(np.asarray(framed, dtype=np.uint8), border=border, scale=scale)
