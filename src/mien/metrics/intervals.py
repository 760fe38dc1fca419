"""How sure a measured rate is: Wilson, the rules of three and thirty, the bootstrap over subjects, McNemar.

Comparisons that share a subject are not independent, so a set with subjects is resampled by subject.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped

from mien.errors import EvaluationError

__all__ = [
    "Difference",
    "Discordance",
    "Interval",
    "bootstrap_rate",
    "mcnemar",
    "mean_interval",
    "paired_bootstrap",
    "percentile_interval",
    "rule_of_thirty",
    "rule_of_three",
    "subject_weights",
    "wilson",
]

Interval = tuple[float, float]
"""Lower and upper limit."""

REPLICATES = 1000
CHUNK = 4_000_000  # Weights held at once: bounds memory at some tens of MB.


def wilson(errors: float, trials: float, *, level: float = 0.95) -> Interval:
    """Return the score interval of a proportion; unlike mean and deviation it holds near 0 and 1.

    Args:
        errors: Events seen.
        trials: Independent chances of one; more than 0.
        level: Coverage, a fraction.

    Example:
        >>> tuple(round(limit, 4) for limit in wilson(10, 6000))
        (0.0009, 0.0031)

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 <= errors <= trials or trials <= 0:
        raise EvaluationError(f"A rate needs 0 <= errors <= trials and trials > 0, got {errors} of {trials}.")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    rate = errors / trials
    centre = rate + z * z / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At the ends the limit is the rate itself; rounding must not push it off.
    low = 0.0 if errors == 0 else max((centre - half) / scale, 0.0)
    high = 1.0 if errors == trials else min((centre + half) / scale, 1.0)
    return low, high


def rule_of_three(trials: int) -> float:
    """Return the smallest rate that ``trials`` without one error can claim, at 95 %: three in ``trials``.

    Source: ISO/IEC 19795-1, rule of 3 (J. Louis, 1981).
    """
    if trials < 1:
        raise EvaluationError(f"The rule of three needs at least 1 comparison, got {trials}.")
    return min(3 / trials, 1.0)


def rule_of_thirty(trials: int) -> float:
    """Return the smallest rate that ``trials`` measure to within 30 % at 90 %: thirty errors in ``trials``.

    Source: ISO/IEC 19795-1, rule of 30 (G. Doddington, 2000).
    """
    if trials < 1:
        raise EvaluationError(f"The rule of thirty needs at least 1 comparison, got {trials}.")
    return min(30 / trials, 1.0)


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of a few repetitions, such as seeds; NaN for a single one.

    Example:
        >>> tuple(round(limit, 2) for limit in mean_interval([1.0, 2.0, 3.0]))
        (-0.48, 4.48)
    """
    if len(values) < 2:
        return math.nan, math.nan
    from scipy.special import stdtrit

    half = stdtrit(len(values) - 1, 0.5 + level / 2) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def percentile_interval(replicates: Float[np.ndarray, " replicates"], *, level: float = 0.95) -> Interval:
    """Return the percentile interval of bootstrap replicates; those that are not a number are left out."""
    finite = replicates[np.isfinite(replicates)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.percentile(finite, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def subject_weights(
    *subjects: Shaped[np.ndarray, "comparisons ..."], replicates: int = REPLICATES, seed: int = 0
) -> Iterator[tuple[Float32[np.ndarray, "chunk comparisons"], ...]]:
    """Draw subjects with replacement and yield what each comparison then weighs, a chunk of replicates at a time.

    A comparison within a subject drawn k times weighs k; one between subjects drawn k and m times weighs k * m.
    All sets are weighted by the same draws, so that differences between them are paired.

    Args:
        subjects: One array a set of comparisons: labels of shape (comparisons,) where both samples are of one
            subject, or (comparisons, 2).
        replicates: How many draws.
        seed: Seed of the draws.

    Yields:
        One array a set, shape (chunk, comparisons).

    Source: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007. Between subjects it errs
    on the wide side, by up to 1.7 times where each subject is in one comparison only.
    """
    sets, total = _numbered(*subjects)
    draws = _draws(total, replicates, seed)
    step = max(CHUNK // max(sum(len(ids) for ids in sets), 1), 1)
    for start in range(0, replicates, step):
        counts = draws[start : start + step]
        yield tuple(_product(counts, ids) for ids in sets)


def bootstrap_rate(
    events: Bool[np.ndarray, " comparisons"],
    subjects: Shaped[np.ndarray, "comparisons ..."],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the mean of ``events``, resampling subjects.

    Resampling cannot see past the data: where no event was seen, or nothing else, it is Wilson's interval. Of a
    single subject nothing can be said about others: the limits are NaN.

    Args:
        events: What is counted, for instance false matches, shape (comparisons,).
        subjects: Labels, shape (comparisons,) or (comparisons, 2).
        replicates: How many draws.
        seed: Seed of the draws.
        level: Coverage, a fraction.
    """
    events = np.asarray(events, dtype=bool)
    seen = int(np.count_nonzero(events))
    if seen in (0, len(events)):
        return wilson(seen, len(events), level=level)
    (ids,), total = _numbered(subjects)
    if total < 2:
        return math.nan, math.nan
    draws = _draws(total, replicates, seed)
    with np.errstate(invalid="ignore"):
        rates = _weight_sum(draws, ids[events]) / _weight_sum(draws, ids)
    return percentile_interval(rates, level=level)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two means over the same comparisons.

    Attributes:
        estimate: Mean of the first minus mean of the second.
        interval: 95 % interval, resampling subjects.
        p_value: Two-sided share of replicates on the other side of zero.
    """

    estimate: float
    interval: Interval
    p_value: float


def paired_bootstrap(
    first: Shaped[np.ndarray, " comparisons"],
    second: Shaped[np.ndarray, " comparisons"],
    subjects: Shaped[np.ndarray, "comparisons ..."],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Difference:
    """Compare two systems on the same comparisons, resampling subjects.

    Args:
        first: A value a comparison, for instance 1 where the first system was right, shape (comparisons,).
        second: The same of the second system.
        subjects: Labels, shape (comparisons,) or (comparisons, 2).
        replicates: How many draws.
        seed: Seed of the draws.
    """
    if len(first) != len(second) or not len(first):
        raise EvaluationError(f"A paired comparison needs equally many values, got {len(first)} and {len(second)}.")
    delta = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        means = np.concatenate(
            [(w @ delta) / w.sum(axis=1) for (w,) in subject_weights(subjects, replicates=replicates, seed=seed)]
        )
    means = means[np.isfinite(means)]
    # One is added to both counts: a p-value of exactly 0 cannot come from a finite number of draws.
    below, above = np.count_nonzero(means <= 0) + 1, np.count_nonzero(means >= 0) + 1
    p_value = min(2 * min(below, above) / (len(means) + 1), 1.0)
    return Difference(float(delta.mean()), percentile_interval(means), float(p_value))


@dataclass(frozen=True, slots=True)
class Discordance:
    """Where two systems disagree on the same cases.

    Attributes:
        only_first: Cases that the first alone got right.
        only_second: Cases that the second alone got right.
        p_value: Exact two-sided probability of a split this uneven if both were equally good.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Bool[np.ndarray, " cases"], second: Bool[np.ndarray, " cases"]) -> Discordance:
    """Test whether two systems are right equally often on the same cases; the exact binomial form.

    Example:
        >>> mcnemar(np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 0], bool)).p_value
        0.0625

    Source: Q. McNemar, Psychometrika 12, 1947; exact form as in A. Agresti, "Categorical Data Analysis".
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape:
        raise EvaluationError(f"McNemar's test needs the same cases, got {len(first)} and {len(second)}.")
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    cases = only_first + only_second
    k = np.arange(min(only_first, only_second) + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, cases + 1)))])
    log_terms = log_factorial[cases] - log_factorial[k] - log_factorial[cases - k] - cases * math.log(2)
    return Discordance(only_first, only_second, min(2 * float(np.exp(log_terms).sum()), 1.0))


def _numbered(
    *subjects: Shaped[np.ndarray, "comparisons ..."],
) -> tuple[list[Int[np.ndarray, "comparisons sides"]], int]:
    """Number the labels of all sets from 0; every set gets shape (comparisons, 1 or 2)."""
    sets = [np.asarray(s).reshape(len(s), -1) for s in subjects]
    if any(s.shape[1] not in (1, 2) for s in sets):
        raise EvaluationError("Subjects of comparisons have shape (comparisons,) or (comparisons, 2).")
    _, numbers = np.unique(np.concatenate([s.ravel() for s in sets]), return_inverse=True)
    numbers = numbers.ravel()
    ends = np.cumsum([s.size for s in sets])[:-1]
    parts = np.split(numbers, ends)
    return [part.reshape(s.shape) for part, s in zip(parts, sets, strict=True)], int(numbers.max(initial=-1)) + 1


def _draws(subjects: int, replicates: int, seed: int) -> Float32[np.ndarray, "replicates subjects"]:
    """Count how often each subject is drawn in each replicate."""
    if subjects < 2:
        raise EvaluationError(f"Resampling subjects needs at least 2 of them, got {subjects}.")
    rng = np.random.default_rng(seed)
    picks = rng.integers(subjects, size=(replicates, subjects))
    offsets = np.arange(replicates)[:, None] * subjects
    counts = np.bincount((picks + offsets).ravel(), minlength=replicates * subjects)
    return counts.reshape(replicates, subjects).astype(np.float32)


def _product(
    counts: Float32[np.ndarray, "chunk subjects"], ids: Int[np.ndarray, "comparisons sides"]
) -> Float32[np.ndarray, "chunk comparisons"]:
    weights = counts[:, ids[:, 0]]
    if ids.shape[1] == 2:
        # A pair within one subject weighs that subject's count, not its square.
        weights = np.where(ids[:, 0] == ids[:, 1], weights, weights * counts[:, ids[:, 1]])
    return np.asarray(weights, dtype=np.float32)


def _weight_sum(
    counts: Float32[np.ndarray, "replicates subjects"], ids: Int[np.ndarray, "comparisons sides"]
) -> Float[np.ndarray, " replicates"]:
    """Add up the comparisons' weights in each replicate."""
    subjects = counts.shape[1]
    if ids.shape[1] == 2 and subjects * subjects <= 4 * len(ids):
        # Millions of pairs of few subjects: count pairs by subjects once, then it is a quadratic form.
        pairs = np.bincount(ids[:, 0] * subjects + ids[:, 1], minlength=subjects * subjects)
        table = pairs.reshape(subjects, subjects).astype(np.float32)
        within = np.diagonal(table).copy()
        np.fill_diagonal(table, 0)
        return np.asarray(((counts @ table) * counts).sum(axis=1, dtype=np.float64) + counts @ within)
    step = max(CHUNK // max(len(ids), 1), 1)
    sums = [
        _product(counts[start : start + step], ids).sum(axis=1, dtype=np.float64)
        for start in range(0, len(counts), step)
    ]
    return np.concatenate(sums)
