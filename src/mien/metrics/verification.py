"""Error rates of 1:1 comparisons: ROC and DET, EER, FNMR and TAR at a FMR, ten-fold accuracy.

Source: ISO/IEC 19795-1 for FMR, FNMR, TAR and failures to acquire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mien.errors import EvaluationError
from mien.metrics.intervals import Interval, bootstrap_rate, wilson
from mien.types import OperatingPoint

__all__ = [
    "Curve",
    "FoldedAccuracy",
    "accuracy",
    "at_threshold",
    "best_accuracy_threshold",
    "det",
    "eer",
    "fnmr_at_fmr",
    "folded_accuracy",
    "folds_in_order",
    "permissive_threshold",
    "resampled_eer",
    "resampled_fnmr",
    "roc",
    "tar_at_fmr",
]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Error rates against the threshold, which rises along the arrays.

    Attributes:
        thresholds: Accept where ``score >= threshold``, shape (points,).
        fmr: False match rate, falling, shape (points,).
        fnmr: False non-match rate, rising, shape (points,).
    """

    thresholds: Float[np.ndarray, " points"]
    fmr: Float[np.ndarray, " points"]
    fnmr: Float[np.ndarray, " points"]

    @property
    def tar(self) -> Float[np.ndarray, " points"]:
        """True accept rate, 1 - FNMR with failures to acquire counted, shape (points,)."""
        return np.asarray(1.0 - self.fnmr)


def roc(genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"]) -> Curve:
    """Return every corner of the exact staircase of error rates.

    FNMR moves at genuine scores only, so two thresholds a distinct genuine score (at it and just above it) hold
    all corners, however many impostor scores there are.

    Args:
        genuine: Similarity scores of mated comparisons, shape (num_genuine,).
        impostor: Similarity scores of non-mated comparisons, shape (num_impostor,).

    Raises:
        EvaluationError: Either is empty or holds NaN.
    """
    genuine, impostor = _checked(genuine, impostor)
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    values = np.unique(genuine[np.isfinite(genuine)])
    lowest = _lowest_finite(genuine, impostor)
    highest = np.nextafter(max(genuine[-1], impostor[-1]), np.inf, dtype=genuine.dtype)
    thresholds = np.unique(np.concatenate([[lowest], values, np.nextafter(values, np.inf), [highest]]))
    thresholds = thresholds.astype(genuine.dtype)
    return Curve(thresholds, _share_at_least(impostor, thresholds), _share_below(genuine, thresholds))


def det(
    genuine: Float[np.ndarray, " num_genuine"],
    impostor: Float[np.ndarray, " num_impostor"],
    *,
    fmr: Float[np.ndarray, " points"] | None = None,
) -> Curve:
    """Return the DET curve at chosen false match rates: at each, the most permissive threshold that keeps it.

    Args:
        genuine: Similarity scores of mated comparisons, shape (num_genuine,).
        impostor: Similarity scores of non-mated comparisons, shape (num_impostor,).
        fmr: Target rates; by default twenty a decade from one match in num_impostor to 1.

    Returns:
        The curve by rising threshold; its measured ``fmr`` may be below the target.
    """
    genuine, impostor = _checked(genuine, impostor)
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    if fmr is None:
        decades = math.log10(len(impostor))
        fmr = np.logspace(0.0, -decades, max(math.ceil(20 * decades), 1) + 1)
    falling = np.sort(np.asarray(fmr, dtype=np.float64))[::-1]
    allowed = np.array([_allowed(rate, len(impostor)) for rate in falling])
    lowest = _lowest_finite(genuine, impostor)
    # The first impostor score, from the top, that must be refused.
    refused = impostor[np.maximum(len(impostor) - 1 - allowed, 0)]
    above = np.nextafter(refused, np.inf, dtype=impostor.dtype)
    thresholds = np.where((allowed >= len(impostor)) | np.isneginf(refused), lowest, above)
    return Curve(thresholds, _share_at_least(impostor, thresholds), _share_below(genuine, thresholds))


def eer(genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"]) -> float:
    """Return the equal error rate: where the staircase of FMR and FNMR crosses the diagonal.

    Where failures to acquire keep FNMR above FMR at every threshold, it is the smallest FNMR.

    Example:
        >>> eer(np.array([0.9, 0.8, 0.3]), np.array([0.5, 0.2, 0.1]))
        0.3333333333333333
    """
    curve = roc(genuine, impostor)
    gap = curve.fnmr - curve.fmr
    after = int(np.argmax(gap >= 0))  # The highest threshold refuses everybody, so there always is one.
    if after == 0:
        return float(curve.fnmr[0])
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(curve.fmr[after - 1] + share * (curve.fmr[after] - curve.fmr[after - 1]))


def fnmr_at_fmr(
    genuine: Float[np.ndarray, " num_genuine"],
    impostor: Float[np.ndarray, " num_impostor"],
    *,
    fmr: float,
    genuine_subjects: Shaped[np.ndarray, "comparisons ..."] | None = None,
    impostor_subjects: Shaped[np.ndarray, "comparisons ..."] | None = None,
    dataset: str = "",
) -> OperatingPoint:
    """Find the most permissive threshold whose FMR does not exceed a target.

    Args:
        genuine: Similarity scores of mated comparisons, shape (num_genuine,).
        impostor: Similarity scores of non-mated comparisons, shape (num_impostor,).
        fmr: Largest false match rate allowed, a fraction such as 1e-3.
        genuine_subjects: Subject of each genuine comparison, shape (num_genuine,). With it the FNMR interval is
            a bootstrap over subjects, without it Wilson's.
        impostor_subjects: Both subjects of each impostor comparison, shape (num_impostor, 2); the same for FMR.
        dataset: Where the scores are from.

    Returns:
        The operating point. Its measured ``fmr`` may be below the target when scores tie.

    Raises:
        EvaluationError: There are no genuine scores, or too few impostor scores to see
            one false match at this rate.

    Example:
        >>> fnmr_at_fmr(np.array([0.9, 0.4]), np.array([0.5, 0.1]), fmr=0.5).fnmr
        0.0

    Source: ISO/IEC 19795-1 for FMR and FNMR. The floor of one match in n is arithmetic.
    """
    genuine, impostor = _checked(genuine, impostor)
    threshold = permissive_threshold(impostor, rate=fmr)
    return at_threshold(
        genuine,
        impostor,
        threshold=max(threshold, float(_lowest_finite(genuine, impostor))),
        target_fmr=fmr,
        genuine_subjects=genuine_subjects,
        impostor_subjects=impostor_subjects,
        dataset=dataset,
    )


def permissive_threshold(
    impostor: Float[np.ndarray, " num_impostor"], *, rate: float, what: str = "FMR", scores: str = "impostor scores"
) -> float:
    """Find the lowest threshold that at most a given share of scores reaches.

    Args:
        impostor: Scores that should be refused, shape (num_impostor,).
        rate: Largest share of them to accept, in (0, 1].
        what: Name of the rate in messages.
        scores: Name of the scores in messages.

    Returns:
        The threshold; -inf where every score may be accepted.

    Raises:
        EvaluationError: The rate is not in (0, 1], or too few scores to see one acceptance at it.
    """
    if not 0.0 < rate <= 1.0:
        raise EvaluationError(f"{what} is a fraction above 0 and at most 1, got {rate:g}. Try 1e-3.")
    count = len(impostor)
    allowed = _allowed(rate, count)
    if allowed < 1:
        needed = math.ceil(1 / rate - 1e-9)
        raise EvaluationError(
            f"{what} {rate:g} needs at least {needed} {scores}, got {count}. "
            f"Add comparisons or ask for a larger {what}."
        )
    if allowed >= count:
        return -math.inf
    # The highest score that must be refused; partitioning finds it without a full sort.
    refused = np.partition(impostor, count - 1 - allowed)[count - 1 - allowed]
    return float(np.nextafter(refused, np.inf, dtype=impostor.dtype))


def at_threshold(
    genuine: Float[np.ndarray, " num_genuine"],
    impostor: Float[np.ndarray, " num_impostor"],
    *,
    threshold: float,
    target_fmr: float,
    genuine_subjects: Shaped[np.ndarray, "comparisons ..."] | None = None,
    impostor_subjects: Shaped[np.ndarray, "comparisons ..."] | None = None,
    dataset: str = "",
) -> OperatingPoint:
    """Measure the error rates at a threshold that was chosen elsewhere; arguments as of ``fnmr_at_fmr``."""
    genuine, impostor = _checked(genuine, impostor)
    missed, matched = genuine < threshold, impostor >= threshold
    return OperatingPoint(
        target_fmr=target_fmr,
        threshold=threshold,
        fmr=float(np.mean(matched)),
        fnmr=float(np.mean(missed)),
        fmr_interval=_rate_interval(matched, impostor_subjects),
        fnmr_interval=_rate_interval(missed, genuine_subjects),
        num_genuine=len(genuine),
        num_impostor=len(impostor),
        dataset=dataset,
    )


def tar_at_fmr(
    genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"], *, fmr: float
) -> float:
    """Return the true accept rate at a false match rate; genuine failures to acquire (-inf) count as refused."""
    return 1.0 - fnmr_at_fmr(genuine, impostor, fmr=fmr).fnmr


def accuracy(
    genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"], *, threshold: float
) -> float:
    """Return the share of right decisions. A failure to acquire (-inf) is an error, genuine or impostor."""
    genuine, impostor = _checked(genuine, impostor)
    right = np.count_nonzero(genuine >= threshold)
    right += np.count_nonzero((impostor < threshold) & np.isfinite(impostor))
    return right / (len(genuine) + len(impostor))


def best_accuracy_threshold(
    genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"]
) -> float:
    """Return the threshold of highest accuracy: the middle of the widest gap between scores that reaches it."""
    genuine, impostor = _checked(genuine, impostor)
    genuine, impostor = np.sort(genuine[np.isfinite(genuine)]), np.sort(impostor[np.isfinite(impostor)])
    values = np.unique(np.concatenate([genuine, impostor]))
    if not len(values):
        raise EvaluationError("Every comparison failed to acquire a face, so no threshold can be chosen.")
    # Cut j accepts values[j:]; the last accepts nothing.
    cuts = np.append(values, np.nextafter(values[-1], np.inf, dtype=values.dtype))
    right = (len(genuine) - np.searchsorted(genuine, cuts)) + np.searchsorted(impostor, cuts)
    gaps = np.diff(values, prepend=values[:1], append=values[-1:])
    best = int(np.argmax(np.where(right == right.max(), gaps, -1.0)))
    if best in (0, len(values)):
        return float(cuts[best])
    middle = values.dtype.type((float(values[best - 1]) + float(values[best])) / 2)
    return float(middle if middle > values[best - 1] else values[best])


@dataclass(frozen=True, slots=True, eq=False)
class FoldedAccuracy:
    """Accuracy by cross-validation of the threshold.

    Attributes:
        mean: Mean over folds.
        stderr: Standard error of the mean over folds.
        folds: Accuracy of each fold.
        thresholds: The threshold used on each fold, chosen on all others.
        correct: Whether each comparison was decided rightly, shape (comparisons,).
    """

    mean: float
    stderr: float
    folds: tuple[float, ...]
    thresholds: tuple[float, ...]
    correct: Bool[np.ndarray, " comparisons"]


def folded_accuracy(
    scores: Float[np.ndarray, " comparisons"],
    same: Bool[np.ndarray, " comparisons"],
    folds: Int[np.ndarray, " comparisons"] | None = None,
) -> FoldedAccuracy:
    """Choose the threshold of highest accuracy on all folds but one and measure it on that one, for each fold.

    Args:
        scores: Similarity scores; -inf is a failure to acquire and always an error, shape (comparisons,).
        same: Whether the comparison is mated, shape (comparisons,).
        folds: Fold of each comparison; by default ten, in order.

    Source: G. B. Huang et al., "Labeled Faces in the Wild", UMass TR 07-49, 2007, image-restricted View 2.
    """
    scores, same = np.asarray(scores), np.asarray(same, dtype=bool)
    folds = folds_in_order(same) if folds is None else np.asarray(folds)
    if not len(scores) == len(same) == len(folds):
        raise EvaluationError(
            f"Scores, labels and folds must be equally many, got {len(scores)}, {len(same)} and {len(folds)}."
        )
    names = np.unique(folds)
    if len(names) < 2:
        raise EvaluationError(f"Cross-validation needs at least 2 folds, got {len(names)}.")
    correct = np.zeros(len(scores), dtype=bool)
    thresholds, rates = [], []
    for name in names:
        held = folds == name
        threshold = best_accuracy_threshold(scores[~held & same], scores[~held & ~same])
        correct[held] = ((scores[held] >= threshold) == same[held]) & np.isfinite(scores[held])
        thresholds.append(threshold)
        rates.append(float(correct[held].mean()))
    stderr = float(np.std(rates, ddof=1) / math.sqrt(len(rates)))
    return FoldedAccuracy(float(np.mean(rates)), stderr, tuple(rates), tuple(thresholds), correct)


def folds_in_order(same: Bool[np.ndarray, " comparisons"], *, folds: int = 10) -> Int[np.ndarray, " comparisons"]:
    """Cut mated and non-mated comparisons into runs of equal length, each in the order given."""
    same = np.asarray(same, dtype=bool)
    result = np.zeros(len(same), dtype=np.int64)
    for kind in (same, ~same):
        count = int(np.count_nonzero(kind))
        result[kind] = np.arange(count) * folds // max(count, 1)
    return result


def resampled_fnmr(
    genuine: Float[np.ndarray, " num_genuine"],
    impostor: Float[np.ndarray, " num_impostor"],
    genuine_weights: Float[np.ndarray, "replicates num_genuine"],
    impostor_weights: Float[np.ndarray, "replicates num_impostor"],
    *,
    fmr: Float[np.ndarray, " points"],
) -> Float[np.ndarray, "replicates points"]:
    """Return FNMR at each FMR in each bootstrap replicate, the threshold found afresh in each.

    Args:
        genuine: Similarity scores of mated comparisons, shape (num_genuine,).
        impostor: Similarity scores of non-mated comparisons, shape (num_impostor,).
        genuine_weights: How often each genuine comparison was drawn, shape (replicates, num_genuine).
        impostor_weights: The same for impostor comparisons, shape (replicates, num_impostor).
        fmr: Target rates, shape (points,).

    Returns:
        FNMR, shape (replicates, points); NaN where a replicate drew no genuine or no impostor comparison.
    """
    up, down = np.argsort(genuine), np.argsort(impostor)[::-1]
    missed = np.cumsum(genuine_weights[:, up], axis=1, dtype=np.float64)
    missed = np.concatenate([np.zeros((len(missed), 1)), missed], axis=1)
    matched = np.cumsum(impostor_weights[:, down], axis=1, dtype=np.float64)
    # Genuine scores no higher than the first impostor that must be refused; past the last impostor only -inf.
    refused = np.append(impostor[down], -np.inf)
    below = np.searchsorted(genuine[up], refused, side="right")
    # A weight of exactly the target share is allowed: do not lose it to rounding.
    limits = np.asarray(fmr) * (1 + 1e-12)
    result = np.full((len(missed), len(limits)), np.nan)
    for row, (losses, hits) in enumerate(zip(missed, matched, strict=True)):
        if hits[-1] > 0 and losses[-1] > 0:
            first = np.searchsorted(hits, limits * hits[-1], side="right")
            result[row] = losses[below[first]] / losses[-1]
    return result


def resampled_eer(
    genuine: Float[np.ndarray, " num_genuine"],
    impostor: Float[np.ndarray, " num_impostor"],
    genuine_weights: Float[np.ndarray, "replicates num_genuine"],
    impostor_weights: Float[np.ndarray, "replicates num_impostor"],
) -> Float[np.ndarray, " replicates"]:
    """Return the equal error rate in each bootstrap replicate; arguments as of ``resampled_fnmr``."""
    values = np.unique(np.concatenate([genuine, impostor]))
    values = values[np.isfinite(values)]
    up, other = np.argsort(genuine), np.argsort(impostor)
    # At threshold values[j] all below are refused; the extra last point refuses everybody.
    missed = _cumulative(genuine_weights[:, up], np.append(np.searchsorted(genuine[up], values), len(genuine)))
    refused = _cumulative(
        impostor_weights[:, other], np.append(np.searchsorted(impostor[other], values), len(impostor))
    )
    gap = missed - (1.0 - refused)
    after = np.argmax(gap >= 0, axis=1)
    rows, before = np.arange(len(gap)), np.maximum(after - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = gap[rows, before] / (gap[rows, before] - gap[rows, after])
        crossing = 1.0 - refused[rows, before] + share * (refused[rows, before] - refused[rows, after])
    return np.asarray(np.where(after == 0, missed[:, 0] + 0 * gap[:, 0], crossing))  # NaN where nothing was drawn.


def _cumulative(
    weights: Float[np.ndarray, "replicates scores"], counts: Int[np.ndarray, " points"]
) -> Float[np.ndarray, "replicates points"]:
    """Return the share of weight in the first ``counts`` scores."""
    total = np.cumsum(weights, axis=1, dtype=np.float64)
    total = np.concatenate([np.zeros((len(total), 1)), total], axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(total[:, counts] / total[:, -1:])


def _checked(
    genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as one floating type; refuse empty sets and NaN."""
    scores = []
    for name, given in (("genuine", genuine), ("impostor", impostor)):
        array = np.asarray(given)
        if array.ndim != 1 or not len(array):
            raise EvaluationError(f"Expected a list of {name} scores, got shape {array.shape}. Add {name} comparisons.")
        # The extremes carry a NaN along without a mask as large as the scores.
        if np.isnan(array.min()) or array.max() == np.inf:
            raise EvaluationError(f"The {name} scores hold NaN or +inf. A failure to acquire is -inf.")
        scores.append(array)
    kind = np.result_type(*scores, np.float32)
    return scores[0].astype(kind, copy=False), scores[1].astype(kind, copy=False)


def _allowed(rate: float, count: int) -> int:
    """Return the largest k with k / count <= rate, rounding as the division itself does."""
    allowed = min(int(rate * count) + 1, count)
    while allowed > 0 and allowed / count > rate:
        allowed -= 1
    return allowed


def _lowest_finite(*scores: Float[np.ndarray, " scores"]) -> np.floating:
    """Return the lowest score that is no failure to acquire: the threshold that accepts all others."""
    found: np.floating = min(array.min(where=np.isfinite(array), initial=np.inf) for array in scores)
    if not np.isfinite(found):
        raise EvaluationError("Every comparison failed to acquire a face, so there is nothing to measure.")
    return found


def _share_at_least(
    ascending: Float[np.ndarray, " scores"], thresholds: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    return np.asarray((len(ascending) - np.searchsorted(ascending, thresholds)) / len(ascending))


def _share_below(
    ascending: Float[np.ndarray, " scores"], thresholds: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    return np.asarray(np.searchsorted(ascending, thresholds) / len(ascending))


def _rate_interval(
    events: Bool[np.ndarray, " comparisons"], subjects: Shaped[np.ndarray, "comparisons ..."] | None
) -> Interval:
    if subjects is None:
        return wilson(int(np.count_nonzero(events)), len(events))
    return bootstrap_rate(events, subjects)
