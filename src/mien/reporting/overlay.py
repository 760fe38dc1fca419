"""Faces drawn on the pictures of a video: plain lines, and labels that are drawn once for many pictures."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mien.reporting.pictures import colour_of
from mien.types import Box
from mien.video.records import Seen, Watched

__all__ = ["draw_watched", "label_of"]

RGB = UInt8[np.ndarray, "height width 3"]
RGBA = UInt8[np.ndarray, "height width 4"]

_LONGEST = 48  # characters of a label


def draw_watched(watched: Watched) -> RGB:
    """Return a picture with the faces that are followed in it, each with its name and what it shows."""
    image = watched.frame.image.copy()
    unit = max(1.0, min(image.shape[:2]) / 480)
    for face in watched.faces:
        _frame(image, face.box, colour_of(face.track - 1), unit, dashed=not face.found)
    for face in watched.faces:
        em = int(np.clip(face.box.width * 0.13, 12 * unit, 18 * unit))
        _paste(image, _chip(label_of(face), em, face.track - 1), face.box, em)
    return image


def label_of(face: Seen) -> str:
    """Return what stands at a face: who it is, and what it shows."""
    who = face.identity.label or f"track {face.track}"
    return who if face.expression is None else f"{who} · {face.expression.label}"


def _frame(image: RGB, box: Box, colour: tuple[int, int, int], unit: float, *, dashed: bool) -> None:
    """Four corners, on a dark line that keeps them visible; thinner where the face is only expected there."""
    left, top, right, bottom = (round(value) for value in box.as_tuple())
    reach = max(round(min(right - left, bottom - top) * 0.24), 3)
    thick = max(round((1.2 if dashed else 2.2) * unit), 1)
    for ink, width in (((20, 24, 32), thick + 2), (colour, thick)):
        for x, sx in ((left, 1), (right, -1)):
            for y, sy in ((top, 1), (bottom, -1)):
                corner = np.array([[x + sx * reach, y], [x, y], [x, y + sy * reach]], np.int32)
                cv2.polylines(image, [corner], False, ink, width, cv2.LINE_AA)


def _paste(image: RGB, chip: RGBA, box: Box, em: int) -> None:
    height, width = image.shape[:2]
    high, wide = chip.shape[:2]
    gap = max(em // 3, 2)
    top = round(box.top) - high - gap
    if top < 0:
        top = min(round(box.bottom) + gap, height - high)
    left = int(np.clip(round(box.left), 0, max(width - wide, 0)))
    top = int(np.clip(top, 0, max(height - high, 0)))
    part = image[top : top + high, left : left + wide]
    chip = chip[: part.shape[0], : part.shape[1]]
    alpha = chip[..., 3:].astype(np.uint16)
    part[:] = ((part * (255 - alpha) + chip[..., :3] * alpha + 127) // 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _chip(text: str, em: int, number: int) -> RGBA:
    """Draw a label once; the same one stands at a face for seconds."""
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    wide, high = round(ImageFont.load_default(em).getlength(text) + em * 1.3), round(em * 1.6)
    finer = 2
    large = ImageFont.load_default(em * finer)
    layer = Image.new("RGBA", (wide * finer, high * finer), (17, 24, 39, 0))
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle((0, 0, wide * finer - 1, high * finer - 1), em * finer * 0.4, fill=(17, 24, 39, 225))
    bar = (em * 0.34 * finer, high * finer * 0.26, em * 0.54 * finer, high * finer * 0.74)
    pen.rounded_rectangle(bar, em * 0.1 * finer, fill=(*colour_of(number), 255))
    pen.text((em * 0.82 * finer, high * finer / 2), text, font=large, fill=(255, 255, 255, 255), anchor="lm")
    return np.asarray(layer.resize((wide, high), Image.Resampling.BOX))
