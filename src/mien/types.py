"""Frozen records that cross boundaries. Each checks itself once, when made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien import notebook
from mien.errors import ImageError

if TYPE_CHECKING:
    import pandas

__all__ = [
    "EXPRESSIONS",
    "Box",
    "Candidate",
    "Comparison",
    "Embedding",
    "Expression",
    "Face",
    "OperatingPoint",
    "Picture",
    "Quality",
    "Reason",
    "Records",
]

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""The eight FER+ classes, in the order of every expression vector in mien."""


class Reason(StrEnum):
    """Why a face is of low quality, or was not enrolled. Stable codes: programs may match on them."""

    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    TOO_SMALL = "too_small"
    BLURRED = "blurred"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    LOW_CONTRAST = "low_contrast"
    EXTREME_POSE = "extreme_pose"
    UNSURE_DETECTION = "unsure_detection"
    LOW_QUALITY = "low_quality"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in px of the upright picture: (left, top, right, bottom), right and bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        assert self.right >= self.left and self.bottom >= self.top, "a box has its corners in order"

    @property
    def width(self) -> float:
        """Width in px."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in px."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Area in px squared."""
        return self.width * self.height

    @property
    def side(self) -> float:
        """Geometric mean of width and height in px: the size of a face, whatever the detector's aspect ratio."""
        return math.sqrt(self.area)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom)."""
        return (self.left, self.top, self.right, self.bottom)


@dataclass(frozen=True, slots=True)
class Quality:
    """How fit a face is for recognition.

    Attributes:
        score: In [0, 1]; higher means fewer errors are to be expected.
        reasons: What is wrong, worst first; empty for a good face.
        measures: The numbers behind the score, by name (face side in px, sharpness, ...).
    """

    score: float
    reasons: tuple[Reason, ...] = ()
    measures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        assert 0.0 <= self.score <= 1.0, "quality lies in [0, 1]"


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A unit vector and the model that made it. Vectors of two models are never compared.

    Attributes:
        model: Id of the embedder: name and version, and the digest of its file and input convention.
        vector: Unit length float32, shape (dimension,), read-only.
    """

    model: str
    vector: Float32[np.ndarray, " dimension"]

    def __post_init__(self) -> None:
        assert self.vector.ndim == 1 and self.vector.dtype == np.float32, "an embedding is a float32 vector"
        assert abs(float(np.linalg.norm(self.vector)) - 1.0) < 1e-3, "an embedding has unit length"
        self.vector.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Expression:
    """What a face shows, as probabilities over classes that sum to one.

    Attributes:
        label: The most probable class.
        probabilities: Probability by class, in the order of the model's card.
        uncertain: True where the probability of ``label`` is below the card's operating point.
    """

    label: str
    probabilities: Mapping[str, float]
    uncertain: bool = False

    def __post_init__(self) -> None:
        assert self.label in self.probabilities, "the label is one of the classes"
        assert abs(sum(self.probabilities.values()) - 1.0) < 1e-3, "probabilities sum to one"


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of a picture.

    Attributes:
        box: Where it is, px of the upright picture.
        landmarks: Left eye, right eye, nose tip, left and right mouth corner (viewer's left), shape (5, 2), px (x, y).
        score: The detector's confidence in [0, 1].
        quality: Fitness for recognition; None where it was not asked for.
        embedding: Identity; None where it was not asked for.
        expression: What the face shows; None where no expression model is in use.
        crop: The aligned face that was embedded, RGB uint8 (side, side, 3); None where it was not kept.
    """

    box: Box
    landmarks: Float32[np.ndarray, "5 2"]
    score: float
    quality: Quality | None = None
    embedding: Embedding | None = None
    expression: Expression | None = None
    crop: UInt8[np.ndarray, "side side 3"] | None = None

    def __post_init__(self) -> None:
        assert self.landmarks.shape == (5, 2), "a face has five landmarks"

    def to_record(self) -> dict[str, object]:
        """Return what is known of the face as one flat row, without the embedding and the pixels."""
        left, top, right, bottom = (float(value) for value in self.box.as_tuple())
        quality, expression = self.quality, self.expression
        return {
            "left": left,
            "top": top,
            "right": right,
            "bottom": bottom,
            "score": float(self.score),
            "quality": None if quality is None else float(quality.score),
            "reasons": None if quality is None else ", ".join(quality.reasons),
            "expression": None if expression is None else expression.label,
            "probability": None if expression is None else float(expression.probabilities[expression.label]),
            "uncertain": None if expression is None else expression.uncertain,
        }

    def _repr_html_(self) -> str:
        crop = "" if self.crop is None else notebook.inline_picture(self.crop, "the aligned face")
        return notebook.html_of([self.to_record()], picture=crop)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What became of one picture of a batch: its faces, or the reason why there are none to report.

    Attributes:
        path: As given by the user; None for a picture from memory.
        width: px after EXIF rotation; 0 where the picture could not be read.
        height: px after EXIF rotation; 0 where the picture could not be read.
        faces: Largest first.
        error: One line; None where all went well. A picture without a face is not an error.
        digest: SHA-256 (hex) of the decoded pixels: the same picture under any name or container.
    """

    path: str | None
    width: int = 0
    height: int = 0
    faces: tuple[Face, ...] = ()
    error: str | None = None
    digest: str | None = None

    def to_records(self) -> list[dict[str, object]]:
        """Return a flat row for each face, with the path and the number of the face, from 1."""
        return [{"path": self.path, "face": n, **face.to_record()} for n, face in enumerate(self.faces, start=1)]

    def to_pandas(self) -> pandas.DataFrame:
        """Return `to_records` as a pandas table; pandas has to be installed."""
        return notebook.table_of(self.to_records())

    def _repr_html_(self) -> str:
        name = self.path or "a picture from memory"
        if self.error is not None:
            return notebook.html_of([], note=self.error)
        shown, note = "", f"{name}: {len(self.faces)} {'face' if len(self.faces) == 1 else 'faces'}"
        if self.path is not None:
            try:
                boxes = [face.box.as_tuple() for face in self.faces]
                shown = notebook.boxed_picture(self.path, self.width, self.height, boxes)
            except ImageError as error:
                note += f". {error}"
        rows = [{key: value for key, value in row.items() if key != "path"} for row in self.to_records()]
        return notebook.html_of(rows, picture=shown, note=note)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold with the rates that were measured at it.

    Attributes:
        target_fmr: The false match rate asked for.
        threshold: Accept where ``score >= threshold``.
        fmr: Measured false match rate at the threshold.
        fnmr: Measured false non-match rate at the threshold.
        fmr_interval: 95 % interval of ``fmr``.
        fnmr_interval: 95 % interval of ``fnmr``.
        num_genuine: Mated comparisons behind ``fnmr``.
        num_impostor: Non-mated comparisons behind ``fmr``.
        dataset: Where it was measured.
    """

    target_fmr: float
    threshold: float
    fmr: float
    fnmr: float
    fmr_interval: tuple[float, float]
    fnmr_interval: tuple[float, float]
    num_genuine: int
    num_impostor: int
    dataset: str = ""

    def __post_init__(self) -> None:
        assert 0.0 <= self.fmr <= 1.0 and (math.isnan(self.fnmr) or 0.0 <= self.fnmr <= 1.0), "rates lie in [0, 1]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer to a 1:1 comparison.

    Attributes:
        score: Cosine similarity in [-1, 1]; higher means more alike.
        match: True where ``score >= point.threshold``.
        probability: Calibrated probability that both are one subject, at even prior odds.
        point: The operating point that decided.
    """

    score: float
    match: bool
    probability: float
    point: OperatingPoint

    def to_record(self) -> dict[str, object]:
        """Return the answer as one flat row; the rates are None where none were measured at the threshold."""
        point = self.point
        return {
            "match": bool(self.match),
            "score": float(self.score),
            "threshold": float(point.threshold),
            "probability": float(self.probability),
            "fmr": float(point.fmr) if point.num_impostor else None,
            "fnmr": float(point.fnmr) if point.num_genuine else None,
        }

    def _repr_html_(self) -> str:
        return notebook.html_of([self.to_record()])


@dataclass(frozen=True, slots=True)
class Candidate:
    """One entry of a search result.

    Attributes:
        subject: The subject's name.
        subject_id: The subject's id in the gallery.
        sample_id: The sample whose template scored.
        score: Cosine similarity of probe and template.
    """

    subject: str
    subject_id: int
    sample_id: int
    score: float

    def to_record(self) -> dict[str, object]:
        """Return the candidate as one flat row."""
        return {
            "subject": self.subject,
            "subject_id": self.subject_id,
            "sample_id": self.sample_id,
            "score": float(self.score),
        }

    def _repr_html_(self) -> str:
        return notebook.html_of([self.to_record()])


class _Record(Protocol):
    def to_record(self) -> dict[str, object]: ...


RecordT = TypeVar("RecordT", bound=_Record, covariant=True)


class Records(tuple[RecordT, ...]):
    """Faces or candidates: a tuple that a notebook shows as a table, and that turns into rows."""

    __slots__ = ()

    def to_records(self) -> list[dict[str, object]]:
        """Return a flat row for each."""
        return [record.to_record() for record in self]

    def to_pandas(self) -> pandas.DataFrame:
        """Return `to_records` as a pandas table; pandas has to be installed."""
        return notebook.table_of(self.to_records())

    def _repr_html_(self) -> str:
        return notebook.html_of(self.to_records(), note="" if self else "none")


def as_unit(vector: Float[np.ndarray, "*batch dimension"]) -> Float32[np.ndarray, "*batch dimension"]:
    """Scale vectors to unit length, float32, along the last axis; a zero vector stays zero."""
    vector = np.asarray(vector, dtype=np.float32)
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / np.maximum(norm, np.float32(1e-12)), dtype=np.float32)
