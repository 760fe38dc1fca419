"""From pictures to one embedding each, with every failure kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from mien.alignment import TEMPLATES
from mien.analyzer import central_face, main_face
from mien.errors import EvaluationError, ImageError
from mien.images import load_image
from mien.types import Picture
from mien.zoo import Card

__all__ = ["AnalyzerLike", "Samples", "acquire", "acquire_aligned"]

_BATCH = 32


class EmbedderLike(Protocol):
    """An embedder: what is needed of it here."""

    @property
    def card(self) -> Card:
        """The model's card."""
        ...

    def crop(
        self, image: UInt8[np.ndarray, "height width 3"], landmarks: Float32[np.ndarray, "5 2"]
    ) -> UInt8[np.ndarray, "side side 3"]:
        """Cut a face out as the network wants to see it."""
        ...


class AnalyzerLike(Protocol):
    """An analyzer: what is needed of it here."""

    @property
    def detector(self) -> str:
        """Name of the detector in use."""
        ...

    @property
    def embedder(self) -> EmbedderLike:
        """The embedder in use."""
        ...

    def pictures(self, paths: Sequence[Path], *, embed: bool = True, digests: bool = False) -> Iterator[Picture]:
        """Analyse pictures, in order."""
        ...

    def embed_crops(self, crops: UInt8[np.ndarray, "n side side 3"]) -> Float32[np.ndarray, "n dimension"]:
        """Embed aligned faces."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """One embedding a picture.

    Attributes:
        vectors: Unit embeddings, zero where there is none, shape (pictures, dimension).
        acquired: Whether there is one, shape (pictures,).
        digests: SHA-256 of each picture's pixels; None where it is not known.
        fta: Number of each readable picture in which no face was found.
        unreadable: Why each other picture could not be read, by number.
    """

    vectors: Float32[np.ndarray, "pictures dimension"]
    acquired: Bool[np.ndarray, " pictures"]
    digests: tuple[str | None, ...]
    fta: tuple[int, ...]
    unreadable: dict[int, str]


def acquire(
    analyzer: AnalyzerLike,
    paths: Sequence[Path],
    *,
    central: bool = False,
    digests: bool = False,
    progress: Callable[[], None] | None = None,
) -> Samples:
    """Find the face that each picture is of and embed it; each picture is analysed once.

    Args:
        analyzer: Finds and embeds faces.
        paths: Pictures.
        central: Take the face nearest to the middle, however small, where the data's labels mean that one.
        digests: Note each picture's digest.
        progress: Called after each one.
    """
    vectors: list[Float32[np.ndarray, " dimension"] | None] = []
    seen, fta, unreadable = [], [], {}
    meant = central_face if central else main_face
    for number, picture in enumerate(analyzer.pictures(paths, embed=True, digests=digests)):
        face = meant(picture.faces, picture.width, picture.height) if picture.error is None else None
        embedding = face.embedding if face else None
        if picture.error is not None:
            unreadable[number] = picture.error
        elif embedding is None:
            fta.append(number)
        vectors.append(embedding.vector if embedding else None)
        seen.append(picture.digest)
        if progress:
            progress()
    assert len(vectors) == len(paths), "an analyzer answers once for each picture"
    return _samples(vectors, seen, fta, unreadable)


def acquire_aligned(
    analyzer: AnalyzerLike, pictures: Sequence[bytes], *, progress: Callable[[], None] | None = None
) -> Samples:
    """Embed crops that lie on the ArcFace template; no detector is run, so none can fail.

    Where the embedder wants another template, the crop is warped from the one to the other.

    Args:
        analyzer: Embeds faces.
        pictures: Encoded crops.
        progress: Called after each one.
    """
    side, points = TEMPLATES["arcface-112"]
    vectors: list[Float32[np.ndarray, " dimension"] | None] = [None] * len(pictures)
    unreadable = {}
    for start in range(0, len(pictures), _BATCH):
        crops, numbers = [], []
        for number in range(start, min(start + _BATCH, len(pictures))):
            try:
                image = load_image(pictures[number])
            except ImageError as error:
                unreadable[number] = str(error)
                continue
            # Pixel centres: the template drawn on a crop of another size.
            scale = np.array([image.shape[1], image.shape[0]]) / side
            landmarks = (np.array(points) + 0.5) * scale - 0.5
            crops.append(analyzer.embedder.crop(image, landmarks.astype(np.float32)))
            numbers.append(number)
        for number, vector in zip(numbers, analyzer.embed_crops(np.stack(crops)) if crops else (), strict=True):
            vectors[number] = vector
        for _ in range(start, min(start + _BATCH, len(pictures))):
            if progress:
                progress()
    return _samples(vectors, [None] * len(pictures), [], unreadable)


def _samples(
    vectors: Sequence[Float32[np.ndarray, " dimension"] | None],
    digests: Sequence[str | None],
    fta: Sequence[int],
    unreadable: dict[int, str],
) -> Samples:
    acquired = np.array([vector is not None for vector in vectors])
    if not acquired.any():
        raise EvaluationError(
            f"No face was found in any of {len(vectors)} pictures, so there is nothing to compare. "
            "Check the folder, or ask for smaller faces with --min-face."
        )
    dimension = next(len(vector) for vector in vectors if vector is not None)
    matrix = np.zeros((len(vectors), dimension), dtype=np.float32)
    matrix[acquired] = [vector for vector in vectors if vector is not None]
    return Samples(matrix, acquired, tuple(digests), tuple(fta), unreadable)
