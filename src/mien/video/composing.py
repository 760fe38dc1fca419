"""Films with known truth: people on scripted paths, whose boxes and identities are known to the pixel.

People are stills that are pasted along paths: parallel, crossing, hidden by a pillar, gone and back. Stills are drawn
(`drawn_actor`) or cut from photographs by the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mien.drawing import draw_person
from mien.types import Box
from mien.video.frames import Frame
from mien.video.records import Watched
from mien.video.sinks import Film as Written

__all__ = [
    "Actor",
    "Composed",
    "Film",
    "Still",
    "Truth",
    "crossing",
    "draw_clip",
    "drawn_actor",
    "drawn_film",
    "mixed",
    "standing",
]

RGB = UInt8[np.ndarray, "height width 3"]
Path = Callable[[float], tuple[float, float, float] | None]
"""Time in seconds to centre x, y and face side, in shares of the picture's width, height, height; None: not there."""


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A picture of one person.

    Attributes:
        image: RGB uint8.
        box: The face in it, px.
        expression: What the face shows, where that is known.
        mask: How much of each px is the person, 0 to 1; None pastes all of the picture, its edge feathered.
    """

    image: RGB
    box: Box
    expression: str | None = None
    mask: Float32[np.ndarray, "height width"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """A person on a path.

    Attributes:
        identity: Who; the same number may be in several films.
        stills: Shown one after the other.
        path: Where, when.
        hold_s: How long each still is shown.
    """

    identity: int
    stills: Sequence[Still]
    path: Path
    hold_s: float = 1.5


@dataclass(frozen=True, slots=True)
class Truth:
    """One face in one picture.

    Attributes:
        identity: Who.
        box: Where.
        visible: Share of the face that is neither outside nor behind somebody.
        expression: What it shows, where that is known.
    """

    identity: int
    box: Box
    visible: float
    expression: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A script.

    Attributes:
        actors: The last one stands in front.
        seconds: Its length.
        fps: Pictures a second.
        width: Px.
        height: Px.
        pillar: Left and right edge of something that hides people, in shares of the width; None: nothing.
        noise: Standard deviation of the camera's noise, grey levels.
        blur: Largest blur, px; it comes and goes.
        light: How much the light changes, 0 to 1.
        seed: Of noise and background.
    """

    actors: Sequence[Actor]
    seconds: float = 4.0
    fps: float = 30.0
    width: int = 640
    height: int = 480
    pillar: tuple[float, float] | None = None
    noise: float = 3.0
    blur: float = 0.0
    light: float = 0.0
    seed: int = 0


class Composed:
    """A film as a source of pictures, with the truth beside it.

    Args:
        film: The script.
        live: Tell watchers that it is live; see `every_s`.
        pace: Called before each picture with its time: sleeps, where a film is to last as long as it says.
    """

    def __init__(self, film: Film, *, live: bool = False, pace: Callable[[float], None] | None = None) -> None:
        self.live, self.name = live, "a composed film"
        self.film = film
        self._pace = pace
        self._stopped = False
        self._ground = _ground(film)

    def __len__(self) -> int:
        return round(self.film.seconds * self.film.fps)

    def frames(self, notify: Callable[[str, str], None]) -> Iterator[Frame]:
        """Yield all pictures."""
        for number in range(len(self)):
            if self._stopped:
                return
            time_s = number / self.film.fps
            if self._pace is not None:
                self._pace(time_s)
            yield Frame(self.picture(number), number=number, time_s=time_s, arrived_s=time.monotonic())

    def stop(self) -> None:
        """End after the present picture."""
        self._stopped = True

    def picture(self, number: int) -> RGB:
        """Draw one picture."""
        film = self.film
        time_s = number / film.fps
        canvas = self._ground.copy()
        for actor in film.actors:
            placed = self._placed(actor, time_s)
            if placed is not None:
                _paste(canvas, *placed)
        if film.pillar is not None:
            left, right = (round(edge * film.width) for edge in film.pillar)
            canvas[:, left:right] = (70, 66, 62)
        rng = np.random.default_rng([film.seed, number])
        if film.blur:
            sigma = film.blur * max(math.sin(2 * math.pi * time_s / 3.1), 0.0)
            if sigma > 0.3:
                canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), dtype=np.uint8)
        picture = canvas.astype(np.float32)
        if film.light:
            picture *= 1 + film.light * math.sin(2 * math.pi * time_s / 4.7)
        if film.noise:
            grain = rng.standard_normal((film.height, film.width), np.float32)
            picture += film.noise * grain[..., None]
        return np.asarray(np.clip(picture + 0.5, 0, 255), dtype=np.uint8)

    def truth(self, number: int) -> list[Truth]:
        """Return the faces of one picture, those included that are hidden or outside."""
        film = self.film
        time_s = number / film.fps
        found: list[Truth] = []
        covers: list[tuple[int, Box]] = []
        for actor in film.actors:
            placed = self._placed(actor, time_s)
            if placed is None:
                continue
            still, matrix = placed
            corners = np.array(still.box.as_tuple()).reshape(2, 2) * matrix[0, 0] + matrix[:, 2]
            box = Box(*corners.ravel().tolist())
            found.append(Truth(actor.identity, box, 1.0, still.expression))
            whole = np.array([[0, 0], [still.image.shape[1], still.image.shape[0]]]) * matrix[0, 0] + matrix[:, 2]
            inset = 0.1 * (whole[1] - whole[0])
            covers.append((len(found) - 1, Box(*np.stack([whole[0] + inset, whole[1] - inset]).ravel().tolist())))
        if film.pillar is not None:
            left, right = film.pillar[0] * film.width, film.pillar[1] * film.width
            covers.append((len(found), Box(left, 0.0, right, float(film.height))))
        return [self._with_visibility(one, [b for place, b in covers if place > i]) for i, one in enumerate(found)]

    def _with_visibility(self, one: Truth, covers: Sequence[Box]) -> Truth:
        xs = np.linspace(one.box.left, one.box.right, 24)
        ys = np.linspace(one.box.top, one.box.bottom, 24)
        x, y = np.meshgrid(xs, ys)
        seen = (x >= 0) & (x < self.film.width) & (y >= 0) & (y < self.film.height)
        for cover in covers:
            seen &= ~((x > cover.left) & (x < cover.right) & (y > cover.top) & (y < cover.bottom))
        return Truth(one.identity, one.box, float(seen.mean()), one.expression)

    def _placed(self, actor: Actor, time_s: float) -> tuple[Still, Float32[np.ndarray, "2 3"]] | None:
        where = actor.path(time_s)
        if where is None:
            return None
        still = actor.stills[int(time_s / actor.hold_s) % len(actor.stills)]
        x, y, side = where[0] * self.film.width, where[1] * self.film.height, where[2] * self.film.height
        scale = side / still.box.side
        centre = ((still.box.left + still.box.right) / 2, (still.box.top + still.box.bottom) / 2)
        return still, np.array([[scale, 0, x - scale * centre[0]], [0, scale, y - scale * centre[1]]], np.float32)


def drawn_actor(
    subject: int,
    path: Path,
    *,
    expressions: Sequence[str] = ("neutral",),
    side: int = 200,
    hold_s: float = 1.5,
    seed: int = 0,
) -> Actor:
    """Return a drawn person on a path, whose face shows these expressions one after the other."""
    stills = []
    for number, expression in enumerate(expressions):
        face, mask = draw_person(
            subject, side=side, expression=expression, yaw=4.0 * (-1) ** number, seed=seed + number
        )
        stills.append(Still(face.image, face.box, expression, mask))
    return Actor(subject, stills, path, hold_s)


def drawn_film(*, seconds: float = 6.0, fps: float = 12.0, width: int = 480, height: int = 360) -> Film:
    """Return a film of three drawn people: one stays and changes its face, one goes and comes back, one comes late.

    They are the subjects 78, 64 and 28 of `mien.drawing`.
    """

    def passing(t: float) -> tuple[float, float, float] | None:
        x = -0.15 + 2.3 * t / seconds
        if x < 1.15:
            return x, 0.66, 0.3
        # Out at the right, and back the same way.
        return (2.3 - x, 0.66, 0.3) if t > 0.75 * seconds else None

    moods = ("neutral", "happiness", "surprise", "neutral")
    stays = drawn_actor(78, standing(0.33, 0.36, 0.27), expressions=moods, hold_s=seconds / 4, side=240)
    passes = drawn_actor(64, passing, expressions=("happiness",), side=240, seed=4)
    arrives = crossing(1.2, 0.4, seconds, y=0.42, side=0.26, from_s=seconds / 3)
    late = drawn_actor(28, arrives, expressions=("surprise",), side=240, seed=8)
    return Film([stays, late, passes], seconds=seconds, fps=fps, width=width, height=height, seed=5)


def draw_clip(path: str | FilePath, film: Film | None = None) -> None:
    """Write a composed film as an MP4, without a watch; by default `drawn_film`.

    Raises:
        VideoError: It cannot be written.
    """
    written = Written(FilePath(path), preset="veryfast")
    for frame in Composed(film or drawn_film()).frames(lambda *_: None):
        written.write(Watched(frame))
    written.close(None)


def standing(x: float, y: float = 0.5, side: float = 0.25, *, sway: float = 0.01, phase: float = 0.0) -> Path:
    """Return the path of somebody who stands and sways a little."""
    return lambda t: (x + sway * math.sin(1.7 * t + phase), y + 0.6 * sway * math.sin(2.3 * t + phase), side)


def crossing(
    start: float, end: float, seconds: float, *, y: float = 0.5, side: float = 0.25, from_s: float = 0.0
) -> Path:
    """Return the path of somebody who walks from one x to another, and is not there before and after."""

    def path(t: float) -> tuple[float, float, float] | None:
        part = (t - from_s) / seconds
        if not 0 <= part < 1:
            return None
        return start + (end - start) * part, y + 0.012 * math.sin(9 * t), side

    return path


def mixed(
    people: Sequence[tuple[int, Sequence[Still]]],
    *,
    seed: int = 0,
    seconds: float = 12.0,
    fps: float = 30.0,
    width: int = 640,
    height: int = 480,
    sizes: tuple[float, float] = (0.14, 0.24),
) -> Film:
    """Return a film in which people cross, hide behind a pillar, leave and come back, at random by a seed.

    Args:
        people: Who, with their stills.
        seed: Which film.
        seconds: Its length.
        fps: Pictures a second.
        width: Px.
        height: Px.
        sizes: Smallest and largest face side, in shares of the height.
    """
    rng = np.random.default_rng([seed, 7])
    actors = []
    for place, (identity, stills) in enumerate(people):
        path = _wandering(rng, seconds, place, len(people), sizes)
        actors.append(Actor(identity, stills, path, hold_s=float(rng.uniform(2.0, 3.5))))
    left = float(rng.uniform(0.3, 0.6))
    pillar = (left, left + 0.09)
    return Film(
        actors, seconds=seconds, fps=fps, width=width, height=height, pillar=pillar, blur=1.6, light=0.2, seed=seed
    )


def _wandering(rng: np.random.Generator, seconds: float, place: int, people: int, sizes: tuple[float, float]) -> Path:
    """Walk to and fro across the picture, out at one side now and then, and back after a while."""
    side = float(rng.uniform(*sizes))
    y = 0.25 + 0.5 * (place + 0.5) / people + float(rng.uniform(-0.08, 0.08))
    knots, values = [0.0], [float(rng.uniform(0.1, 0.9))]
    outside = rng.integers(2) == 0
    while knots[-1] < seconds:
        leaves = outside and rng.uniform() < 0.4
        goal = float(rng.choice([-0.25, 1.25])) if leaves else float(rng.uniform(0.08, 0.92))
        knots.append(knots[-1] + max(abs(goal - values[-1]) / float(rng.uniform(0.15, 0.45)), 0.6))
        values.append(goal)
        if leaves:
            knots.append(knots[-1] + float(rng.uniform(0.8, 2.5)))
            values.append(goal)

    def path(t: float) -> tuple[float, float, float] | None:
        x = float(np.interp(t, knots, values))
        if not -0.2 < x < 1.2:
            return None
        return x, y + 0.01 * math.sin(8 * t + place), side * (1 + 0.08 * math.sin(0.9 * t + place))

    return path


def _ground(film: Film) -> RGB:
    rng = np.random.default_rng([film.seed, 11])
    small = (rng.uniform(80, 160, (6, 8, 1)) + rng.uniform(-14, 14, (6, 8, 3))).astype(np.float32)
    ground = cv2.resize(small, (film.width, film.height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(ground, 0, 255), dtype=np.uint8)


def _paste(canvas: RGB, still: Still, matrix: Float32[np.ndarray, "2 3"]) -> None:
    """Lay a still on the picture, its edge feathered."""
    height, width = canvas.shape[:2]
    high, wide = still.image.shape[:2]
    scale = float(matrix[0, 0])
    image, mask = still.image, _mask(high, wide) if still.mask is None else still.mask
    if scale < 0.6:
        size = (max(round(wide * scale), 1), max(round(high * scale), 1))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        matrix = matrix.copy()
        matrix[0, 0], matrix[1, 1] = scale * wide / size[0], scale * high / size[1]
    left, top = max(int(matrix[0, 2]), 0), max(int(matrix[1, 2]), 0)
    right = min(int(matrix[0, 2] + wide * scale) + 2, width)
    bottom = min(int(matrix[1, 2] + high * scale) + 2, height)
    if right <= left or bottom <= top:
        return
    shift = matrix - np.array([[0, 0, left], [0, 0, top]], np.float32)
    size = (right - left, bottom - top)
    drawn = cv2.warpAffine(image, shift, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(mask, shift, size, flags=cv2.INTER_LINEAR)[..., None]
    part = canvas[top:bottom, left:right]
    part[:] = (part * (1 - alpha) + drawn * alpha + 0.5).astype(np.uint8)


def _mask(height: int, width: int) -> Float32[np.ndarray, "height width"]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = np.abs(2 * (x + 0.5) / width - 1), np.abs(2 * (y + 0.5) / height - 1)
    edge = np.maximum(u, v)
    return np.asarray(np.clip((1.0 - edge) / 0.16, 0, 1), dtype=np.float32)
