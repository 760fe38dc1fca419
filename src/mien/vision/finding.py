"""The one face that a picture is of, found also in a tight ready-made crop, and cut out with its border repeated."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, align, similarity_transform
from mien.types import Box
from mien.vision.detector import Detection, Detector

__all__ = ["TIGHT", "DetectorLike", "cut_face", "find_face", "patient_detector"]

Image = UInt8[np.ndarray, "height width 3"]
Matrix = Float64[np.ndarray, "2 3"]

TIGHT = 160
"""Px: pictures with a shorter long side are taken for ready-made crops."""

# Px: at least so large is a ready-made crop shown to the detector, and so much border added.
_ENLARGED, _BORDER = 96, 32
_LEAST_SCORE = 0.3  # a ready-made crop holds a face: the detector is asked more kindly than at run time
# Px of a ready-made crop per px of the template laid over all of it: what is outside is no face that fills the crop.
_FILLING = (0.4, 1.4)


class DetectorLike(Protocol):
    """Finds faces: `mien.vision.detector.Detector`, or a stand-in."""

    def detect(self, image: Image) -> list[Detection]:
        """Return the faces of a picture, largest first."""
        ...


def patient_detector() -> DetectorLike:
    """Return the detector `auto`, which looks at every face again at one standard size, asked more kindly."""
    second = Detector(zoo.card(zoo.default("detector")), threshold=_LEAST_SCORE, threads=1)
    return Detector(zoo.card("blazeface-back"), scale=0.5, threads=1, second=second)


def find_face(image: Image, detector: DetectorLike) -> Detection | None:
    """Find the face that a picture is of, also in a ready-made tight crop.

    Detectors are made for photographs. A small picture is enlarged and its border repeated outwards, so that the
    face has the size and the surroundings of one in a photograph; a large one gets the border where nothing is
    found without.

    Returns:
        The face in px of ``image``; None where there is none.
    """
    height, width = image.shape[:2]
    tight = max(height, width) < TIGHT
    factor = max(_ENLARGED / max(height, width), 1.0) if tight else 1.0
    if factor > 1.0:
        shown = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        # Rounded to whole px, the two axes may differ a little.
        scale = np.array([shown.shape[1] / width, shown.shape[0] / height])
    else:
        shown, scale = image, np.ones(2)
    for border in [_BORDER] if tight else [0, max(height, width) // 3]:
        view = _framed(shown, border) if border else shown
        found = detector.detect(view)
        if found:
            best = max(found, key=lambda face: _prominence(face, view))
            marks = (best.landmarks - border + 0.5) / scale - 0.5
            if not tight or _fills(marks, height, width):
                corners = (np.reshape(best.box.as_tuple(), (2, 2)) - border) / scale
                return Detection(Box(*corners.ravel().tolist()), marks.astype(np.float32), best.score)
    return None


def cut_face(
    image: Image, landmarks: Float32[np.ndarray, "5 2"], *, points: Float64[np.ndarray, "5 2"], side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Align a face as `mien.alignment.align` does, the picture's border repeated where the crop reaches beyond it.

    In a photograph a crop hardly ever leaves the picture; a ready-made crop should not show black for want of it.
    """
    framed, border = _with_room(image, similarity_transform(landmarks, points), side)
    return align(framed, landmarks + border, points=points, side=side)


def _prominence(face: Detection, image: Image) -> float:
    """Large and near the middle."""
    box = face.box
    return box.side - 0.5 * math.hypot(
        (box.left + box.right - image.shape[1]) / 2, (box.top + box.bottom - image.shape[0]) / 2
    )


def _fills(marks: Float64[np.ndarray, "5 2"], height: int, width: int) -> bool:
    """Whether a face fills a ready-made crop as such a face does; the detector also sees eyes in cheeks."""
    matrix = similarity_transform(TEMPLATES["fer-48"].points_at(min(height, width)), marks)
    return _FILLING[0] < math.hypot(matrix[0, 0], matrix[1, 0]) < _FILLING[1]


def _framed(image: Image, border: int) -> Image:
    return np.asarray(cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _with_room(image: Image, matrix: Matrix, side: int) -> tuple[Image, int]:
    """Return the picture, its border repeated as far as the crop reaches beyond it, and by how many px."""
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ cv2.invertAffineTransform(matrix).T
    beyond = max(-corners.min(), (corners - [image.shape[1], image.shape[0]]).max(), 0.0)
    border = min(math.ceil(beyond) + 2, 2 * max(image.shape[:2])) if beyond > 0 else 0
    return (_framed(image, border) if border else image), border
