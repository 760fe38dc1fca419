"""Lay what was made of an aligned face back into its photograph; nothing outside the face changes."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

__all__ = ["Layers", "feather", "match_border", "transfer_colour"]

Image = UInt8[np.ndarray, "height width 3"]
Matrix = Float64[np.ndarray, "2 3"]
Change = Float32[np.ndarray, "side side 3"]
Mask = Float32[np.ndarray, "side side"]


_FURTHEST = 18.0  # grey levels: how far a face's colours are pulled to those around it


class Layers:
    """Gathers changes of the faces of one photograph; where two faces overlap they share the px.

    Args:
        picture: RGB uint8.
    """

    def __init__(self, picture: Image) -> None:
        self._picture = picture
        self._sum = np.zeros(picture.shape, np.float32)
        self._weight = np.zeros(picture.shape[:2], np.float32)

    def add(self, change: Change, mask: Mask, matrix: Matrix) -> None:
        """Add the change of a face.

        Args:
            change: Of the aligned face, grey levels.
            mask: How much each px of it counts, 0 to 1.
            matrix: From px of the photograph to px of the aligned face.
        """
        part = self._part(matrix, len(mask))
        if part is None:
            return
        (top, bottom, left, right), back = part
        size, flags = (right - left, bottom - top), cv2.INTER_CUBIC
        weight = np.clip(cv2.warpAffine(mask, back, size, flags=cv2.INTER_LINEAR), 0, 1)
        here = cv2.warpAffine(change, back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        self._sum[top:bottom, left:right] += here * weight[..., None]
        self._weight[top:bottom, left:right] += weight

    def replace(self, face: Image, mask: Mask, matrix: Matrix, *, grain: np.random.Generator | None = None) -> None:
        """Lay a face over what was there; nothing of it shines through where the mask is 1.

        Args:
            face: The new aligned face, of any side; ``mask`` and ``matrix`` are of that side.
            mask: As in `add`.
            matrix: As in `add`.
            grain: Gives the face the grain of the photograph; None leaves it smooth.
        """
        part = self._part(matrix, len(mask))
        if part is None:
            return
        (top, bottom, left, right), back = part
        size = (right - left, bottom - top)
        weight = np.clip(cv2.warpAffine(mask, back, size, flags=cv2.INTER_LINEAR), 0, 1)
        here = cv2.warpAffine(
            face.astype(np.float32), back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        was = self._picture[top:bottom, left:right]
        if grain is not None:
            here += grain.normal(0, _grain(was), (*here.shape[:2], 1)).astype(np.float32)
        self._sum[top:bottom, left:right] += (here - was) * weight[..., None]
        self._weight[top:bottom, left:right] += weight

    def blended(self) -> Image:
        """Return the photograph with all changes; px that none touches are those of the photograph."""
        # Where the weights of two faces add to more than all, they share.
        change = self._sum / np.maximum(self._weight, 1)[..., None]
        touched = self._weight > 0
        blended = self._picture.copy()
        blended[touched] = np.clip(np.rint(self._picture[touched] + change[touched]), 0, 255).astype(np.uint8)
        return blended

    def _part(self, matrix: Matrix, side: int) -> tuple[tuple[int, int, int, int], Matrix] | None:
        """Return the part of the photograph that a face lies in, and the map from the face to px of that part."""
        back = cv2.invertAffineTransform(matrix)
        corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ back.T
        height, width = self._picture.shape[:2]
        left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, [width, height])
        right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, [width, height])
        if right <= left or bottom <= top:
            return None  # the face lies outside of the picture
        moved = np.asarray(back, dtype=np.float64).copy()
        moved[:, 2] -= (left, top)
        return (int(top), int(bottom), int(left), int(right)), moved


def feather(side: int, edge: float = 0.15) -> Mask:
    """Return a square mask that fades to 0 over a share of its side at each border."""
    near = np.minimum(np.arange(side) + 0.5, side - 0.5 - np.arange(side)) / (edge * side)
    fade = 0.5 - 0.5 * np.cos(np.pi * np.clip(near, 0, 1))
    return np.asarray(fade[:, None] * fade, np.float32)


def transfer_colour(face: Image, like: Image, mask: Mask) -> Image:
    """Return a face with the colours and the light of another: mean and spread of each channel, within a mask.

    Source: E. Reinhard et al., "Color transfer between images", IEEE CG&A 2001, in CIE Lab.
    """
    weights = mask[..., None] / max(float(mask.sum()), 1e-6)
    ours, theirs = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB).astype(np.float32) for x in (face, like))
    means = [(x * weights).sum((0, 1)) for x in (ours, theirs)]
    spreads = [np.sqrt((np.square(x - m) * weights).sum((0, 1))) for x, m in zip((ours, theirs), means, strict=True)]
    # A covered or flat face should not wash the new one out, nor blow it up.
    factor = np.clip(spreads[1] / np.maximum(spreads[0], 1e-3), 0.6, 1.6)
    moved = (ours - means[0]) * factor + means[1]
    lab = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def match_border(face: Image, like: Image, mask: Mask) -> Image:
    """Return a face whose colours meet those around it: the difference near the mask's border, spread over the face."""
    side = len(mask)
    ring = (np.clip(1 - np.abs(mask - 0.5) * 2.2, 0, 1))[..., None]
    difference = like.astype(np.float32) - face
    sigma = side / 8
    weight = cv2.GaussianBlur(ring, (0, 0), sigma)[..., None]
    spread = cv2.GaussianBlur(difference * ring, (0, 0), sigma) / np.maximum(weight, 1e-3)
    spread = np.clip(spread, -_FURTHEST, _FURTHEST)  # hair and background should not colour the face
    return np.asarray(np.clip(np.rint(face + spread), 0, 255), np.uint8)


def _grain(part: Image) -> float:
    """Return the standard deviation of a picture's noise, grey levels.

    Source: J. Immerkaer, "Fast noise variance estimation", CVIU 1996, with the median, which edges move less.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32), -1, kernel)
    return float(min(np.median(np.abs(response)) / 0.6745 / 6, 15))
