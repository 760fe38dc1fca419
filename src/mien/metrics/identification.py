"""Error rates of 1:N searches: CMC, and FNIR at FPIR.

Source: P. Grother, M. Ngan, K. Hanaoka, NISTIR 8271, 2019, and ISO/IEC 19795-1 for FNIR, FPIR and CMC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from mien.errors import EvaluationError
from mien.metrics.intervals import Interval, bootstrap_rate, wilson
from mien.metrics.verification import permissive_threshold

__all__ = [
    "NO_RANK",
    "IdentificationPoint",
    "cmc",
    "fmr_for_fpir",
    "fnir",
    "fnir_at_fpir",
    "fpir",
    "fpir_from_fmr",
    "mate_ranks",
]

NO_RANK = np.iinfo(np.int64).max
"""Rank of a mate that no list can show: the probe or the reference failed to be acquired."""


@dataclass(frozen=True, slots=True)
class IdentificationPoint:
    """A threshold of open-set search with the rates measured at it.

    Attributes:
        target_fpir: The false positive identification rate asked for.
        threshold: A candidate is reported where ``score >= threshold``.
        fpir: Share of non-mated searches that report a candidate.
        fnir: Share of mated searches whose mate is not among the first ``rank`` or below the threshold.
        fpir_interval: 95 % interval of ``fpir``.
        fnir_interval: 95 % interval of ``fnir``.
        rank: Length of the candidate list.
        num_mated: Searches behind ``fnir``.
        num_nonmated: Searches behind ``fpir``.
    """

    target_fpir: float
    threshold: float
    fpir: float
    fnir: float
    fpir_interval: Interval
    fnir_interval: Interval
    rank: int
    num_mated: int
    num_nonmated: int


def mate_ranks(
    scores: Float[np.ndarray, "probes subjects"], mates: Int[np.ndarray, " probes"]
) -> Int[np.ndarray, " probes"]:
    """Return the place of each probe's mate in its candidate list, from 1; equal scores rank before the mate.

    Args:
        scores: Similarity of each probe and each gallery subject, shape (probes, subjects). Rows or columns of
            -inf failed to be acquired.
        mates: Column of each probe's subject, shape (probes,).

    Returns:
        Ranks, shape (probes,); ``NO_RANK`` where the mate's score is -inf.
    """
    mate = scores[np.arange(len(scores)), mates]
    ranks = np.count_nonzero(scores >= mate[:, None], axis=1)
    return np.where(np.isneginf(mate), NO_RANK, ranks)


def cmc(ranks: Int[np.ndarray, " probes"], *, max_rank: int) -> Float[np.ndarray, " max_rank"]:
    """Return the share of mated searches whose mate is among the first k, for k from 1 to ``max_rank``.

    Example:
        >>> cmc(np.array([1, 3, 1, 2]), max_rank=3)
        array([0.5 , 0.75, 1.  ])
    """
    ranks = np.asarray(ranks)
    if not len(ranks) or max_rank < 1:
        raise EvaluationError("A CMC needs at least one mated search and one rank. Add probes of enrolled subjects.")
    counts = np.bincount(ranks[ranks <= max_rank], minlength=max_rank + 1)[1:]
    return np.asarray(np.cumsum(counts) / len(ranks))


def fnir(
    mate_scores: Float[np.ndarray, " mated"], ranks: Int[np.ndarray, " mated"], *, threshold: float, rank: int
) -> float:
    """Return FNIR(N, R, T): the share of mated searches whose mate is outside the top R or below T."""
    return float(np.mean((np.asarray(ranks) > rank) | (np.asarray(mate_scores) < threshold)))


def fpir(best: Float[np.ndarray, " nonmated"], *, threshold: float) -> float:
    """Return FPIR(N, T): the share of non-mated searches whose best candidate reaches T."""
    return float(np.mean(np.asarray(best) >= threshold))


def fnir_at_fpir(
    mate_scores: Float[np.ndarray, " mated"],
    ranks: Int[np.ndarray, " mated"],
    best: Float[np.ndarray, " nonmated"],
    *,
    fpir: float,
    rank: int = 1,
    mated_subjects: Shaped[np.ndarray, " mated"] | None = None,
    nonmated_subjects: Shaped[np.ndarray, " nonmated"] | None = None,
) -> IdentificationPoint:
    """Find the most permissive threshold whose FPIR does not exceed a target, and FNIR at it.

    Args:
        mate_scores: Score of the mate in each mated search; -inf is a failure to acquire, shape (mated,).
        ranks: Place of the mate in each mated search, shape (mated,).
        best: Highest score of each non-mated search, shape (nonmated,).
        fpir: Largest false positive identification rate allowed, a fraction such as 1e-2.
        rank: Length of the candidate list.
        mated_subjects: Subject of each mated search: FNIR's interval is then a bootstrap over subjects.
        nonmated_subjects: The same of each non-mated search, for FPIR.

    Raises:
        EvaluationError: There are no mated searches, or too few others to see one false alarm at this rate.
    """
    mate_scores, ranks, best = np.asarray(mate_scores), np.asarray(ranks), np.asarray(best)
    if not len(mate_scores):
        raise EvaluationError("FNIR needs at least one mated search. Add probes of enrolled subjects.")
    threshold = permissive_threshold(best, rate=fpir, what="FPIR", scores="non-mated searches")
    if math.isinf(threshold):
        threshold = float(min(mate_scores.min(where=np.isfinite(mate_scores), initial=np.inf), best.min()))
    missed, alarms = (ranks > rank) | (mate_scores < threshold), best >= threshold
    return IdentificationPoint(
        target_fpir=fpir,
        threshold=threshold,
        fpir=float(alarms.mean()),
        fnir=float(missed.mean()),
        fpir_interval=_interval(alarms, nonmated_subjects),
        fnir_interval=_interval(missed, mated_subjects),
        rank=rank,
        num_mated=len(missed),
        num_nonmated=len(alarms),
    )


def fpir_from_fmr(fmr: float, size: int) -> float:
    """Return the FPIR that a comparison's FMR amounts to in a gallery of ``size`` subjects, 1 - (1 - FMR)^size.

    It takes comparisons of one search for independent, so it errs on the high side.

    Example:
        >>> round(fpir_from_fmr(1e-4, 1000), 4)
        0.0952
    """
    _check_rate("FMR", fmr, size)
    return 1.0 if fmr == 1.0 else -math.expm1(size * math.log1p(-fmr))


def fmr_for_fpir(fpir: float, size: int) -> float:
    """Return the FMR that keeps a gallery of ``size`` subjects at an FPIR; the inverse of ``fpir_from_fmr``."""
    _check_rate("FPIR", fpir, size)
    return 1.0 if fpir == 1.0 else -math.expm1(math.log1p(-fpir) / size)


def _check_rate(name: str, rate: float, size: int) -> None:
    if not 0.0 <= rate <= 1.0 or size < 1:
        raise EvaluationError(f"Expected {name} in [0, 1] and at least 1 subject, got {rate:g} and {size}.")


def _interval(events: Shaped[np.ndarray, " searches"], subjects: Shaped[np.ndarray, " searches"] | None) -> Interval:
    if subjects is None:
        return wilson(int(np.count_nonzero(events)), len(events))
    return bootstrap_rate(events, subjects)
