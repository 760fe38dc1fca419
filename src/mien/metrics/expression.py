"""How well classes are told apart: confusion, accuracy, precision, recall, F1, and how far chance moves them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from mien.errors import EvaluationError
from mien.metrics.calibration import expected_calibration_error
from mien.metrics.intervals import REPLICATES, Interval, percentile_interval, subject_weights, wilson

__all__ = ["ClassScore", "Intervals", "accuracy", "area_under_roc", "confusion", "intervals", "macro_f1", "per_class"]

Table = Num[np.ndarray, "*replicates classes classes"]
_ECE_BINS = 15


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is told.

    Attributes:
        precision: Share of the answers "this class" that are right; NaN where it is never answered.
        recall: Share of its pictures that are told right; NaN where it has none.
        f1: Their harmonic mean, 0 where none is right; NaN where it has no pictures.
        n: Pictures of this class.
    """

    precision: float
    recall: float
    f1: float
    n: int


def confusion(
    labels: Int[np.ndarray, " pictures"], answers: Int[np.ndarray, " pictures"], *, classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Count pictures by true class (rows) and answered class (columns).

    Example:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    place = _places(labels, answers, classes)
    return np.bincount(place, minlength=classes * classes).reshape(classes, classes)


def accuracy(table: Table) -> Float[np.ndarray, "*replicates"]:
    """Return the share of right answers of confusion tables, shape (..., classes, classes)."""
    return np.asarray(np.trace(table, axis1=-2, axis2=-1) / table.sum(axis=(-2, -1)))


def macro_f1(table: Table) -> Float[np.ndarray, "*replicates"]:
    """Return the mean F1 of the classes that have pictures, of confusion tables, shape (..., classes, classes).

    Example:
        >>> float(macro_f1(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]])).round(4))
        0.6667
    """
    right = np.diagonal(table, axis1=-2, axis2=-1)
    pictures, answers = table.sum(axis=-1), table.sum(axis=-2)
    # F1 = 2 TP / (2 TP + FP + FN); a class that has pictures never divides by zero.
    f1 = np.where(pictures > 0, 2 * right / np.maximum(pictures + answers, 1e-12), 0.0)
    return np.asarray(f1.sum(axis=-1) / np.maximum((pictures > 0).sum(axis=-1), 1))


def per_class(table: Int[np.ndarray, "classes classes"]) -> tuple[ClassScore, ...]:
    """Return precision, recall and F1 of each class of a confusion table."""
    right, pictures, answers = np.diagonal(table), table.sum(axis=1), table.sum(axis=0)

    def share(part: float, whole: float) -> float:
        return float(part / whole) if whole else math.nan

    return tuple(
        ClassScore(share(tp, a), share(tp, n), share(2 * tp, n + a) if n else math.nan, int(n))
        for tp, n, a in zip(right, pictures, answers, strict=True)
    )


def area_under_roc(scores: Float[np.ndarray, " pictures"], positive: Bool[np.ndarray, " pictures"]) -> float:
    """Return the chance that a positive scores above a negative; ties count half.

    Example:
        >>> area_under_roc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
        0.875
    """
    positive = np.asarray(positive, dtype=bool)
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        raise EvaluationError(
            f"The area under a ROC curve needs both kinds, got {num_positive} positive, {num_negative} negative."
        )
    _, place, counts = np.unique(np.asarray(scores), return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]  # mid-ranks, from 1
    above = rank[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 % intervals of what a report tells."""

    accuracy: Interval
    macro_f1: Interval
    ece: Interval
    f1: tuple[Interval, ...]


def intervals(
    labels: Int[np.ndarray, " pictures"],
    probabilities: Float[np.ndarray, "pictures classes"],
    *,
    subjects: Shaped[np.ndarray, " pictures"] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Intervals:
    """Resample pictures, or subjects where they are known, and see how far the figures move.

    Where every answer is right, or none, the interval of the accuracy is Wilson's: resampling cannot see past the data.

    Args:
        labels: True class, shape (pictures,).
        probabilities: Of each class, shape (pictures, classes).
        subjects: Who is in each picture, shape (pictures,); without it pictures count as independent.
        replicates: How many draws.
        seed: Seed of the draws.
    """
    answers, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    place = _places(labels, answers, classes)
    units = np.arange(len(labels)) if subjects is None else np.asarray(subjects)
    if len(np.unique(units)) < 2:
        unknown = (math.nan, math.nan)
        return Intervals(unknown, unknown, unknown, (unknown,) * classes)
    cell = np.zeros((len(labels), classes * classes), np.float32)
    cell[np.arange(len(labels)), place] = 1
    correct = answers == labels
    sure = np.minimum((probabilities.max(axis=1) * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    gap = np.zeros((len(labels), _ECE_BINS), np.float32)
    gap[np.arange(len(labels)), sure] = correct - probabilities.max(axis=1)

    rights, f1s, by_class, eces = [], [], [], []
    for (weights,) in subject_weights(units, replicates=replicates, seed=seed):
        tables = (weights @ cell).astype(np.float64).reshape(-1, classes, classes)
        rights.append(accuracy(tables))
        f1s.append(macro_f1(tables))
        pictures, said = tables.sum(axis=2), tables.sum(axis=1)
        with np.errstate(invalid="ignore"):
            f1 = 2 * np.diagonal(tables, axis1=1, axis2=2) / (pictures + said)
        by_class.append(np.where(pictures > 0, f1, np.nan))
        eces.append(np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1))
    of_classes = np.concatenate(by_class)
    share = float(correct.mean())
    return Intervals(
        accuracy=wilson(correct.sum(), len(labels))
        if share in (0.0, 1.0)
        else percentile_interval(np.concatenate(rights)),
        macro_f1=percentile_interval(np.concatenate(f1s)),
        ece=_centred(np.concatenate(eces), expected_calibration_error(probabilities.max(axis=1), correct)),
        f1=tuple(percentile_interval(of_classes[:, k]) for k in range(classes)),
    )


def _centred(replicates: Float[np.ndarray, " replicates"], value: float) -> Interval:
    """Return the basic interval, not below 0.

    An absolute gap only grows when it is resampled, so plain percentiles would lie above the value itself. Mirroring
    them takes the same bias off again (Davison and Hinkley, "Bootstrap Methods", 1997, equation 5.6).
    """
    low, high = percentile_interval(replicates)
    return max(2 * value - high, 0.0), max(2 * value - low, 0.0)


def _places(
    labels: Int[np.ndarray, " pictures"], answers: Int[np.ndarray, " pictures"], classes: int
) -> Int[np.ndarray, " pictures"]:
    labels, answers = np.asarray(labels), np.asarray(answers)
    if labels.shape != answers.shape or not len(labels):
        raise EvaluationError(f"Expected one answer a picture, got {len(answers)} for {len(labels)}.")
    for name, values in (("labels", labels), ("answers", answers)):
        if values.min() < 0 or values.max() >= classes:
            raise EvaluationError(f"The {name} should be 0 to {classes - 1}, got {values.min()} to {values.max()}.")
    return np.asarray(labels.astype(np.int64) * classes + answers)
