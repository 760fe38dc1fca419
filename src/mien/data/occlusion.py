"""What stands before a face: masks, glasses, hands, scarves and blocks, drawn; and where they stand."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

__all__ = ["OCCLUSIONS", "covered_region", "lay_over", "occlude"]

RGB = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]
Marks = Float[np.ndarray, "5 2"]

_SHIFT = 4  # OpenCV's polygons take fractions of a px as 1/16


def occlude(image: RGB, landmarks: Marks, rng: np.random.Generator, kind: str | None = None) -> tuple[RGB, Mask]:
    """Return a face with something drawn over it, and where.

    Args:
        image: The picture.
        landmarks: Of the face, px, shape (5, 2).
        rng: The only source of chance.
        kind: One of `OCCLUSIONS`; None draws one.
    """
    kind = str(rng.choice(OCCLUSIONS)) if kind is None else kind
    region = covered_region(image.shape[:2], landmarks, kind, rng)
    return lay_over(image, region, _paint(image, kind, rng)), region


def covered_region(shape: tuple[int, ...], landmarks: Marks, kind: str, rng: np.random.Generator) -> Mask:
    """Return the px that something of a kind covers.

    Args:
        shape: Height and width of the picture.
        landmarks: Of the face, px.
        kind: One of `OCCLUSIONS`.
        rng: The only source of chance.

    Raises:
        KeyError: There is no such kind.
    """
    # In units of the distance between the eyes, from the point between them, along and across the line of the eyes.
    shapes = _SHAPES[kind](rng)
    eyes = landmarks[1] - landmarks[0]
    middle, across = landmarks[:2].mean(axis=0), np.array([-eyes[1], eyes[0]])
    region = np.zeros(shape[:2], np.uint8)
    for outline in shapes:
        points = middle + outline[:, :1] * eyes + outline[:, 1:] * across
        cv2.fillPoly(region, [np.round(points * 2**_SHIFT).astype(np.int32)], 1, cv2.LINE_8, _SHIFT)
    return region.astype(bool)


def lay_over(image: RGB, region: Mask, paint: Float32[np.ndarray, "height width 3"]) -> RGB:
    """Return a picture with paint over a region, its border soft by a px as cameras show it."""
    alpha = cv2.GaussianBlur(region.astype(np.float32), (0, 0), 0.6)[..., None]
    return np.asarray(np.clip(image * (1 - alpha) + paint * alpha + 0.5, 0, 255), np.uint8)


def _paint(image: RGB, kind: str, rng: np.random.Generator) -> Float32[np.ndarray, "height width 3"]:
    """Draw what the thing is made of: a colour, folds or a pattern, light from one side, some grain."""
    height, width = image.shape[:2]
    if kind == "hand":
        # Skin of another tone than the face's, or of its own.
        colour = np.median(image.reshape(-1, 3), axis=0) * rng.uniform(0.6, 1.3)
    elif kind in ("mask", "scarf") and rng.random() < 0.5:
        colour = np.array([(225, 235, 240), (140, 185, 215), (25, 25, 30)][rng.integers(3)], float)
    elif kind == "glasses":
        colour = rng.uniform(0, 60, 3)
    else:
        colour = rng.uniform(0, 255, 3)
    v, u = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    along, light = u * np.cos(angle) + v * np.sin(angle), rng.uniform(-0.6, 0.6)
    paint = colour * (1 + light * (along - along.mean()))[..., None]
    if rng.random() < 0.4:
        stripes = np.sin(along * rng.uniform(10, 90) + rng.uniform(0, 6))[..., None]
        paint = paint + stripes * rng.uniform(3, 40) * rng.uniform(0.2, 1, 3)
    return np.asarray(paint + rng.normal(0, rng.uniform(0.5, 5), (height, width, 1)), np.float32)


def _ellipse(u: float, v: float, ru: float, rv: float, tilt: float = 0.0) -> Float[np.ndarray, "points 2"]:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = ru * np.cos(angle), rv * np.sin(angle)
    return np.stack([u + x * np.cos(tilt) - y * np.sin(tilt), v + x * np.sin(tilt) + y * np.cos(tilt)], axis=1)


def _mask(rng: np.random.Generator) -> list[np.ndarray]:
    top, side, low = rng.uniform(0.25, 0.75), rng.uniform(0.8, 1.1), rng.uniform(1.7, 2.0)
    dip = top + rng.uniform(0.0, 0.2)
    return [np.array([(-side, dip), (-0.25, top), (0, top - 0.1), (0.25, top), (side, dip), (side * 0.9, 1.25),
                      (0.45, low), (-0.45, low), (-side * 0.9, 1.25)])]  # fmt: skip


def _scarf(rng: np.random.Generator) -> list[np.ndarray]:
    top, low = rng.uniform(0.6, 1.1), 2.6
    left, right = rng.uniform(-0.15, 0.15, 2)
    return [np.array([(-1.6, top + left), (0, top), (1.6, top + right), (1.6, low), (-1.6, low)])]


def _glasses(rng: np.random.Generator) -> list[np.ndarray]:
    ru, rv = rng.uniform(0.28, 0.45), rng.uniform(0.2, 0.36)
    v, bar = rng.uniform(-0.02, 0.1), rng.uniform(0.02, 0.06)
    sides = [np.array([(s * 0.5, v - bar), (s * 1.15, v - bar), (s * 1.15, v + bar), (s * 0.5, v + bar)])
             for s in (-1, 1)]  # fmt: skip
    bridge = np.array([(-0.5, v - bar), (0.5, v - bar), (0.5, v + bar), (-0.5, v + bar)])
    return [_ellipse(-0.5, v, ru, rv), _ellipse(0.5, v, ru, rv), bridge, *sides]


def _hand(rng: np.random.Generator) -> list[np.ndarray]:
    u, v = rng.uniform(-0.9, 0.9), rng.uniform(0.2, 1.6)
    tilt, width = rng.uniform(-0.8, 0.8) + (0 if v > 0.9 else np.pi / 2), rng.uniform(0.13, 0.2)
    shapes = [_ellipse(u, v + 0.5, 0.45, 0.5, tilt)]
    for finger in range(int(rng.integers(2, 5))):
        shapes.append(_ellipse(u + (finger - 1.5) * 2 * width, v, width, rng.uniform(0.45, 0.8), tilt * 0.3))
    return shapes


def _block(rng: np.random.Generator) -> list[np.ndarray]:
    u, v, width, height = rng.uniform(-1, 1), rng.uniform(-0.6, 1.7), *rng.uniform(0.2, 1.0, 2)
    tilt = rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else 0.0
    corners = np.array([(-width, -height), (width, -height), (width, height), (-width, height)])
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    return [corners @ turn + (u, v)]


def _strokes(rng: np.random.Generator) -> list[np.ndarray]:
    shapes = []
    for _ in range(int(rng.integers(1, 5))):
        middle = (float(rng.uniform(-1.1, 1.1)), float(rng.uniform(-0.7, 1.8)))
        shapes.append(_ellipse(*middle, rng.uniform(0.04, 0.15), rng.uniform(0.3, 1.3), rng.uniform(0, np.pi)))
    return shapes


_SHAPES: dict[str, Callable[[np.random.Generator], list[np.ndarray]]] = {
    "mask": _mask, "glasses": _glasses, "hand": _hand, "scarf": _scarf, "block": _block, "strokes": _strokes,
}  # fmt: skip

OCCLUSIONS = tuple(_SHAPES)
"""What may stand before a face."""
