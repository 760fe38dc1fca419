"""Drawn faces: people who do not exist, with exact landmarks, for tests, demonstrations and documentation.

A head is a stack of circles with bumps for nose, brows, cheeks and lips, lit from one side; features are painted on
it and turn with it. Everything follows from a subject's number and a seed, the same on every machine up to rounding.

Units: a head is 2 high, from crown (v = -1) to chin (v = 1); u grows to the viewer's right; height h stands off the
surface towards the viewer.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien.types import EXPRESSIONS, Box

__all__ = ["DrawnFace", "DrawnScene", "draw_face", "draw_person", "draw_scene"]

Plane = Float32[np.ndarray, "height width"]
Points = Float[np.ndarray, "points 2"]
Ink = Float32[np.ndarray, "3"]
Numbers = float | Float[np.ndarray, "..."]

_HEAD = 0.315  # half the head's height as part of the picture's side
_CENTRE = (0.5, 0.47)  # of the head, as part of the side


@dataclass(frozen=True, slots=True, eq=False)
class DrawnFace:
    """A drawn face.

    Attributes:
        image: RGB uint8, shape (side, side, 3).
        landmarks: Left eye, right eye, nose tip, left and right mouth corner (viewer's left), px, shape (5, 2).
        box: From hairline to chin and cheek to cheek, px.
    """

    image: UInt8[np.ndarray, "side side 3"]
    landmarks: Float32[np.ndarray, "5 2"]
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class DrawnScene:
    """Several drawn people in one picture.

    Attributes:
        image: RGB uint8, shape (height, width, 3).
        faces: One a subject, in the order asked for; their landmarks and boxes are in px of the scene, and
            ``image`` of each is the part of the scene around it.
    """

    image: UInt8[np.ndarray, "height width 3"]
    faces: tuple[DrawnFace, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """What makes a subject: proportions in head units, colours in [0, 1]."""

    salt: int
    skin: Ink
    hair: Ink
    iris: Ink
    cloth: Ink
    style: int  # of the hair, see _STYLES
    width: float
    jaw: float  # 0 pointed, 1 square
    eye_u: float
    eye_v: float
    eye_size: float
    eye_tilt: float
    eye_open: float
    brow_thick: float
    brow_arch: float
    brow_v: float  # above the eye
    nose_length: float
    nose_width: float
    nose_height: float
    mouth_v: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lip_red: float
    hairline: float
    part: float  # u of the parting
    beard: float
    freckles: float
    blush: float
    age: float
    glasses: bool

    @property
    def tip(self) -> float:
        """The height v of the nose tip."""
        return self.eye_v + self.nose_length


@dataclass(frozen=True, slots=True)
class _Pose:
    """What an expression does to a face; zero is at rest."""

    brow_inner: float = 0.0  # up
    brow_outer: float = 0.0  # up
    eyes: float = 0.0  # wider
    corners: float = 0.0  # up
    skew: float = 0.0  # one corner up
    mouth_open: float = 0.0
    mouth_wide: float = 0.0
    teeth: float = 0.0
    lip_lift: float = 0.0
    press: float = 0.0
    wrinkle: float = 0.0  # of the nose
    cheeks: float = 0.0  # up, folds beside the nose

    def times(self, amount: float) -> _Pose:
        return _Pose(*(getattr(self, f.name) * amount for f in fields(self)))


_POSES = {
    "neutral": _Pose(),
    "happiness": _Pose(corners=1.0, mouth_wide=0.3, mouth_open=0.36, teeth=1.0, eyes=-0.22, cheeks=1.0),
    "surprise": _Pose(brow_inner=0.9, brow_outer=0.9, eyes=0.5, mouth_open=1.0, mouth_wide=-0.28),
    "sadness": _Pose(brow_inner=0.85, brow_outer=-0.5, eyes=-0.25, corners=-0.85, mouth_wide=-0.08, cheeks=0.2),
    "anger": _Pose(
        brow_inner=-1.0, brow_outer=0.25, eyes=-0.12, corners=-0.35, press=0.7, mouth_wide=-0.1, wrinkle=0.5
    ),
    "disgust": _Pose(brow_inner=-0.7, eyes=-0.38, corners=-0.4, lip_lift=1.0, mouth_open=0.14, wrinkle=1.0, cheeks=0.8),
    "fear": _Pose(
        brow_inner=0.95, brow_outer=0.3, eyes=0.45, mouth_open=0.42, mouth_wide=0.16, corners=-0.35, teeth=0.5
    ),
    "contempt": _Pose(skew=1.0, brow_outer=0.1, eyes=-0.15, press=0.3, cheeks=0.3),
}
assert tuple(_POSES) == EXPRESSIONS


def draw_face(
    subject: int,
    *,
    side: int = 160,
    expression: str = "neutral",
    yaw: float = 0.0,
    roll: float = 0.0,
    light: float = 1.0,
    seed: int = 0,
) -> DrawnFace:
    """Draw one subject from the chest up.

    Args:
        subject: Who: any whole number from 0. It alone decides proportions and colours.
        side: Width and height of the picture in px.
        expression: One of the eight FER+ classes.
        yaw: Turn of the head in degrees, positive to the viewer's right; up to about 40.
        roll: Lean in degrees, positive clockwise.
        light: Brightness; 1 is a well-lit room.
        seed: Which picture of the subject: direction of the light, background, gaze, strength of the expression,
            noise of the camera.
    """
    assert side >= 8 and expression in _POSES and abs(yaw) <= 60
    layer = _render(subject, side, expression, math.radians(yaw), math.radians(roll), light, seed)
    rng = np.random.default_rng([seed, subject, 2])
    ground = _backdrop(rng, side, side) * light
    image = ground * (1 - layer.alpha[..., None]) + layer.colour
    return DrawnFace(_photograph(image, rng), layer.landmarks, layer.box)


def draw_person(
    subject: int, *, side: int = 160, expression: str = "neutral", yaw: float = 0.0, roll: float = 0.0, seed: int = 0
) -> tuple[DrawnFace, Float32[np.ndarray, "side side"]]:
    """Draw one subject without a background, to be laid on another picture; arguments as of `draw_face`.

    Returns:
        The face, and how much of each px is the person, 0 to 1; towards the lower edge the person fades.
    """
    assert side >= 8 and expression in _POSES and abs(yaw) <= 60
    layer = _render(subject, side, expression, math.radians(yaw), math.radians(roll), 1.0, seed)
    fade = _smooth(np.linspace(7, 0, side, dtype=np.float32))[:, None]
    colour = np.where(layer.alpha[..., None] > 1e-3, layer.colour / np.maximum(layer.alpha[..., None], 1e-3), 0.0)
    image = np.asarray(np.clip(colour * 255 + 0.5, 0, 255), dtype=np.uint8)
    return DrawnFace(image, layer.landmarks, layer.box), np.asarray(layer.alpha * fade, dtype=np.float32)


def draw_scene(subjects: Sequence[int], *, width: int = 640, height: int = 480, seed: int = 0) -> DrawnScene:
    """Draw several subjects in one picture, in rows, none hiding another's face.

    Args:
        subjects: Who, front row last; the same number may come twice.
        width: Of the picture in px.
        height: Of the picture in px.
        seed: Which picture: places, sizes, expressions, turns, light.
    """
    rng = np.random.default_rng([seed, len(subjects), 3])
    image = _backdrop(rng, height, width)
    faces: list[tuple[Float32[np.ndarray, "5 2"], Box]] = []
    count = max(len(subjects), 1)
    # As many rows as make the people largest.
    rows = max(range(1, count + 1), key=lambda n: min(width / math.ceil(count / n) * 1.25, height / n * 1.12))
    columns = math.ceil(count / rows)
    cell_w, cell_h = width / columns, height / rows
    for i, subject in enumerate(subjects):
        row, column = divmod(i, columns)
        in_row = min(columns, count - row * columns)
        side = max(int(min(cell_w * 1.25, cell_h * 1.12) * rng.uniform(0.86, 1.0)), 8)
        x = (column + 0.5 + (columns - in_row) / 2) * cell_w + rng.uniform(-0.04, 0.04) * cell_w - side / 2
        y = (row + 1) * cell_h - side + (0.03 * cell_h if rows == 1 else 0.08 * cell_h)
        left, top = round(x), round(y)
        expression = EXPRESSIONS[int(rng.choice(8, p=[0.4, 0.36, 0.06, 0.04, 0.04, 0.02, 0.02, 0.06]))]
        turn, lean = math.radians(rng.uniform(-16, 16)), math.radians(rng.uniform(-7, 7))
        fade = _smooth(np.linspace(7, 0, side, dtype=np.float32))[:, None]
        layer = _render(subject, side, expression, turn, lean, 1.0, int(rng.integers(1 << 31)))
        if row < rows - 1:  # those in front would hide the rest; a clean cut would look like a bust on a shelf
            layer.alpha[:] *= fade
            layer.colour[:] *= fade[..., None]
        _lay(image, layer, left, top)
        shift = np.array([left, top], np.float32)
        corners = np.array([[layer.box.left, layer.box.top], [layer.box.right, layer.box.bottom]]) + shift
        box = Box(*(float(a) for a in np.clip(corners, 0, [width, height]).ravel()))
        faces.append((layer.landmarks + shift, box))
    picture = _photograph(image, rng)
    return DrawnScene(picture, tuple(DrawnFace(_around(picture, box), marks, box) for marks, box in faces))


def _around(picture: UInt8[np.ndarray, "height width 3"], box: Box) -> UInt8[np.ndarray, "side side 3"]:
    reach = 0.5 * max(box.width, box.height)
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    rows = slice(max(int(y - reach), 0), max(int(y + reach), 1))
    return picture[rows, max(int(x - reach), 0) : max(int(x + reach), 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A rendered person: colour in [0, 1] times coverage, coverage, and where the face is, px."""

    colour: Float32[np.ndarray, "side side 3"]
    alpha: Plane
    landmarks: Float32[np.ndarray, "5 2"]
    box: Box


def _lay(image: Float32[np.ndarray, "height width 3"], layer: _Layer, left: int, top: int) -> None:
    side = len(layer.alpha)
    y0, y1 = max(top, 0), min(top + side, image.shape[0])
    x0, x1 = max(left, 0), min(left + side, image.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    ground = image[y0:y1, x0:x1]
    ground *= 1 - layer.alpha[part][..., None]
    ground += layer.colour[part]


def _backdrop(rng: np.random.Generator, height: int, width: int) -> Float32[np.ndarray, "height width 3"]:
    """A wall out of focus: a gradient of one muted colour with a few soft lights."""
    colour = _hsv(rng.uniform(0, 1), rng.uniform(0.08, 0.35), rng.uniform(0.35, 0.85))
    small = np.empty((24, 32, 3), np.float32)
    y, x = np.mgrid[0:1:24j, 0:1:32j].astype(np.float32)
    small[:] = colour * (1.12 - 0.4 * y + 0.2 * (x - 0.5) * rng.uniform(-1, 1))[..., None]
    for _ in range(4):
        spot = np.exp(-((x - rng.uniform(0, 1)) ** 2 + (y - rng.uniform(0, 0.8)) ** 2) / rng.uniform(0.01, 0.06))
        small += (rng.uniform(-0.14, 0.16) * spot)[..., None] * rng.uniform(0.6, 1.2, 3).astype(np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _photograph(image: Float32[np.ndarray, "height width 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Add the camera's noise and round to bytes."""
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(0.010)
    return np.asarray(np.clip((image + noise) * 255 + 0.5, 0, 255), dtype=np.uint8)


def _hsv(hue: float, saturation: float, value: float) -> Ink:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), dtype=np.float32)


_SHORT, _QUIFF, _LONG, _BOB, _BUN, _SHAVED = range(6)
_SKINS = ("f9d4bd", "f0c2a3", "dea885", "c28a66", "946347", "664230")
_HAIRS = ("17120f", "331f14", "57361f", "855729", "cca361", "8c381a", "9e9c99")
_IRISES = ("402412", "5c381a", "596b38", "4d7a9e", "6b7a85")


def _hex(colour: str) -> Ink:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)], dtype=np.float32)


def _look(subject: int) -> _Look:
    rng = np.random.default_rng([subject, 1])
    tone = rng.uniform(0, len(_SKINS) - 1.001)
    i, part = int(tone), tone % 1.0
    skin = (_hex(_SKINS[i]) * (1 - part) + _hex(_SKINS[i + 1]) * part) * rng.normal(1, [0.015, 0.02, 0.03])
    age = float(rng.beta(1.2, 2.0))
    # Light eyes and hair go with light skin more often than not.
    hair = 6 if age > 0.62 else int(rng.choice(6 if tone < 2.2 else 3))
    style = int(rng.choice(6))
    bearded = style in (_SHORT, _QUIFF, _SHAVED) and rng.uniform() < 0.5

    def about(middle: float, spread: float) -> float:
        return float(middle + spread * rng.uniform(-1, 1))

    eye_v, nose_length = about(0.02, 0.10), about(0.40, 0.11)
    return _Look(
        salt=subject,
        skin=np.clip(skin, 0.1, 1).astype(np.float32),
        hair=_hex(_HAIRS[hair]),
        iris=_hex(_IRISES[int(rng.choice(5 if tone < 2.2 else 2))]),
        cloth=_hsv(rng.uniform(), rng.uniform(0.15, 0.7), rng.uniform(0.2, 0.85)),
        style=style,
        width=about(0.665, 0.095),
        jaw=about(0.5, 0.5),
        eye_u=about(0.285, 0.055),
        eye_v=eye_v,
        eye_size=about(0.134, 0.032),
        eye_tilt=about(0.02, 0.27),
        eye_open=about(0.43, 0.13),
        brow_thick=about(0.038, 0.026),
        brow_arch=about(0.030, 0.030),
        brow_v=about(0.170, 0.055),
        nose_length=nose_length,
        nose_width=about(0.130, 0.050),
        nose_height=about(0.150, 0.055),
        mouth_v=float(np.clip(about(0.66, 0.09), eye_v + nose_length + 0.16, 0.78)),
        mouth_width=about(0.235, 0.065),
        lip_upper=about(0.045, 0.025),
        lip_lower=about(0.066, 0.030),
        lip_red=about(0.5, 0.45),
        hairline=about(-0.60, 0.12),
        part=about(0.0, 0.30),
        beard=about(0.65, 0.3) if bearded else 0.0,
        freckles=about(0.6, 0.4) if tone < 1.5 and rng.uniform() < 0.35 else 0.0,
        blush=about(0.5, 0.5),
        age=age,
        glasses=bool(rng.uniform() < 0.14),
    )


class _Head:
    """The geometry of one head in one picture: where a point of the face falls."""

    def __init__(self, look: _Look, side: int, *, yaw: float, roll: float, scale: float, shift: Points) -> None:
        self.look = look
        self.side = side
        self.yaw = yaw
        self.unit = _HEAD * side * scale  # px per head unit
        self.centre = np.array([_CENTRE[0] + shift[0], _CENTRE[1] + shift[1]]) * side
        self.turn = np.array([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]])

    def radius(self, v: Numbers) -> Float32[np.ndarray, ...]:
        """Half the width of the head at a height."""
        look = self.look
        v = np.clip(np.asarray(v, np.float32), -0.999, 0.999)
        top = np.sqrt(1 - np.abs(v) ** 2.5)
        low = np.maximum(1 - np.abs(v) ** (2.3 + 1.1 * look.jaw), 0) ** (1 / 1.75)
        low = low * (1 - (0.17 - 0.15 * look.jaw) * _smooth((v - 0.1) / 0.85))
        return np.asarray(look.width * np.where(v < 0, top, low), dtype=np.float32)

    def on(self, points: Points, off: Numbers = 0.0) -> Points:
        """Project points (u, v) of the face, standing ``off`` its surface, to px."""
        u, v = np.asarray(points, np.float64).T
        r = np.maximum(self.radius(v), 1e-3).astype(np.float64)
        x = (r + np.asarray(off)) * np.sin(np.arcsin(np.clip(u / r, -1, 1)) + self.yaw)
        return self.by(np.stack([x, v], axis=-1))

    def by(self, points: Points) -> Points:
        """Place points of the picture plane around the head, which lean with it and do not turn, in px."""
        return np.asarray(self.centre + self.unit * (np.asarray(points) @ self.turn), dtype=np.float64)

    def inverse(self, side: int) -> tuple[Plane, Plane]:
        """Return x and v of every pixel of the picture, sampled at ``side`` x ``side`` points."""
        px = ((np.arange(side, dtype=np.float32) + 0.5) * (self.side / side) - 0.5)[None]
        dx, dy = (px - self.centre[0]) / self.unit, (px.T - self.centre[1]) / self.unit
        (cos, sin), _ = self.turn
        return (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)


class _Canvas:
    """A picture that is painted on with soft-edged polygons; lengths such as ``blur`` are in head units."""

    def __init__(self, side: int, unit: float) -> None:
        self.side = side
        self.unit = unit
        self.colour = np.zeros((side, side, 3), np.float32)
        self.alpha = np.zeros((side, side), np.float32)

    def mask(self, outline: Points, blur: float) -> tuple[tuple[slice, slice], Plane] | None:
        """Rasterise a polygon; return its window and coverage, or None where it is outside."""
        soft = blur * self.unit
        pad = math.ceil(2.5 * soft) + 2
        lo = np.maximum(np.floor(outline.min(0)).astype(int) - pad, 0)
        hi = np.minimum(np.ceil(outline.max(0)).astype(int) + pad, self.side)
        if (hi - lo <= 0).any():
            return None
        patch = np.zeros((hi[1] - lo[1], hi[0] - lo[0]), np.uint8)
        cv2.fillPoly(patch, [np.round((outline - lo) * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
        cover = patch.astype(np.float32) * np.float32(1 / 255)
        if soft > 0.3:
            cover = cv2.GaussianBlur(cover, (0, 0), soft, borderType=cv2.BORDER_REPLICATE)
        return (slice(lo[1], hi[1]), slice(lo[0], hi[0])), cover

    def plane(self, outline: Points, blur: float) -> Plane:
        """A polygon's coverage of the whole picture."""
        plane = np.zeros_like(self.alpha)
        if made := self.mask(outline, blur):
            plane[made[0]] = made[1]
        return plane

    def paint(
        self,
        outline: Points,
        ink: Ink | Float32[np.ndarray, "side side 3"],
        opacity: float = 1.0,
        *,
        blur: float = 0.0,
        shade: Plane | None = None,
        within: Plane | None = None,
        solid: bool = False,
    ) -> None:
        """Lay a polygon over what is there. ``solid`` also adds it to the person's coverage."""
        made = self.mask(outline, blur)
        if made is None:
            return
        window, cover = made
        cover = cover * np.float32(opacity)
        if within is not None:
            cover = cover * within[window]
        if ink.ndim == 3:
            ink = ink[window]
        if shade is not None:
            ink = ink * shade[window][..., None]
        ground = self.colour[window]
        ground += (np.asarray(ink, np.float32) - ground) * cover[..., None]
        if solid:
            rest = self.alpha[window]
            rest += (1 - rest) * cover

    def line(
        self, points: Points, width: float, ink: Ink, opacity: float = 1.0, *, blur: float, within: Plane | None = None
    ) -> None:
        """Draw a stroke that thins out at both ends."""
        step = np.gradient(points, axis=0)
        normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.maximum(np.linalg.norm(step, axis=1), 1e-6)[:, None]
        half = 0.5 * width * self.unit * np.sin(np.linspace(0.12, math.pi - 0.12, len(points)))[:, None]
        outline = np.concatenate([points + normal * half, (points - normal * half)[::-1]])
        self.paint(outline, ink, opacity, blur=blur, within=within)


def _ellipse(u: float, v: float, ru: float, rv: float, tilt: float = 0.0) -> Points:
    t = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    x, y = ru * np.cos(t), rv * np.sin(t)
    return np.stack([u + x * math.cos(tilt) - y * math.sin(tilt), v + x * math.sin(tilt) + y * math.cos(tilt)], 1)


def _curve(u: Sequence[float], v: Sequence[float], n: int = 24) -> Points:
    """A smooth line through a few points (Catmull-Rom)."""
    knots = np.stack([u, v], axis=1).astype(np.float64)
    p = np.concatenate([knots[:1], knots, knots[-1:]])
    t = np.linspace(0, len(knots) - 1 - 1e-9, n)
    i = t.astype(int)
    f = (t - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    line = 2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3
    return np.asarray(0.5 * line)


def _both_sides(u: Sequence[float], v: Sequence[float], n: int = 60) -> Points:
    """A smooth line through points given for the right half, from the outside in, and their mirror images."""
    return _curve([*u, *(-a for a in reversed(u))], [*v, *reversed(v)], n)


def _smooth(t: Numbers) -> Float32[np.ndarray, ...]:
    """A step from 0 to 1 with level ends."""
    t = np.clip(np.asarray(t, np.float32), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _render(subject: int, side: int, expression: str, yaw: float, roll: float, light: float, seed: int) -> _Layer:
    """Draw one person on nothing."""
    look = _look(subject)
    rng = np.random.default_rng([seed, subject, 4])
    pose = _POSES[expression].times(float(rng.uniform(0.85, 1.15)))
    finer = max(1, min(4, round(320 / side)))  # drawn larger, then averaged down: clean edges at any size
    shift = rng.uniform([-0.02, -0.015], [0.02, 0.015])
    head = _Head(look, side * finer, yaw=yaw, roll=roll, scale=float(rng.uniform(0.95, 1.05)), shift=shift)
    sun = np.array([rng.uniform(-0.55, 0.55), rng.uniform(-0.65, -0.25), 0.8], np.float32)
    gaze = rng.uniform([-0.16, -0.08], [0.16, 0.08])
    canvas = _Canvas(head.side, head.unit)
    surface = _surface(head, pose, sun)
    strands = None if look.style == _SHAVED else _strands(head)

    shade = cv2.resize(surface.shade, (head.side, head.side))

    _body(canvas, head, strands)
    _skin(canvas, head, surface)
    for sign in (-1, 1):
        _eye(canvas, head, pose, shade, sign, gaze)
        _brow(canvas, head, pose, shade, sign)
    _nose(canvas, head, pose)
    corners = _mouth(canvas, head, pose, shade)
    _folds(canvas, head, pose)
    if strands is not None:
        _front_hair(canvas, head, shade, strands)
    if look.glasses:
        _glasses(canvas, head)

    cast = np.float32(light) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    colour = cv2.resize(canvas.colour, (side, side), interpolation=cv2.INTER_AREA) * cast
    alpha = cv2.resize(canvas.alpha, (side, side), interpolation=cv2.INTER_AREA)
    eyes = head.on(np.array([[-look.eye_u, look.eye_v], [look.eye_u, look.eye_v]]))
    tip = head.on(np.array([[0.0, look.tip]]), look.nose_height)
    wide = float(head.radius(0.1))
    rim = head.by(np.array([[-wide, look.hairline], [wide, look.hairline], [-wide, 0.55], [wide, 0.55], [0.0, 1.0]]))
    # From the centres of the fine pixels to those of the picture's.
    marks, rim = ((p + 0.5) / finer - 0.5 for p in (np.concatenate([eyes, tip, corners]), rim))
    box = Box(*(float(a) for a in np.clip([*rim.min(0), *rim.max(0)], 0, side)))
    return _Layer(colour, alpha, marks.astype(np.float32), box)


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """The lit head at half the resolution: where on the map of the face a pixel lies, and its light."""

    map_u: Plane
    map_v: Plane
    shade: Plane
    shine: Plane


_MAP = 140  # px of a map of the face, u and v from -1.1 to 1.1
_AXIS = np.linspace(-1.1, 1.1, _MAP, dtype=np.float32)


def _hump(u: float, v: float, ru: float, rv: float) -> Float32[np.ndarray, "map map"]:
    """A Gaussian on the map of the face, and its mirror image where it is off the middle."""
    across = np.exp(-(((_AXIS - u) / ru) ** 2)) + (np.exp(-(((_AXIS + u) / ru) ** 2)) if u else 0)
    return np.asarray(np.outer(np.exp(-(((_AXIS - v) / rv) ** 2)), across), dtype=np.float32)


def _relief(look: _Look, pose: _Pose) -> Float32[np.ndarray, "map map"]:
    """How far the skin stands off the bare head."""
    v, tip, eye, mouth = _AXIS, look.tip, look.eye_v, look.mouth_v
    low = mouth + 0.1 * pose.mouth_open
    # The ridge of the nose rises from between the eyes to the tip and drops at once below it.
    slope = np.clip((v - eye + 0.08) / (tip - eye + 0.08), 0, 1) ** 1.3
    slope = slope * np.clip((tip + 0.085 - v) / 0.085, 0, 1) ** 0.8
    thick = look.nose_width * (0.50 + 0.36 * np.clip((v - eye) / (tip - eye), 0, 1) ** 2)
    relief = np.exp(-0.9 * (_AXIS[None] / thick[:, None]) ** 2) * (slope * look.nose_height)[:, None]
    relief += 0.055 * _hump(look.nose_width * 0.78, tip + 0.01, 0.05, 0.055)
    relief -= 0.060 * _hump(look.eye_u * 0.96, eye, 0.15, 0.085)
    relief += 0.028 * _hump(look.eye_u, eye - look.brow_v + 0.015, 0.20, 0.05)
    relief += (0.030 + 0.030 * max(pose.cheeks, 0)) * _hump(0.40, 0.30 - 0.04 * pose.cheeks, 0.15, 0.13)
    relief += 0.030 * _hump(0, mouth - 0.045, look.mouth_width * 0.75, 0.04)
    relief += 0.035 * _hump(0, low + 0.06, look.mouth_width * 0.6, 0.04)
    relief -= 0.024 * _hump(0, low + 0.15, 0.14, 0.035)
    relief += (0.045 + 0.04 * look.jaw) * _hump(0, 0.88, 0.15, 0.10)
    relief -= 0.010 * _hump(0, (tip + mouth) / 2 + 0.02, 0.022, 0.04)
    relief += 0.025 * _hump(0, -0.45, 0.40, 0.22)
    return np.asarray(cv2.GaussianBlur(relief, (0, 0), 1.4), dtype=np.float32)


def _surface(head: _Head, pose: _Pose, sun: Float32[np.ndarray, 3]) -> _Surface:
    # Half the resolution is enough for light and skin: edges are drawn by polygons.
    coarse = max(head.side // 2, 1)
    step = head.side / coarse
    x, v = head.inverse(coarse)
    table = np.linspace(-1.05, 1.05, 1024, dtype=np.float32)
    at = np.clip((v + 1.05) * (1023 / 2.1), 0, 1023).astype(np.int32)
    radius = np.maximum(head.radius(table), 0.02)[at]
    depth = (0.78 * np.sqrt(1 - np.minimum(np.abs(table), 0.995) ** 3.4))[at]
    sine = np.clip(x / radius, -0.999, 0.999)
    to_map = np.float32((_MAP - 1) / 2.2)
    map_u = (radius * np.sin(np.arcsin(sine) - np.float32(head.yaw)) + np.float32(1.1)) * to_map
    map_v = (v + np.float32(1.1)) * to_map
    relief = cv2.remap(_relief(head.look, pose), map_u, map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    z = (depth + relief) * np.sqrt(1 - sine * sine) * np.float32(head.unit)
    z = cv2.GaussianBlur(z, (0, 0), max(0.019 * head.unit / step, 0.6))
    gx, gy = (cv2.Sobel(z, cv2.CV_32F, right, 1 - right, scale=0.125 / step) for right in (1, 0))
    norm = np.float32(1) / np.sqrt(gx * gx + gy * gy + 1)

    def facing(towards: Float32[np.ndarray, 3]) -> Plane:
        tx, ty, tz = towards / np.linalg.norm(towards)
        return np.asarray((tz - gx * tx - gy * ty) * norm, dtype=np.float32)

    shade = np.float32(0.40) + np.float32(0.68) * np.clip((facing(sun) + 0.30) / 1.30, 0, 1)
    shine = np.maximum(facing(sun + np.array([0, 0, 1.2], np.float32)), 0)
    for _ in range(5):
        shine = shine * shine  # the 32nd power: skin is a little glossy
    return _Surface(map_u, map_v, shade, shine)


def _body(canvas: _Canvas, head: _Head, strands: Float32[np.ndarray, "side side 3"] | None) -> None:
    """Long hair behind, shoulders, neck and ears: all that the head covers."""
    look, skin = head.look, head.look.skin
    if strands is not None and look.style in (_LONG, _BOB):
        low, w = (1.55, look.width + 0.26) if look.style == _LONG else (0.92, look.width + 0.22)
        outline = _both_sides([0.35, w - 0.1, w, w + 0.03, w - 0.12], [-1.1, -0.75, 0.0, low - 0.3, low])
        canvas.paint(head.by(outline), strands * np.float32(0.62), blur=0.013, solid=True)
    elif strands is not None and look.style == _BUN:
        canvas.paint(head.by(_ellipse(0, -1.16, 0.27, 0.22)), strands * np.float32(0.85), blur=0.013, solid=True)
    upright = _Head(look, head.side, yaw=0, roll=0, scale=1, shift=np.zeros(2))  # shoulders do not lean with the head
    upright.unit, upright.centre = head.unit, head.centre
    x, _ = upright.inverse(head.side)
    coat = _both_sides([1.7, 1.42, 1.05, 0.42], [2.6, 1.85, 1.52, 1.27])
    canvas.paint(upright.by(coat), look.cloth, blur=0.013, shade=1.05 - 0.30 * np.abs(x), solid=True)
    w = look.width * 0.62
    neck = _both_sides([w, w * 0.95, w * 1.08, w * 0.75, 0.02], [0.4, 0.95, 1.22, 1.42, 1.55])
    canvas.paint(upright.by(neck), skin * _rgb(0.80, 0.74, 0.70), blur=0.013, solid=True)
    collar = _both_sides([w * 1.08, w * 0.75, 0.02], [1.22, 1.42, 1.55], 30)
    canvas.line(upright.by(collar), 0.055, look.cloth * np.float32(0.6), 0.8, blur=0.013)
    # The chin throws a shadow on the neck.
    canvas.paint(head.by(_ellipse(0, 0.98, w, 0.20)), skin * _rgb(0.38, 0.28, 0.25), 0.55, blur=0.07)
    for sign in (-1, 1):
        angle = sign * 1.50 + head.yaw
        x0 = float(head.radius(0.08)) * math.sin(angle)
        if look.style in (_LONG, _BOB) or sign * x0 <= 0 or math.cos(angle) >= 0.6:
            continue
        ear = _ellipse(x0 + sign * 0.025, 0.10, 0.075, 0.165, sign * 0.12)
        hollow = _ellipse(x0 + sign * 0.032, 0.09, 0.036, 0.10, sign * 0.12)
        canvas.paint(head.by(ear), skin * _rgb(0.86, 0.76, 0.72), blur=0.013, solid=True)
        canvas.paint(head.by(hollow), skin * _rgb(0.62, 0.46, 0.42), 0.6, blur=0.019)


def _rgb(red: float, green: float, blue: float) -> Ink:
    return np.array([red, green, blue], dtype=np.float32)


def _skin(canvas: _Canvas, head: _Head, surface: _Surface) -> None:
    look, base = head.look, head.look.skin
    rng = np.random.default_rng([look.salt, 5])
    paint = np.broadcast_to(base, (_MAP, _MAP, 3)).copy()
    u, v = np.abs(_AXIS)[None], _AXIS[:, None]

    def tint(weight: Float32[np.ndarray, "map map"], ink: Ink) -> None:
        nonlocal paint
        paint += (ink - paint) * np.asarray(weight, np.float32)[..., None]

    red = base * _rgb(1.0, 0.72, 0.68)
    tint((0.15 + 0.35 * look.blush) * _hump(0.38, 0.36, 0.17, 0.15) + 0.28 * _hump(0, look.tip, 0.10, 0.08), red)
    tint(0.40 * _hump(look.eye_u, look.eye_v - 0.01, 0.17, 0.11), base * _rgb(0.72, 0.58, 0.56))
    tint((0.10 + 0.3 * look.age) * _hump(look.eye_u, look.eye_v + 0.12, 0.11, 0.035), base * _rgb(0.66, 0.52, 0.54))
    mottle = rng.standard_normal((40, 40), dtype=np.float32)
    mottle = cv2.resize(mottle, (_MAP, _MAP), interpolation=cv2.INTER_CUBIC)
    paint *= (1 + (0.010 + 0.018 * look.age) * mottle)[..., None]
    if look.freckles:
        spots = (rng.uniform(size=(_MAP, _MAP)) < 0.06 * look.freckles).astype(np.float32)
        spots = cv2.GaussianBlur(spots, (0, 0), 0.8) * 2.4 * _hump(0, 0.28, 0.42, 0.16)
        tint(np.clip(spots, 0, 0.8), base * _rgb(0.70, 0.50, 0.40))
    if look.beard:
        edge = 0.34 + 0.34 * np.exp(-((u / 0.30) ** 2))  # down the cheeks, free of the nose
        beard = _smooth((v - edge) / 0.14) * _smooth((u + 0.55 * v - 0.42) / 0.12)
        beard = np.maximum(beard, _hump(0, look.mouth_v - 0.10, look.mouth_width * 0.95, 0.05))
        grain = 1 + 0.25 * rng.standard_normal((_MAP, _MAP), dtype=np.float32)
        tint(np.clip(beard * look.beard * grain, 0, 0.92), look.hair * np.float32(0.9) + np.float32(0.03))
    if look.style == _SHAVED:
        stubble = _smooth((look.hairline + 0.03 - v - 0.25 * u**3) / 0.10)
        tint(0.35 * stubble, look.hair * np.float32(0.7) + base * np.float32(0.25))
    albedo = cv2.remap(paint, surface.map_u, surface.map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Shadows on skin are warm: light that went in comes out red.
    lit = albedo * (1 + (surface.shade - 1)[..., None] * _rgb(0.86, 1.06, 1.14))
    lit += (0.13 * surface.shine)[..., None] * _rgb(1.0, 0.97, 0.92)
    levels = np.linspace(-0.998, 0.998, 90)
    right = np.stack([head.radius(levels), levels], 1)
    lit = cv2.resize(lit, (head.side, head.side))
    canvas.paint(head.by(np.concatenate([right, (right * [-1, 1])[::-1]])), lit, blur=0.011, solid=True)


def _eye(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane, sign: int, gaze: Points) -> None:
    look = head.look
    size, u0, v0 = look.eye_size, sign * look.eye_u, look.eye_v
    gape = size * look.eye_open * max(1 + 1.05 * pose.eyes, 0.15)
    t = np.linspace(-1, 1, 22)  # from the inner to the outer corner

    def lid(height: float, peak: float, reach: float = 1.0) -> Points:
        s = t * reach
        up = height * (1 - np.abs(s) ** 2.2) * (1 - peak * s) + 0.10 * size * s + look.eye_tilt * size * s
        return head.on(np.stack([u0 + sign * s * size, v0 - up], 1))

    upper, lower = lid(gape * 1.05, 0.16), lid(-gape * 0.62, -0.12)
    almond = np.concatenate([upper, lower[::-1]])
    within = canvas.plane(almond, 0.008)
    canvas.paint(almond, _rgb(0.95, 0.93, 0.91), blur=0.008, shade=np.minimum(shade * 1.10, 1.05))
    x, y = u0 + gaze[0] * size * 1.3, v0 + gaze[1] * size - 0.10 * gape
    iris, colour = size * 0.47, look.iris
    for radius, dim, blur in ((iris, 0.35, 0.010), (iris * 0.86, 1.0, 0.014), (iris * 0.42, 0.05, 0.006)):
        canvas.paint(head.on(_ellipse(x, y, radius, radius)), colour * np.float32(dim), 0.95, blur=blur, within=within)
    glow = head.on(_ellipse(x, y + iris * 0.5, iris * 0.6, iris * 0.34))
    canvas.paint(glow, np.minimum(colour * 1.7 + 0.05, 1), 0.45, blur=0.019, within=within)
    # The upper lid shades the ball.
    canvas.line(lid(gape * 0.82, 0.16), 0.055, _rgb(0.12, 0.08, 0.08), 0.42, blur=0.019, within=within)
    spark = head.on(_ellipse(x - iris * 0.36, y - iris * 0.36, iris * 0.24, iris * 0.24))
    canvas.paint(spark, _rgb(1, 1, 1), 0.95, blur=0.005, within=within)
    dark, lash = look.skin * _rgb(0.34, 0.24, 0.22), look.hair * np.float32(0.35)
    canvas.line(upper, 0.030, lash, 0.92, blur=0.007)
    canvas.line(lid(gape * 1.05 + 0.012, 0.16, 1.02)[11:], 0.030, lash, 0.7, blur=0.010)
    canvas.line(lower, 0.014, dark, 0.5, blur=0.010)
    canvas.line(lid(gape * 1.05 + 0.055 + 0.03 * pose.eyes, 0.10, 0.98), 0.020, dark, 0.5, blur=0.014)
    tear = head.on(_ellipse(u0 - sign * size * 0.97, v0 + 0.10 * size + look.eye_tilt * size, 0.016, 0.012))
    canvas.paint(tear, _rgb(0.78, 0.48, 0.44), 0.7, blur=0.010)


def _brow(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane, sign: int) -> None:
    look, reach = head.look, head.look.eye_size
    v0 = look.eye_v - look.brow_v - 0.02 * pose.eyes
    inner, outer = -0.085 * pose.brow_inner, -0.075 * pose.brow_outer
    middle = (inner + outer) / 2 - 0.02 * abs(pose.brow_inner)
    pinch = 0.03 * max(-pose.brow_inner, 0)
    u = [look.eye_u + reach * a for a in (-1.12, -0.35, 0.55, 1.38)]
    v = [0.006 + inner, (inner + middle) / 2 - look.brow_arch * 0.5, middle - look.brow_arch, 0.035 + outer]
    line = _curve([u[0] - pinch, *u[1:]], [v0 + a for a in v])
    thick = look.brow_thick * np.interp(np.linspace(0, 1, 24), [0, 0.12, 0.5, 0.8, 1], [0.55, 1.0, 0.95, 0.6, 0.12])
    edge = np.stack([np.zeros(24), thick], 1)
    outline = head.on(np.concatenate([line - edge, (line + edge)[::-1]]) * [sign, 1], 0.01)
    ink = look.hair * np.float32(0.62) + look.skin * np.float32(0.06)
    canvas.paint(outline, ink, 0.58, blur=0.021, shade=shade)
    canvas.paint(outline, ink, 0.55, blur=0.008, shade=shade)


def _nose(canvas: _Canvas, head: _Head, pose: _Pose) -> None:
    look, wide, height = head.look, head.look.nose_width, head.look.nose_height
    tip = look.tip
    dark = look.skin * _rgb(0.36, 0.24, 0.22)
    canvas.paint(head.on(_ellipse(0, tip + 0.075, wide * 0.95, 0.03), height * 0.3), dark, 0.40, blur=0.032)
    tip -= 0.02 * pose.wrinkle
    for sign in (-1, 1):
        hole = _ellipse(sign * wide * 0.48, tip + 0.058, wide * 0.26, 0.021, -sign * 0.35)
        canvas.paint(head.on(hole, height * 0.45), dark * np.float32(0.45), 0.85, blur=0.013)
        wing = _curve([sign * wide * a for a in (0.80, 1.10, 0.92)], [tip - 0.055, tip + 0.005, tip + 0.062], 12)
        canvas.line(head.on(wing, height * 0.18), 0.026, dark, 0.45, blur=0.016)
    canvas.paint(head.on(_ellipse(0.01, look.tip - 0.03, 0.03, 0.028), height), _rgb(1, 0.96, 0.92), 0.22, blur=0.025)


def _mouth(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane) -> Points:
    """Draw the mouth; return its corners in px, the viewer's left first."""
    look, skin = head.look, head.look.skin
    wide = look.mouth_width * (1 + pose.mouth_wide)
    mid = look.mouth_v + 0.02 * pose.corners - 0.02 * pose.lip_lift
    gap = 0.17 * pose.mouth_open
    upper, lower = (lip * (1 - 0.45 * pose.press) for lip in (look.lip_upper, look.lip_lower))
    t = np.linspace(-1, 1, 33)
    u = t * wide + 0.03 * pose.skew
    rise = 0.016 + 0.075 * pose.corners + np.where(t > 0, 0.105 * pose.skew, 0)
    centre = mid - rise * np.abs(t) ** 1.7
    bow = 1 - np.abs(t) ** 2.1
    inner_top = centre - (gap * 0.30 + 0.022 * pose.lip_lift) * bow
    inner_low = centre + gap * 0.78 * bow
    cupid = 1 - np.abs(t) ** 1.8 - 0.22 * np.exp(-((t / 0.16) ** 2))
    outer_top = inner_top - upper * 1.35 * cupid
    outer_low = inner_low + lower * 1.30 * (1 - np.abs(t) ** 2.4)

    def on(v: Numbers, part: slice = slice(None)) -> Points:
        return head.on(np.stack([u[part], np.asarray(v)[part]], 1), 0.035)

    def region(top: Numbers, low: Numbers) -> Points:
        return np.concatenate([on(top), on(low)[::-1]])

    red = skin * _rgb(0.90, 0.55, 0.53) * np.float32(1 - look.lip_red)
    red = red + _rgb(0.72, 0.27, 0.28) * np.float32((0.45 + 0.55 * skin[0]) * look.lip_red)
    canvas.paint(region(outer_top, outer_low), red, 0.85, blur=0.014, shade=shade)
    canvas.paint(region(outer_top, inner_top), red * np.float32(0.78), 0.55, blur=0.013, shade=shade)
    if gap > 0.012:
        hole = region(inner_top, inner_low)
        within = canvas.plane(hole, 0.008)
        canvas.paint(hole, _rgb(0.22, 0.07, 0.07), blur=0.008)
        tongue = head.on(_ellipse(0, mid + gap * 0.72, wide * 0.55, gap * 0.34))
        canvas.paint(tongue, _rgb(0.62, 0.26, 0.26), 0.75, blur=0.025, within=within)
        if pose.teeth > 0:
            shown = 0.78 if pose.teeth > 0.7 else 0.45
            teeth = region(inner_top - 0.01, inner_top + np.minimum(0.075, (inner_low - inner_top) * shown))
            canvas.paint(teeth, _rgb(0.96, 0.94, 0.90), blur=0.010, within=within, shade=np.minimum(shade * 1.08, 1))
    else:
        canvas.line(on(centre), 0.026, red * np.float32(0.30), 0.85, blur=0.010)
    gloss = head.on(_ellipse(0, float(inner_low[16]) + lower * 0.55, wide * 0.34, lower * 0.26), 0.035)
    canvas.paint(gloss, _rgb(1.0, 0.90, 0.88), 0.20, blur=0.022)
    canvas.line(on(outer_low + 0.03, slice(8, 25)), 0.05, skin * _rgb(0.5, 0.36, 0.33), 0.30, blur=0.032)
    corners = on(centre)[[0, -1]]
    for corner in corners:
        dot = corner + head.unit * _ellipse(0, 0, 0.018, 0.018)
        canvas.paint(dot, skin * _rgb(0.35, 0.20, 0.18), 0.5, blur=0.016)
    return corners


def _folds(canvas: _Canvas, head: _Head, pose: _Pose) -> None:
    """Lines that age and expressions draw."""
    look, eye, brow = head.look, head.look.eye_v, head.look.eye_v - head.look.brow_v
    dark = look.skin * _rgb(0.48, 0.34, 0.31)
    cheeks, frown = max(pose.cheeks, 0), max(-pose.brow_inner, 0)
    wide = look.mouth_width * (1 + pose.mouth_wide) + 0.05 + 0.05 * cheeks

    def crease(u: Sequence[float], v: Sequence[float], width: float, opacity: float, blur: float = 0.014) -> None:
        canvas.line(head.on(_curve(u, v, 16)), width, dark, min(opacity, 0.75), blur=blur)

    for s in (-1, 1):
        fold = [s * look.nose_width * 1.15, s * wide * 0.92, s * wide]
        middle = (look.tip + look.mouth_v) / 2
        crease(
            fold,
            [look.tip - 0.03, middle - 0.01, look.mouth_v + 0.02],
            0.035,
            0.16 + 0.35 * look.age + 0.42 * cheeks,
            0.022,
        )
        bag = [s * (look.eye_u + a) for a in (-0.10, 0.0, 0.11)]
        crease(bag, [eye + 0.10, eye + 0.135, eye + 0.10], 0.022, 0.12 + 0.38 * look.age + 0.2 * cheeks)
        if frown > 0.2:
            crease([s * 0.045, s * 0.038], [brow - 0.07, brow + 0.06], 0.022, 0.65 * frown)
        if pose.wrinkle > 0.6:
            crease([s * 0.02, s * 0.07, s * 0.10], [eye + 0.07, eye + 0.12, eye + 0.19], 0.020, 0.55)
    lines = 0.5 * max(look.age - 0.35, 0) + 0.24 * max(pose.brow_outer, 0) + 0.15 * max(pose.brow_inner, 0)
    if lines > 0.03:
        for v in (brow - 0.17, brow - 0.24, brow - 0.31):
            wave = [v + 0.012, v - 0.006, v + 0.006, v - 0.006, v + 0.012]
            crease([-0.24, -0.1, 0.0, 0.1, 0.24], wave, 0.018, min(lines, 0.5))


def _strands(head: _Head) -> Float32[np.ndarray, "side side 3"]:
    """Hair colour for every pixel: strands that run down from the crown, with a band of gloss."""
    look = head.look
    rng = np.random.default_rng([look.salt, 6])
    x, v = head.inverse(head.side // 2)
    # Strands are lines of one angle about a point above the parting; far below they hang straight.
    angle = (x - look.part) / (np.maximum(v + 1.5, 0.25) ** 0.7) * 46 + 3.0 * np.sin(2.2 * v)
    noise = np.tile(rng.standard_normal((1, 256), dtype=np.float32), 3)
    nowhere = np.zeros_like(angle)

    def pattern(blur: float, pitch: float) -> Plane:
        # The pattern repeats every 256; positions fall into the middle one of three copies.
        wave = cv2.GaussianBlur(noise, (0, 0), blur) * blur**0.7
        at = (angle * pitch) % 256 + 256
        return np.asarray(cv2.remap(wave, at.astype(np.float32), nowhere, cv2.INTER_LINEAR), dtype=np.float32)

    fine = pattern(0.7, 1.6)
    value = np.clip(0.92 + 0.19 * fine + 0.20 * pattern(3.0, 0.8), 0.45, 1.6)
    gloss = np.exp(-(((np.hypot(x, v + 0.1) - 0.86) / 0.13) ** 2)) * np.clip(0.75 - v, 0, 1) * (0.7 + 0.3 * fine)
    colour = look.hair * value[..., None] + (gloss * 0.16)[..., None] * _rgb(1.0, 0.93, 0.82)
    return np.asarray(cv2.resize(colour.astype(np.float32), (head.side, head.side)), dtype=np.float32)


def _front_hair(canvas: _Canvas, head: _Head, shade: Plane, strands: Float32[np.ndarray, "side side 3"]) -> None:
    look, line, style = head.look, head.look.hairline, head.look.style
    hangs = style in (_LONG, _BOB)
    volume = {_SHORT: 0.07, _QUIFF: 0.11, _LONG: 0.10, _BOB: 0.13, _BUN: 0.045}[style]
    end = {_SHORT: 0.02, _QUIFF: -0.06, _LONG: 0.75, _BOB: 0.70, _BUN: -0.05}[style]
    w = look.width + volume
    arc = np.linspace(-math.pi / 2, math.pi / 2, 40)
    crown = np.stack([w * np.sin(arc), -0.10 - (0.92 + volume) * np.cos(arc)], 1)
    levels = np.linspace(-0.1, end, 8)[1:]
    right = np.stack([np.full(7, w + (0.2 * volume if hangs else 0)), levels], 1)
    rim = head.by(np.concatenate([(right * [-1, 1])[::-1], crown, right]))
    # The hairline turns with the face; its ends run down before the ears.
    temple = float(head.radius(-0.2)) * (0.86 if hangs else 0.90)
    low = min(end, 0.62)
    foot = float(head.radius(low)) * (0.93 if hangs else 0.97)
    u = [foot, temple * 0.99, temple * 0.93, temple * 0.60]
    v = [low, 0.1 if hangs else -0.12, line + 0.27, line + 0.05]
    top = (look.part, line - 0.10 if hangs else line - 0.015)
    if style == _BOB and look.age < 0.4:  # a fringe
        v[3], top = line + 0.30, (0.0, line + 0.27)
    inner = head.on(_curve([*u, top[0], *(-a for a in reversed(u))], [*v, top[1], *reversed(v)], 60), 0.015)
    outline = np.concatenate([rim, inner])
    if made := canvas.mask(outline + np.array([0, 0.035 * head.unit]), 0.045):  # its shadow on the skin
        window, cover = made
        canvas.colour[window] *= 1 - 0.34 * (cover * canvas.alpha[window])[..., None]
    canvas.paint(outline, strands, blur=0.017, shade=np.clip(shade * 0.55 + 0.5, 0, 1.2), solid=True)


def _glasses(canvas: _Canvas, head: _Head) -> None:
    look, u, v = head.look, head.look.eye_u, head.look.eye_v
    frame = _rgb(0.10, 0.09, 0.10) if look.jaw > 0.4 else _rgb(0.42, 0.30, 0.18)
    for s in (-1, 1):
        ring, lens = (head.on(_ellipse(s * u, v + 0.02, a, b), 0.06) for a, b in ((0.205, 0.165), (0.18, 0.14)))
        canvas.paint(np.concatenate([ring, ring[:1], lens[:1], lens[::-1]]), frame, 0.92, blur=0.006)
        glare = head.on(_ellipse(s * u - 0.07, v - 0.05, 0.05, 0.022, -0.5), 0.06)
        canvas.paint(glare, _rgb(1, 1, 1), 0.20, blur=0.016)
        arm = _curve([s * (u + 0.19), s * float(head.radius(0.0)) * 0.99], [v - 0.03, v - 0.02], 8)
        canvas.line(head.on(arm, 0.04), 0.030, frame, 0.9, blur=0.006)
    bridge = _curve([0.19 - u, 0, u - 0.19], [v, v - 0.045, v], 14)
    canvas.line(head.on(bridge, 0.09), 0.030, frame, 0.92, blur=0.006)
