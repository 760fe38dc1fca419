"""Drawn faces: people who do not exist, with exact landmarks, for tests, demonstrations and documentation.

A head is a stack of circles with bumps for nose, brows, cheeks and lips, lit from one side; features are painted on
it and turn with it. Everything follows from a subject's number and a seed, the same on every machine up to rounding.

Units: a head is 2 high, from crown (v = -1) to chin (v = 1); u grows to the viewer's right; height h stands off the
surface towards the viewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien.types import EXPRESSIONS, Box

__all__ = ["DrawnFace", "DrawnScene", "draw_face", "draw_scene"]

Plane = Float32[np.ndarray, "height width"]
Places = Float[np.ndarray, "*points 2"]
Colour = tuple[float, float, float]
Points = Float[np.ndarray, "points 2"]

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

    skin: Colour
    hair: Colour
    iris: Colour
    cloth: Colour
    hair_style: int
    width: float
    jaw: float
    chin: float
    eye_u: float
    eye_v: float
    eye_size: float
    eye_tilt: float
    eye_open: float
    brow_thick: float
    brow_arch: float
    brow_v: float
    nose_length: float
    nose_width: float
    nose_height: float
    mouth_v: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    lip_red: float
    hairline: float
    beard: float
    freckles: float
    age: float
    glasses: bool


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
    rows = max(1, round(math.sqrt(count * height / width * 0.8)))
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
        shift = np.float32([left, top])
        b = layer.box
        box = Box(
            *(
                float(np.clip(v, 0, m))
                for v, m in zip(
                    (b.left + left, b.top + top, b.right + left, b.bottom + top), (width, height) * 2, strict=True
                )
            )
        )
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
    small[:] = np.array(colour, np.float32) * (1.12 - 0.4 * y + 0.2 * (x - 0.5) * rng.uniform(-1, 1))[..., None]
    for _ in range(4):
        spot = np.exp(-((x - rng.uniform(0, 1)) ** 2 + (y - rng.uniform(0, 0.8)) ** 2) / rng.uniform(0.01, 0.06))
        small += (rng.uniform(-0.14, 0.16) * spot)[..., None] * rng.uniform(0.6, 1.2, 3).astype(np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _photograph(image: Float32[np.ndarray, "height width 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Add the camera's noise and round to bytes."""
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(0.010)
    return np.asarray(np.clip((image + noise) * 255 + 0.5, 0, 255), dtype=np.uint8)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    import colorsys

    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


_SKINS = (
    (0.98, 0.83, 0.74),
    (0.94, 0.76, 0.64),
    (0.87, 0.66, 0.52),
    (0.76, 0.54, 0.40),
    (0.58, 0.39, 0.28),
    (0.40, 0.26, 0.19),
)
_HAIRS = (
    (0.09, 0.07, 0.06),
    (0.20, 0.12, 0.08),
    (0.34, 0.21, 0.12),
    (0.52, 0.34, 0.17),
    (0.80, 0.64, 0.38),
    (0.55, 0.22, 0.10),
    (0.62, 0.61, 0.60),
)
_IRISES = ((0.25, 0.14, 0.07), (0.36, 0.22, 0.10), (0.35, 0.42, 0.22), (0.30, 0.48, 0.62), (0.42, 0.48, 0.52))


def _look(subject: int) -> _Look:
    rng = np.random.default_rng([subject, 1])
    tone = rng.uniform(0, len(_SKINS) - 1.001)
    i = int(tone)
    skin = np.array(_SKINS[i]) * (1 - tone + i) + np.array(_SKINS[i + 1]) * (tone - i)
    skin = np.clip(skin * rng.normal(1, [0.015, 0.02, 0.03]), 0.1, 1)
    age = rng.beta(1.3, 2.2)
    # Light eyes and hair go with light skin more often than not.
    hair = 6 if age > 0.68 else int(rng.choice(6 if tone < 2.2 else 3))
    style = int(rng.choice(6))
    bearded = style in (0, 1, 5) and rng.uniform() < 0.45

    def about(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2.0, 2.0))

    return _Look(
        skin=(float(skin[0]), float(skin[1]), float(skin[2])),
        hair=_HAIRS[hair],
        iris=_IRISES[int(rng.choice(5 if tone < 2.2 else 2))],
        cloth=_hsv(rng.uniform(), rng.uniform(0.15, 0.7), rng.uniform(0.2, 0.85)),
        hair_style=style,
        width=about(0.665, 0.045),
        jaw=about(0.5, 0.28),
        chin=about(0.0, 0.03),
        eye_u=about(0.285, 0.022),
        eye_v=about(0.02, 0.025),
        eye_size=about(0.132, 0.013),
        eye_tilt=about(0.02, 0.10),
        eye_open=about(0.40, 0.06),
        brow_thick=about(0.040, 0.013),
        brow_arch=about(0.030, 0.018),
        brow_v=about(0.165, 0.026),
        nose_length=about(0.40, 0.035),
        nose_width=about(0.125, 0.022),
        nose_height=about(0.15, 0.03),
        mouth_v=about(0.64, 0.02),
        mouth_width=about(0.235, 0.028),
        lip_upper=about(0.045, 0.014),
        lip_lower=about(0.065, 0.017),
        lip_red=about(0.5, 0.22),
        hairline=about(-0.60, 0.07),
        beard=float(rng.uniform(0.35, 0.95)) if bearded else 0.0,
        freckles=float(rng.uniform()) if tone < 1.5 and rng.uniform() < 0.35 else 0.0,
        age=float(age),
        glasses=bool(rng.uniform() < 0.12),
    )


class _Head:
    """The geometry of one head in one picture: where a point of the face falls, and how it is lit."""

    def __init__(self, look: _Look, side: int, yaw: float, roll: float, scale: float, shift: tuple[float, float]):
        self.look = look
        self.side = side
        self.yaw = yaw
        self.unit = _HEAD * side * scale  # px per head unit
        self.cx = (_CENTRE[0] + shift[0]) * side
        self.cy = (_CENTRE[1] + shift[1]) * side
        self.cos, self.sin = math.cos(roll), math.sin(roll)

    def radius(self, v: Float[np.ndarray, "..."] | float) -> Float32[np.ndarray, "..."]:
        """Half the width of the head at a height."""
        look = self.look
        v = np.clip(np.asarray(v, np.float32), -0.999, 0.999)
        top = np.sqrt(1 - np.abs(v) ** 2.5)
        low = np.maximum(1 - np.abs(v) ** (2.3 + 1.1 * look.jaw), 0) ** (1 / 1.75)
        taper = np.clip((v - 0.1) / 0.85, 0, 1)
        low = low * (1 - (0.16 - 0.14 * look.jaw) * taper * taper * (3 - 2 * taper))
        return np.asarray(look.width * np.where(v < 0, top, low), dtype=np.float32)

    def place(self, u: object, v: object, h: object = 0.0) -> Places:
        """Project points of the face, standing off its surface by ``h``, to px (x, y)."""
        across, down, off = (np.asarray(a, np.float64) for a in np.broadcast_arrays(u, v, h))
        r = np.maximum(self.radius(down), 1e-3).astype(np.float64)
        return self.flat((r + off) * np.sin(np.arcsin(np.clip(across / r, -1, 1)) + self.yaw), down)

    def flat(self, x: object, y: object) -> Places:
        """Place points of the picture plane around the head, which lean with it and do not turn."""
        across, down = (np.asarray(a, np.float64) for a in np.broadcast_arrays(x, y))
        return np.stack(
            [
                self.cx + self.unit * (across * self.cos - down * self.sin),
                self.cy + self.unit * (across * self.sin + down * self.cos),
            ],
            axis=-1,
        )


class _Canvas:
    """A picture that is painted on with soft-edged polygons."""

    def __init__(self, side: int):
        self.side = side
        self.colour = np.zeros((side, side, 3), np.float32)
        self.alpha = np.zeros((side, side), np.float32)

    def mask(self, outline: Places, blur: float) -> tuple[tuple[slice, slice], Plane] | None:
        """Rasterise a polygon with an edge ``blur`` px soft; return its window and coverage."""
        pad = math.ceil(2.5 * blur) + 2
        lo = np.maximum(np.floor(outline.min(0)).astype(int) - pad, 0)
        hi = np.minimum(np.ceil(outline.max(0)).astype(int) + pad, self.side)
        if (hi - lo <= 0).any():
            return None
        patch = np.zeros((hi[1] - lo[1], hi[0] - lo[0]), np.uint8)
        points = np.round((outline - lo) * 16).astype(np.int32)
        cv2.fillPoly(patch, [points], 255, lineType=cv2.LINE_AA, shift=4)
        cover = patch.astype(np.float32) * np.float32(1 / 255)
        if blur > 0.3:
            cover = cv2.GaussianBlur(cover, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
        return (slice(lo[1], hi[1]), slice(lo[0], hi[0])), cover

    def paint(
        self,
        outline: Places,
        colour: Colour | Float32[np.ndarray, "side side 3"],
        *,
        opacity: float = 1.0,
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
        cover = cover * opacity
        if within is not None:
            cover = cover * within[window]
        ink = colour[window] if isinstance(colour, np.ndarray) else np.array(colour, np.float32)
        if shade is not None:
            ink = ink * shade[window][..., None]
        ground = self.colour[window]
        ground += (ink - ground) * cover[..., None]
        if solid:
            rest = self.alpha[window]
            rest += (1 - rest) * cover

    def line(
        self,
        points: Places,
        width: float,
        colour: Colour,
        *,
        opacity: float = 1.0,
        blur: float = 0.0,
        shade: Plane | None = None,
        within: Plane | None = None,
    ) -> None:
        """Draw a stroke that thins out at both ends."""
        step = np.gradient(points, axis=0)
        normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.maximum(np.linalg.norm(step, axis=1), 1e-6)[:, None]
        half = 0.5 * width * np.sin(np.linspace(0.12, math.pi - 0.12, len(points)))[:, None]
        outline = np.concatenate([points + normal * half, (points - normal * half)[::-1]])
        self.paint(outline, colour, opacity=opacity, blur=blur, shade=shade, within=within)


def _ellipse(u: float, v: float, ru: float, rv: float, *, tilt: float = 0.0, n: int = 28) -> Points:
    t = np.linspace(0, 2 * math.pi, n, endpoint=False)
    x, y = ru * np.cos(t), rv * np.sin(t)
    return np.stack([u + x * math.cos(tilt) - y * math.sin(tilt), v + x * math.sin(tilt) + y * math.cos(tilt)], 1)


def _curve(knots: Sequence[tuple[float, float]], n: int = 24) -> Points:
    """A smooth line through a few points (Catmull-Rom)."""
    p = np.array([knots[0], *knots, knots[-1]], np.float64)
    t = np.linspace(0, len(knots) - 1 - 1e-9, n)
    i = t.astype(int)
    f = (t - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def _render(subject: int, side: int, expression: str, yaw: float, roll: float, light: float, seed: int) -> _Layer:
    """Draw one person on nothing."""
    look = _look(subject)
    rng = np.random.default_rng([seed, subject, 4])
    pose = _POSES[expression].times(float(rng.uniform(0.85, 1.15)))
    finer = max(1, min(4, round(320 / side)))  # drawn larger, then averaged down: clean edges at any size
    shift = (float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.015, 0.015)))
    head = _Head(look, side * finer, yaw, roll, float(rng.uniform(0.95, 1.05)), shift)
    sun = (float(rng.uniform(-0.55, 0.55)), float(rng.uniform(-0.65, -0.25)), 0.8)
    gaze = (float(rng.uniform(-0.16, 0.16)), float(rng.uniform(-0.08, 0.08)))
    canvas = _Canvas(side * finer)
    surface = _surface(head, pose, sun)

    _body(canvas, head)
    _skin(canvas, head, surface)
    for sign in (-1, 1):
        _eye(canvas, head, pose, surface.shade, sign, gaze)
        _brow(canvas, head, pose, surface.shade, sign)
    _nose(canvas, head, pose, surface.shade)
    corners = _mouth(canvas, head, pose, surface.shade)
    _folds(canvas, head, pose, corners)
    _front_hair(canvas, head, surface)
    if look.glasses:
        _glasses(canvas, head)

    size = (side, side)
    warmth = np.array([1.0, 1.0, 1.0], np.float32) + rng.uniform(-0.03, 0.03, 3).astype(np.float32)
    colour = cv2.resize(canvas.colour, size, interpolation=cv2.INTER_AREA) * (warmth * light)
    alpha = cv2.resize(canvas.alpha, size, interpolation=cv2.INTER_AREA)
    eyes = [head.place(s * look.eye_u, look.eye_v) for s in (-1, 1)]
    tip = head.place(0, _tip(look), look.nose_height)
    marks = (np.stack([*eyes, tip, *corners]) + 0.5) / finer - 0.5
    wide = float(head.radius(0.1))
    rim = head.flat([-wide, wide, -wide, wide, 0, 0], [look.hairline, look.hairline, 0.55, 0.55, 1.0, look.hairline])
    rim = (rim + 0.5) / finer - 0.5
    box = Box(*(float(v) for v in np.clip([*rim.min(0), *rim.max(0)], 0, side)))
    return _Layer(colour.astype(np.float32), alpha, marks.astype(np.float32), box)


def _tip(look: _Look) -> float:
    """The height v of the nose tip."""
    return look.eye_v + look.nose_length


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """The lit head, pixel by pixel: face coordinates and light."""

    x: Plane
    v: Plane
    map_u: Plane
    map_v: Plane
    shade: Plane
    shine: Plane


_TEXTURE = 160  # px of a map of the face, u and v from -1.1 to 1.1


def _axis() -> Float32[np.ndarray, " texture"]:
    return np.linspace(-1.1, 1.1, _TEXTURE, dtype=np.float32)


def _relief(look: _Look, pose: _Pose) -> Plane:
    """How far the skin stands off the bare head, as a map over (v, u)."""
    u = v = _axis()
    tip, eye = _tip(look), look.eye_v

    def bump(u0: float, v0: float, su: float, sv: float, height: float) -> Plane:
        up = np.exp(-(((v - v0) / sv) ** 2)) * height
        across = np.exp(-(((u - u0) / su) ** 2))
        if u0:
            across = across + np.exp(-(((u + u0) / su) ** 2))
        return np.asarray(np.outer(up, across), dtype=np.float32)

    # The ridge of the nose rises from between the eyes to the tip and drops at once below it.
    along = (
        np.clip((v - eye + 0.08) / (tip - eye + 0.08), 0, 1) ** 1.3 * np.clip((tip + 0.085 - v) / 0.085, 0, 1) ** 0.8
    )
    thick = look.nose_width * (0.52 + 0.36 * np.clip((v - eye) / (tip - eye), 0, 1) ** 2)
    relief = np.exp(-(((u[None] / thick[:, None]) ** 2) ** 0.85)) * (along * look.nose_height)[:, None]
    mouth = look.mouth_v
    for part in (
        bump(look.nose_width * 0.78, tip + 0.01, 0.05, 0.055, 0.055),
        bump(look.eye_u * 0.96, eye, 0.15, 0.085, -0.060),
        bump(look.eye_u, eye - look.brow_v + 0.015, 0.20, 0.05, 0.028),
        bump(0.40, 0.30 - 0.04 * pose.cheeks, 0.15, 0.13, 0.030 + 0.030 * max(pose.cheeks, 0)),
        bump(0.0, mouth - 0.045, look.mouth_width * 0.75, 0.04, 0.030),
        bump(0.0, mouth + 0.06 + 0.1 * pose.mouth_open, look.mouth_width * 0.6, 0.04, 0.035),
        bump(0.0, mouth + 0.15 + 0.1 * pose.mouth_open, 0.14, 0.035, -0.024),
        bump(0.0, 0.88, 0.15, 0.10, 0.045 + 0.04 * look.jaw),
        bump(0.0, (tip + mouth) / 2 + 0.02, 0.022, 0.04, -0.010),
        bump(0.0, -0.45, 0.40, 0.22, 0.025),
    ):
        relief = relief + part
    return np.asarray(cv2.GaussianBlur(relief.astype(np.float32), (0, 0), 1.6), dtype=np.float32)


def _surface(head: _Head, pose: _Pose, sun: tuple[float, float, float]) -> _Surface:
    side = head.side
    px = np.arange(side, dtype=np.float32)
    dx, dy = (px - head.cx)[None] / head.unit, (px - head.cy)[:, None] / head.unit
    x = np.asarray(dx * head.cos + dy * head.sin, np.float32)
    v = np.asarray(dy * head.cos - dx * head.sin, np.float32)
    table = np.linspace(-1.05, 1.05, 1024, dtype=np.float32)
    at = np.clip((v + 1.05) * (1023 / 2.1), 0, 1023).astype(np.int32)
    radius = np.maximum(head.radius(table), 0.02)[at]
    depth = (0.78 * np.sqrt(1 - np.minimum(np.abs(table), 0.995) ** 3.4))[at]
    sine = np.clip(x / radius, -0.999, 0.999)
    turn = np.arcsin(sine) - np.float32(head.yaw)
    scale = np.float32((_TEXTURE - 1) / 2.2)
    map_u = (radius * np.sin(turn) + np.float32(1.1)) * scale
    map_v = (np.clip(v, -1.1, 1.1) + np.float32(1.1)) * scale
    relief = cv2.remap(_relief(head.look, pose), map_u, map_v, cv2.INTER_LINEAR)
    z = (depth + relief) * np.sqrt(1 - sine * sine) * np.float32(head.unit)
    z = cv2.GaussianBlur(z, (0, 0), max(0.006 * side, 0.8))
    gx, gy = cv2.Sobel(z, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(z, cv2.CV_32F, 0, 1, scale=0.125)
    norm = np.float32(1) / np.sqrt(gx * gx + gy * gy + 1)
    lx, ly, lz = np.array(sun, np.float32) / np.float32(np.linalg.norm(sun))
    facing = (lz - gx * lx - gy * ly) * norm
    shade = np.float32(0.40) + np.float32(0.68) * np.clip((facing + 0.30) / 1.30, 0, 1)
    hx, hy, hz = np.array([sun[0], sun[1], sun[2] + 1.2], np.float32) / np.float32(
        np.linalg.norm([sun[0], sun[1], sun[2] + 1.2])
    )
    shine = np.clip((hz - gx * hx - gy * hy) * norm, 0, 1) ** 28
    return _Surface(x, v, map_u, map_v, shade.astype(np.float32), shine.astype(np.float32))


def _body(canvas: _Canvas, head: _Head) -> None:
    """Long hair behind, shoulders, neck and ears: all that the head covers."""
    look, side = head.look, head.side
    soft = 0.004 * side
    strands = _strands(head, 7)
    if look.hair_style in (2, 3):
        low, wide = (1.55, 0.26) if look.hair_style == 2 else (0.92, 0.22)
        w = look.width + wide
        outline = _curve(
            [
                (-0.35, -1.1),
                (-w + 0.1, -0.75),
                (-w, 0.0),
                (-w - 0.03, low - 0.3),
                (-w + 0.12, low),
                (w - 0.12, low),
                (w + 0.03, low - 0.3),
                (w, 0.0),
                (w - 0.1, -0.75),
                (0.35, -1.1),
            ],
            60,
        )
        canvas.paint(head.flat(*outline.T), strands * 0.62, blur=soft, solid=True)
    elif look.hair_style == 4:
        canvas.paint(head.flat(*_ellipse(0, -1.16, 0.27, 0.22).T), strands * 0.85, blur=soft, solid=True)
    # Shoulders do not lean with the head.
    upright = _Head(look, side, 0.0, 0.0, 1.0, (0.0, 0.0))
    upright.unit, upright.cx, upright.cy = head.unit, head.cx, head.cy
    coat = _curve(
        [
            (-1.7, 2.6),
            (-1.42, 1.85),
            (-1.05, 1.52),
            (-0.42, 1.27),
            (0.42, 1.27),
            (1.05, 1.52),
            (1.42, 1.85),
            (1.7, 2.6),
        ],
        60,
    )
    fold = np.clip(1.05 - 0.32 * np.abs(np.linspace(-1.6, 1.6, side, dtype=np.float32)), 0, 2)[None] * np.ones(
        (side, 1), np.float32
    )
    canvas.paint(upright.flat(*coat.T), look.cloth, blur=soft, shade=fold, solid=True)
    neck_w = look.width * 0.62
    skin = np.array(look.skin, np.float32)
    neck = _curve(
        [
            (-neck_w, 0.4),
            (-neck_w * 0.95, 0.95),
            (-neck_w * 1.08, 1.22),
            (-neck_w * 0.75, 1.42),
            (0, 1.55),
            (neck_w * 0.75, 1.42),
            (neck_w * 1.08, 1.22),
            (neck_w * 0.95, 0.95),
            (neck_w, 0.4),
        ],
        50,
    )
    canvas.paint(upright.flat(*neck.T), tuple(skin * [0.80, 0.74, 0.70]), blur=soft, solid=True)
    collar = _curve(
        [(-neck_w * 1.08, 1.22), (-neck_w * 0.75, 1.42), (0, 1.55), (neck_w * 0.75, 1.42), (neck_w * 1.08, 1.22)], 30
    )
    canvas.line(upright.flat(*collar.T), 0.055 * head.unit, tuple(np.array(look.cloth) * 0.6), opacity=0.8, blur=soft)
    # The chin throws a shadow on the neck.
    canvas.paint(
        head.flat(*_ellipse(0, 0.98, look.width * 0.62, 0.20).T),
        tuple(skin * [0.38, 0.28, 0.25]),
        opacity=0.55,
        blur=0.022 * side,
    )
    for sign in (-1, 1):
        if look.hair_style in (2, 3):
            continue
        angle = sign * 1.50 + head.yaw
        x = float(head.radius(0.08)) * math.sin(angle)
        if sign * x > 0 and math.cos(angle) < 0.6:
            canvas.paint(
                head.flat(*_ellipse(x + sign * 0.025, 0.10, 0.075, 0.165, tilt=sign * 0.12).T),
                tuple(skin * [0.86, 0.76, 0.72]),
                blur=soft,
                solid=True,
            )
            canvas.paint(
                head.flat(*_ellipse(x + sign * 0.032, 0.09, 0.036, 0.10, tilt=sign * 0.12).T),
                tuple(skin * [0.62, 0.46, 0.42]),
                opacity=0.6,
                blur=0.006 * side,
            )


def _skin(canvas: _Canvas, head: _Head, surface: _Surface) -> None:
    look = head.look
    u, v = np.meshgrid(_axis(), _axis())
    rng = np.random.default_rng([int(look.width * 1e6), 5])
    base = np.array(look.skin, np.float32)
    paint = np.ones((_TEXTURE, _TEXTURE, 3), np.float32) * base

    def tint(weight: Plane, colour: Float[np.ndarray, "3"]) -> None:
        paint[:] = paint + (np.asarray(colour, np.float32) - paint) * weight[..., None].astype(np.float32)

    blush = np.exp(-(((np.abs(u) - 0.38) / 0.17) ** 2) - ((v - 0.36) / 0.15) ** 2)
    tint(0.32 * blush + 0.28 * np.exp(-((u / 0.10) ** 2) - ((v - _tip(look)) / 0.08) ** 2), base * [1.0, 0.72, 0.68])
    sockets = np.exp(-(((np.abs(u) - look.eye_u) / 0.17) ** 2) - ((v - look.eye_v + 0.01) / 0.11) ** 2)
    tint(0.40 * sockets, base * [0.72, 0.58, 0.56])
    tint(
        (0.10 + 0.3 * look.age)
        * np.exp(-(((np.abs(u) - look.eye_u) / 0.11) ** 2) - ((v - look.eye_v - 0.12) / 0.035) ** 2),
        base * [0.66, 0.52, 0.54],
    )
    mottle = cv2.resize(
        rng.standard_normal((40, 40)).astype(np.float32), (_TEXTURE, _TEXTURE), interpolation=cv2.INTER_CUBIC
    )
    paint *= (1 + (0.010 + 0.018 * look.age) * mottle)[..., None]
    if look.freckles:
        spots = (
            cv2.GaussianBlur((rng.uniform(size=u.shape) < 0.06 * look.freckles).astype(np.float32), (0, 0), 0.8) * 2.4
        )
        zone = np.exp(-((u / 0.42) ** 2) - ((v - 0.28) / 0.16) ** 2)
        tint(np.clip(spots * zone, 0, 0.8), base * [0.70, 0.50, 0.40])
    if look.beard:
        edge = 0.34 + 0.34 * np.exp(-((u / 0.30) ** 2))  # down the cheeks, free of the nose
        cheeks = _smooth((v - edge) / 0.14) * _smooth((np.abs(u) + 0.55 * v - 0.42) / 0.12)
        lip = np.exp(-(((u / (look.mouth_width * 0.95)) ** 2) ** 2) - ((v - look.mouth_v + 0.10) / 0.05) ** 2)
        grain = 1 + 0.25 * rng.standard_normal(u.shape).astype(np.float32)
        tint(np.clip(np.maximum(cheeks, lip) * look.beard * grain, 0, 0.92), np.array(look.hair) * 0.9 + 0.03)
    if look.hair_style == 5:
        scalp = _smooth((look.hairline + 0.03 - v - 0.25 * np.abs(u) ** 3) / 0.10)
        tint(0.35 * scalp, np.array(look.hair) * 0.7 + base * 0.25)
    albedo = cv2.remap(paint, surface.map_u, surface.map_v, cv2.INTER_LINEAR)
    # Shadows on skin are warm: light that went in comes out red.
    lit = albedo * np.stack([surface.shade**0.86, surface.shade**1.06, surface.shade**1.14], axis=-1)
    lit += (0.13 * surface.shine)[..., None] * np.array([1.0, 0.97, 0.92], np.float32)
    levels = np.linspace(-0.998, 0.998, 90)
    r = head.radius(levels)
    outline = np.concatenate([head.flat(r, levels), head.flat(-r, levels)[::-1]])
    canvas.paint(outline, lit.astype(np.float32), blur=0.0035 * head.side, solid=True)


def _smooth(t: Plane) -> Plane:
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _eye(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane, sign: int, gaze: tuple[float, float]) -> None:
    look, px = head.look, head.unit
    size, u0, v0 = look.eye_size, sign * look.eye_u, look.eye_v
    gape = size * look.eye_open * max(1 + 1.05 * pose.eyes, 0.15)
    tilt = -sign * look.eye_tilt

    def lid(t: object, height: float, peak: float) -> Places:
        """A lid from inner (-1) to outer corner (1)."""
        s = np.asarray(t, np.float64)
        along = sign * s * size
        up = -height * (1 - np.abs(s) ** 2.2) * (1 - peak * s) - 0.10 * size * s
        return head.place(u0 + along, v0 + up + sign * along * tilt * sign, 0.0)

    t = np.linspace(-1, 1, 22)
    upper, lower = lid(t, gape * 1.05, 0.16), lid(t, -gape * 0.62, -0.12)
    almond = np.concatenate([upper, lower[::-1]])
    made = canvas.mask(almond, 0.0025 * head.side)
    if made is None:
        return
    within = np.zeros_like(shade)
    within[made[0]] = made[1]
    dark = np.array(look.skin) * [0.34, 0.24, 0.22]
    canvas.paint(almond, (0.95, 0.93, 0.91), blur=0.0025 * head.side, shade=np.minimum(shade * 1.10, 1.05))
    eye_u, eye_v = u0 + gaze[0] * size * 1.3, v0 + gaze[1] * size - 0.10 * gape
    iris = size * 0.47
    colour = np.array(look.iris)
    for radius, ink, opacity, blur in (
        (iris, colour * 0.35, 0.95, 0.0030),
        (iris * 0.86, colour, 0.95, 0.0045),
        (iris * 0.42, colour * 0.05, 1.0, 0.0020),
    ):
        canvas.paint(
            head.place(*_ellipse(eye_u, eye_v, radius, radius).T),
            tuple(ink),
            opacity=opacity,
            blur=blur * head.side,
            within=within,
        )
    canvas.paint(
        head.place(*_ellipse(eye_u, eye_v + iris * 0.5, iris * 0.6, iris * 0.34).T),
        tuple(np.minimum(colour * 1.7 + 0.05, 1)),
        opacity=0.45,
        blur=0.006 * head.side,
        within=within,
    )
    # The upper lid shades the ball.
    canvas.line(
        lid(t, gape * 0.82, 0.16), 0.055 * px, (0.12, 0.08, 0.08), opacity=0.42, blur=0.006 * head.side, within=within
    )
    canvas.paint(
        head.place(*_ellipse(eye_u - iris * 0.36, eye_v - iris * 0.36, iris * 0.24, iris * 0.24, n=12).T),
        (1, 1, 1),
        opacity=0.95,
        blur=0.0015 * head.side,
        within=within,
    )
    lash = np.array(look.hair) * 0.35
    canvas.line(upper, 0.030 * px, tuple(lash), opacity=0.92, blur=0.0022 * head.side)
    canvas.line(
        lid(t * 1.02, gape * 1.05 + 0.012, 0.16)[11:], 0.030 * px, tuple(lash), opacity=0.7, blur=0.003 * head.side
    )
    canvas.line(lower, 0.014 * px, tuple(dark), opacity=0.5, blur=0.003 * head.side)
    canvas.line(
        lid(t * 0.98, gape * 1.05 + 0.055 + 0.03 * pose.eyes, 0.10),
        0.020 * px,
        tuple(dark),
        opacity=0.50,
        blur=0.0045 * head.side,
    )
    canvas.paint(
        head.place(*_ellipse(u0 - sign * size * 0.97, v0 + 0.10 * size, 0.016, 0.012, n=10).T),
        (0.78, 0.48, 0.44),
        opacity=0.7,
        blur=0.003 * head.side,
    )


def _brow(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane, sign: int) -> None:
    look = head.look
    v0 = look.eye_v - look.brow_v - 0.02 * pose.eyes
    inner, outer = -0.085 * pose.brow_inner, -0.075 * pose.brow_outer
    middle = (inner + outer) / 2 - 0.02 * abs(pose.brow_inner)
    pinch = 0.03 * max(-pose.brow_inner, 0)
    reach = look.eye_size
    line = _curve(
        [
            (look.eye_u - reach * 1.12 - pinch, v0 + 0.006 + inner),
            (look.eye_u - reach * 0.35, v0 - look.brow_arch * 0.5 + (inner + middle) / 2),
            (look.eye_u + reach * 0.55, v0 - look.brow_arch + middle),
            (look.eye_u + reach * 1.38, v0 + 0.035 + outer),
        ],
        24,
    )
    thick = look.brow_thick * np.interp(np.linspace(0, 1, 24), [0, 0.12, 0.5, 0.8, 1], [0.55, 1.0, 0.95, 0.6, 0.12])
    top = np.stack([sign * line[:, 0], line[:, 1] - thick], 1)
    low = np.stack([sign * line[:, 0], line[:, 1] + thick], 1)
    outline = head.place(*np.concatenate([top, low[::-1]]).T, 0.01)
    colour = tuple(np.array(look.hair) * 0.62 + np.array(look.skin) * 0.06)
    canvas.paint(outline, colour, opacity=0.58, blur=0.0065 * head.side, shade=shade)
    canvas.paint(outline, colour, opacity=0.55, blur=0.0025 * head.side, shade=shade)


def _nose(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane) -> None:
    look, side = head.look, head.side
    tip, wide = _tip(look), look.nose_width
    dark = np.array(look.skin) * [0.36, 0.24, 0.22]
    under = head.place(*_ellipse(0, tip + 0.075, wide * 0.95, 0.03).T, look.nose_height * 0.3)
    canvas.paint(under, tuple(dark), opacity=0.40, blur=0.010 * side)
    for sign in (-1, 1):
        lift = -0.02 * pose.wrinkle
        hole = head.place(
            *_ellipse(sign * wide * 0.48, tip + 0.058 + lift, wide * 0.26, 0.021, tilt=-sign * 0.35).T,
            look.nose_height * 0.45,
        )
        canvas.paint(hole, tuple(dark * 0.45), opacity=0.85, blur=0.004 * side)
        wing = _curve(
            [
                (sign * wide * 0.80, tip - 0.055 + lift),
                (sign * wide * 1.10, tip + 0.005 + lift),
                (sign * wide * 0.92, tip + 0.062 + lift),
            ],
            12,
        )
        canvas.line(
            head.place(*wing.T, look.nose_height * 0.18),
            0.026 * head.unit,
            tuple(dark),
            opacity=0.45,
            blur=0.005 * side,
        )
    glint = head.place(*_ellipse(0.01, tip - 0.03, 0.03, 0.028, n=14).T, look.nose_height)
    canvas.paint(glint, (1.0, 0.96, 0.92), opacity=0.22, blur=0.008 * side)


def _mouth(canvas: _Canvas, head: _Head, pose: _Pose, shade: Plane) -> tuple[Places, Places]:
    """Draw the mouth; return its corners in px, the viewer's left first."""
    look, side = head.look, head.side
    wide = look.mouth_width * (1 + pose.mouth_wide)
    mid = look.mouth_v + 0.02 * pose.corners - 0.02 * pose.lip_lift
    gap = 0.17 * pose.mouth_open
    upper, lower = look.lip_upper * (1 - 0.45 * pose.press), look.lip_lower * (1 - 0.45 * pose.press)
    rise = (0.075 * pose.corners + 0.016, 0.075 * pose.corners + 0.085 * pose.skew + 0.016)
    stand = 0.035
    t = np.linspace(-1, 1, 33)
    bow = 1 - np.abs(t) ** 2.1
    ends = np.where(t < 0, rise[0], rise[1]) * np.abs(t) ** 1.7
    u = t * wide + 0.03 * pose.skew
    centre = mid - ends
    inner_top = centre - gap * 0.30 * bow - 0.022 * pose.lip_lift * bow
    inner_low = centre + gap * 0.78 * bow
    cupid = 1 - np.abs(t) ** 1.8 - 0.22 * np.exp(-((t / 0.16) ** 2))
    outer_top = inner_top - upper * 1.35 * cupid
    outer_low = inner_low + lower * 1.30 * (1 - np.abs(t) ** 2.4)

    def region(top: np.ndarray, low: np.ndarray) -> Places:
        return head.place(np.concatenate([u, u[::-1]]), np.concatenate([top, low[::-1]]), stand)

    skin = np.array(look.skin)
    red = (
        skin * [0.90, 0.55, 0.53] * (1 - look.lip_red)
        + np.array([0.72, 0.27, 0.28]) * (0.45 + 0.55 * skin[0]) * look.lip_red
    )
    canvas.paint(region(outer_top, outer_low), tuple(red), opacity=0.85, blur=0.0045 * side, shade=shade)
    canvas.paint(region(outer_top, inner_top), tuple(red * 0.78), opacity=0.55, blur=0.004 * side, shade=shade)
    if gap > 0.012:
        hole = region(inner_top, inner_low)
        made = canvas.mask(hole, 0.0025 * side)
        if made is not None:
            within = np.zeros_like(shade)
            within[made[0]] = made[1]
            canvas.paint(hole, (0.22, 0.07, 0.07), blur=0.0025 * side)
            tongue = head.place(*_ellipse(0, mid + gap * 0.72, wide * 0.55, gap * 0.34).T, 0.0)
            canvas.paint(tongue, (0.62, 0.26, 0.26), opacity=0.75, blur=0.008 * side, within=within)
            if pose.teeth > 0:
                edge = inner_top + np.minimum(0.075, (inner_low - inner_top) * (0.78 if pose.teeth > 0.7 else 0.45))
                canvas.paint(
                    region(inner_top - 0.01, edge),
                    (0.96, 0.94, 0.90),
                    blur=0.003 * side,
                    within=within,
                    shade=np.minimum(shade * 1.08, 1.0),
                )
    else:
        canvas.line(head.place(u, centre, stand), 0.026 * head.unit, tuple(red * 0.30), opacity=0.85, blur=0.003 * side)
    shine = head.place(*_ellipse(0.0, float(inner_low[16]) + lower * 0.55, wide * 0.34, lower * 0.26, n=16).T, stand)
    canvas.paint(shine, (1.0, 0.90, 0.88), opacity=0.20, blur=0.007 * side)
    canvas.line(
        head.place(u[6:27] * 0.8, outer_low[6:27] + 0.03, 0.0),
        0.05 * head.unit,
        tuple(skin * [0.5, 0.36, 0.33]),
        opacity=0.30,
        blur=0.010 * side,
    )
    corners = head.place(u[[0, -1]], centre[[0, -1]], stand)
    for corner in corners:
        dot = corner + _ellipse(0, 0, 0.018 * head.unit, 0.018 * head.unit, n=10)
        canvas.paint(dot, tuple(skin * [0.35, 0.20, 0.18]), opacity=0.55, blur=0.005 * side)
    return corners[0], corners[1]


def _folds(canvas: _Canvas, head: _Head, pose: _Pose, corners: tuple[Places, Places]) -> None:
    """Lines that age and expressions draw."""
    look, side = head.look, head.side
    dark = tuple(np.array(look.skin) * [0.48, 0.34, 0.31])
    tip, wide = _tip(look), look.mouth_width * (1 + pose.mouth_wide)
    smile = 0.16 + 0.35 * look.age + 0.42 * max(pose.cheeks, 0)
    for sign in (-1, 1):
        out = 0.05 + 0.05 * max(pose.cheeks, 0)
        fold = _curve(
            [
                (sign * look.nose_width * 1.15, tip - 0.03),
                (sign * (wide + out) * 0.92, (tip + look.mouth_v) / 2 - 0.01),
                (sign * (wide + out), look.mouth_v + 0.02),
            ],
            16,
        )
        canvas.line(head.place(*fold.T), 0.035 * head.unit, dark, opacity=min(smile, 0.75), blur=0.007 * side)
        bag = _curve(
            [
                (sign * (look.eye_u - 0.10), look.eye_v + 0.10),
                (sign * look.eye_u, look.eye_v + 0.135),
                (sign * (look.eye_u + 0.11), look.eye_v + 0.10),
            ],
            12,
        )
        canvas.line(
            head.place(*bag.T),
            0.022 * head.unit,
            dark,
            opacity=0.12 + 0.38 * look.age + 0.2 * max(pose.cheeks, 0),
            blur=0.005 * side,
        )
        frown = max(-pose.brow_inner, 0)
        if frown > 0.2:
            crease = [(sign * 0.045, look.eye_v - look.brow_v - 0.07), (sign * 0.038, look.eye_v - look.brow_v + 0.06)]
            canvas.line(
                head.place(*_curve(crease, 8).T), 0.022 * head.unit, dark, opacity=0.65 * frown, blur=0.004 * side
            )
        if pose.wrinkle > 0.6:
            crease = [
                (sign * 0.02, look.eye_v + 0.07),
                (sign * 0.07, look.eye_v + 0.12),
                (sign * 0.10, look.eye_v + 0.19),
            ]
            canvas.line(head.place(*_curve(crease, 8).T, 0.03), 0.02 * head.unit, dark, opacity=0.55, blur=0.004 * side)
    lines = max(look.age - 0.35, 0) * 0.8 + 0.40 * max(pose.brow_outer, 0) + 0.25 * max(pose.brow_inner, 0)
    if lines > 0.05:
        for row in (0.0, 0.07, 0.14):
            v = look.eye_v - look.brow_v - 0.17 - row
            wave = _curve(
                [(-0.24, v + 0.012), (-0.1, v - 0.006), (0, v + 0.006), (0.1, v - 0.006), (0.24, v + 0.012)], 20
            )
            canvas.line(head.place(*wave.T), 0.018 * head.unit, dark, opacity=min(0.6 * lines, 0.5), blur=0.004 * side)


def _strands(head: _Head, salt: int) -> Float32[np.ndarray, "side side 3"]:
    """Hair colour for every pixel: strands that run down from the crown, with a band of gloss."""
    look, side = head.look, head.side
    rng = np.random.default_rng([int(look.width * 1e6), salt])
    small = side // 2
    px = np.arange(small, dtype=np.float32) * (side / small)
    dx, dy = (px - head.cx)[None] / head.unit, (px - head.cy)[:, None] / head.unit
    x, v = dx * head.cos + dy * head.sin, dy * head.cos - dx * head.sin
    part = 0.22 if look.jaw > 0.5 else -0.22
    # Strands are lines of one angle about a point above the parting; far below they hang straight.
    angle = (x - part) / (np.maximum(v + 1.5, 0.25) ** 0.7) * 46 + 3.0 * np.sin(2.2 * v)
    noise = rng.standard_normal(256).astype(np.float32)
    fine = cv2.GaussianBlur(noise[None], (0, 0), 0.7)[0]
    coarse = cv2.GaussianBlur(noise[None, ::-1], (0, 0), 3.0)[0] * 2.2
    fine = cv2.remap(np.tile(fine, 3)[None], _wrapped(angle * 1.6), np.zeros_like(angle), cv2.INTER_LINEAR)
    coarse = cv2.remap(np.tile(coarse, 3)[None], _wrapped(angle * 0.8), np.zeros_like(angle), cv2.INTER_LINEAR)
    tone = 0.15 * fine + 0.22 * coarse
    dist = np.hypot(x, v + 0.1)
    gloss = np.exp(-(((dist - 0.86) / 0.13) ** 2)) * np.clip(0.75 - v, 0, 1) * (0.7 + 0.3 * fine)
    value = np.clip(0.92 + tone, 0.45, 1.6)
    colour = np.array(look.hair, np.float32) * value[..., None] + (gloss * 0.16)[..., None] * np.array(
        [1.0, 0.93, 0.82], np.float32
    )
    return np.asarray(cv2.resize(colour, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _wrapped(position: Plane) -> Plane:
    """Positions in a pattern of 256 that repeats, kept inside the middle one of three copies."""
    return np.asarray(position % 256 + 256, dtype=np.float32)


def _front_hair(canvas: _Canvas, head: _Head, surface: _Surface) -> None:
    look, side = head.look, head.side
    style = look.hair_style
    if style == 5:
        return
    line, w = look.hairline, look.width
    volume = {0: 0.07, 1: 0.11, 2: 0.10, 3: 0.13, 4: 0.045}[style]
    end = {0: 0.02, 1: -0.06, 2: 0.75, 3: 0.70, 4: -0.05}[style]
    sweep = 0.13 if look.jaw > 0.5 else -0.13
    arc = np.linspace(-math.pi * 0.5, math.pi * 0.5, 40)
    outer = [((w + volume) * math.sin(a), -0.10 - (0.92 + volume) * math.cos(a)) for a in arc]
    right = [(w + volume * (1.2 if style in (2, 3) else 1.0), float(v)) for v in np.linspace(-0.1, end, 8)[1:]]
    left = [(-x, v) for x, v in right]
    rim = head.flat(*np.array([*left[::-1], *outer, *right]).T)
    # The hairline turns with the face; its ends run down before the ears.
    inset = 0.90 if style in (0, 1, 4) else 0.86
    low = float(min(end, 0.62))
    side_u = float(head.radius(-0.2)) * inset
    low_u = float(head.radius(low)) * (0.97 if style in (0, 1, 4) else 0.93)
    knots = [
        (low_u, low),
        (side_u * 0.99, -0.12 if style not in (2, 3) else 0.1),
        (side_u * 0.93, line + 0.27),
        (side_u * 0.60, line + 0.05),
        (sweep, line - 0.015 if style != 3 else line + 0.02),
        (-side_u * 0.60, line + 0.05),
        (-side_u * 0.93, line + 0.27),
        (-side_u * 0.99, -0.12 if style not in (2, 3) else 0.1),
        (-low_u, low),
    ]
    if style in (2, 3):
        knots[4] = (sweep * 1.6, line - 0.10)
    if style == 3 and look.age < 0.4:  # a fringe
        knots[3:6] = [(side_u * 0.62, line + 0.30), (0.0, line + 0.27), (-side_u * 0.62, line + 0.30)]
    inner = head.place(*_curve(knots, 60).T, 0.015)
    outline = np.concatenate([rim, inner])
    shadow = outline + np.array([0.0, 0.035 * head.unit])
    made = canvas.mask(shadow, 0.014 * side)
    if made is not None:
        window, cover = made
        canvas.colour[window] *= 1 - 0.34 * (cover * canvas.alpha[window])[..., None]
    canvas.paint(
        outline, _strands(head, 6), blur=0.0055 * side, shade=np.clip(surface.shade * 0.55 + 0.5, 0, 1.2), solid=True
    )


def _glasses(canvas: _Canvas, head: _Head) -> None:
    look, width = head.look, 0.030 * head.unit
    frame = (0.10, 0.09, 0.10) if look.jaw > 0.4 else (0.42, 0.30, 0.18)
    for sign in (-1, 1):
        ring = head.place(*_ellipse(sign * look.eye_u, look.eye_v + 0.02, 0.205, 0.165, n=40).T, 0.06)
        inside = head.place(*_ellipse(sign * look.eye_u, look.eye_v + 0.02, 0.18, 0.14, n=40).T, 0.06)
        hoop = np.concatenate([ring, ring[:1], inside[:1], inside[::-1]])
        canvas.paint(hoop, frame, opacity=0.92, blur=0.002 * head.side)
        glare = head.place(*_ellipse(sign * look.eye_u - 0.07, look.eye_v - 0.05, 0.05, 0.022, tilt=-0.5, n=14).T, 0.06)
        canvas.paint(glare, (1, 1, 1), opacity=0.20, blur=0.005 * head.side)
        arm = head.place(
            [sign * (look.eye_u + 0.19), sign * float(head.radius(0.0)) * 0.99],
            [look.eye_v - 0.03, look.eye_v - 0.02],
            0.04,
        )
        canvas.line(np.linspace(arm[0], arm[1], 8), width, frame, opacity=0.9, blur=0.002 * head.side)
    bridge = _curve(
        [(-look.eye_u + 0.19, look.eye_v + 0.0), (0, look.eye_v - 0.045), (look.eye_u - 0.19, look.eye_v + 0.0)], 14
    )
    canvas.line(head.place(*bridge.T, 0.09), width, frame, opacity=0.92, blur=0.002 * head.side)
