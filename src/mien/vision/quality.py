"""How fit a face is for recognition, from what can be measured on its crop, and why not.

The score is the probability, by a logistic model, that a genuine comparison with a good picture of the same subject
is accepted at FMR 1e-3. The model is fitted by `benchmarks/quality.py` on degraded faces of the training identities;
its coefficients lie in `weights/quality.json`. A reason is given where one measure alone costs the face more than
one unit of log-odds against a good face.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien.types import Box, Quality, Reason

__all__ = ["MEASURES", "assess", "features", "measure"]

MEASURES = ("side", "sharpness", "brightness", "contrast", "yaw", "pitch", "score")
"""What is measured: see `measure`."""

_WORK_SIDE = 96  # px: crops of every embedder are judged at one size


def measure(
    crop: UInt8[np.ndarray, "side side 3"], landmarks: Float32[np.ndarray, "5 2"], box: Box, score: float
) -> dict[str, float]:
    """Measure a face.

    Args:
        crop: The aligned face, RGB uint8.
        landmarks: Its five points in the picture, px.
        box: Its box in the picture, px.
        score: The detector's confidence.

    Returns:
        ``side``: face side in px of the picture. ``sharpness``: share of the crop's fine detail in its contrast, log10.
        ``brightness``: mean grey, 0 to 1. ``contrast``: standard deviation of grey, 0 to 1. ``yaw``: nose tip off the
        middle of the eyes in eye distances, 0 frontal, about 0.5 in profile. ``pitch``: where the nose stands between
        eyes and mouth, 0 to 1. ``score``: the detector's.
    """
    # In floats: rounding to whole greys would pass for detail in a face that has none.
    grey = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (_WORK_SIDE, _WORK_SIDE), interpolation=cv2.INTER_AREA)
    inner = grey[_WORK_SIDE // 6 : -_WORK_SIDE // 6, _WORK_SIDE // 6 : -_WORK_SIDE // 6]
    deviation = float(inner.std())
    detail = float(cv2.Laplacian(inner, cv2.CV_32F, ksize=1).std())
    eyes, nose, mouth = landmarks[:2].mean(axis=0), landmarks[2], landmarks[3:].mean(axis=0)
    across = landmarks[1] - landmarks[0]
    eye_distance = max(float(np.hypot(*across)), 1e-3)
    down = mouth - eyes
    return {
        "side": box.side,
        "sharpness": float(np.log10(max(detail / max(deviation, 1e-3), 1e-3))),
        "brightness": float(inner.mean()),
        "contrast": deviation,
        "yaw": abs(float((nose - eyes) @ across)) / eye_distance**2,
        "pitch": float((nose - eyes) @ down) / max(float(down @ down), 1e-3),
        "score": score,
    }


def features(measures: Mapping[str, float]) -> Float[np.ndarray, "measures 2"]:
    """Return two numbers a measure: in the model each costs by its distance from the best value, on either side."""
    best = _model()["best"]
    rows = []
    for name in MEASURES:
        value = _curved(name, measures[name]) - _curved(name, best[name])
        rows.append((max(-value, 0.0), max(value, 0.0)))
    return np.array(rows)


def assess(measures: Mapping[str, float]) -> Quality:
    """Return the quality that the measures amount to, and the reasons against it, worst first."""
    model = _model()
    cost = features(measures) * np.array(model["cost"])
    log_odds = model["intercept"] - cost.sum()
    score = float(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))))
    blamed = sorted(
        ((cost[i, side], _REASON[name][side]) for i, name in enumerate(MEASURES) for side in (0, 1)),
        key=lambda r: -r[0],
    )
    reasons = [reason for amount, reason in blamed if reason and amount > 1.0]
    reasons += [reason for name, low, high, reason in _EXTREMES if not low <= measures[name] <= high]
    return Quality(score, tuple(dict.fromkeys(reasons)), measures)


_REASON: dict[str, tuple[Reason | None, Reason | None]] = {
    # What it means to be below, and above, the best value.
    "side": (Reason.TOO_SMALL, None),
    "sharpness": (Reason.BLURRED, None),
    "brightness": (Reason.TOO_DARK, Reason.TOO_BRIGHT),
    "contrast": (Reason.LOW_CONTRAST, None),
    "yaw": (None, Reason.EXTREME_POSE),
    "pitch": (Reason.EXTREME_POSE, Reason.EXTREME_POSE),
    "score": (Reason.UNSURE_DETECTION, None),
}


_EXTREMES = (
    # Said whatever the score: the embedder gets by with less light than a person who looks at the picture does.
    ("brightness", 0.08, 1.0, Reason.TOO_DARK),
    ("brightness", 0.0, 0.92, Reason.TOO_BRIGHT),
    ("contrast", 0.03, 1.0, Reason.LOW_CONTRAST),
    # Beyond a profile; SFace gets by with much of a turn, so that its cost alone would not say it.
    ("yaw", 0.0, 1.0, Reason.EXTREME_POSE),
)


def _curved(name: str, value: float) -> float:
    """Bring a measure to a scale on which equal steps cost about the same."""
    if name == "side":
        return float(np.log2(max(value, 1.0)))
    if name == "contrast":
        return float(np.log2(max(value, 1e-3)))
    return value


@cache
def _model() -> dict[str, dict[str, float]]:
    text = resources.files("mien").joinpath("weights", "quality.json").read_text(encoding="utf-8")
    model: dict[str, dict[str, float]] = json.loads(text)
    return model
