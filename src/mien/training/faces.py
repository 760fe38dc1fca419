"""The face of each labelled picture, as run time finds, cuts and embeds it; kept, so that a second run needs no search.

What is kept are people's embeddings and crops: they lie in the folder of the run and go with it.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from mien.alignment import TEMPLATES, align
from mien.analyzer import main_face
from mien.data.samples import Samples, read_samples
from mien.errors import DataError, ImageError
from mien.images import write_whole
from mien.training.reporter import Reporter
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
    """One face a sample.

    Attributes:
        subjects: Who it is of, shape (faces,).
        splits: train, valid, test, or '' where the data does not say, shape (faces,).
        vectors: Unit embeddings, shape (faces, dimension).
        crops: Aligned faces, RGB, shape (faces, side, side, 3); None where no template was asked for.
        lost: Samples in which no face was found, or that could not be read.
    """

    subjects: Shaped[np.ndarray, " faces"]
    splits: Shaped[np.ndarray, " faces"]
    vectors: Float32[np.ndarray, "faces dimension"]
    crops: UInt8[np.ndarray, "faces side side 3"] | None
    lost: int

    def take(self, chosen: Bool[np.ndarray, " faces"]) -> Faces:
        """Return some of the faces, by mask."""
        crops = None if self.crops is None else self.crops[chosen]
        return Faces(self.subjects[chosen], self.splits[chosen], self.vectors[chosen], crops, self.lost)


def read_subjects(data: Path) -> Samples:
    """Read pictures that say who they are of: a folder a subject (below splits or not), or a list with subjects.

    Raises:
        DataError: There is no such data, or it does not name subjects.
    """
    kind = "manifest" if data.suffix.lower() in (".csv", ".tsv", ".parquet") else "subjects"
    samples = read_samples(data, kind=kind)
    if samples.subjects is None or not all(samples.subjects.tolist()):
        raise DataError(
            "Some pictures of the list have no subject. Give every row a value in its column 'subject', or leave it out."
        )
    return samples


def acquire_faces(
    samples: Samples, analyzer: AnalyzerLike, *, cache: Path, template: str | None = None, side: int = 0
) -> Faces:
    """Find and embed the main face of each sample; those without one are left out.

    Args:
        samples: Pictures with their subjects.
        analyzer: Finds and embeds faces.
        cache: Folder that keeps the result for the same pictures and models.
        template: Also cut faces to this template.
        side: Of such a cut, px.

    Raises:
        DataError: No face was found at all.
    """
    assert samples.subjects is not None, "read_subjects insists on them"
    key = f"{samples.fingerprint()} {analyzer.card.id} {analyzer.detector} {template} {side}"
    file = cache / f"faces-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    kept = _load(file, len(samples))
    if kept is None:
        kept = _search(samples, analyzer, template, side)
        cache.mkdir(parents=True, exist_ok=True)
        packed = io.BytesIO()
        np.savez(packed, **kept)
        write_whole(file, packed.getvalue())
    found = kept["found"]
    if not found.any():
        raise DataError(f"No face was found in any of {len(samples)} pictures. Check that they show faces.")
    crops = kept["crops"] if template else None
    return Faces(samples.subjects[found], samples.splits[found], kept["vectors"], crops, int((~found).sum()))


def _search(samples: Samples, analyzer: AnalyzerLike, template: str | None, side: int) -> dict[str, np.ndarray]:
    full, points = TEMPLATES[template] if template else (1, ())
    vectors: list[Float32[np.ndarray, " dimension"]] = []
    crops: list[UInt8[np.ndarray, "side side 3"]] = []
    found = np.zeros(len(samples), dtype=bool)
    with Reporter(len(samples)) as reporter:
        for number, image in samples.pictures():
            reporter.advance(number + 1)
            if isinstance(image, ImageError):
                continue
            face = main_face(analyzer.analyze(image), image.shape[1], image.shape[0])
            if face is None or face.embedding is None:
                continue
            found[number] = True
            vectors.append(face.embedding.vector)
            if template:
                crops.append(align(image, face.landmarks, points=np.array(points) * (side / full), side=side))
    return {
        "found": found,
        "vectors": np.array(vectors, dtype=np.float32),
        "crops": np.array(crops, dtype=np.uint8),
    }


def _load(file: Path, count: int) -> dict[str, np.ndarray] | None:
    """Return what an earlier run kept; None where there is nothing, or nothing whole."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            kept = {name: archive[name] for name in ("found", "vectors", "crops")}
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return kept if len(kept["found"]) == count else None
