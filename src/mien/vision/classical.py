"""What pictures are improved by without learning: the controls of every learned restoration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

__all__ = ["CLASSICAL", "denoise", "enlarge", "even_light", "fill", "sharpen"]

RGB = UInt8[np.ndarray, "height width 3"]


def sharpen(image: RGB, *, sigma: float = 1.5, amount: float = 0.7) -> RGB:
    """Return a picture with its own fine structure added: an unsharp mask.

    Args:
        image: RGB uint8.
        sigma: Of the blur that is taken away, px.
        amount: How much of the rest is added.
    """
    soft = cv2.GaussianBlur(image, (0, 0), sigma)
    return np.asarray(cv2.addWeighted(image, 1 + amount, soft, -amount, 0), np.uint8)


def even_light(image: RGB, *, limit: float = 2.0) -> RGB:
    """Return a picture whose lightness is spread out, place by place (CLAHE); colours stay."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=limit, tileGridSize=(4, 4)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def denoise(image: RGB, *, strength: float = 6.0) -> RGB:
    """Return a picture with less noise, by non-local means."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(image, None, strength, strength, 5, 15), np.uint8)


def fill(image: RGB, covered: Bool[np.ndarray, "height width"]) -> RGB:
    """Return a picture whose covered px are filled from their border inwards.

    Source: A. Telea, "An image inpainting technique based on the fast marching method", 2004.
    """
    return np.asarray(cv2.inpaint(image, covered.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8)


def enlarge(image: RGB, factor: float) -> RGB:
    """Return a picture so many times as wide and high, by bicubic interpolation."""
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)


CLASSICAL: Mapping[str, Callable[[RGB], RGB]] = {"unsharp": sharpen, "clahe": even_light, "denoise": denoise}
"""Methods by name that need nothing but the picture."""
