"""What else can be seen in a face: 468 points, head pose, eyes and mouth open or closed, age and apparent gender.

The points are FaceMesh's; pose and mouth are geometry on them, eyes are looked at again by a network of their own.
Pose is the rotation that carries the mean mesh of faces that look into the camera onto the face. Age and apparent
gender are two networks of their own, and guesses: what they were off by on UTKFace, among faces that were guessed to
be as old, is part of each answer.

Sources: Kartynnik et al., "Real-time facial surface geometry from monocular video", arXiv:1907.06724; W. Kabsch, "A
solution for the best rotation to relate two sets of vectors", 1976; Soukupova and Cech, "Real-time eye blink detection
using facial landmarks", 2016, for the openness of an eye.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, align, similarity_transform
from mien.types import AgeGuess, Attributes, GenderGuess, Opening, Pose
from mien.vision.conventions import AttributeConvention
from mien.vision.feed import Feed
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    from mien.vision.detector import Detection
    from mien.zoo import Card

__all__ = [
    "CONTOURS",
    "EYE_OPEN",
    "MODELS",
    "MOUTH_OPEN",
    "POINTS",
    "AttributeReader",
    "MeanMesh",
    "MeshReader",
    "eye_openness",
    "mean_mesh",
    "mesh_edges",
    "mouth_openness",
    "pose_of",
]

MODELS = {"mesh": "facemesh", "eyes": "iris", "age": "age-dlib", "gender": "gender-dlib"}
"""Name of the model that reads each attribute, by its role."""

POINTS = 468
EYE_OPEN, MOUTH_OPEN = 0.08, 0.10
"""Openness from which an eye or a mouth is called open: the eye's by looking at pictures, there were no labels; the
mouth's by CelebA's, see `benchmarks/attributes.py`."""

Image = UInt8[np.ndarray, "height width 3"]
Mesh = Float32[np.ndarray, "points=468 3"]

_ROOM = 1.5  # side of the square that the network is shown, in long sides of the face's box: as MediaPipe cuts it
_STEP = 8  # faces in one run: more are no faster, and take memory
# By MediaPipe's numbers; left is the viewer's left.
_EYES = {"left": (33, 133), "right": (362, 263)}
_EYE_ROOM = 2.3  # side of the square that the network of eyes is shown, in widths of the eye: as MediaPipe cuts it
_LIPS = (78, 308, ((13, 14), (82, 87), (312, 317)))
# In an eye's contour: its corners, and pairs of lower and upper lid between them.
_CONTOUR = (0, 8, tuple(zip(range(1, 8), range(9, 16), strict=True)))
_EYE_CORNERS = (33, 263)

# fmt: off
CONTOURS: tuple[tuple[int, ...], ...] = (
    (409, 270, 269, 267, 0, 37, 39, 40, 185, 61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409),
    (415, 310, 311, 312, 13, 82, 81, 80, 191, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415),
    (173, 157, 158, 159, 160, 161, 246, 33, 7, 163, 144, 145, 153, 154, 155, 133, 173),
    (46, 53, 52, 65, 55),
    (70, 63, 105, 66, 107),
    (398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382, 362, 398),
    (276, 283, 282, 295, 285),
    (300, 293, 334, 296, 336),
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
     149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10),
)
"""Lines through the numbers of points: lips, eyes, brows and the oval of the face, as MediaPipe draws them."""
# fmt: on


class AttributeReader:
    """Read the attributes of detected faces with four ONNX networks.

    Args:
        threads: ONNX Runtime threads; default the CPU quota.
        models: Name of the model for each attribute; default `MODELS`.
    """

    def __init__(self, *, threads: int | None = None, models: Mapping[str, str] = MODELS) -> None:
        cards = {role: zoo.card(name) for role, name in models.items()}
        self.meshes = MeshReader(cards["mesh"], threads=threads)
        self._cards, self._threads = cards, threads

    # Opened, and pulled where it is missing, when it is first asked.
    @cached_property
    def _eyes(self) -> _Network:
        return _Network(self._cards["eyes"], self._threads)

    @cached_property
    def _age(self) -> _Network:
        return _Network(self._cards["age"], self._threads)

    @cached_property
    def _gender(self) -> _Network:
        return _Network(self._cards["gender"], self._threads)

    def read(self, image: Image, detections: Sequence[Detection]) -> list[Attributes]:
        """Return the attributes of each detected face of a picture; the mesh is in px of that picture."""
        if not detections:
            return []
        meshes, scores = self.meshes.read(image, detections)
        ages, genders = self.guesses(image, [detection.landmarks for detection in detections])
        eyes = self.eyes(image, meshes)
        return [_attributes(*facts) for facts in zip(meshes, scores, eyes, ages, genders, strict=True)]

    def eyes(self, image: Image, meshes: Sequence[Mesh]) -> list[tuple[float, float]]:
        """Return how far the left and the right eye of each mesh are open, see `eye_openness`.

        A network of its own looks at each eye: the lids of the mesh stay apart where eyes are shut.
        """
        side = self._eyes.side
        target, crops = _edges(side), []
        for mesh in meshes:
            for name, (first, last) in _EYES.items():
                ends = np.asarray(mesh[[first, last], :2], np.float64)
                along = ends[1] - ends[0]
                down, half = np.array([-along[1], along[0]]), _EYE_ROOM / 2
                square = ends.mean(axis=0) + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ [along, down]
                crop = align(image, square, points=target, side=side)
                # It learned on left eyes.
                crops.append(np.ascontiguousarray(crop[:, ::-1]) if name == "right" else crop)
        contours = self._eyes.run(np.stack(crops))[0].reshape(len(meshes), 2, -1, 3)
        return [(eye_openness(left), eye_openness(right)) for left, right in contours]

    def guesses(
        self, image: Image, landmarks: Sequence[Float32[np.ndarray, "5 2"]]
    ) -> tuple[list[AgeGuess], list[GenderGuess]]:
        """Return how old, and how female or male, faces look that have these landmarks."""
        shares = self._age.answer(image, landmarks)
        years = (shares @ np.arange(shares.shape[1])).tolist()
        ages = [AgeGuess(value, self._age.error_at(value)) for value in years]
        genders = []
        for value, row in zip(years, self._gender.answer(image, landmarks), strict=True):
            best = int(np.argmax(row))
            genders.append(GenderGuess(self._gender.labels[best], float(row[best]), self._gender.error_at(value)))
        return ages, genders


class MeshReader:
    """Find the 468 points of detected faces with one ONNX network.

    Args:
        card: Of the network; default the catalogue's.
        threads: ONNX Runtime threads; default the CPU quota.
    """

    def __init__(self, card: Card | None = None, *, threads: int | None = None) -> None:
        self._network = _Network(card or zoo.card(MODELS["mesh"]), threads)

    def read(self, image: Image, detections: Sequence[Detection]) -> tuple[list[Mesh], list[float]]:
        """Return the 468 points of each face, px of the picture, and how sure the network is that it is one.

        A face is shown twice: cut out by the detector's box, and by the points that were found there. Detectors draw
        their boxes differently; after the second look the answer depends on them no more.
        """
        first = [_square(_corners(detection), _tilt(*detection.landmarks[:2])) for detection in detections]
        meshes, _ = self._look(image, first)
        second = [_square(_xy(mesh), _tilt(*_xy(mesh)[list(_EYE_CORNERS)])) for mesh in meshes]
        return self._look(image, second)

    def _look(
        self, image: Image, squares: Sequence[Float64[np.ndarray, "corners=4 2"]]
    ) -> tuple[list[Mesh], list[float]]:
        side = self._network.side
        target = _edges(side)
        points, logits = self._network.run(np.stack([align(image, s, points=target, side=side) for s in squares]))
        meshes = []
        for row, square in zip(points.reshape(-1, POINTS, 3), squares, strict=True):
            matrix = similarity_transform(target, square)
            scale = math.hypot(matrix[0, 0], matrix[1, 0])
            flat = (row[:, :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2]
            meshes.append(np.column_stack([flat, row[:, 2] * scale]).astype(np.float32))
        return meshes, (1 / (1 + np.exp(-np.clip(logits.ravel(), -30, 30)))).tolist()


def _edges(side: int) -> Float64[np.ndarray, "corners=4 2"]:
    """Return the corners of a network's input.

    It counts from the edge of its input, pictures are counted from the middle of their first pixel.
    """
    return np.array([[0, 0], [side, 0], [side, side], [0, side]]) - 0.5


def _attributes(mesh: Mesh, score: float, eyes: tuple[float, float], age: AgeGuess, gender: GenderGuess) -> Attributes:
    left, right = eyes
    mouth = mouth_openness(mesh)
    return Attributes(
        pose=pose_of(mesh),
        left_eye=Opening(left, left >= EYE_OPEN),
        right_eye=Opening(right, right >= EYE_OPEN),
        mouth=Opening(mouth, mouth >= MOUTH_OPEN),
        age=age,
        gender=gender,
        mesh=mesh,
        mesh_score=score,
    )


class _Network:
    """One of the networks, with what its card says."""

    def __init__(self, card: Card, threads: int | None) -> None:
        convention = AttributeConvention.of(card)
        self.side, self.labels, self._template = convention.side, convention.labels, convention.template
        self._feed = Feed(card.convention)
        self._errors = [_Band(*row) for row in card.metrics.get("error_by_estimated_age", ())]
        self._session = make_session(zoo.path(card), options=session_options(threads=threads))
        self._input = self._session.get_inputs()[0].name

    def answer(
        self, image: Image, landmarks: Sequence[Float32[np.ndarray, "5 2"]]
    ) -> Float64[np.ndarray, "faces classes"]:
        """Return probabilities for faces that are cut out by their landmarks."""
        points = TEMPLATES[self._template or "dlib-150"].points_at(self.side)
        return self.run(np.stack([align(image, marks, points=points, side=self.side) for marks in landmarks]))[0]

    def run(self, crops: UInt8[np.ndarray, "faces side side 3"]) -> list[Float64[np.ndarray, "faces values"]]:
        """Return the network's answers to cut faces."""
        parts = [
            self._session.run(None, {self._input: self._feed(crops[start : start + _STEP])})
            for start in range(0, len(crops), _STEP)
        ]
        return [np.concatenate(rows).astype(np.float64) for rows in zip(*parts, strict=True)]

    def error_at(self, years: float) -> float | None:
        """Return what was measured among faces that were guessed to be so old; None where nothing was."""
        return next((band.error for band in self._errors if band.low <= years < band.high), None)


@dataclass(frozen=True, slots=True)
class _Band:
    low: float
    high: float
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class MeanMesh:
    """The mean mesh of faces that look into the camera, made by `benchmarks/make_face_mesh.py`.

    Attributes:
        points: Around their middle, root mean square distance 1; x to the viewer's right, y down, z away, (468, 3).
        weights: How much each point counts for the pose: those that no expression moves count most; they sum to 1.
        mirror: The number of each point's mirror image.
    """

    points: Float64[np.ndarray, "points=468 3"]
    weights: Float64[np.ndarray, "points=468"]
    mirror: Int[np.ndarray, "points=468"]


@cache
def mean_mesh() -> MeanMesh:
    """Return the mean mesh that poses are told by."""
    text = resources.files("mien").joinpath("weights", "face-mesh-mean.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    weights = np.array(facts["weights"])
    return MeanMesh(np.array(facts["points"]), weights / weights.sum(), np.array(facts["mirror"]))


@cache
def mesh_edges() -> tuple[tuple[int, int], ...]:
    """Return the sides of triangles that cover the mesh, as pairs of points: a Delaunay triangulation of the mean."""
    from scipy.spatial import Delaunay  # for drawing alone

    corners = Delaunay(mean_mesh().points[:, :2]).simplices
    sides = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    return tuple((int(a), int(b)) for a, b in np.unique(sides, axis=0))


def pose_of(mesh: Float[np.ndarray, "points=468 3"]) -> Pose:
    """Return how the head of a mesh is turned.

    The rotation is taken apart so that turning the picture changes roll alone.
    """
    mean = mean_mesh()
    seen = mesh - mean.weights @ mesh
    known = mean.points - mean.weights @ mean.points
    u, _, vt = np.linalg.svd((seen * mean.weights[:, None]).T @ known)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    yaw = math.asin(float(np.clip(turn[2, 0], -1, 1)))
    pitch = -math.atan2(turn[2, 1], turn[2, 2])
    roll = math.atan2(turn[1, 0], turn[0, 0])
    return Pose(*(math.degrees(angle) for angle in (yaw, pitch, roll)))


def eye_openness(contour: Float[np.ndarray, "points=71 3"]) -> float:
    """Return the mean distance of the lids in widths of the eye, from the contour that the network of eyes answers."""
    return _gap(contour[:, :2], *_CONTOUR)


def mouth_openness(mesh: Float[np.ndarray, "points=468 3"]) -> float:
    """Return the distance of the inner lips in widths of the mouth."""
    return _gap(mesh, *_LIPS)


def _gap(mesh: np.ndarray, left: int, right: int, pairs: Sequence[tuple[int, int]]) -> float:
    wide = max(float(np.linalg.norm(mesh[left] - mesh[right])), 1e-6)
    return float(np.mean([np.linalg.norm(mesh[upper] - mesh[lower]) for upper, lower in pairs])) / wide


def _xy(mesh: Mesh) -> Float64[np.ndarray, "points=468 2"]:
    return np.asarray(mesh[:, :2], dtype=np.float64)


def _corners(detection: Detection) -> Float64[np.ndarray, "corners=4 2"]:
    """Return the corners of a face's box, turned with the face."""
    left, top, right, bottom = detection.box.as_tuple()
    middle, half = np.array([left + right, top + bottom]) / 2, np.array([right - left, bottom - top]) / 2
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return np.asarray(middle + square @ _axes(_tilt(*detection.landmarks[:2])))


def _square(points: Float64[np.ndarray, "n 2"], tilt: float) -> Float64[np.ndarray, "corners=4 2"]:
    """Return the corners of a square around points, leaning by ``tilt`` radians, with room around them."""
    axes = _axes(tilt)
    along = points @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    half = max(float((high - low).max()) * _ROOM / 2, 1.0)
    corners = (low + high) / 2 + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return np.asarray(corners @ axes)


def _tilt(left: np.ndarray, right: np.ndarray) -> float:
    """Return the angle of the line from one eye to the other, radians clockwise."""
    across = np.asarray(right, np.float64) - left
    return math.atan2(across[1], across[0])


def _axes(tilt: float) -> Float64[np.ndarray, "2 2"]:
    """Return the directions along and across the eyes as rows."""
    return np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
