"""A gallery's own threshold: how alike its different subjects look to this embedder."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from mien.errors import GalleryError
from mien.gallery.rows import Rows
from mien.metrics.intervals import bootstrap_rate
from mien.metrics.verification import fnmr_at_fmr, permissive_threshold
from mien.types import OperatingPoint

__all__ = ["Scores", "calibrate", "identification_probability", "scores"]

MOST_TEMPLATES = 3000
"""Compared with each other at calibration: four million pairs, enough for FMR 1e-6."""


class Scores(NamedTuple):
    """What the samples of a gallery score with each other.

    Attributes:
        genuine: Of two samples of one subject.
        impostor: Of samples of different subjects.
        genuine_subjects: Whose, one entry a genuine score.
        impostor_subjects: Of which two, one row an impostor score.
        dataset: What was compared, in words.
    """

    genuine: Float32[np.ndarray, " genuine"]
    impostor: Float32[np.ndarray, " impostor"]
    genuine_subjects: Int64[np.ndarray, " genuine"]
    impostor_subjects: Int64[np.ndarray, "impostor 2"]
    dataset: str


def scores(rows: Rows) -> Scores:
    """Compare the samples of a gallery with each other.

    Of a large gallery an evenly spaced part is compared, whole subjects at a time. Two subjects that have the very same
    face of the very same picture are one person under two names, as when a folder was renamed and enrolled again: they
    are not compared with each other.

    Raises:
        GalleryError: There are fewer than two subjects to compare.
    """
    vectors, owners = _some_templates(rows)
    if len(np.unique(owners)) < 2:
        raise GalleryError("A threshold needs at least 2 subjects to compare. Enrol more.")
    one, other = np.triu_indices(len(vectors), k=1)
    every = (vectors @ vectors.T)[one, other]
    mated = owners[one] == owners[other]
    compared = set(owners.tolist())
    twice = [pair for pair in rows.subjects_of_one_face() if compared.issuperset(pair)]
    ones, others = np.minimum(owners[one], owners[other]), np.maximum(owners[one], owners[other])
    apart = ~mated & ~np.isin(ones << 32 | others, [first << 32 | second for first, second in twice])
    if not apart.any():
        raise GalleryError("A threshold needs at least 2 subjects to compare, and these have the same pictures.")
    dataset = f"gallery of {len(np.unique(owners))} subjects"
    if twice:
        dataset += f"; names with one picture, not compared: {len(twice)} {'pair' if len(twice) == 1 else 'pairs'}"
    pairs = np.stack([owners[one[apart]], owners[other[apart]]], axis=1)
    return Scores(every[mated], every[apart], owners[one[mated]], pairs, dataset)


def calibrate(rows: Rows, fmr: float) -> OperatingPoint:
    """Find the threshold that keeps a false match rate between different subjects of the gallery.

    Genuine scores are between samples of one subject; without any the point's FNMR is not a number. What is compared
    says `scores`.
    """
    genuine, impostor, genuine_subjects, pairs, dataset = scores(rows)
    if len(genuine):
        return fnmr_at_fmr(
            genuine,
            impostor,
            fmr=fmr,
            genuine_subjects=genuine_subjects,
            impostor_subjects=pairs,
            dataset=dataset,
        )
    threshold = max(permissive_threshold(impostor, rate=fmr), float(impostor.min()))
    matched = impostor >= threshold
    return OperatingPoint(
        target_fmr=fmr,
        threshold=threshold,
        fmr=float(matched.mean()),
        fnmr=math.nan,
        fmr_interval=bootstrap_rate(matched, pairs),
        fnmr_interval=(0.0, 1.0),
        num_genuine=0,
        num_impostor=len(impostor),
        dataset=dataset,
    )


def identification_probability(even: float, subjects: int) -> float:
    """Return the probability that a candidate of a search is who was searched for.

    A comparison at even odds is one thing; the best of a large gallery is another, since so many strangers had their
    chance. Here half of all probes are strangers and the rest are any subject alike; the candidates not looked at
    are taken to be as likely as strangers are on average, which is a likelihood ratio of 1.

    Args:
        even: Probability of the candidate's score at even prior odds, as `mien.matching.probability` returns it.
        subjects: Size of the gallery.

    Example:
        >>> f"{identification_probability(0.99, 1):.2f} {identification_probability(0.99, 100):.2f}"
        '0.99 0.33'
    """
    ratio = even / (1 - even) if even < 1 else math.inf
    return 1.0 if math.isinf(ratio) else ratio / (ratio + 2 * max(subjects, 1) - 1)


def _some_templates(
    rows: Rows,
) -> tuple[Float32[np.ndarray, "templates dimension"], Int64[np.ndarray, " templates"]]:
    """Return templates and their subjects' ids, at most `MOST_TEMPLATES`, of subjects in a fixed random order."""
    active = rows.active_model()
    if active is None or not rows.count_templates(active):  # or everybody was erased
        raise GalleryError("An empty gallery has nothing to compare. Enrol first.")
    owners = rows.owners(active)
    subjects, counts = np.unique(owners.subjects, return_counts=True)
    order = np.random.default_rng(0).permutation(len(subjects))
    fits = np.cumsum(counts[order]) <= MOST_TEMPLATES
    fits[:2] = True
    wanted = owners.templates[np.isin(owners.subjects, subjects[order][fits])]
    parts = [vectors[np.isin(ids, wanted)].astype(np.float32) for ids, vectors in rows.templates(active)]
    return np.concatenate(parts), owners.subjects[np.isin(owners.templates, wanted)]
