"""What a gallery answers: frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64

from mien.errors import GalleryError
from mien.types import Box, Candidate, Face, OperatingPoint, Reason

__all__ = [
    "MOST_VIEWS",
    "ActiveModel",
    "CheckReport",
    "Enrolment",
    "Entry",
    "Erasure",
    "Finding",
    "Needle",
    "Owners",
    "Recall",
    "Sample",
    "Stats",
    "StoredPoint",
    "Subject",
    "Transfer",
    "UnreachableError",
]

MOST_VIEWS = 64
"""Simulated views that may go into one template."""


class UnreachableError(GalleryError):
    """The database of a gallery does not answer; it may do so again."""


class ActiveModel(NamedTuple):
    """An embedder whose templates a gallery holds.

    Attributes:
        row_id: Of its row.
        name: Id of the embedder.
        dimension: Of its vectors.
    """

    row_id: int
    name: str
    dimension: int

    def check_dimension(self, dimension: int) -> None:
        """Refuse vectors of another length."""
        if dimension != self.dimension:
            raise GalleryError(f"Templates of {self.name} have {self.dimension} values, got {dimension}.")


class Owners(NamedTuple):
    """Whose templates are: ids, one entry a template, templates rising."""

    templates: Int64[np.ndarray, " templates"]
    samples: Int64[np.ndarray, " templates"]
    subjects: Int64[np.ndarray, " templates"]


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes of an erased subject that must not remain.

    Attributes:
        what: Kind, for messages.
        data: The bytes.
        place: Table and column whose rows may rightly hold a fragment of them, being another subject's; empty: none.
    """

    what: str
    data: bytes
    place: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One face to enrol.

    Attributes:
        subject: Name of the subject; made if there is none of that name.
        face: With embedding, and with crop if the gallery is ever to change its embedder.
        source_hash: Digest of the picture, so that the same picture twice is one sample.
    """

    subject: str
    face: Face
    source_hash: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What became of one face.

    Attributes:
        status: "added"; "already" if this picture is a sample of this subject; "refused" by the quality gate.
        subject_id: The subject; None where refused.
        sample_id: The sample, new or old; None where refused.
        reasons: What is wrong with the face, worst first; may be there for an added one too.
        duplicates: Other subjects that it matches: perhaps one person under two names. Best first.
        same_face: Names of other subjects that have this very face of this very picture as a sample.
    """

    status: Literal["added", "already", "refused"]
    subject_id: int | None = None
    sample_id: int | None = None
    reasons: tuple[Reason, ...] = ()
    duplicates: tuple[Candidate, ...] = ()
    same_face: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject.

    Attributes:
        id: Never used again, even after an erasure.
        name: Unique in the gallery.
        samples: How many.
        created: When, UTC, ISO 8601.
        simulated: How many of the samples have a template that simulated views went into; see `Sample.simulated`.
    """

    id: int
    name: str
    samples: int
    created: str
    simulated: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One captured image of a subject.

    Attributes:
        id: Never used again, even after an erasure.
        subject_id: Whose.
        source_hash: Digest of the picture it is from.
        box: Where the face was in it, px.
        quality: In [0, 1]; None where it was not measured.
        reasons: What is wrong with it, worst first.
        created: When it was enrolled, UTC, ISO 8601.
        models: Ids of the embedders it has templates of.
        crop_bytes: Stored size of the crop; 0 where it was not kept.
        simulated: Simulated views that its template is the mean of, beside the picture itself; 0: of that alone. The
            views are not kept: the crop is of the picture.
    """

    id: int
    subject_id: int
    source_hash: str
    box: Box
    quality: float | None
    reasons: tuple[Reason, ...]
    created: str
    models: tuple[str, ...]
    crop_bytes: int
    simulated: int = 0


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased, and where it was looked for afterwards.

    Attributes:
        subject_id: Whose rows are gone.
        samples: Rows erased.
        templates: Rows erased.
        crops: Rows erased.
        bytes_erased: Of vectors and crops.
        files: Files that were searched for remains.
        bytes_searched: Their size.
        name_searched: Whether the name's bytes were searched for; False for names too short to tell from chance.
        shared: Vectors and crops that another subject also has, bit for bit; those remain, as that subject's.
        out_of_reach: Folders in which an index of this gallery was once kept and that cannot be looked into now.
    """

    subject_id: int
    samples: int
    templates: int
    crops: int
    bytes_erased: int
    files: tuple[str, ...]
    bytes_searched: int
    name_searched: bool
    shared: int = 0
    out_of_reach: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recall:
    """How often the index finds what exact search finds.

    Attributes:
        rate: Share of probes whose best candidate is that of exact search.
        interval: 95 % interval of it.
        probes: How many were tried.
        mate_score: The cosine at which a probe was put from its mate; None for stored templates as probes.
    """

    rate: float
    interval: tuple[float, float]
    probes: int
    mate_score: float | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The health of a gallery.

    Attributes:
        problems: One line each; empty if all is well.
        notes: What was done or is worth knowing.
        subjects: Rows seen.
        samples: Rows seen.
        templates: Rows seen.
        index: "exact", "coded", "empty", or "unknown" where rows are damaged.
        recall: Of the index against exact search; empty where search is exact.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    subjects: int
    samples: int
    templates: int
    index: str
    recall: tuple[Recall, ...] = ()

    @property
    def ok(self) -> bool:
        """True where there is no problem."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts and sizes.

    Attributes:
        path: The database file.
        model: Id of the embedder; None while empty.
        dimension: Of its vectors; None while empty.
        subjects: Rows.
        samples: Rows.
        templates: Rows of the model in use.
        crops: Rows.
        encrypted: Whether names, crops and vectors are.
        database_bytes: Database and write-ahead log on disk.
        index_bytes: Derived index on disk.
        erasures: Subjects erased so far.
        created: When, UTC, ISO 8601.
        points: Calibrated operating points of the model in use.
        samples_a_subject: How many subjects have 1, 2, ... samples.
        cohort: How many embeddings its own cohort has; None where that is the embedder's.
    """

    path: str
    model: str | None
    dimension: int | None
    subjects: int
    samples: int
    templates: int
    crops: int
    encrypted: bool
    database_bytes: int
    index_bytes: int
    erasures: int
    created: str
    points: tuple[StoredPoint, ...] = ()
    samples_a_subject: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    cohort: int | None = None


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """An operating point that was measured on this gallery.

    Attributes:
        point: Threshold and rates.
        model: Id of the embedder.
        created: When, UTC, ISO 8601.
        subjects: How many the gallery had then.
        templates: How many it had then.
    """

    point: OperatingPoint
    model: str
    created: str
    subjects: int
    templates: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a gallery that a person should look at.

    Attributes:
        kind: "matches_many": a template that matches samples of many subjects; "two_names": two subjects that match
            each other; "two_persons": samples of one subject that do not match.
        subjects: Ids of the subjects; the one whose template it is comes first.
        samples: Ids of the samples.
        score: The score behind it: the highest of the match, or of the missing match.
        count: Subjects matched, sample pairs that match, or samples that stand apart.
    """

    kind: Literal["matches_many", "two_names", "two_persons"]
    subjects: tuple[int, ...]
    samples: tuple[int, ...]
    score: float
    count: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an export or import moved.

    Attributes:
        subjects: Subjects written, or made anew.
        samples: Samples written, or added.
        already: Samples that the gallery had.
    """

    subjects: int
    samples: int
    already: int = 0
