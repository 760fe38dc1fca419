"""Pixels to what a network is fed."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

__all__ = ["Feed", "shrunk"]


class Feed:
    """The input convention of a card: colour order, mean and scale.

    Args:
        convention: Its ``order`` (RGB, BGR or GRAY), ``mean`` and ``scale`` (one number or one a channel); the network
            is fed ``(pixel - mean) * scale``, pixels 0 to 255, NCHW.
    """

    def __init__(self, convention: Mapping[str, object]) -> None:
        self.order = str(convention.get("order", "RGB"))
        mean, scale = (
            np.atleast_1d(np.array(convention.get(k, d), np.float32)) for k, d in (("mean", 0), ("scale", 1))
        )
        self._mean = mean[:, None, None] if mean.any() else None
        self._scale = scale[:, None, None] if (scale != 1).any() else None

    def __call__(self, batch: UInt8[np.ndarray, "batch height width 3"]) -> Float32[np.ndarray, "batch channel h w"]:
        """Return RGB pictures of one size as the network's input.

        NumPy on purpose: OpenCV's ``blobFromImages`` takes ten times as long.
        """
        if self.order == "GRAY":
            batch = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] for picture in batch])
        elif self.order == "BGR":
            batch = batch[..., ::-1]
        x = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), dtype=np.float32)
        if self._mean is not None:
            x -= self._mean
        if self._scale is not None:
            x *= self._scale
        return x


def shrunk(image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize a picture to (width, height) without aliasing.

    Halved by area while that leaves enough, then interpolated: as good as averaging over odd areas, and much faster.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1] and min(image.shape[:2]) > 1:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
