"""Clips of faces that change their expression, rendered from stills in two ways that have nothing in common but them.

The order of a clip's frames is its label: a clip and its reverse hold the same frames, so that whoever does not look at
their order cannot tell the two apart, whatever the renderer leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mien.vision.attributes import MeshReader
from mien.vision.generator import Generator
from mien.vision.sequence import whole_crop

__all__ = ["NEUTRAL", "LatentPaths", "Motion", "Pair", "Renderer", "Still", "Warps", "mean_shapes", "render"]

NEUTRAL = "neutral"

Face = UInt8[np.ndarray, "side side 3"]
Frames = UInt8[np.ndarray, "frames side side 3"]
Drawn = Float32[np.ndarray, "frames side side 3"]
Shape = Float64[np.ndarray, "points=468 2"]
Way = Callable[[Float64[np.ndarray, " frames"]], Drawn]
"""Draws the faces at places of a way, 0 to 1."""

_REACH = 2.0  # px of 48: how far a point of the mesh pulls what is around it


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A face cut out by a template.

    Attributes:
        face: RGB uint8, shape (side, side, 3).
        label: Its expression.
        subject: Whose it is.
    """

    face: Face
    label: str
    subject: str


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Where a motion begins and ends.

    Attributes:
        a: A still; None: the neutral face of ``b``'s subject, of which there is no picture.
        b: A still of the same subject.
    """

    a: Still | None
    b: Still

    @property
    def labels(self) -> tuple[str, str]:
        """What begin and end show."""
        return self.a.label if self.a else NEUTRAL, self.b.label


@dataclass(frozen=True, slots=True)
class Motion:
    """How clips move; every clip draws its own values.

    Attributes:
        frames: Of a clip.
        least: Shortest part of the way that a clip shows, of all of it.
        from_start: Whether every clip begins where the way does.
        drift: Standard deviation of the shift over a clip, px of 48; turn and size drift likewise.
        noise: Standard deviation of noise on pixels, grey levels, at most.
        flicker: Standard deviation of the light from frame to frame, of 1.
    """

    frames: int = 12
    least: float = 0.35
    from_start: bool = False
    drift: float = 0.8
    noise: float = 6.0
    flicker: float = 0.03


class Renderer(Protocol):
    """Turns a pair of ends into faces on the way between them."""

    def between(self, pair: Pair) -> Way:
        """Return what draws the faces at places of the way, 0 to 1."""
        ...


class LatentPaths:
    """Straight ways between latents of a VAE, decoded.

    A neutral face of which there is no picture is the expressive one as `Generator.edit` would move it. The decoder is
    told an expression, which cannot be half of one: what it draws for either end is mixed.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def between(self, pair: Pair) -> Way:
        """Return what draws the faces at places of the way, 0 to 1."""
        there = self._generator.encode(pair.b.face[None])
        first, last = pair.labels
        if pair.a is None:
            here = self._generator.moved(there, shown=last, wanted=first)
        else:
            here = self._generator.encode(pair.a.face[None])

        def way(at: Float64[np.ndarray, " frames"]) -> Drawn:
            t = at[:, None].astype(np.float32)
            latents = here + t * (there - here)
            drawn = [self._generator.decode(latents, expression=label).astype(np.float32) for label in (first, last)]
            mixed = t[:, :, None, None]
            return np.asarray((1 - mixed) * drawn[0] + mixed * drawn[1], dtype=np.float32)

        return way


class Warps:
    """Stills bent along the points of a mesh; no network draws anything.

    Between two pictures both are bent to the shape in between and one fades into the other. Where there is no picture
    of the neutral face, the expressive one is bent by the difference of the mean shapes of both expressions.

    Args:
        shapes: Mean shape by expression, as `mean_shapes` gives them.
        meshes: Finds the points.
    """

    def __init__(self, shapes: Mapping[str, Shape], meshes: MeshReader) -> None:
        self._shapes, self._meshes = shapes, meshes

    def between(self, pair: Pair) -> Way:
        """Return what draws the faces at places of the way, 0 to 1."""
        end, last = _shape(self._meshes, pair.b.face), pair.b.face
        side = last.shape[0]
        if pair.a is None:
            here, there = (self._shapes[label] for label in pair.labels)
            field = _field(end, here - there, side)
            return lambda at: np.stack([_bent(last, (1 - t) * field) for t in at.tolist()])
        start, first = _shape(self._meshes, pair.a.face), pair.a.face
        forth, back = _field(start, end - start, side), _field(end, start - end, side)
        return lambda at: np.stack([
            (1 - t) * _bent(first, t * forth) + t * _bent(last, (1 - t) * back) for t in at.tolist()
        ])  # fmt: skip


def mean_shapes(stills: Sequence[Still], meshes: MeshReader, *, most: int = 60) -> dict[str, Shape]:
    """Return the mean shape of each expression, px of the crop.

    Args:
        stills: Faces of many people.
        meshes: Finds the points.
        most: Faces of an expression that are looked at, the first ones.
    """
    shapes: dict[str, Shape] = {}
    for label in sorted({still.label for still in stills}):
        faces = [still.face for still in stills if still.label == label][:most]
        shapes[label] = np.mean([_shape(meshes, face) for face in faces], axis=0)
    return shapes


def render(way: Way, motion: Motion, rng: np.random.Generator) -> tuple[Frames, Float64[np.ndarray, " frames"]]:
    """Return a clip from the beginning of a way towards its end, and where on the way each frame is, 0 to 1.

    The clip shows a part of the way, at a speed that changes, while the head drifts and the light flickers.
    """
    wide = rng.uniform(motion.least, 1)
    start = 0.0 if motion.from_start else rng.uniform(0, 1 - wide)
    at = start + wide * _course(motion.frames, rng)
    faces = way(at)
    side = faces.shape[1]
    middle = (side - 1) / 2
    shift = _wander(motion.frames, rng, motion.drift * side / 48, 2)
    turn, size = _wander(motion.frames, rng, 1.5 * motion.drift, 1)[:, 0], _wander(motion.frames, rng, 0.02, 1)[:, 0]
    light = 1 + rng.normal(0, motion.flicker, motion.frames) + _wander(motion.frames, rng, motion.flicker, 1)[:, 0]
    noise = rng.uniform(0, motion.noise)
    frames = np.empty(faces.shape, np.uint8)
    for number, face in enumerate(faces):
        matrix = cv2.getRotationMatrix2D((middle, middle), float(turn[number]), float(1 + size[number]))
        matrix[:, 2] += shift[number]
        moved = cv2.warpAffine(face, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        grain = rng.normal(0, noise, (side, side, 1))
        frames[number] = (moved * light[number] + grain).clip(0, 255).round()
    return frames, at


def _course(frames: int, rng: np.random.Generator) -> Float64[np.ndarray, " frames"]:
    """Return places from 0 to 1, never backwards, at a speed that changes: slow, fast or halting at either end."""
    steps = rng.gamma(rng.uniform(1, 6), size=frames - 1) + 1e-3
    even = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
    bend = np.exp(rng.uniform(-0.7, 0.7))  # onsets are faster than offsets, or the other way round: never a hint
    return np.asarray(even**bend)


def _wander(frames: int, rng: np.random.Generator, size: float, numbers: int) -> Float64[np.ndarray, "frames numbers"]:
    """Return a random walk around 0 that goes about ``size`` far, in no direction that would tell its own."""
    steps = rng.normal(0, size / np.sqrt(frames), (frames, numbers))
    walk = np.cumsum(steps, axis=0)
    return np.asarray(walk - walk.mean(axis=0) + rng.normal(0, size / 2, numbers))


def _shape(meshes: MeshReader, face: Face) -> Shape:
    (mesh,), _ = meshes.read(face, [whole_crop(face.shape[0])])
    return np.asarray(mesh[:, :2], dtype=np.float64)


def _field(points: Shape, moves: Shape, side: int) -> Float32[np.ndarray, "side side 2"]:
    """Return how far each pixel goes where the points make these moves: a mean of those around it, none far away."""
    rows, columns = np.mgrid[:side, :side]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
    reach = _REACH * side / 48
    squares = ((pixels[:, None] - points[None]) ** 2).sum(axis=2)
    pulls = np.exp(-squares / (2 * reach**2))
    moved = pulls @ moves / (pulls.sum(axis=1, keepdims=True) + 0.05)
    return np.asarray(moved.reshape(side, side, 2), dtype=np.float32)


def _bent(face: Face, field: Float32[np.ndarray, "side side 2"]) -> Float32[np.ndarray, "side side 3"]:
    side = face.shape[0]
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    # Looked up where a pixel comes from; moves are small and smooth, so that this is nearly where it goes.
    x, y = columns - field[..., 0].astype(np.float32), rows - field[..., 1].astype(np.float32)
    return np.asarray(cv2.remap(face, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)
