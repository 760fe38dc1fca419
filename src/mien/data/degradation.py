"""Pictures made worse as bad cameras make them: size, blur, noise, JPEG, light, turning, covers; all seeded."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mien.images import encode_image, load_image

__all__ = [
    "Damage",
    "add_noise",
    "blur",
    "change_light",
    "compress",
    "cover",
    "degrade",
    "flatten",
    "rotate",
    "shrink",
    "spoil",
]

RGB = UInt8[np.ndarray, "height width 3"]


def shrink(image: RGB, factor: float, *, least: int = 1) -> RGB:
    """Return a picture whose sides are a share of what they were, each of ``least`` px or more."""
    size = (max(round(image.shape[1] * factor), least), max(round(image.shape[0] * factor), least))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def blur(image: RGB, sigma: float) -> RGB:
    """Return a picture blurred by a Gaussian; ``sigma`` in px."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def add_noise(image: RGB, sigma: float, rng: np.random.Generator) -> RGB:
    """Return a picture with Gaussian noise; ``sigma`` in grey levels."""
    return _to_bytes(image + rng.normal(0, sigma, image.shape))


def change_light(image: RGB, gain: float, *, noise: float = 0.0, rng: np.random.Generator | None = None) -> RGB:
    """Return a picture that got so many times the light, and the noise of the camera on it, in grey levels."""
    lit = image * gain
    return _to_bytes(lit if rng is None else lit + rng.normal(0, noise, image.shape))


def flatten(image: RGB, contrast: float) -> RGB:
    """Return a picture of less contrast: a share of each pixel's distance from the mean."""
    mean = image.mean()
    return _to_bytes(mean + (image - mean) * contrast)


def compress(image: RGB, quality: int) -> RGB:
    """Return a picture as it comes back from a JPEG of this quality, 1 to 100."""
    return load_image(encode_image(image, quality=quality))


def rotate(image: RGB, degrees: float) -> RGB:
    """Return a picture turned around its middle, counter-clockwise, its border repeated."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def cover(
    image: RGB, centre: Float[np.ndarray, 2], *, width: float, height: float, colour: tuple[int, int, int]
) -> RGB:
    """Return a picture with a rectangle over it.

    Args:
        image: The picture.
        centre: Of the rectangle, (x, y) in px.
        width: Of it, px.
        height: Of it, px.
        colour: Of it, RGB.
    """
    image = image.copy()
    half = np.array([width, height]) / 2
    (left, top), (right, bottom) = (np.round(centre + sign * half).astype(int).tolist() for sign in (-1, 1))
    cv2.rectangle(image, (left, top), (right, bottom), colour, -1, cv2.LINE_AA)
    return image


def degrade(image: RGB, rng: np.random.Generator) -> RGB:
    """Return a picture spoilt at random as bad cameras do, or, two times in five, as it is."""
    kind = rng.choice(["none", "none", "small", "blur", "dark", "bright", "flat", "noise", "jpeg", "mix"])
    # One rounding at the end: in float32 on the way.
    x: Float[np.ndarray, "height width 3"] = image.astype(np.float32)
    if kind in ("small", "mix"):
        factor = rng.uniform(1.2, 5)
        size = (max(int(x.shape[1] / factor), 8), max(int(x.shape[0] / factor), 8))
        x = cv2.resize(x, size, interpolation=cv2.INTER_AREA)
    if kind in ("blur", "mix"):
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.5, 3.5) if kind == "blur" else rng.uniform(0.3, 1.2))
    if kind == "dark":
        x = x * rng.uniform(0.05, 0.6)
    if kind == "bright":
        x = x * rng.uniform(1.3, 4)
    if kind == "flat":
        x = x.mean() + (x - x.mean()) * rng.uniform(0.05, 0.5)
    if kind in ("noise", "mix"):
        x = x + rng.normal(0, rng.uniform(2, 40), x.shape)
    spoilt = np.clip(x, 0, 255).astype(np.uint8)
    if kind in ("jpeg", "mix"):
        coded = cv2.imencode(".jpg", spoilt, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(5, 60))])[1]
        spoilt = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(spoilt)


@dataclass(frozen=True)
class Damage:
    """How far `spoil` goes. Shares are of the pictures that are not left clean.

    Attributes:
        clean: Share of pictures left as they are.
        blur: Share blurred, and largest standard deviation, px.
        motion: Share of the blurred ones that are blurred along a line.
        shrink: Share made smaller and large again, and by how much at most.
        noise: Share with noise, and its largest standard deviation, grey levels.
        jpeg: Share that went through JPEG, and the least quality; the largest is 95.
        light: Share too dark or too bright, and the largest factor, either way.
        grey: Share in grey.
    """

    clean: float = 0.12
    blur: tuple[float, float] = (0.5, 2.2)
    motion: float = 0.25
    shrink: tuple[float, float] = (0.7, 5.0)
    noise: tuple[float, float] = (0.6, 25.0)
    jpeg: tuple[float, int] = (0.5, 20)
    light: tuple[float, float] = (0.1, 2.0)
    grey: float = 0.08


def spoil(image: RGB, rng: np.random.Generator, damage: Damage | None = None) -> RGB:
    """Return a picture of the same size, spoilt as on its way through a bad camera: blur, size, light, noise, JPEG.

    Source: the order of degradations of X. Wang et al., "Towards real-world blind face restoration with generative
    facial prior", CVPR 2021, equation 1.
    """
    damage = damage or Damage()
    if rng.random() < damage.clean:
        return image.copy()
    height, width = image.shape[:2]
    x: Float[np.ndarray, "height width 3"] = image.astype(np.float32)
    if rng.random() < damage.grey:
        x = np.repeat(x @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    if rng.random() < damage.blur[0]:
        x = _smeared(x, rng) if rng.random() < damage.motion else cv2.GaussianBlur(
            x, (0, 0), rng.uniform(0.3, damage.blur[1])
        )  # fmt: skip
    if rng.random() < damage.shrink[0]:
        factor = damage.shrink[1] ** rng.uniform(0.1, 1)
        method = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.choice(3, p=[0.6, 0.2, 0.2])]
        size = (max(round(width / factor), 8), max(round(height / factor), 8))
        x = cv2.resize(x, size, interpolation=method)
    if rng.random() < damage.light[0]:
        x = x * damage.light[1] ** rng.uniform(-1, 1)
    if rng.random() < damage.noise[0]:
        sigma = rng.uniform(1, damage.noise[1])
        # One value for all channels is what is left of a camera's noise in grey pictures.
        shape = x.shape if rng.random() < 0.7 else (*x.shape[:2], 1)
        x = x + rng.normal(0, sigma, shape).astype(np.float32)
    spoilt = _to_bytes(x)
    if rng.random() < damage.jpeg[0]:
        spoilt = compress(spoilt, int(rng.uniform(damage.jpeg[1], 95)))
    if spoilt.shape != image.shape:
        method = (cv2.INTER_CUBIC, cv2.INTER_LINEAR)[rng.choice(2, p=[0.6, 0.4])]
        spoilt = np.asarray(cv2.resize(spoilt, (width, height), interpolation=method), np.uint8)
    return spoilt


def _smeared(image: Float[np.ndarray, "height width 3"], rng: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
    """Return a picture blurred along a line of up to 9 px, as by a hand that shook."""
    kernel = np.zeros((9, 9), np.float32)
    angle, half = rng.uniform(0, np.pi), rng.uniform(1, 4)
    reach = np.array([np.cos(angle), np.sin(angle)]) * half
    ends = [tuple(np.round((4 + sign * reach) * 16).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    return np.asarray(cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1e-6)), np.float32)


def _to_bytes(image: Float[np.ndarray, "height width 3"]) -> RGB:
    return np.asarray(np.clip(image + 0.5, 0, 255), dtype=np.uint8)  # rounded
