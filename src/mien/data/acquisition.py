"""The face of each labelled picture, as run time finds and embeds it; kept, so that a second run needs no search.

What is kept are people's embeddings: they lie in the folder of the run, or where the user said, and go with it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from mien.analyzer import main_face
from mien.data.samples import Samples, read_samples
from mien.errors import DataError, ImageError, TrainingError
from mien.images import write_whole
from mien.types import Face
from mien.zoo import Card

__all__ = ["AnalyzerLike", "Faces", "acquire_faces", "read_subjects"]


class AnalyzerLike(Protocol):
    """An analyzer: what is needed of it here."""

    @property
    def card(self) -> Card:
        """Card of the embedder in use."""
        ...

    @property
    def detector(self) -> str:
        """Name of the detector in use."""
        ...

    def analyze(self, image: UInt8[np.ndarray, "height width 3"]) -> tuple[Face, ...]:
        """Return the faces of a picture with their embeddings."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The main face of each sample that shows one.

    Attributes:
        numbers: Which samples, shape (faces,).
        subjects: Who it is of, shape (faces,).
        splits: train, valid, test, or '' where the data does not say, shape (faces,).
        vectors: Unit embeddings, shape (faces, dimension).
        lost: Samples that show no face or cannot be read.
    """

    numbers: Shaped[np.ndarray, " faces"]
    subjects: Shaped[np.ndarray, " faces"]
    splits: Shaped[np.ndarray, " faces"]
    vectors: Float32[np.ndarray, "faces dimension"]
    lost: int

    def take(self, chosen: Bool[np.ndarray, " faces"]) -> Faces:
        """Return some of the faces, by mask."""
        return Faces(self.numbers[chosen], self.subjects[chosen], self.splits[chosen], self.vectors[chosen], self.lost)


def read_subjects(data: Path) -> Samples:
    """Read pictures that say who they are of: a folder a subject (below splits or not), or a list with subjects.

    Raises:
        DataError: There is no such data, or it does not name subjects.
    """
    kind = "manifest" if data.suffix.lower() in (".csv", ".tsv", ".parquet") else "subjects"
    samples = read_samples(data, kind=kind)
    if samples.subjects is None or not all(samples.subjects.tolist()):
        raise DataError("Some rows of the list name no subject. Fill its column 'subject', or leave those rows out.")
    return samples


def acquire_faces(
    samples: Samples,
    analyzer: AnalyzerLike,
    *,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Faces:
    """Find and embed the main face of each sample.

    Args:
        samples: Pictures with their subjects.
        analyzer: Finds and embeds faces.
        cache: Folder that keeps the embeddings for the same pictures and models.
        progress: Called after each picture with how many are done, and how many there are.

    Raises:
        DataError: No face was found at all.
        TrainingError: The folder cannot be written.
    """
    assert samples.subjects is not None, "read_subjects insists on them"
    key = f"{samples.fingerprint()} {analyzer.card.id} {analyzer.detector}"
    file = cache / f"embeddings-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    kept = _load(file)
    if kept is None:
        kept = _search(samples, analyzer, progress)
        packed = io.BytesIO()
        np.savez(packed, numbers=kept[0], vectors=kept[1])
        try:
            cache.mkdir(parents=True, exist_ok=True)
            write_whole(file, packed.getvalue())
        except OSError as error:
            raise TrainingError(
                f"Embeddings cannot be kept in '{cache}': {error.strerror or error}. Name another folder with --cache."
            ) from error
    numbers, vectors = kept
    return Faces(numbers, samples.subjects[numbers], samples.splits[numbers], vectors, len(samples) - len(numbers))


def _search(
    samples: Samples, analyzer: AnalyzerLike, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray]:
    numbers: list[int] = []
    vectors: list[Float32[np.ndarray, " dimension"]] = []
    for number, image in samples.pictures():
        if not isinstance(image, ImageError):
            face = main_face(analyzer.analyze(image), image.shape[1], image.shape[0])
            if face is not None and face.embedding is not None:
                numbers.append(number)
                vectors.append(face.embedding.vector)
        if progress is not None:
            progress(number + 1, len(samples))
    if not numbers:
        raise DataError(f"No face was found in any of {len(samples)} pictures. Check that they show faces.")
    return np.array(numbers), np.array(vectors, dtype=np.float32)


def _load(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what an earlier run kept; None where there is nothing, or nothing whole."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return archive["numbers"], archive["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
