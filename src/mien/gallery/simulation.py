"""One picture of a face taken further: views of it as another camera, moment or light might have shown it.

A template may be the mean over the picture and such views. Whether it then finds its person more often is what
`mien study run few-shot` measures; that it does has not been shown (docs/few_shot.md). The views are
variations of one photograph and no photographs: none of them is kept, and the template is marked as theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mien.data import degradation
from mien.types import Embedding, Face
from mien.vision.cohort import pooled

__all__ = ["KINDS", "chosen", "simulate", "view", "views"]

Crop = UInt8[np.ndarray, "side side 3"]
EmbedCrops = Callable[[UInt8[np.ndarray, "views side side 3"]], Float32[np.ndarray, "views dimension"]]

KINDS = ("mirror", "warp", "degrade", "light")
"""What is done to a picture: mirrored; moved, turned and scaled a little; made worse as cameras do; lit otherwise.
View number i is of kind i modulo 4, so that any run of numbers has all kinds equally often."""

_SHIFT, _TURN, _SCALE = 0.03, 8.0, 0.08  # of the side; degrees; share: at most, either way


def simulate(face: Face, embed: EmbedCrops, count: int) -> Face:
    """Return a face whose embedding is the mean over its picture and simulated views of it.

    Args:
        face: With crop and embedding.
        embed: Turns crops like this one into embeddings like this one, such as `Analyzer.embed_crops`.
        count: Views beside the picture itself; 0 returns the face as it is.
    """
    if not count:
        return face
    assert face.crop is not None and face.embedding is not None, "a face to be enrolled was analysed with both"
    seen = np.concatenate([face.embedding.vector[None], embed(views(face.crop, count))])
    return replace(face, embedding=Embedding(face.embedding.model, pooled(seen), count))


def views(crop: Crop, count: int) -> UInt8[np.ndarray, "count side side 3"]:
    """Return simulated views of an aligned face: its mirror image, then warps, every second one mirrored.

    These are the kinds that were best on half A (docs/few_shot.md). The views of a crop are always
    the same: who enrols a picture twice gets one template.
    """
    return np.stack([view(crop, number) for number in chosen(count)])


def chosen(count: int) -> list[int]:
    """Return the numbers of the views that `views` takes: that of a mirror image, then those of warps."""
    return [0, *range(1, len(KINDS) * (count - 1), len(KINDS))][:count]


def view(crop: Crop, number: int) -> Crop:
    """Return the simulated view of that number, from 0, of an aligned face; see `KINDS`."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([KINDS.index(kind), number])
    if kind == "mirror":
        return _mirrored(crop)
    if kind == "warp":
        return _warped(_mirrored(crop) if number // len(KINDS) % 2 else crop, rng)
    return _lit(crop, rng) if kind == "light" else _degraded(crop, rng)


def _mirrored(crop: Crop) -> Crop:
    return np.ascontiguousarray(crop[:, ::-1])


def _warped(crop: Crop, rng: np.random.Generator) -> Crop:
    """Turn, scale and move; the border is repeated."""
    side = crop.shape[0]
    middle = (side - 1) / 2
    turn = cv2.getRotationMatrix2D(
        (middle, middle), float(rng.uniform(-_TURN, _TURN)), float(1 + rng.uniform(-_SCALE, _SCALE))
    )
    turn[:, 2] += rng.uniform(-_SHIFT, _SHIFT, 2) * side
    return np.asarray(cv2.warpAffine(crop, turn, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _lit(crop: Crop, rng: np.random.Generator) -> Crop:
    """Change the gain and the gamma of all of it, and let the light come from one side."""
    angle, across = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, crop.shape[0])
    slope = rng.uniform(0.1, 0.4) * (np.cos(angle) * across[None, :] + np.sin(angle) * across[:, None])
    gain = np.exp(rng.uniform(-0.45, 0.35)) * (1 + slope)
    lit = 255 * (crop / 255.0) ** np.exp(rng.uniform(-0.3, 0.3)) * gain[..., None]
    return np.asarray(np.clip(np.round(lit), 0, 255), np.uint8)


def _degraded(crop: Crop, rng: np.random.Generator) -> Crop:
    """Take away size and sharpness, add noise, and pack as JPEG."""
    side = crop.shape[0]
    small = degradation.shrink(crop, float(rng.uniform(0.35, 0.7)), least=8)
    noisy = degradation.add_noise(small, float(rng.uniform(0, 6)), rng)
    packed = degradation.compress(noisy, int(rng.integers(45, 90)))
    return np.asarray(cv2.resize(packed, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
