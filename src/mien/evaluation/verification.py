"""1:1 protocols: are the two pictures of a pair of one subject?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Float32

from mien.errors import EvaluationError
from mien.evaluation.acquisition import AnalyzerLike, Samples, acquire, acquire_aligned
from mien.evaluation.pairs import PairSet
from mien.evaluation.records import TARGETS, Rate, plain, rate_name
from mien.metrics.calibration import Calibration, cllr
from mien.metrics.intervals import (
    REPLICATES,
    Interval,
    percentile_interval,
    rule_of_thirty,
    rule_of_three,
    subject_weights,
    wilson,
)
from mien.metrics.verification import (
    FoldedAccuracy,
    at_threshold,
    det,
    eer,
    fnmr_at_fmr,
    folded_accuracy,
    resampled_eer,
    resampled_fnmr,
)
from mien.types import OperatingPoint
from mien.zoo import Card

__all__ = ["DetCurve", "VerificationReport", "measure_pairs", "verify_pairs"]

SCHEMA = "mien/evaluation-verification/1"


@dataclass(frozen=True, slots=True, eq=False)
class DetCurve:
    """FNMR against FMR with a band.

    Attributes:
        fmr: Target rates, falling, shape (points,).
        fnmr: FNMR at the most permissive threshold that keeps each, shape (points,).
        low: Lower limit of the 95 % interval, resampling subjects, shape (points,).
        high: Upper limit, shape (points,).
    """

    fmr: Float[np.ndarray, " points"]
    fnmr: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


@dataclass(frozen=True, slots=True, eq=False)
class VerificationReport:
    """How well an analyzer verifies a list of pairs.

    A failure to acquire counts as an error in the accuracy, as a refusal in TAR and FNMR, and is left out of FMR,
    which it could only flatter. Intervals are 95 % and resample subjects.

    Attributes:
        dataset: File name of the list.
        embedder: Id of the embedder.
        detector: Name of the detector; empty where the pictures were aligned already.
        num_pictures: Distinct pictures.
        num_subjects: Subjects that were resampled.
        num_genuine: Mated pairs.
        num_impostor: Non-mated pairs.
        accuracy: Over folds; the threshold of each is chosen on the others.
        accuracy_interval: Its interval.
        eer: Equal error rate.
        eer_interval: Its interval.
        tar_at_fmr: True accept rate by false match rate.
        operating_points: The thresholds on the embedder's card, as they do on this data.
        cllr: Cost in bits of the card's calibration on this data; None where the card has none.
        det: The whole trade-off.
        smallest_fmr: Smallest rate this data can claim (rule of three) and measure (rule of thirty).
        fta: Pictures in which no face was found, by the names that the list gives them.
        unreadable: Why other pictures could not be read, by name.
        scores: Similarity of each pair, -inf where either picture has no face, shape (pairs,).
        same: Whether each pair is mated, shape (pairs,).
    """

    dataset: str
    embedder: str
    detector: str
    num_pictures: int
    num_subjects: int
    num_genuine: int
    num_impostor: int
    accuracy: FoldedAccuracy
    accuracy_interval: Interval
    eer: float
    eer_interval: Interval
    tar_at_fmr: Mapping[str, Rate]
    operating_points: tuple[OperatingPoint, ...]
    cllr: float | None
    det: DetCurve
    smallest_fmr: tuple[float, float]
    fta: tuple[str, ...]
    unreadable: Mapping[str, str]
    scores: Float32[np.ndarray, " pairs"]
    same: Bool[np.ndarray, " pairs"]

    @property
    def num_pairs(self) -> int:
        """All pairs."""
        return self.num_genuine + self.num_impostor

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON can hold it; see the guide for its schema."""
        folds = zip(self.accuracy.folds, self.accuracy.thresholds, strict=True)
        rates = self.tar_at_fmr.items()
        record = {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "embedder": self.embedder,
            "detector": self.detector or None,
            "n_pairs": self.num_pairs,
            "n_genuine": self.num_genuine,
            "n_impostor": self.num_impostor,
            "n_pictures": self.num_pictures,
            "n_subjects": self.num_subjects,
            "accuracy": self.accuracy.mean,
            "accuracy_stderr": self.accuracy.stderr,
            "accuracy_interval": self.accuracy_interval,
            "folds": [{"accuracy": rate, "threshold": threshold} for rate, threshold in folds],
            "eer": self.eer,
            "eer_interval": self.eer_interval,
            "tar_at_fmr": {name: rate.value for name, rate in rates},
            "tar_at_fmr_interval": {name: rate.interval for name, rate in rates if rate.value is not None},
            "tar_at_fmr_threshold": {name: rate.threshold for name, rate in rates if rate.value is not None},
            "tar_at_fmr_reason": {name: rate.reason for name, rate in rates if rate.value is None},
            "operating_points": [
                {
                    "target_fmr": point.target_fmr,
                    "threshold": point.threshold,
                    "fmr": point.fmr,
                    "fmr_interval": point.fmr_interval,
                    "fnmr": point.fnmr,
                    "fnmr_interval": point.fnmr_interval,
                }
                for point in self.operating_points
            ],
            "cllr": self.cllr,
            "smallest_fmr": dict(zip(("rule_of_three", "rule_of_thirty"), self.smallest_fmr, strict=True)),
            "det": {
                "fmr": self.det.fmr.tolist(),
                "fnmr": self.det.fnmr.tolist(),
                "fnmr_low": self.det.low.tolist(),
                "fnmr_high": self.det.high.tolist(),
            },
            "fta": list(self.fta),
            "unreadable": dict(self.unreadable),
            "intervals": f"95 %, bootstrap over subjects, {REPLICATES} replicates, seed 0",
        }
        return cast(dict[str, object], plain(record))


def verify_pairs(
    analyzer: AnalyzerLike, pairs: PairSet, *, progress: Callable[[], None] | None = None
) -> VerificationReport:
    """Analyse each picture once, compare every pair, and measure.

    Args:
        analyzer: Finds and embeds faces.
        pairs: What to compare.
        progress: Called after each picture.

    Raises:
        EvaluationError: No face was found in any picture, or there are too few pairs or folds.
    """
    if pairs.aligned:
        samples = acquire_aligned(analyzer, cast(tuple[bytes, ...], pairs.sources), progress=progress)
    else:
        samples = acquire(analyzer, cast(tuple[Path, ...], pairs.sources), central=pairs.central, progress=progress)
    card = analyzer.embedder.card
    return measure_pairs(samples, pairs, card=card, detector="" if pairs.aligned else analyzer.detector)


def measure_pairs(samples: Samples, pairs: PairSet, *, card: Card, detector: str = "") -> VerificationReport:
    """Compare every pair of embeddings and measure; arguments and errors as of ``verify_pairs``."""
    scores = np.einsum("nd,nd->n", samples.vectors[pairs.first], samples.vectors[pairs.second])
    whole = samples.acquired[pairs.first] & samples.acquired[pairs.second]
    scores = np.where(whole, scores, np.float32(-np.inf)).astype(np.float32)
    accuracy = folded_accuracy(scores, pairs.same, pairs.folds)

    compared = whole[~pairs.same]
    if not compared.any():
        raise EvaluationError("No non-mated pair has a face in both pictures, so FMR cannot be measured.")
    genuine, impostor = scores[pairs.same], scores[~pairs.same][compared]
    sides = np.stack([pairs.subjects[pairs.first], pairs.subjects[pairs.second]], axis=1)
    genuine_subjects, all_subjects = sides[pairs.same, 0], sides[~pairs.same]
    impostor_subjects = all_subjects[compared]

    grid = np.geomspace(1.0, 1 / len(impostor), 100)
    targets = [rate for rate in TARGETS if rate * len(impostor) >= 1 - 1e-9]
    accuracies, eers, losses = [], [], []
    for genuine_weights, all_weights in subject_weights(genuine_subjects, all_subjects):
        weights = all_weights[:, compared]
        accuracies.append(_resampled_accuracy(accuracy.correct, pairs.same, genuine_weights, all_weights))
        eers.append(resampled_eer(genuine, impostor, genuine_weights, weights))
        losses.append(resampled_fnmr(genuine, impostor, genuine_weights, weights, fmr=np.concatenate([targets, grid])))
    lost = np.concatenate(losses)

    at = partial(
        at_threshold,
        genuine,
        impostor,
        genuine_subjects=genuine_subjects,
        impostor_subjects=impostor_subjects,
        dataset=pairs.name,
    )
    return VerificationReport(
        dataset=pairs.name,
        embedder=card.id,
        detector=detector,
        num_pictures=len(pairs.pictures),
        num_subjects=len(np.unique(sides)),
        num_genuine=len(genuine),
        num_impostor=len(all_subjects),
        accuracy=accuracy,
        accuracy_interval=_interval(np.concatenate(accuracies), accuracy.correct.mean(), len(scores)),
        eer=(equal := eer(genuine, impostor)),
        eer_interval=_interval(np.concatenate(eers), equal, min(len(genuine), len(impostor))),
        tar_at_fmr={
            rate_name(rate): _tar(genuine, impostor, rate, lost[:, targets.index(rate)] if rate in targets else None)
            for rate in TARGETS
        },
        operating_points=tuple(
            at(threshold=point.threshold, target_fmr=point.target_fmr) for point in card.operating_points
        ),
        cllr=_cllr(card, genuine, impostor),
        det=_curve(grid, det(genuine, impostor, fmr=grid).fnmr, lost[:, len(targets) :], len(genuine)),
        smallest_fmr=(rule_of_three(len(impostor)), rule_of_thirty(len(impostor))),
        fta=tuple(pairs.pictures[number] for number in samples.fta),
        unreadable={pairs.pictures[number]: why for number, why in samples.unreadable.items()},
        scores=scores,
        same=pairs.same,
    )


def _resampled_accuracy(
    correct: Bool[np.ndarray, " pairs"],
    same: Bool[np.ndarray, " pairs"],
    genuine_weights: Float[np.ndarray, "replicates num_genuine"],
    all_weights: Float[np.ndarray, "replicates num_nonmated"],
) -> Float[np.ndarray, " replicates"]:
    """Return the accuracy of each replicate. The mix of the two kinds belongs to the protocol: it stays as it is."""
    right, wrong = correct[same], correct[~same]
    with np.errstate(invalid="ignore"):
        part = genuine_weights @ right / genuine_weights.sum(axis=1) * len(right)
        part = part + all_weights @ wrong / all_weights.sum(axis=1) * len(wrong)
    return np.asarray(part / len(correct))


def _tar(
    genuine: Float[np.ndarray, " num_genuine"],
    impostor: Float[np.ndarray, " num_impostor"],
    rate: float,
    lost: Float[np.ndarray, " replicates"] | None,
) -> Rate:
    try:
        point = fnmr_at_fmr(genuine, impostor, fmr=rate)
    except EvaluationError as error:
        return Rate(None, reason=str(error))
    assert lost is not None, "a rate that can be measured was resampled"
    return Rate(1 - point.fnmr, _interval(1 - lost, 1 - point.fnmr, len(genuine)), point.threshold)


def _curve(
    fmr: Float[np.ndarray, " points"],
    fnmr: Float[np.ndarray, " points"],
    lost: Float[np.ndarray, "replicates points"],
    num_genuine: int,
) -> DetCurve:
    band = np.array([_interval(lost[:, i], fnmr[i], num_genuine) for i in range(len(fmr))])
    return DetCurve(fmr, fnmr, band[:, 0], band[:, 1])


def _interval(replicates: Float[np.ndarray, " replicates"], value: float, trials: int) -> Interval:
    """Return the percentile interval; Wilson's where there is no error, or no success, to resample."""
    return wilson(round(value) * trials, trials) if value in (0.0, 1.0) else percentile_interval(replicates)


def _cllr(
    card: Card, genuine: Float[np.ndarray, " num_genuine"], impostor: Float[np.ndarray, " num_impostor"]
) -> float | None:
    compared = genuine[np.isfinite(genuine)]
    if card.probability is None or not len(compared):
        return None
    line = Calibration(*card.probability)
    return cllr(line.llr(compared), line.llr(impostor))
