"""What both reports share: rates by target, their names, and numbers that JSON can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mien.metrics.intervals import Interval
from mien.reporting.schemas import plain

__all__ = ["TARGETS", "Rate", "plain", "rate_name"]

TARGETS = (1e-1, 1e-2, 1e-3, 1e-4)
"""False match and false positive identification rates that reports speak about."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate at a target, or why the data cannot tell.

    Attributes:
        value: The rate; None where the data is too small.
        interval: 95 % interval, resampling subjects.
        threshold: Where it was measured.
        reason: Why there is no value; empty where there is one.
    """

    value: float | None
    interval: Interval = (math.nan, math.nan)
    threshold: float = math.nan
    reason: str = ""


def rate_name(rate: float) -> str:
    """Write a rate as a key.

    Example:
        >>> rate_name(1e-3), rate_name(0.003)
        ('1e-3', '3e-3')
    """
    digits, exponent = f"{rate:.6e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
