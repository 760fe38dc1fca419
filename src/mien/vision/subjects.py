"""Which of a closed set of people a face is of, by a classifier that `mien train classifier` made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien import zoo
from mien.errors import ModelError
from mien.types import Embedding
from mien.vision.conventions import ClassifierConvention
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = ["EMBEDDING", "PROBABILITIES", "SCORE", "SubjectReader", "Subjects"]

EMBEDDING, PROBABILITIES, SCORE = "embedding", "probabilities", "score"
"""Names of the network's input and outputs: unit vectors; a probability a subject; how alike the best subject is."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Who of the known subjects a face may be of.

    Attributes:
        subject: The most probable one.
        probabilities: Probability by subject, given that the face is of one of them.
        score: How much it is like that subject, in the units of the card's threshold.
        unknown: Whether the score is below the threshold: the face is of none of them.
    """

    subject: str
    probabilities: Mapping[str, float]
    score: float
    unknown: bool


class SubjectReader:
    """Name faces by their embeddings, with one small ONNX network.

    Args:
        card: The classifier's card; its convention names ``labels`` (subjects), ``embedder`` (id of the embedder whose
            vectors it takes), ``on`` (that embedder's name or run folder) and ``unknown_below`` (None: nobody is).

    Attributes:
        card: As given.
        labels: The subjects.

    Raises:
        ModelError: The card is of another role, or incomplete.
    """

    def __init__(self, card: Card) -> None:
        if card.role != "classifier":
            raise ModelError(f"'{card.name}' is of role {card.role}, expected a run folder of `mien train classifier`.")
        self.card, self.convention = card, ClassifierConvention.of(card)
        self.labels = self.convention.labels
        limit = self.convention.unknown_below
        self._unknown_below = -np.inf if limit is None else limit
        self._session = make_session(zoo.path(card), options=session_options(threads=1))

    def read(self, embeddings: Sequence[Embedding]) -> list[Subjects]:
        """Return who each face may be of.

        Raises:
            ModelError: Another embedder made the embeddings.
        """
        if not embeddings:
            return []
        wanted = self.convention.embedder
        if other := {embedding.model for embedding in embeddings} - {wanted}:
            raise ModelError(
                f"'{self.card.name}' was trained on embeddings of '{wanted}', these are of '{min(other)}'. "
                "Train it again on this embedder, or name the other one with --embedder."
            )
        batch = np.stack([embedding.vector for embedding in embeddings])
        probabilities, scores = self._session.run([PROBABILITIES, SCORE], {EMBEDDING: batch})
        return [self._outcome(*row) for row in zip(probabilities.tolist(), scores.tolist(), strict=True)]

    def _outcome(self, probabilities: list[float], score: float) -> Subjects:
        by_subject = dict(zip(self.labels, probabilities, strict=True))
        best = max(by_subject, key=lambda name: by_subject[name])
        return Subjects(best, by_subject, score, unknown=score < self._unknown_below)
