"""Frozen records that cross boundaries. Each checks itself once, when made, and may be copied and sent to processes.

What users can make themselves is checked with a `UsageError` and not with an `assert`, which `python -O` removes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien import notebook
from mien.errors import ImageError, UsageError

if TYPE_CHECKING:
    import pandas

__all__ = [
    "ATTRIBUTES_NOTE",
    "EXPRESSIONS",
    "AgeGuess",
    "Attributes",
    "Box",
    "Candidate",
    "Comparison",
    "Embedding",
    "Expression",
    "Face",
    "Facts",
    "FrozenDict",
    "GenderGuess",
    "Opening",
    "OperatingPoint",
    "Picture",
    "Pose",
    "Quality",
    "Reason",
    "Records",
    "Side",
    "as_unit",
]

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""The eight FER+ classes, in the order of every expression vector in mien."""


ATTRIBUTES_NOTE = (
    "Age and apparent gender are guesses from looks, with the mean error measured on UTKFace for faces guessed to be "
    "about as old; errors differ between groups of people (see docs/models.md). Decide nothing about a person by them."
)
"""Said wherever attributes are shown."""

Facts = Mapping[str, Any]
"""What a card, a manifest or a report says by key: read from a file, and checked by whoever takes a value out."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class FrozenDict(dict[Key, Value]):
    """A dictionary that cannot be changed, and that copies, pickles and turns into JSON as any other does."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this dictionary belongs to a frozen record; make another one with dict(...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict[Key, Value]], tuple[dict[Key, Value]]]:
        return (FrozenDict, (dict(self),))


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


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
        _expect(
            self.right >= self.left and self.bottom >= self.top,
            f"A box has its corners in order, left, top, right, bottom; got {self.as_tuple()}.",
        )

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
    measures: Mapping[str, float] = field(default_factory=lambda: FrozenDict[str, float]())

    def __post_init__(self) -> None:
        _expect(0.0 <= self.score <= 1.0, f"Quality lies between 0 and 1, got {self.score:g}.")
        object.__setattr__(self, "measures", FrozenDict(self.measures))

    @property
    def poor(self) -> bool:
        """Whether it is likelier missed than not: stated rates are of better faces, and more strangers match."""
        return self.score < 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A unit vector and the model that made it. Vectors of two models are never compared.

    Attributes:
        model: Id of the embedder: name and version, and the digest of its file and input convention.
        vector: Unit length float32, shape (dimension,), read-only.
        simulated: Simulated views of the picture that it is the mean of, beside the picture itself; 0: of that alone.
    """

    model: str
    vector: Float32[np.ndarray, " dimension"]
    simulated: int = 0

    def __post_init__(self) -> None:
        vector = self.vector
        _expect(
            isinstance(vector, np.ndarray) and vector.ndim == 1 and vector.dtype == np.float32,
            f"An embedding is a float32 vector, got {_kind(vector)}. Convert it with mien.types.as_unit.",
        )
        _expect(bool(np.isfinite(vector).all()), "An embedding is made of finite numbers, got NaN or infinity.")
        length = float(np.linalg.norm(vector))
        _expect(
            abs(length - 1.0) < 1e-3,
            f"An embedding has unit length, got one of length {length:.3g}. Scale it with mien.types.as_unit.",
        )
        vector.setflags(write=False)

    def __reduce__(self) -> tuple[Callable[..., Embedding], tuple[str, Float32[np.ndarray, " dimension"], int]]:
        # Made anew, the copy is checked and read-only as well.
        return (Embedding, (self.model, self.vector, self.simulated))


@dataclass(frozen=True, slots=True)
class Expression:
    """What a face shows, as probabilities over classes that sum to one.

    Attributes:
        label: The most probable class.
        probabilities: Probability by class, in the order of the model's card.
        uncertain: True where the probability of ``label``, or all of them, miss the card's operating point.
    """

    label: str
    probabilities: Mapping[str, float]
    uncertain: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", FrozenDict(self.probabilities))
        _expect(
            self.label in self.probabilities,
            f"The label is one of the classes ({', '.join(self.probabilities)}), got '{self.label}'.",
        )
        total = sum(self.probabilities.values())
        _expect(abs(total - 1.0) < 1e-3, f"Probabilities sum to one, got {total:.4g}.")


@dataclass(frozen=True, slots=True)
class Pose:
    """How a head is turned, degrees; 0, 0, 0 looks into the camera.

    Attributes:
        yaw: Positive where it looks to the viewer's right.
        pitch: Positive where it looks up.
        roll: Positive where it leans clockwise.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class Opening:
    """How far an eye or a mouth is open.

    Attributes:
        openness: Distance of lids or lips in widths of the eye or mouth; 0 is closed.
        open: Whether that counts as open.
    """

    openness: float
    open: bool


@dataclass(frozen=True, slots=True)
class AgeGuess:
    """How old a face looks to a network.

    Attributes:
        years: The guess.
        error: Mean absolute error, years, among faces that were guessed to be about as old; None: not measured.
    """

    years: float
    error: float | None = None


@dataclass(frozen=True, slots=True)
class GenderGuess:
    """Whether a face looks female or male to a network. It says nothing of how people understand themselves.

    Attributes:
        label: `female` or `male`.
        probability: As the network gives it; it is surer than it is right.
        error: Share of wrong answers among faces that were guessed to be about as old; None: not measured.
    """

    label: str
    probability: float
    error: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Attributes:
    """What else can be seen in a face. Left and right are the viewer's.

    Attributes:
        pose: How the head is turned, in the picture as it was looked at (see `Face.turn`).
        left_eye: Open or closed.
        right_eye: Open or closed.
        mouth: Open or closed.
        age: A guess.
        gender: A guess.
        mesh: 468 points as MediaPipe numbers them, float32, shape (468, 3), read-only: x and y in px of the upright
            picture, z in px, smaller nearer to the camera.
        mesh_score: How sure the network is that these points are on a face, 0 to 1.
    """

    pose: Pose
    left_eye: Opening
    right_eye: Opening
    mouth: Opening
    age: AgeGuess
    gender: GenderGuess
    mesh: Float32[np.ndarray, "points=468 3"]
    mesh_score: float

    def __post_init__(self) -> None:
        _expect(
            isinstance(self.mesh, np.ndarray) and self.mesh.shape == (468, 3),
            f"A mesh has 468 points, an array of shape (468, 3), got {_kind(self.mesh)}.",
        )
        self.mesh.setflags(write=False)

    def to_record(self) -> dict[str, object]:
        """Return the attributes as one flat row, without the mesh."""
        return {
            "yaw": self.pose.yaw,
            "pitch": self.pose.pitch,
            "roll": self.pose.roll,
            "left_eye_open": self.left_eye.open,
            "right_eye_open": self.right_eye.open,
            "mouth_open": self.mouth.open,
            "age": self.age.years,
            "age_error": self.age.error,
            "apparent_gender": self.gender.label,
            "gender_probability": self.gender.probability,
            "gender_error": self.gender.error,
        }


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
        turn: By how many degrees clockwise the picture has to be turned to show the face upright: 0, 90, 180 or 270.
            Box and landmarks are px of the picture as it is.
        attributes: Pose, eyes, mouth, age and apparent gender; None where they were not asked for.
    """

    box: Box
    landmarks: Float32[np.ndarray, "5 2"]
    score: float
    quality: Quality | None = None
    embedding: Embedding | None = None
    expression: Expression | None = None
    crop: UInt8[np.ndarray, "side side 3"] | None = None
    turn: int = 0
    attributes: Attributes | None = None

    def __post_init__(self) -> None:
        _expect(
            isinstance(self.landmarks, np.ndarray) and self.landmarks.shape == (5, 2),
            f"A face has five landmarks, an array of shape (5, 2), got {_kind(self.landmarks)}.",
        )

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
            **({} if self.attributes is None else self.attributes.to_record()),
        }

    def _repr_html_(self) -> str:
        crop = "" if self.crop is None else notebook.inline_picture(self.crop, "the aligned face")
        note = "" if self.attributes is None else ATTRIBUTES_NOTE
        return notebook.html_of([self.to_record()], picture=crop, note=note)


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
        notes: What was odd and could be read all the same, such as a missing end marker, a line each.
    """

    path: str | None
    width: int = 0
    height: int = 0
    faces: tuple[Face, ...] = ()
    error: str | None = None
    digest: str | None = None
    notes: tuple[str, ...] = ()

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
        said = [ATTRIBUTES_NOTE] if any(face.attributes is not None for face in self.faces) else []
        note = " ".join([f"{note}{'' if note.endswith('.') else '.'}", *self.notes, *said])
        rows = [{key: value for key, value in row.items() if key != "path"} for row in self.to_records()]
        return notebook.html_of(rows, picture=shown, note=note)


@dataclass(frozen=True, slots=True)
class GroupRate:
    """How often strangers of one group match each other, at the threshold that is stated for everybody.

    Attributes:
        target_fmr: Rate that the threshold was chosen for.
        group: Its name, for instance ``asian female``.
        fmr: Rate within the group.
        fmr_interval: 95 %, resampling people.
        people: In the group.
        dataset: Where it was measured.
    """

    target_fmr: float
    group: str
    fmr: float
    fmr_interval: tuple[float, float]
    people: int
    dataset: str


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
        _expect(
            0.0 <= self.fmr <= 1.0 and (math.isnan(self.fnmr) or 0.0 <= self.fnmr <= 1.0),
            f"Rates lie between 0 and 1, got fmr {self.fmr:g} and fnmr {self.fnmr:g}.",
        )


@dataclass(frozen=True, slots=True)
class Side:
    """Which face of a picture was compared.

    Attributes:
        faces: How many the picture shows.
        face: Number of the compared one, from 1, largest first.
        box: Where it is, px of the upright picture.
        turn: As of `Face`.
        quality: How fit it is for recognition; None where that was not measured.
    """

    faces: int
    face: int
    box: Box
    turn: int = 0
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer to a 1:1 comparison.

    Attributes:
        score: Cosine similarity in [-1, 1]; higher means more alike.
        match: True where ``score >= point.threshold``.
        probability: Calibrated probability that both are one subject, at even prior odds.
        point: The operating point that decided.
        sides: Which face of each picture was compared; None where embeddings were.
        pairs: How many pairs of faces were looked at to find this one: 1, or more with ``face="best"``.
        worst_group: The group of people whose strangers match most often at the threshold; None: not measured.
    """

    score: float
    match: bool
    probability: float
    point: OperatingPoint
    sides: tuple[Side, Side] | None = None
    pairs: int = 1
    worst_group: GroupRate | None = None

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


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else str(type(value))
