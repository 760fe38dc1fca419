"""How well faces were followed: IDF1, identity switches, HOTA.

Sources: E. Ristani et al., "Performance measures and a data set for multi-target, multi-camera tracking",
arXiv:1609.01775 (IDF1); K. Bernardin, R. Stiefelhagen, EURASIP 2008 (switches); J. Luiten et al., "HOTA: a higher order
metric for evaluating multi-object tracking", IJCV 2021, arXiv:2009.07736, equations 12 to 22.
`benchmarks/tracking_check.py` compares all of it with the reference code.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import linear_sum_assignment

from mien.errors import EvaluationError
from mien.types import Box

__all__ = ["TrackingScores", "score_tracking"]

Boxes = Mapping[Hashable, Box]
"""The faces of one picture by identity, or by the number of their track."""

_ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True)
class TrackingScores:
    """Everything in [0, 1], higher better, but the counts.

    Attributes:
        idf1: F1 of faces that carry the right identity, when each person is given the track that fits best.
        hota: Geometric mean of finding and associating, averaged over how well boxes have to fit.
        deta: Its part for finding.
        assa: Its part for associating.
        switches: Times that a person's track number changed.
        fragments: Times that a person was lost and found again.
        missed: Faces that were not found.
        false: Boxes where there was no face.
        faces: True faces.
    """

    idf1: float
    hota: float
    deta: float
    assa: float
    switches: int
    fragments: int
    missed: int
    false: int
    faces: int


def score_tracking(truth: Sequence[Boxes], found: Sequence[Boxes], *, overlap: float = 0.5) -> TrackingScores:
    """Compare tracks with the truth.

    Args:
        truth: A mapping a picture: boxes by identity.
        found: A mapping a picture: boxes by track.
        overlap: Least intersection over union of a match, for all measures but HOTA, which takes 19 of them.

    Raises:
        EvaluationError: There are no pictures, not as many of both, or no faces.
    """
    if not truth or len(truth) != len(found):
        raise EvaluationError(f"Expected as many pictures as have a truth, got {len(found)} for {len(truth)}.")
    people = {identity: i for i, identity in enumerate(dict.fromkeys(key for boxes in truth for key in boxes))}
    tracks = {number: i for i, number in enumerate(dict.fromkeys(key for boxes in found for key in boxes))}
    if not people:
        raise EvaluationError("There are no faces to be followed in the truth.")
    frames = [
        (np.array([people[k] for k in a], np.intp), np.array([tracks[k] for k in b], np.intp), _overlaps(a, b))
        for a, b in zip(truth, found, strict=True)
    ]
    shape = (len(people), len(tracks))
    switches, fragments, missed, false = _clear(frames, shape[0], overlap)
    hota, deta, assa = _hota(frames, shape)
    faces = sum(len(a) for a, _, _ in frames)
    return TrackingScores(_idf1(frames, shape, overlap), hota, deta, assa, switches, fragments, missed, false, faces)


_Frame = tuple[np.ndarray, np.ndarray, Float64[np.ndarray, "people tracks"]]


def _idf1(frames: Sequence[_Frame], shape: tuple[int, int], overlap: float) -> float:
    together, of_person, of_track = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[1])
    for a, b, shared in frames:
        of_person[a] += 1
        of_track[b] += 1
        i, j = np.nonzero(shared >= overlap)
        together[a[i], b[j]] += 1
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(2 * together[rows, columns].sum() / max(of_person.sum() + of_track.sum(), 1))


def _clear(frames: Sequence[_Frame], people: int, overlap: float) -> tuple[int, int, int, int]:
    switches = missed = false = 0
    latest = np.full(people, -1)  # track that a person had last, however long ago
    before = np.full(people, -1)  # in the picture before this one
    runs = np.zeros(people, int)
    for a, b, shared in frames:
        now = np.full(people, -1)
        if len(a) and len(b):
            # A match that goes on is kept, whatever else would fit better.
            goes_on = (b[None] == before[a][:, None]) & (before[a][:, None] >= 0)
            gain = np.where(shared >= overlap - _EPS, 1000.0 * goes_on + shared, 0.0)
            i, j = linear_sum_assignment(gain, maximize=True)
            kept = gain[i, j] > _EPS
            i, j = a[i[kept]], b[j[kept]]
            switches += int(((latest[i] >= 0) & (latest[i] != j)).sum())
            latest[i] = now[i] = j
        runs += (now >= 0) & (before < 0)
        before = now
        matched = int((now >= 0).sum())
        missed += len(a) - matched
        false += len(b) - matched
    return switches, int(np.maximum(runs - 1, 0).sum()), missed, false


def _hota(frames: Sequence[_Frame], shape: tuple[int, int]) -> tuple[float, float, float]:
    together, of_person, of_track = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[1])
    for a, b, shared in frames:
        of_person[a] += 1
        of_track[b] += 1
        if len(a) and len(b):
            either = shared.sum(axis=0)[None] + shared.sum(axis=1)[:, None] - shared
            together[np.ix_(a, b)] += np.where(either > _EPS, shared / np.maximum(either, _EPS), 0.0)
    alike = together / np.maximum(of_person[:, None] + of_track[None] - together, _EPS)
    hits = np.zeros((len(_ALPHAS), *shape))
    for a, b, shared in frames:
        if not len(a) or not len(b):
            continue
        i, j = linear_sum_assignment(alike[np.ix_(a, b)] * shared, maximize=True)
        fits = shared[i, j][None] >= _ALPHAS[:, None] - _EPS
        for k in range(len(_ALPHAS)):
            np.add.at(hits[k], (a[i[fits[k]]], b[j[fits[k]]]), 1)
    true = hits.sum(axis=(1, 2))
    deta = true / np.maximum(of_person.sum() + of_track.sum() - true, 1)
    shares = hits / np.maximum(of_person[None, :, None] + of_track[None, None] - hits, 1)
    assa = (hits * shares).sum(axis=(1, 2)) / np.maximum(true, 1)
    return float(np.sqrt(deta * assa).mean()), float(deta.mean()), float(assa.mean())


def _overlaps(a: Boxes, b: Boxes) -> Float64[np.ndarray, "people tracks"]:
    one, two = (np.array([box.as_tuple() for box in boxes.values()]).reshape(-1, 4) for boxes in (a, b))
    size = np.minimum(one[:, None, 2:], two[None, :, 2:]) - np.maximum(one[:, None, :2], two[None, :, :2])
    shared = np.prod(np.maximum(size, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, two)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, _EPS))
