"""Draw on pictures and lay pictures out. Everything scales with the picture, so it can be read at any size."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mien.types import Face
from mien.vision.attributes import CONTOURS, mesh_edges

__all__ = ["animation", "annotate", "colour_of", "contact_sheet", "thumbnail"]

RGB = UInt8[np.ndarray, "height width 3"]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PALETTE = ("2dd4bf", "f59e0b", "60a5fa", "f472b6", "a3e635", "c084fc", "fb7185", "38bdf8", "facc15", "34d399")
_GROUND = (246, 247, 249)
_TEXT = (31, 41, 55)


def colour_of(number: int) -> tuple[int, int, int]:
    """Return a colour, RGB, that stays the same for a number; ten of them, told apart on light and dark."""
    code = _PALETTE[number % len(_PALETTE)]
    return (int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16))


def annotate(
    image: RGB,
    faces: Sequence[Face],
    labels: Sequence[str] | None = None,
    *,
    colours: Sequence[int] | None = None,
    landmarks: bool = True,
    mesh: bool = False,
) -> RGB:
    """Draw boxes, landmarks and labels on a copy of a picture.

    Args:
        image: RGB uint8.
        faces: What to show.
        labels: A line for each face; an empty one draws no chip. Default: none.
        colours: A number for each face, see `colour_of`. Default: all alike.
        landmarks: Dot the five points.
        mesh: Draw the mesh of faces whose attributes were read, in place of box and points.
    """
    assert labels is None or len(labels) == len(faces)
    height, width = image.shape[:2]
    # Lines are drawn at twice the size and averaged down: smooth at any slope, without a ragged edge.
    finer = 2 if max(height, width) <= 2000 else 1
    layer = Image.new("RGBA", (width * finer, height * finer), (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    unit = max(1.0, min(height, width) / 400) * finer
    chips: list[tuple[float, float, float, float]] = []
    for i, face in enumerate(faces):
        colour = colour_of(colours[i] if colours is not None else 0)
        size = min(unit * 1.4, max(face.box.side * finer / 28, finer))
        if mesh and face.attributes is not None:
            # Triangles of a small face would be a blot; they fade in from 40 px to 140.
            _net(pen, face.attributes.mesh[:, :2] * finer, colour, size, inner=min((face.box.side - 40) / 100, 1.0))
            continue
        corners = [v * finer for v in face.box.as_tuple()]
        _frame(pen, corners, colour, size)
        if landmarks:
            _dots(pen, face.landmarks * finer, colour, max(size * 1.1, finer))
    for i, face in enumerate(faces):
        if labels is not None and labels[i]:
            colour = colour_of(colours[i] if colours is not None else 0)
            corners = [v * finer for v in face.box.as_tuple()]
            _chip(pen, corners, labels[i], colour, layer.size, unit, chips)
    drawn = np.asarray(layer)
    if finer > 1:
        drawn = cv2.resize(_premultiplied(drawn), (width, height), interpolation=cv2.INTER_AREA)
    else:
        drawn = _premultiplied(drawn)
    result = image.astype(np.float32) * (1 - drawn[..., 3:] / 255) + drawn[..., :3]
    return np.asarray(np.clip(result + 0.5, 0, 255), dtype=np.uint8)


def animation(frames: Sequence[RGB], *, side: int, milliseconds: int = 50) -> bytes:
    """Return a GIF that goes through square pictures and back again, without an end.

    Args:
        frames: RGB uint8 of one size, at least two.
        side: Of the GIF, px.
        milliseconds: Each is shown for; the two ends for eight times as long.
    """
    assert len(frames) >= 2
    large = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC) for frame in frames]
    # Colours of its own for every frame: with one palette for all, skin has steps.
    shown = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in (*large, *large[-2:0:-1])]
    times = [milliseconds] * len(shown)
    times[0] = times[len(frames) - 1] = 8 * milliseconds
    file = io.BytesIO()
    shown[0].save(file, "GIF", save_all=True, append_images=shown[1:], duration=times, loop=0)
    return file.getvalue()


def contact_sheet(
    crops: Sequence[RGB],
    *,
    columns: int = 8,
    side: int = 112,
    captions: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    title: str = "",
) -> RGB:
    """Lay square pictures out in rows.

    Args:
        crops: RGB uint8 of any size; each is fitted into a square.
        columns: Pictures a row at most.
        side: Of each picture in px.
        captions: A line under each picture, or two where one is too narrow for any of them; cut short to its width.
        rows: A word before each row.
        title: A line above all.
    """
    assert captions is None or len(captions) == len(crops)
    gap = max(side // 12, 2)
    columns = max(1, min(columns, len(crops)))
    em = max(round(side * 0.125), 9)
    lines = [_wrapped(caption, _font(em), side) for caption in captions or ()]
    below = round(side * 0.24) + (max(map(len, lines)) - 1) * round(em * 1.2) if lines else 0
    head = round(side * 0.42) if title else 0
    high = max(math.ceil(len(crops) / columns), 1)
    before = round(max(_font(em).getlength(word) for word in rows)) + 2 * gap if rows else 0
    width = before + gap + columns * (side + gap)
    sheet = Image.new("RGB", (width, head + gap + high * (side + below + gap)), _GROUND)
    pen = ImageDraw.Draw(sheet)
    for i, word in enumerate(rows or ()):
        _words(pen, (2 * gap, head + gap + i * (side + below + gap) + side / 2), word, em, before, anchor="lm")
    if title:
        _words(pen, (gap, gap + (head - gap) / 2), title, round(side * 0.22), width - 2 * gap, anchor="lm")
    mask = Image.new("L", (side * 2, side * 2), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * 2 - 1, side * 2 - 1), radius=side / 7, fill=255)
    mask = mask.resize((side, side), Image.Resampling.BOX)
    for i, crop in enumerate(crops):
        left = before + gap + (i % columns) * (side + gap)
        top = head + gap + (i // columns) * (side + below + gap)
        sheet.paste(Image.fromarray(thumbnail(crop, side)), (left, top), mask)
        for row, line in enumerate(lines[i] if lines else ()):
            at = (left + side / 2, top + side + below / 2 + (row - (len(lines[i]) - 1) / 2) * em * 1.2)
            _words(pen, at, line, em, side, anchor="mm")
    return np.array(sheet)


def thumbnail(image: RGB, side: int) -> RGB:
    """Fit a picture into a square: its middle, reduced or enlarged smoothly."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = image[top : top + edge, left : left + edge]
    method = cv2.INTER_AREA if edge > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=method), dtype=np.uint8)


def _premultiplied(layer: UInt8[np.ndarray, "height width 4"]) -> np.ndarray:
    # Mixing neighbours must not mix in the colour of pixels that are not there.
    colour = layer.astype(np.float32)
    colour[..., :3] *= colour[..., 3:] / 255
    return colour


def _frame(pen: ImageDraw.ImageDraw, corners: Sequence[float], colour: tuple[int, int, int], size: float) -> None:
    """A thin rounded box with stronger corners, on a soft dark line that keeps it visible on light ground."""
    left, top, right, bottom = corners
    radius = min(right - left, bottom - top) * 0.10
    thin = max(round(size), 1)
    halo = (left - thin, top - thin, right + thin, bottom + thin)
    pen.rounded_rectangle(halo, radius=radius + thin, outline=(0, 0, 0, 90), width=3 * thin)
    pen.rounded_rectangle((left, top, right, bottom), radius=radius, outline=(*colour, 255), width=thin)
    reach = min(right - left, bottom - top) * 0.20
    bold = 2 * thin
    for x, sx in ((left, 1), (right, -1)):
        for y, sy in ((top, 1), (bottom, -1)):
            arc = (min(x, x + 2 * sx * radius), min(y, y + 2 * sy * radius))
            box = (*arc, arc[0] + 2 * radius, arc[1] + 2 * radius)
            start = {(1, 1): 180, (-1, 1): 270, (-1, -1): 0, (1, -1): 90}[sx, sy]
            pen.arc(box, start, start + 90, fill=(*colour, 255), width=bold)
            inner = bold / 2 * np.array([sx, sy])
            pen.line((x + sx * radius, y + inner[1], x + sx * (radius + reach), y + inner[1]), (*colour, 255), bold)
            pen.line((x + inner[0], y + sy * radius, x + inner[0], y + sy * (radius + reach)), (*colour, 255), bold)


def _net(
    pen: ImageDraw.ImageDraw, points: np.ndarray, colour: tuple[int, int, int], size: float, *, inner: float
) -> None:
    """Thin triangles, as strong as ``inner`` says, and lines around eyes, brows, lips and face on a soft dark one."""
    fine, strong = max(round(size / 2), 1), max(round(size), 1)
    for a, b in mesh_edges() if inner > 0 else ():
        pen.line((*points[a], *points[b]), (*colour, round(150 * inner)), fine)
    for width, ink in ((strong + 2, (0, 0, 0, 90)), (strong, (*colour, 255)))[inner <= 0 :]:
        for line in CONTOURS:
            pen.line([tuple(points[i]) for i in line], ink, width, joint="curve")


def _dots(pen: ImageDraw.ImageDraw, points: np.ndarray, colour: tuple[int, int, int], radius: float) -> None:
    for x, y in points.tolist():
        for r, fill in (
            (radius * 1.6, (0, 0, 0, 110)),
            (radius, (255, 255, 255, 255)),
            (radius * 0.62, (*colour, 255)),
        ):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _chip(
    pen: ImageDraw.ImageDraw,
    corners: Sequence[float],
    text: str,
    colour: tuple[int, int, int],
    size: tuple[int, int],
    unit: float,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """A label above the box, or below or inside where there is no room, clear of other labels if possible."""
    left, top, right, bottom = corners
    em = int(np.clip((right - left) * 0.16, 9 * unit, 16 * unit))
    font = _font(em)
    text = _shortened(text, font, size[0] - 2 * em)
    length = font.getlength(text)
    wide, high = length + em * 1.05, em * 1.55
    x = float(np.clip(left, 0, max(size[0] - wide, 0)))
    gap = em * 0.3
    places = [top - high - gap, bottom + gap, top + gap, bottom - high - gap]
    inside = [y for y in places if 0 <= y <= size[1] - high] or [float(np.clip(top, 0, max(size[1] - high, 0)))]
    free = [y for y in inside if not any(_overlap((x, y, x + wide, y + high), other) for other in taken)]
    y = (free or inside)[0]
    box = (x, y, x + wide, y + high)
    taken.append(box)
    pen.rounded_rectangle(box, radius=high * 0.32, fill=(17, 24, 39, 225))
    bar = em * 0.20
    pen.rounded_rectangle(
        (x + em * 0.26, y + high * 0.26, x + em * 0.26 + bar, y + high * 0.74), bar / 2, (*colour, 255)
    )
    pen.text((x + em * 0.70, y + high / 2), text, font=font, fill=(255, 255, 255, 255), anchor="lm")


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _words(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, em: int, width: float, *, anchor: str) -> None:
    font = _font(em)
    pen.text(at, _shortened(text, font, width), font=font, fill=_TEXT, anchor=anchor)


def _wrapped(text: str, font: Font, width: float) -> list[str]:
    """Return a text as one line, or as two where it is too long and its first word is not."""
    words = text.split(" ")
    if len(words) == 1 or font.getlength(text) <= width:
        return [text]
    first = max((n for n in range(1, len(words)) if font.getlength(" ".join(words[:n])) <= width), default=0)
    return [" ".join(words[:first]), " ".join(words[first:])] if first else [text]


def _shortened(text: str, font: Font, width: float) -> str:
    """Cut a text in its middle, as file names differ at both ends."""
    if font.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        shorter = text[: math.ceil(keep / 2)] + "…" + text[len(text) - keep // 2 :]
        if font.getlength(shorter) <= width:
            return shorter
    return "…"


@lru_cache(maxsize=32)
def _font(em: int) -> Font:
    return ImageFont.load_default(em)
