"""What a face shows over the frames of a clip, by a small network that `mien train sequence` made. No PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, similarity_transform
from mien.errors import ImageError, ModelError
from mien.types import Box, Expression
from mien.vision.attributes import CONTOURS, MODELS, MeshReader, mean_mesh
from mien.vision.conventions import SequenceConvention
from mien.vision.detector import Detection
from mien.vision.expression import ExpressionReader, likeliest
from mien.vision.finding import TIGHT, DetectorLike, cut_face, find_face, patient_detector
from mien.vision.generator import Generator
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = ["FEATURES", "FEATURES_OF", "Clip", "FrameFeatures", "SequenceReader", "evenly", "whole_crop"]

Image = UInt8[np.ndarray, "height width 3"]

FEATURES = ("vae", "expression", "landmarks")
"""What may be read from a frame: means of a VAE's latents, logarithms of an expression network's probabilities, points
of lips, eyes and brows."""
FEATURES_OF = {"vae": "expression-vae-48", "expression": "expression-resnet27-equal", "landmarks": MODELS["mesh"]}
"""Which model reads them, unless another one is named."""

_INNER = CONTOURS[:-1]  # the oval of the face is a matter of the head
_LEAST = 1e-4  # probability: below it a network has nothing to say


class FrameFeatures:
    """Read numbers from the face of each frame.

    Args:
        kind: One of `FEATURES`.
        model: A name or a run folder; default by `FEATURES_OF`.
        detector: Finds the face; default the patient one.
        threads: ONNX Runtime threads.

    Attributes:
        kind: As given.
        model: As given, or the default.
    """

    def __init__(
        self, kind: str, model: str = "", *, detector: DetectorLike | None = None, threads: int | None = None
    ) -> None:
        assert kind in FEATURES, f"features are {', '.join(FEATURES)}"
        self.kind, self.model = kind, model or FEATURES_OF[kind]
        self._given, self._threads = detector, threads
        self._read = {"vae": self._latents, "expression": self._shares, "landmarks": self._points}[kind]

    def find(self, image: Image) -> Detection | None:
        """Return the face that a frame is of; a small picture without one is taken for a face that fills it."""
        found = find_face(image, self._detector)
        if found is None and max(image.shape[:2]) < TIGHT and abs(image.shape[0] - image.shape[1]) <= 1:
            return whole_crop(min(image.shape[:2]))
        return found

    def of(self, images: Sequence[Image], faces: Sequence[Detection]) -> Float32[np.ndarray, "frames features"]:
        """Return the numbers of a face in each frame."""
        assert len(images) == len(faces) > 0
        return np.asarray(self._read(images, faces), dtype=np.float32)

    def _latents(self, images: Sequence[Image], faces: Sequence[Detection]) -> np.ndarray:
        made = self._generator
        points = TEMPLATES[made.convention.template].points_at(made.side)
        crops = [
            cut_face(image, face.landmarks, points=points, side=made.side)
            for image, face in zip(images, faces, strict=True)
        ]
        return made.encode(np.stack(crops))

    def _shares(self, images: Sequence[Image], faces: Sequence[Detection]) -> np.ndarray:
        crops = [self._reader.crop(image, face) for image, face in zip(images, faces, strict=True)]
        return np.asarray(np.log(np.maximum(self._reader.probabilities(np.stack(crops)), _LEAST)))

    def _points(self, images: Sequence[Image], faces: Sequence[Detection]) -> np.ndarray:
        chosen = np.unique(np.concatenate(_INNER))
        target = mean_mesh().points[:, :2]
        rows = []
        for image, face in zip(images, faces, strict=True):
            (mesh,), _ = self._meshes.read(image, [face])
            matrix = similarity_transform(mesh[:, :2].astype(np.float64), target)
            rows.append((mesh[chosen, :2] @ matrix[:, :2].T + matrix[:, 2]).ravel())
        return np.stack(rows)

    @cached_property
    def _detector(self) -> DetectorLike:
        return self._given or patient_detector()

    @cached_property
    def _generator(self) -> Generator:
        return Generator(self.model, threads=self._threads)

    @cached_property
    def _reader(self) -> ExpressionReader:
        return ExpressionReader(zoo.named(self.model, role="expression"), threads=self._threads)

    @cached_property
    def _meshes(self) -> MeshReader:
        return MeshReader(zoo.named(self.model), threads=self._threads)


@dataclass(frozen=True, slots=True)
class Clip:
    """What a clip shows.

    Attributes:
        expression: Of the whole clip.
        frames: Numbers of the frames that were looked at and show a face, from 0.
        weights: How much each of them had to say; they sum to 1.
        without: Frames that were looked at and show no face.
    """

    expression: Expression
    frames: tuple[int, ...]
    weights: tuple[float, ...]
    without: int


class SequenceReader:
    """Tell what a face shows over time, with one small ONNX network.

    Args:
        card: Of a run of `mien train sequence`.
        threads: ONNX Runtime threads.

    Attributes:
        card: As given.
        labels: What a clip may show.

    Raises:
        ModelError: The card is of another role, or incomplete.
    """

    def __init__(self, card: Card, *, threads: int | None = None) -> None:
        if card.role != "sequence":
            raise ModelError(f"'{card.name}' is of role {card.role}, expected a run folder of `mien train sequence`.")
        self.card, self.convention = card, SequenceConvention.of(card)
        self.labels = self.convention.labels
        self.features = FrameFeatures(self.convention.features, self.convention.on, threads=threads)
        self._session = make_session(zoo.path(card), options=session_options(threads=1))

    def read(self, images: Iterable[Image]) -> Clip:
        """Return what the face of a clip shows.

        Args:
            images: Its frames in order, RGB uint8, shape (height, width, 3).

        Raises:
            ImageError: None of them shows a face.
        """
        kept: dict[int, tuple[Image, Detection]] = {}
        looked = list(images)
        chosen = evenly(len(looked), self.convention.frames).tolist()
        for number in chosen:
            face = self.features.find(looked[number])
            if face is not None:
                kept[number] = (looked[number], face)
        if not kept:
            raise ImageError(f"None of the {len(chosen)} frames that were looked at shows a face.")
        pictures, faces = zip(*kept.values(), strict=True)
        features = self.features.of(pictures, faces)
        logits, weights = self._session.run(["logits", "weights"], {"features": features[None]})
        return Clip(
            self._outcome(logits[0].astype(np.float64)),
            tuple(kept),
            tuple(weights[0].tolist()),
            len(chosen) - len(kept),
        )

    def _outcome(self, logits: Float64[np.ndarray, " classes"]) -> Expression:
        shares = np.exp((logits - logits.max()) / self.convention.temperature)
        return likeliest(self.labels, shares / shares.sum(), uncertain_below=self.convention.uncertain_below)


def whole_crop(side: int) -> Detection:
    """Return the face of a crop that was cut out by `fer-48`, as a detector would."""
    points = TEMPLATES["fer-48"].points_at(side)
    return Detection(Box(0, 0, side, side), points.astype(np.float32), 1.0)


def evenly(count: int, most: int) -> Int[np.ndarray, " chosen"]:
    """Return the numbers of at most so many of ``count`` frames, spread evenly, first and last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
