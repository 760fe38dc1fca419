"""Similarity to decision, at an operating point that was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mien import zoo
from mien.errors import ImageError, ModelError, UsageError
from mien.types import Comparison, Embedding, Face, GroupRate, OperatingPoint, Side

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.images import Source

__all__ = ["compare", "given_threshold", "operating_point", "probability", "similarity", "verify", "worst_group"]


def similarity(a: Embedding, b: Embedding) -> float:
    """Return the cosine similarity of two embeddings, in [-1, 1]; higher means more alike.

    Raises:
        ModelError: Two models made them.
    """
    if a.model != b.model:
        raise ModelError(
            f"Embeddings of two models cannot be compared: '{a.model}' and '{b.model}'. Embed both with one of them."
        )
    return float(np.clip(np.dot(a.vector, b.vector), -1.0, 1.0))


def operating_point(card: zoo.Card, fmr: float) -> OperatingPoint:
    """Return a model's operating point for a false match rate.

    Between two measured rates the threshold is interpolated in the logarithm of the rate; the error rates are then
    those of the stricter measured point for ``fmr`` and ``fnmr``.

    Args:
        card: The embedder's card.
        fmr: Largest false match rate allowed, a fraction such as 1e-3.

    Raises:
        UsageError: ``fmr`` is no rate.
        ModelError: The card has no operating points, or none for so small a rate.
    """
    if not 0 < fmr < 1:
        raise UsageError(f"--fmr should lie between 0 and 1, for instance 1e-3, got {fmr:g}.")
    points = sorted(card.operating_points, key=lambda point: -point.target_fmr)
    if not points:
        raise ModelError(
            f"'{card.name}' has no operating points yet. "
            f"Enrol a gallery and run: mien calibrate --gallery G --fmr {fmr:g}"
        )
    loosest, strictest = points[0], points[-1]
    if fmr < strictest.target_fmr * 0.999:
        raise ModelError(
            f"'{card.name}' was measured down to FMR {strictest.target_fmr:g}, not {fmr:g}. "
            "Ask for a larger rate, or calibrate on a gallery large enough: mien calibrate."
        )
    for point in points:
        if abs(fmr / point.target_fmr - 1) < 1e-3:
            return point
    if fmr > loosest.target_fmr:
        return loosest
    above, below = next((a, b) for a, b in pairwise(points) if a.target_fmr > fmr > b.target_fmr)
    share = float(np.log(above.target_fmr / fmr) / np.log(above.target_fmr / below.target_fmr))
    return OperatingPoint(
        target_fmr=fmr,
        threshold=above.threshold + share * (below.threshold - above.threshold),
        fmr=below.fmr,
        fnmr=below.fnmr,
        fmr_interval=(below.fmr_interval[0], above.fmr_interval[1]),
        fnmr_interval=(above.fnmr_interval[0], below.fnmr_interval[1]),
        num_genuine=below.num_genuine,
        num_impostor=below.num_impostor,
        dataset=f"{below.dataset}, interpolated",
    )


def given_threshold(threshold: float) -> OperatingPoint:
    """Return an operating point for a threshold that the user chose; its rates are not known."""
    if not -1 <= threshold <= 1:
        raise UsageError(f"--threshold is a cosine similarity between -1 and 1, got {threshold:g}.")
    unknown = (0.0, 1.0)
    return OperatingPoint(1.0, threshold, 1.0, float("nan"), unknown, unknown, 0, 0, "the user's own threshold")


def probability(card: zoo.Card, score: float) -> float:
    """Return the calibrated probability that a score is a genuine one, at even prior odds; nan where unmeasured."""
    if card.probability is None:
        return float("nan")
    slope, intercept = card.probability
    return float(1 / (1 + np.exp(-np.clip(slope * score + intercept, -50, 50))))


def compare(a: Embedding, b: Embedding, *, card: zoo.Card, point: OperatingPoint) -> Comparison:
    """Decide whether two embeddings are of one subject, at an operating point."""
    score = similarity(a, b)
    worst = worst_group(card, point)
    return Comparison(score, score >= point.threshold, probability(card, score), point, worst_group=worst)


def worst_group(card: zoo.Card, point: OperatingPoint) -> GroupRate | None:
    """Return the group whose strangers match most often at a point of the card's; None where that was not measured."""
    if point not in card.operating_points:
        return None
    measured = [rate for rate in card.groups if math.isclose(rate.target_fmr, point.target_fmr)]
    return max(measured, key=lambda rate: rate.fmr, default=None)


def verify(
    a: Source,
    b: Source,
    *,
    fmr: float = 1e-3,
    point: OperatingPoint | None = None,
    analyzer: Analyzer | None = None,
    face: str | int = "main",
) -> Comparison:
    """Compare a face of one picture with a face of another: are they of one subject?

    Args:
        a: A picture: whatever `mien.load_image` reads.
        b: The other one.
        fmr: Largest false match rate allowed.
        point: Decide at this operating point instead, such as a calibrated gallery's.
        analyzer: To use one again; default a new one.
        face: Which face of a picture with several: `main` is large and near the middle, and refused where two are as
            prominent; `largest`; `only` refuses other faces; a number, from 1, largest first; `best` compares all with
            all and answers for the most similar pair, whose false match rate grows with the number of pairs.

    Returns:
        Score, decision, probability, the operating point behind the decision, and which faces were compared.

    Raises:
        ImageError: A picture cannot be read, shows no face, or none that is clearly meant.

    Example:
        >>> verify("a.jpg", "b.jpg", fmr=1e-4).match  # doctest: +SKIP
        True
    """
    from mien.analyzer import Analyzer  # with OpenCV and Pillow, which a search of a gallery needs not

    analyzer = analyzer or Analyzer(expression=None)
    point = point or operating_point(analyzer.card, fmr)
    first, second = (_sides(analyzer, source, label, face) for source, label in ((a, "first"), (b, "second")))
    pairs = [(compare(x, y, card=analyzer.card, point=point), s, t) for s, x in first for t, y in second]
    comparison, one, other = max(pairs, key=lambda pair: pair[0].score)
    return replace(comparison, sides=(one, other), pairs=len(pairs))


def _sides(analyzer: Analyzer, source: Source, label: str, which: str | int) -> list[tuple[Side, Embedding]]:
    """Return the faces of a picture that shall be compared."""
    from mien.analyzer import choose_face  # as above
    from mien.images import load_image

    image = load_image(source)
    faces = analyzer.analyze(image)
    if not faces:
        raise ImageError(
            f"No face was found in the {label} picture. Try a larger or sharper one, or a smaller min_face."
        )
    try:
        chosen = faces if which == "best" else (choose_face(faces, image.shape[1], image.shape[0], which),)
    except ImageError as error:
        raise ImageError(f"Which face of the {label} picture? {str(error)[0].upper()}{str(error)[1:]}") from None
    return [(_side(faces, face), _embedding(face)) for face in chosen]


def _side(faces: Sequence[Face], face: Face) -> Side:
    number = next(number for number, other in enumerate(faces, start=1) if other is face)
    return Side(len(faces), number, face.box, face.turn, face.quality)


def _embedding(face: Face) -> Embedding:
    assert face.embedding is not None, "analyze embeds unless told otherwise"
    return face.embedding
