"""Is a quality score worth acting on? The error-versus-discard curve.

Source: P. Grother and E. Tabassi, "Performance of biometric quality measures", IEEE TPAMI 29(4), 2007;
ISO/IEC 29794-1 calls it the error-versus-discard characteristic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mien.errors import EvaluationError

__all__ = ["DiscardCurve", "error_versus_discard"]


@dataclass(frozen=True, slots=True, eq=False)
class DiscardCurve:
    """FNMR at a fixed threshold as the comparisons of worst quality are discarded.

    Areas are means of FNMR over discards of 0 to ``max_discard``, so they read as error rates.

    Attributes:
        discarded: Share discarded, from 0 up to just under 1, shape (comparisons,).
        fnmr: FNMR of what remains, shape (comparisons,).
        oracle: FNMR if every error were discarded first, shape (comparisons,).
        max_discard: Where the areas end.
        area: Area under ``fnmr``; lower is better.
        area_random: The same of a quality that knows nothing: FNMR does not change.
        area_oracle: The same of one that knows everything.
    """

    discarded: Float[np.ndarray, " comparisons"]
    fnmr: Float[np.ndarray, " comparisons"]
    oracle: Float[np.ndarray, " comparisons"]
    max_discard: float
    area: float
    area_random: float
    area_oracle: float

    @property
    def gain(self) -> float:
        """Share of the oracle's gain over random: 1 is perfect, 0 knows nothing, below 0 misleads."""
        room = self.area_random - self.area_oracle
        return (self.area_random - self.area) / room if room > 0 else 0.0


def error_versus_discard(
    genuine: Float[np.ndarray, " comparisons"],
    quality: Float[np.ndarray, " comparisons"],
    *,
    threshold: float,
    max_discard: float = 0.3,
) -> DiscardCurve:
    """Measure how FNMR falls as the worst comparisons by quality are discarded.

    Comparisons of equal quality are discarded in no order: the curve is the mean over all of them.

    Args:
        genuine: Similarity scores of mated comparisons, shape (comparisons,).
        quality: Quality of each comparison, higher is better; as a rule the lower of its two samples.
        threshold: A comparison below it is an error.
        max_discard: Where the areas end, in (0, 1).
    """
    genuine, quality = np.asarray(genuine), np.asarray(quality)
    if genuine.shape != quality.shape or not len(genuine):
        raise EvaluationError(f"Expected one quality a genuine score, got {len(quality)} for {len(genuine)}.")
    if not 0.0 < max_discard < 1.0:
        raise EvaluationError(f"The largest discard is a fraction between 0 and 1, got {max_discard:g}.")
    if np.isnan(quality).any():
        raise EvaluationError("Some qualities are NaN. Measure quality for every face, or leave its comparisons out.")
    errors = (genuine < threshold).astype(np.float64)
    _, group, size = np.unique(quality, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, weights=errors) / size)[np.sort(group)]

    count, total = len(errors), errors.sum()
    gone = np.arange(count)
    fnmr = (total - np.concatenate([[0.0], np.cumsum(expected)[:-1]])) / (count - gone)
    oracle = np.maximum(total - gone, 0.0) / (count - gone)
    discarded, fnmr = gone / count, np.clip(fnmr, 0.0, 1.0)
    return DiscardCurve(
        discarded=discarded,
        fnmr=fnmr,
        oracle=oracle,
        max_discard=max_discard,
        area=_mean_up_to(discarded, fnmr, max_discard),
        area_random=float(total / count),
        area_oracle=_mean_up_to(discarded, oracle, max_discard),
    )


def _mean_up_to(x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"], end: float) -> float:
    """Return the mean of the line through the points over [0, end]."""
    inside = x < end
    xs, ys = np.append(x[inside], end), np.append(y[inside], np.interp(end, x, y))
    return float(np.sum(np.diff(xs) * (ys[1:] + ys[:-1]) / 2) / end)
