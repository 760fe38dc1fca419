"""Names for the faces of a picture, from a gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mien.gallery.calibration import identification_probability
from mien.gallery.protocol import GalleryProtocol
from mien.matching import probability
from mien.types import Candidate, Face, Picture
from mien.zoo import Card

__all__ = ["Named", "chance", "name_faces", "repeated_names"]


@dataclass(frozen=True, slots=True)
class Named:
    """A face and who it may be.

    Attributes:
        face: The face.
        candidates: Subjects, best first.
        candidate: The one whose name the face is given; None for somebody unknown.
    """

    face: Face
    candidates: tuple[Candidate, ...] = ()
    candidate: Candidate | None = None

    @property
    def subject(self) -> str | None:
        """The name that the face is given; None for somebody unknown."""
        return None if self.candidate is None else self.candidate.subject


def name_faces(
    gallery: GalleryProtocol, picture: Picture, *, threshold: float, top: int = 1, once: bool = False
) -> tuple[Named, ...]:
    """Search a gallery for the faces of a picture and give those a name whose best subject reaches the threshold.

    Args:
        gallery: What is searched.
        picture: With embedded faces, or with none.
        threshold: Least score of a match.
        top: Candidates to keep a face, matching or not.
        once: Give each name to one face of a picture at most, the most similar; another face takes its next match.
    """
    faces = [face for face in picture.faces if face.embedding is not None]
    embeddings = [face.embedding for face in faces if face.embedding is not None]
    # One face can lose as many names as there are other faces.
    found = gallery.search_many(embeddings, max(top, len(faces)) if once else top, per_subject=True)
    if not once:
        given = [next((c for c in candidates[:1] if c.score >= threshold), None) for candidates in found]
    else:
        given = _each_once(found, threshold)
    return tuple(
        Named(face, candidates[:top], candidate)
        for face, candidates, candidate in zip(faces, found, given, strict=True)
    )


def _each_once(found: Sequence[tuple[Candidate, ...]], threshold: float) -> list[Candidate | None]:
    matches = [
        (candidate, place) for place, candidates in enumerate(found) for candidate in candidates
        if candidate.score >= threshold
    ]  # fmt: skip
    given: list[Candidate | None] = [None] * len(found)
    taken: set[int] = set()
    for candidate, place in sorted(matches, key=lambda match: (-match[0].score, match[1])):
        if given[place] is None and candidate.subject_id not in taken:
            given[place] = candidate
            taken.add(candidate.subject_id)
    return given


def repeated_names(named: Sequence[Named]) -> dict[str, int]:
    """Return names that several faces of a picture are given, and how many."""
    counts = Counter(one.subject for one in named if one.subject is not None)
    return {name: count for name, count in counts.items() if count > 1}


def chance(candidate: Candidate, card: Card, subjects: int) -> float:
    """Return the probability that a candidate is who was searched for, among so many subjects."""
    return identification_probability(probability(card, candidate.score), subjects)
