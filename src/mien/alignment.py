"""Five landmarks to an upright crop: one similarity transform, no shear.

Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
IEEE TPAMI 13(4), 1991, equations (40)-(43), in the closed form that two dimensions allow.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

__all__ = ["TEMPLATES", "Template", "align", "similarity_transform"]


class Template(NamedTuple):
    """Where the landmarks of an aligned face lie.

    Attributes:
        side: Of the crop, px.
        points: (x, y) of left eye, right eye, nose tip, left and right mouth corner, px.
    """

    side: int
    points: tuple[tuple[float, float], ...]

    def points_at(self, side: float) -> Float64[np.ndarray, "points 2"]:
        """Return the points in a crop of another side, px."""
        return np.array(self.points) * (side / self.side)


TEMPLATES: dict[str, Template] = {
    "arcface-112": Template(
        112,
        ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)),
    ),
    "dlib-150": Template(150, ((48.6, 44.6), (101.4, 44.6), (75.0, 78.4), (52.5, 102.6), (97.5, 102.6))),
    # A little tighter, as dlib's networks for age and gender are fed.
    "dlib-140": Template(140, ((43.6, 39.6), (96.4, 39.6), (70.0, 73.4), (47.5, 97.6), (92.5, 97.6))),
    # Where the five landmarks lie on average in FER2013's 48 px pictures, moved so that the face stands in the middle.
    "fer-48": Template(48, ((14.0, 18.2), (32.7, 18.0), (23.4, 27.7), (16.0, 35.7), (31.2, 35.5))),
    # Tight: forehead to chin, as much as UTKFace's crops hold; what generators draw.
    "face-64": Template(64, ((20.0, 20.0), (44.0, 20.0), (32.0, 33.2), (22.2, 44.0), (41.8, 44.0))),
    # With room around it, as CelebA's aligned pictures show it: what is restored, and laid back into its photograph.
    "loose-120": Template(120, ((43.0, 45.0), (77.0, 45.0), (60.0, 63.8), (46.3, 79.8), (73.7, 79.8))),
    "facenet-160": Template(
        160,
        ((54.7066, 73.8519), (105.0454, 73.5734), (80.0360, 102.4809), (59.3561, 131.9507), (101.0427, 131.7201)),
    ),
}
"""Template by name. `facenet-160` is the ArcFace template scaled to 160 px, for nets trained on loose crops."""


def similarity_transform(
    source: Float[np.ndarray, "points 2"],
    target: Float[np.ndarray, "points 2"],
    *,
    weights: Float[np.ndarray, " points"] | None = None,
) -> Float64[np.ndarray, "2 3"]:
    """Fit rotation, uniform scale and shift that carry ``source`` onto ``target`` with least squared error.

    Args:
        source: Points (x, y), shape (points, 2), at least two distinct ones.
        target: Where they should go, shape (points, 2).
        weights: How much each point counts; default all alike.

    Returns:
        The matrix [sR | t], shape (2, 3), for ``target = sR @ source + t``.

    Source: with points as complex numbers the fit is ``target = a * source + b``, a linear least squares.
    """
    p = np.asarray(source, dtype=np.float64) @ np.array([1, 1j])
    q = np.asarray(target, dtype=np.float64) @ np.array([1, 1j])
    w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    p0, q0 = w @ p, w @ q
    spread = np.vdot(p - p0, w * (p - p0)).real
    # Landmarks that fall on one point fit no rotation: keep the picture upright at unit scale.
    a = np.vdot(p - p0, w * (q - q0)) / spread if spread > 0 else 1.0 + 0.0j
    b = q0 - a * p0
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(
    image: UInt8[np.ndarray, "height width 3"],
    landmarks: Float[np.ndarray, "5 2"],
    *,
    points: Float[np.ndarray, "5 2"],
    side: int,
    weights: Float[np.ndarray, "points=5"] | None = None,
) -> UInt8[np.ndarray, "side side 3"]:
    """Cut the face out upright, landmarks as near as possible to the template's points.

    A face much larger than the crop is averaged down first, so that fine texture does not alias.

    Args:
        image: RGB uint8, shape (height, width, 3).
        landmarks: Five points (x, y) px in ``image``, shape (5, 2).
        points: Where they belong in the crop, px, shape (5, 2).
        side: Width and height of the crop in px.
        weights: How much each landmark counts; default all alike.

    Returns:
        The crop, RGB uint8, shape (side, side, 3); black where it leaves the picture.
    """
    matrix = similarity_transform(landmarks, points, weights=weights)
    shrink = 1.0 / max(float(np.hypot(matrix[0, 0], matrix[1, 0])), 1e-6)
    if shrink > 2.0:
        image, matrix = _shrunk(image, matrix, factor=int(shrink), side=side)
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def _shrunk(
    image: UInt8[np.ndarray, "height width 3"], matrix: Float64[np.ndarray, "2 3"], *, factor: int, side: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "2 3"]]:
    """Cut the part that the crop will show and average it down by a whole factor; return it and its matrix."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ inverse.T
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - factor, 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + factor, [left + 1, top + 1], [width, height])
    part = image[top:bottom, left:right]
    size = (max(part.shape[1] // factor, 1), max(part.shape[0] // factor, 1))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    scale_x, scale_y = part.shape[1] / size[0], part.shape[0] / size[1]
    # Pixel centres: x in the small picture stands for (x + 0.5) * scale - 0.5 + left in the large one.
    lift = np.array(
        [[scale_x, 0, left + 0.5 * scale_x - 0.5], [0, scale_y, top + 0.5 * scale_y - 0.5], [0, 0, 1]], dtype=np.float64
    )
    return np.asarray(small, dtype=np.uint8), np.asarray(matrix @ lift, dtype=np.float64)
