"""How sure a classifier may be of its answers: a temperature, and the confidence below which it is uncertain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

__all__ = ["confidence", "fit_temperature", "uncertainty_threshold"]


def fit_temperature(logits: Float[np.ndarray, "pictures classes"], labels: Int[np.ndarray, " pictures"]) -> float:
    """Return what logits are to be divided by so that the labels are likeliest.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    """

    def surprise(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(labels)), labels].mean())

    # Beyond these bounds so few pictures were seen, or so well learned, that a fit says nothing.
    return float(np.exp(minimize_scalar(surprise, bounds=(np.log(0.25), np.log(4.0)), method="bounded").x))


def confidence(
    logits: Float[np.ndarray, "pictures classes"], labels: Int[np.ndarray, " pictures"]
) -> tuple[Float[np.ndarray, " pictures"], Bool[np.ndarray, " pictures"]]:
    """Return the probability of each answer, and whether it is right."""
    return np.minimum(softmax(logits, axis=1).max(axis=1), 1.0), logits.argmax(axis=1) == labels


def uncertainty_threshold(
    sure: Float[np.ndarray, " pictures"], right: Bool[np.ndarray, " pictures"], target: float
) -> float:
    """Return the least confidence above which answers are right at the target rate; at least half are answered."""
    order = np.argsort(-sure, kind="stable")
    rate = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    least = (len(order) + 1) // 2
    reached = np.flatnonzero(rate[least - 1 :] >= target)
    last = least - 1 + (int(reached[-1]) if len(reached) else 0)
    return 0.0 if last == len(order) - 1 else float(sure[order[last]])
