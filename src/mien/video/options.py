"""Everything that can be set about watching, with its default."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FPIR", "Options"]

FPIR = 0.01
"""Largest share of strangers that are given a name, a trial being a track and not a picture of it."""


@dataclass(frozen=True, slots=True)
class Options:
    """How closely faces are followed. Times are seconds of the video.

    Attributes:
        search_s: Longest time between two searches of the whole picture while somebody is followed.
        idle_s: The same while nobody is, and nothing in the picture changes.
        changed_s: Shortest time between two searches that only a change outside the followed faces asks for.
        look_s: Time between two second looks at a followed face.
        confirm: Times that a face is seen before it counts as a track.
        coast_s: A face that is no longer seen is expected to go on for so long; then it has left.
        hidden_s: The same where another face is in front of it.
        revive_s: A face that comes back within this time is looked up among those that left.
        expression_s: Time between two readings of a face's expression.
        embed_s: Time between the embeddings that a new track is named by.
        refresh_s: The same once it has enough of them.
        crops: Faces of a track that its template is made of, its best.
        least_quality: Of a face that has a vote in who this is.
        smoothing_s: Over this time expressions are averaged; 0 does not average.
        first_s: A face is read for so long before its expression is told for the first time.
        evidence: Another expression is told when it has become likelier by so much, in natural logarithms.
    """

    search_s: float = 0.4
    idle_s: float = 1.0
    changed_s: float = 0.12
    look_s: float = 0.1
    confirm: int = 2
    coast_s: float = 0.6
    hidden_s: float = 2.0
    revive_s: float = 10.0
    expression_s: float = 0.2
    embed_s: float = 0.2
    refresh_s: float = 3.0
    crops: int = 5
    least_quality: float = 0.3
    smoothing_s: float = 0.6
    first_s: float = 0.3
    evidence: float = 1.5
