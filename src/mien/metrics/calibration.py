"""From a score to a probability, and how far to trust it: logistic fit, Cllr, expected calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mien.errors import EvaluationError

__all__ = [
    "Calibration",
    "Reliability",
    "cllr",
    "error_at_coverage",
    "expected_calibration_error",
    "fit_logistic",
    "reliability",
]

_BINS = 1 << 16


@dataclass(frozen=True, slots=True)
class Calibration:
    """A straight line from score to log-odds at even prior odds, so to the log-likelihood ratio.

    Attributes:
        slope: Log-odds (nats) a unit of score.
        intercept: Log-odds at score 0.
    """

    slope: float
    intercept: float

    def llr(self, scores: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return natural-log likelihood ratios of "one subject" against "two"."""
        return np.asarray(self.slope * np.asarray(scores, dtype=np.float64) + self.intercept)

    def probability(self, scores: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the probability of a match at even prior odds."""
        return _sigmoid(self.llr(scores))


def error_at_coverage(sure: Float[np.ndarray, " cases"], right: Bool[np.ndarray, " cases"], coverage: float) -> float:
    """Return the share of wrong answers among the surest cases, so many of all; of equally sure ones the first count.

    Args:
        sure: How sure each answer is, in any unit; higher is surer.
        right: Whether it is right.
        coverage: Share of the cases that are answered, above 0, up to 1; at least one is.
    """
    answered = np.argsort(-sure, kind="stable")[: max(int(coverage * len(sure)), 1)]
    return float(1 - right[answered].mean())


def fit_logistic(
    genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"]
) -> Calibration:
    """Fit P(match | score) by logistic regression at even priors, however many scores there are of each kind.

    Targets are drawn in from 0 and 1 by one count, so that separable scores give a finite slope. Failures to
    acquire (-inf) say nothing about scores and are left out. More than 65,536 scores are binned first.

    Args:
        genuine: Similarity scores of mated comparisons, shape (num_genuine,).
        impostor: Similarity scores of non-mated comparisons, shape (num_impostor,).

    Source: J. Platt, "Probabilistic outputs for support vector machines", 1999, with Newton steps and targets of
    H.-T. Lin, C.-J. Lin, R. Weng, Machine Learning 68, 2007.
    """
    parts = []
    for name, given in (("genuine", genuine), ("impostor", impostor)):
        scores = np.asarray(given)
        if np.isnan(scores).any():
            raise EvaluationError(f"The {name} scores hold NaN. A failure to acquire is -inf.")
        scores = scores[np.isfinite(scores)]
        if len(scores) < 2:
            raise EvaluationError(f"Calibration needs at least 2 {name} scores, got {len(scores)}.")
        parts.append(_binned(scores))
    (g, g_counts), (i, i_counts) = parts
    num_genuine, num_impostor = g_counts.sum(), i_counts.sum()
    x = np.concatenate([g, i])
    centre, spread = float(np.mean([g.mean(), i.mean()])), float(x.std()) or 1.0
    x = (x - centre) / spread
    weight = np.concatenate([g_counts / num_genuine, i_counts / num_impostor]) / 2
    target = np.concatenate(
        [np.full(len(g), (num_genuine + 1) / (num_genuine + 2)), np.full(len(i), 1 / (num_impostor + 2))]
    )
    slope, intercept = _newton(x, target, weight)
    return Calibration(slope / spread, intercept - slope * centre / spread)


def cllr(genuine_llr: Float[np.ndarray, " num_genuine"], impostor_llr: Float[np.ndarray, " num_impostor"]) -> float:
    """Return the log-likelihood-ratio cost in bits: 0 is perfect, 1 is saying nothing, more is misleading.

    Args:
        genuine_llr: Natural-log likelihood ratios of mated comparisons, shape (num_genuine,).
        impostor_llr: The same of non-mated comparisons, shape (num_impostor,).

    Example:
        >>> cllr(np.zeros(3), np.zeros(5))
        1.0

    Source: N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", 2006, eq. (25).
    """
    genuine_llr, impostor_llr = np.asarray(genuine_llr), np.asarray(impostor_llr)
    if not len(genuine_llr) or not len(impostor_llr):
        raise EvaluationError(
            f"Cllr needs both kinds, got {len(genuine_llr)} genuine and {len(impostor_llr)} impostor."
        )
    cost = np.logaddexp(0, -genuine_llr).mean() + np.logaddexp(0, impostor_llr).mean()
    return float(cost / (2 * math.log(2)))


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidence and accuracy over equal bins of confidence; only bins that hold cases.

    Attributes:
        confidence: Mean confidence, shape (bins,).
        accuracy: Share that was decided rightly, shape (bins,).
        cases: How many, shape (bins,).
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    cases: Float[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by cases."""
        return float(np.abs(self.accuracy - self.confidence) @ self.cases / self.cases.sum())


def expected_calibration_error(
    probability: Float[np.ndarray, " cases"], correct: Bool[np.ndarray, " cases"], *, bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence, weighted by cases.

    Args:
        probability: Confidence in [0, 1] that the case was decided rightly, shape (cases,).
        correct: Whether it was, shape (cases,).
        bins: Bins of equal width over [0, 1].

    Source: C. Guo et al., "On calibration of modern neural networks", ICML 2017, eq. (3).
    """
    return reliability(probability, correct, bins=bins).error


def reliability(
    probability: Float[np.ndarray, " cases"], correct: Bool[np.ndarray, " cases"], *, bins: int = 15
) -> Reliability:
    """Sort cases into equal bins of confidence; arguments as of `expected_calibration_error`."""
    probability, correct = np.asarray(probability, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if probability.shape != correct.shape or not len(probability):
        raise EvaluationError(f"Expected one outcome a probability, got {len(correct)} for {len(probability)}.")
    if not (probability.min() >= 0.0 and probability.max() <= 1.0):
        raise EvaluationError("Probabilities lie in [0, 1]. Pass calibrated probabilities, not scores.")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    cases, sure, right = (np.bincount(place, weights=w, minlength=bins) for w in (None, probability, correct))
    held = cases > 0
    return Reliability(sure[held] / cases[held], right[held] / cases[held], cases[held].astype(np.float64))


def _binned(scores: Float[np.ndarray, " scores"]) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Return values and how often each occurs; exact for few scores, fine bins for many."""
    if len(scores) <= _BINS:
        return scores.astype(np.float64), np.ones(len(scores))
    counts, edges = np.histogram(scores, bins=_BINS)
    filled = counts > 0
    return ((edges[:-1] + edges[1:]) / 2)[filled], counts[filled].astype(np.float64)


def _newton(
    x: Float[np.ndarray, " scores"], target: Float[np.ndarray, " scores"], weight: Float[np.ndarray, " scores"]
) -> tuple[float, float]:
    """Minimise the weighted cross-entropy of sigmoid(slope * x + intercept)."""

    def loss(at: Float[np.ndarray, " 2"]) -> float:
        logit = at[0] * x + at[1]
        return float(weight @ (np.logaddexp(0, logit) - target * logit))

    point = np.zeros(2)
    for _ in range(100):
        p = _sigmoid(point[0] * x + point[1])
        pull, curve = weight * (p - target), weight * p * (1 - p)
        gradient = np.array([pull @ x, pull.sum()])
        cross = curve @ x
        hessian = np.array([[curve @ (x * x), cross], [cross, curve.sum()]]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Far from the minimum a full step may overshoot: halve it until the loss falls.
        scale, before = 1.0, loss(point)
        while scale > 1e-9 and loss(point - scale * step) > before - 1e-4 * scale * float(gradient @ step):
            scale /= 2
        point = point - scale * step
        if np.abs(gradient).max() < 1e-10:
            break
    return float(point[0]), float(point[1])


def _sigmoid(logit: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    # tanh never overflows, whatever the size of the logit.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))
