"""Face crops to unit vectors."""

from __future__ import annotations

import json
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, align
from mien.errors import ModelError
from mien.types import as_unit
from mien.vision.cohort import Cohort, cohort_of
from mien.vision.conventions import EmbedderConvention
from mien.vision.feed import Feed
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    import onnxruntime

    from mien.zoo import Card

__all__ = ["Embedder", "mean_direction"]

_BATCH = 4  # crops: larger batches gain nothing on a CPU, and each worker holds the memory of its largest


class Embedder:
    """Turn aligned crops into embeddings with one ONNX network.

    Args:
        card: The model's card; its convention names template, side, colour order, mean, scale, whether the vectors of a
            crop and of its mirror image are added (``flip``), and the ``cohort`` that makes scores mean the same for
            everybody; ``batch``, where it is there, is the most pictures that the network takes at once.
        threads: ONNX Runtime threads; default the CPU quota.
        cohort: One of the caller's own, that the card was made for by `mien.vision.cohort.with_cohort`.

    Attributes:
        card: As given.
        convention: What it says of the network, checked.
        model: The id that its embeddings carry.
        side: Side of a crop in px.
        cohort: What normalises its embeddings; None where it has none.
    """

    def __init__(self, card: Card, *, threads: int | None = None, cohort: Cohort | None = None) -> None:
        convention = EmbedderConvention.of(card)
        self.card = card
        self.convention = convention
        self.model = card.id
        self.side = convention.side
        weights = convention.landmark_weights
        self._weights = None if weights is None else np.array(weights)
        self._points = TEMPLATES[convention.template].points_at(self.side)
        self._feed = Feed(card.convention)
        self._along = mean_direction(convention.mean_embedding, convention.keep_along_mean)
        self.cohort = cohort or cohort_of(convention)
        self._threads = threads

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The network, opened when it is first needed: cutting faces out takes none."""
        return make_session(zoo.path(self.card), options=session_options(threads=self._threads))

    def crop(
        self, image: UInt8[np.ndarray, "height width 3"], landmarks: Float32[np.ndarray, "5 2"]
    ) -> UInt8[np.ndarray, "side side 3"]:
        """Cut a face out as this network wants to see it."""
        return align(image, landmarks, points=self._points, side=self.side, weights=self._weights)

    def embed(self, crops: UInt8[np.ndarray, "faces side side 3"]) -> Float32[np.ndarray, "faces dimension"]:
        """Return the embeddings of aligned crops, RGB uint8, shape (faces, side, side, 3): unit vectors to compare.

        With a cohort they are one value longer than what `describe` returns; see `mien.vision.cohort`.

        Raises:
            ModelError: The crops are not of the side that the network takes.
        """
        plain = self.describe(crops)
        return plain if self.cohort is None else self.cohort.normalise(plain)

    def describe(self, crops: UInt8[np.ndarray, "faces side side 3"]) -> Float32[np.ndarray, "faces dimension"]:
        """Return what the network alone sees in aligned crops, as unit vectors: for everything but comparing people."""
        if crops.ndim != 4 or crops.shape[1:] != (self.side, self.side, 3) or crops.dtype != np.uint8:
            raise ModelError(
                f"'{self.card.name}' embeds uint8 crops of shape (n, {self.side}, {self.side}, 3), "
                f"got {crops.dtype} of shape {crops.shape}."
            )
        parts = [self._raw(crops[start : start + _BATCH]) for start in range(0, len(crops), _BATCH)]
        if not parts:
            return np.empty((0, self.convention.dimension), np.float32)
        return as_unit(np.concatenate(parts))

    def _raw(self, crops: UInt8[np.ndarray, "faces side side 3"]) -> Float32[np.ndarray, "faces dimension"]:
        # OpenCV mirrors ten times as fast as a NumPy view is copied.
        views = np.stack([*crops, *(cv2.flip(crop, 1) for crop in crops)]) if self.convention.flip else crops
        step = self.convention.batch or len(views)
        vectors = np.concatenate([self._forward(views[i : i + step]) for i in range(0, len(views), step)])
        if self.convention.flip:
            vectors = (vectors[: len(crops)] + vectors[len(crops) :]) / 2
        if self._along is not None:
            direction, length, keep = self._along
            vectors = vectors - np.float32(1 - keep) * (vectors @ direction - np.float32(length))[:, None] * direction
        return vectors

    def _forward(self, views: UInt8[np.ndarray, "views side side 3"]) -> Float32[np.ndarray, "views dimension"]:
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: self._feed(views)})
        return np.asarray(outputs[0], dtype=np.float32)


def mean_direction(name: str | None, keep: float) -> tuple[Float32[np.ndarray, " dimension"], float, float] | None:
    """Read the mean embedding of a population: its direction and length, and how much variation along it is kept.

    A network that was trained on Euclidean distance puts all faces on one side of the origin. How far a face goes in
    that common direction says little about who it is, yet the cosine listens to it.
    """
    if name is None:
        return None
    text = resources.files("mien").joinpath("weights", f"{name}.json").read_text(encoding="utf-8")
    mean = np.array(json.loads(text)["mean"], dtype=np.float32)
    length = float(np.linalg.norm(mean))
    return mean / np.float32(length), length, keep
