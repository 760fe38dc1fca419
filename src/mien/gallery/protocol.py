"""What every gallery can do, whatever holds its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien.gallery.records import (
    CheckReport,
    Enrolment,
    Entry,
    Erasure,
    Finding,
    Sample,
    Stats,
    StoredPoint,
    Subject,
    Transfer,
)
from mien.types import Candidate, Embedding, Face, OperatingPoint
from mien.vision.cohort import Cohort

__all__ = ["Change", "Embed", "GalleryProtocol"]

Change = Callable[[Float32[np.ndarray, "n dimension"]], Float[np.ndarray, "n other"]]
Embed = Callable[[UInt8[np.ndarray, "batch side side 3"]], Float[np.ndarray, "batch dimension"]]
"""Aligned crops, RGB uint8, to embeddings."""


class GalleryProtocol(Protocol):
    """All references of a system: enrol, search, identify, erase, and keep in order.

    Implemented by `mien.gallery.gallery.Gallery` on SQLite and PostgreSQL. Methods raise `GalleryError` with one line.
    """

    @property
    def model(self) -> str | None:
        """Id of the embedder whose templates are searched; None while the gallery is empty."""
        ...

    @property
    def cohort(self) -> Cohort | None:
        """What normalises its templates where that is not the embedder's own cohort; None where it is."""
        ...

    def __len__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None:
        """Let go of the storage."""
        ...

    def enrol(
        self,
        subject: str,
        face: Face,
        *,
        source_hash: str,
        min_quality: float = 0.0,
        duplicate_threshold: float | None = None,
    ) -> Enrolment:
        """Add one face; on return it is stored for good."""
        ...

    def enrol_many(self, entries: Iterable[Entry], *, min_quality: float = 0.0) -> list[Enrolment]:
        """Add faces in one transaction: all or, on an error, none."""
        ...

    def search(self, embedding: Embedding, k: int = 10, *, per_subject: bool = False) -> tuple[Candidate, ...]:
        """Return the k most similar samples, or subjects by all their samples, best first."""
        ...

    def search_many(
        self, embeddings: Sequence[Embedding], k: int = 10, *, per_subject: bool = False
    ) -> list[tuple[Candidate, ...]]:
        """Search several probes, shared between the cores."""
        ...

    def identify(self, embedding: Embedding, threshold: float, k: int = 1) -> tuple[Candidate, ...]:
        """Return up to k subjects who reach the threshold, best first."""
        ...

    def subjects(self) -> list[Subject]:
        """Return all subjects, by name."""
        ...

    def subject(self, name: str) -> Subject:
        """Return one subject."""
        ...

    def subject_by_id(self, subject_id: int) -> Subject | None:
        """Return one subject; None where there is none of that id."""
        ...

    def holder(self, sample_id: int) -> Subject | None:
        """Return whose a sample is; None where there is none of that id."""
        ...

    def samples(self, subject: str) -> list[Sample]:
        """Return a subject's samples in the order of enrolment."""
        ...

    def crop(self, sample_id: int) -> UInt8[np.ndarray, "side side 3"] | None:
        """Return a sample's aligned crop; None where it was not kept."""
        ...

    def vectors(self, subject: str) -> Float32[np.ndarray, "samples dimension"]:
        """Return the templates of a subject."""
        ...

    def rename(self, subject: str, name: str) -> None:
        """Give a subject another name."""
        ...

    def merge(self, into: str, other: str) -> int:
        """Move all samples of one subject to another and drop the emptied one; return how many moved."""
        ...

    def split(self, samples: Sequence[int], name: str) -> tuple[int, ...]:
        """Give samples to a subject, made if need be; return which moved."""
        ...

    def erase(self, subject: str) -> Erasure:
        """Remove a subject with all samples, and prove that nothing of them is left."""
        ...

    def stats(self) -> Stats:
        """Return counts and sizes."""
        ...

    def check(self, *, mate_score: float = 0.45, probes: int = 2000) -> CheckReport:
        """Examine everything, and measure what the index finds against exact search."""
        ...

    def rebuild(self) -> None:
        """Make everything derived anew."""
        ...

    def audit(self, threshold: float) -> list[Finding]:
        """Look for templates that match everybody, one person under two names, two persons under one."""
        ...

    def export(self, folder: str | Path) -> Transfer:
        """Write subjects, samples, templates and crops to a folder."""
        ...

    def import_(self, folder: str | Path) -> Transfer:
        """Read what `export` wrote; what is there already stays."""
        ...

    def migrate(
        self, model: str, embed: Embed, *, batch: int = 64, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Embed all crops with another model and switch to it; return how many were embedded."""
        ...

    def calibrate(self, fmr: float) -> StoredPoint:
        """Derive the threshold for a false match rate from this gallery, and keep it."""
        ...

    def operating_point(self, fmr: float) -> StoredPoint | None:
        """Return the calibrated operating point for a false match rate; None where there is none."""
        ...

    def keep_point(self, point: OperatingPoint) -> StoredPoint:
        """Store an operating point of the model in use."""
        ...

    def points(self) -> list[StoredPoint]:
        """Return the calibrated operating points of the model in use, most permissive first."""
        ...
