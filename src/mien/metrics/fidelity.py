"""How near a picture is to the one that it should be: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from mien.errors import EvaluationError

__all__ = ["GREY", "psnr", "ssim"]

Image = UInt8[np.ndarray, "height width 3"]

_MOST = 60.0  # dB: of equal pictures PSNR has no end
_SIGMA, _RADIUS = 1.5, 5  # px: the Gaussian window of 11 x 11 px
GREY = np.array([0.299, 0.587, 0.114])
"""Share of red, green and blue in lightness."""


def psnr(picture: Image, original: Image) -> float:
    """Return the peak signal-to-noise ratio in dB, at most 60; higher is nearer.

    Args:
        picture: RGB uint8.
        original: RGB uint8, of the same size.

    Raises:
        EvaluationError: They are of different sizes.
    """
    _check(picture, original)
    error = float(np.square(picture.astype(np.float64) - original).mean())
    return min(10 * float(np.log10(255**2 / error)), _MOST) if error else _MOST


def ssim(picture: Image, original: Image) -> float:
    """Return the structural similarity of the luminance: 1 for equal pictures, about 0 for unrelated ones.

    Args:
        picture: RGB uint8.
        original: RGB uint8, of the same size.

    Raises:
        EvaluationError: They are of different sizes.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13(4),
    2004; Gaussian window of 11 x 11 px, mean over the places where it lies within the picture.
    """
    from scipy.ndimage import gaussian_filter

    _check(picture, original)
    x, y = picture @ GREY, original @ GREY

    def mean(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        return np.asarray(gaussian_filter(values, _SIGMA, radius=_RADIUS))

    at_x, at_y = mean(x), mean(y)
    variances, covariance = mean(x * x) - at_x**2 + mean(y * y) - at_y**2, mean(x * y) - at_x * at_y
    light, structure = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    told = (2 * at_x * at_y + light) * (2 * covariance + structure)
    told /= (at_x**2 + at_y**2 + light) * (variances + structure)
    inside = told[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return float((inside if inside.size else told).mean())


def _check(picture: Image, original: Image) -> None:
    if picture.shape != original.shape:
        raise EvaluationError(
            f"Pictures to compare are of one size; got {picture.shape[1]} x {picture.shape[0]} px beside "
            f"{original.shape[1]} x {original.shape[0]} px."
        )
