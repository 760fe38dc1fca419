"""1:N protocols: a folder of enrolled subjects, and a folder of probes of whom some are not enrolled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float, Float32, Int

from mien.errors import EvaluationError, ImageError
from mien.evaluation.acquisition import AnalyzerLike, Samples, acquire
from mien.evaluation.records import TARGETS, Rate, plain, rate_name
from mien.images import find_images, printable
from mien.metrics.identification import (
    IdentificationPoint,
    cmc,
    fnir_at_fpir,
    fpir_from_fmr,
    mate_ranks,
)
from mien.metrics.intervals import REPLICATES, Interval, bootstrap_rate, rule_of_three
from mien.types import OperatingPoint
from mien.vision.cohort import subject_scorer

__all__ = ["IdentificationReport", "identify_folders"]

SCHEMA = "mien/evaluation-identification/1"
UNKNOWN = "unknown"
"""A folder of probes by this name holds strangers, each a subject of its own."""

BLOCK = 512  # Probes compared at once: bounds memory.


@dataclass(frozen=True, slots=True)
class ShippedPoint:
    """A threshold of the embedder's card in this gallery.

    Attributes:
        target_fmr: The false match rate it was made for.
        threshold: Where it lies.
        fpir: Share of non-mated searches that reported a candidate.
        fnir: Share of mated searches that did not report the mate first.
        expected_fpir: What the target FMR amounts to in a gallery of this size.
    """

    target_fmr: float
    threshold: float
    fpir: float
    fnir: float
    expected_fpir: float


@dataclass(frozen=True, slots=True, eq=False)
class IdentificationReport:
    """How well an analyzer identifies the probes of one folder among the subjects of another.

    A subject scores as in a gallery: the mean of its most similar reference's score and that of the template of all of
    them. A mated probe without a face, and one whose subject could not
    be enrolled, is missed at every rank; a non-mated one is left out of FPIR, which it could only flatter.

    Attributes:
        embedder: Id of the embedder.
        detector: Name of the detector.
        num_subjects: Subjects in the gallery, failures to enrol included.
        num_references: Pictures enrolled.
        num_mated: Probes of enrolled subjects.
        num_nonmated: Probes of strangers.
        cmc: Share of mated probes found among the first k, for k from 1, shape (ranks,).
        rank1_interval: 95 % interval of ``cmc[0]``, resampling subjects.
        fnir_at_fpir: False negative identification rate by false positive identification rate.
        operating_points: The thresholds on the embedder's card, as they do here.
        smallest_fpir: Smallest FPIR that this many non-mated probes can claim (rule of three); None without any.
        fte: Folders of subjects of whom no picture could be enrolled.
        fta: Pictures of either folder in which no face was found.
        unreadable: Why other pictures could not be read.
        repeated: Probes that are, pixel for pixel, an enrolled picture.
    """

    embedder: str
    detector: str
    num_subjects: int
    num_references: int
    num_mated: int
    num_nonmated: int
    cmc: Float[np.ndarray, " ranks"]
    rank1_interval: Interval
    fnir_at_fpir: Mapping[str, Rate]
    operating_points: tuple[ShippedPoint, ...]
    smallest_fpir: float | None
    fte: tuple[str, ...]
    fta: tuple[str, ...]
    unreadable: Mapping[str, str]
    repeated: tuple[str, ...]

    @property
    def rank1(self) -> float:
        """Share of mated probes whose subject came first, whatever the score."""
        return float(self.cmc[0])

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON can hold it; see the guide for its schema."""
        rates = self.fnir_at_fpir.items()
        record = {
            "schema": SCHEMA,
            "embedder": self.embedder,
            "detector": self.detector or None,
            "n_subjects": self.num_subjects,
            "n_references": self.num_references,
            "n_mated": self.num_mated,
            "n_nonmated": self.num_nonmated,
            "rank1": self.rank1,
            "rank1_interval": self.rank1_interval,
            "cmc": self.cmc.tolist(),
            "fnir_at_fpir": {name: rate.value for name, rate in rates},
            "fnir_at_fpir_interval": {name: rate.interval for name, rate in rates if rate.value is not None},
            "fnir_at_fpir_threshold": {name: rate.threshold for name, rate in rates if rate.value is not None},
            "fnir_at_fpir_reason": {name: rate.reason for name, rate in rates if rate.value is None},
            "operating_points": [
                {
                    "target_fmr": point.target_fmr,
                    "threshold": point.threshold,
                    "fpir": point.fpir,
                    "fnir": point.fnir,
                    "expected_fpir": point.expected_fpir,
                }
                for point in self.operating_points
            ],
            "smallest_fpir": self.smallest_fpir,
            "fte": list(self.fte),
            "fta": list(self.fta),
            "unreadable": dict(self.unreadable),
            "repeated": list(self.repeated),
            "intervals": f"95 %, bootstrap over subjects, {REPLICATES} replicates, seed 0",
        }
        return cast(dict[str, object], plain(record))


def identify_folders(
    analyzer: AnalyzerLike,
    gallery_dir: str | Path,
    probe_dir: str | Path,
    *,
    max_rank: int = 20,
    progress: Callable[[], None] | None = None,
) -> IdentificationReport:
    """Enrol one folder a subject, search for the pictures of another such tree, and measure.

    Probes in a folder that the gallery does not have, and all in a folder called `unknown`, are non-mated.

    Args:
        analyzer: Finds and embeds faces.
        gallery_dir: One folder a subject, with reference pictures.
        probe_dir: One folder a subject, with probes.
        max_rank: Length of the CMC; at most the number of subjects.
        progress: Called after each picture.

    Raises:
        EvaluationError: A folder holds no folders of pictures, no face was found, or no probe is mated.
    """
    gallery, probes = scan(gallery_dir), scan(probe_dir)
    mates = _mates(gallery, probes)
    samples = acquire(analyzer, gallery.paths + probes.paths, digests=True, progress=progress)
    count = len(gallery.paths)
    searched = samples.acquired[count:]
    mate_scores, ranks, best = _search(samples, gallery.owners, mates, num_subjects=len(gallery.subjects))

    # Strangers in one folder called `unknown` are subjects of their own; others share their folder's.
    owners = np.array([-1 - i if probes.subjects[o] == UNKNOWN else o for i, o in enumerate(probes.owners)])
    mated, alarms = mates >= 0, (mates < 0) & searched
    answers = _Answers(mate_scores[mated], ranks[mated], best[alarms], owners[mated], owners[alarms])
    enrolled = np.unique(gallery.owners[samples.acquired[:count]])
    card = analyzer.embedder.card
    names = gallery.names + probes.names
    known = {digest for digest in samples.digests[:count] if digest}
    return IdentificationReport(
        embedder=card.id,
        detector=analyzer.detector,
        num_subjects=len(gallery.subjects),
        num_references=int(np.count_nonzero(samples.acquired[:count])),
        num_mated=int(np.count_nonzero(mated)),
        num_nonmated=int(np.count_nonzero(~mated)),
        cmc=cmc(answers.ranks, max_rank=min(max_rank, len(gallery.subjects))),
        rank1_interval=bootstrap_rate(answers.ranks == 1, answers.mated_subjects),
        fnir_at_fpir={rate_name(target): answers.fnir(target) for target in TARGETS},
        operating_points=tuple(answers.at(point, subjects=len(enrolled)) for point in card.operating_points),
        smallest_fpir=rule_of_three(int(np.count_nonzero(alarms))) if alarms.any() else None,
        fte=tuple(
            gallery.subjects[number] for number in sorted(set(range(len(gallery.subjects))) - set(enrolled.tolist()))
        ),
        fta=tuple(names[number] for number in samples.fta),
        unreadable={names[number]: why for number, why in samples.unreadable.items()},
        repeated=tuple(
            name for name, digest in zip(probes.names, samples.digests[count:], strict=True) if digest in known
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What the search answered: mated probes with their mate's score and rank, and strangers with their best score."""

    mate_scores: Float32[np.ndarray, " mated"]
    ranks: Int[np.ndarray, " mated"]
    best: Float32[np.ndarray, " strangers"]
    mated_subjects: Int[np.ndarray, " mated"]
    nonmated_subjects: Int[np.ndarray, " strangers"]

    def fnir(self, fpir: float) -> Rate:
        """Return FNIR at a FPIR, or why it cannot be measured."""
        try:
            point: IdentificationPoint = fnir_at_fpir(
                self.mate_scores,
                self.ranks,
                self.best,
                fpir=fpir,
                mated_subjects=self.mated_subjects,
                nonmated_subjects=self.nonmated_subjects,
            )
        except EvaluationError as error:
            return Rate(None, reason=str(error))
        return Rate(point.fnir, point.fnir_interval, point.threshold)

    def at(self, point: OperatingPoint, *, subjects: int) -> ShippedPoint:
        """Return the rates at a card's threshold, in a gallery of so many subjects."""
        return ShippedPoint(
            target_fmr=point.target_fmr,
            threshold=point.threshold,
            fpir=float(np.mean(self.best >= point.threshold)) if len(self.best) else float("nan"),
            fnir=float(np.mean((self.ranks != 1) | (self.mate_scores < point.threshold))),
            expected_fpir=fpir_from_fmr(point.target_fmr, subjects),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A folder a subject.

    Attributes:
        subjects: Names of the folders, sorted.
        paths: Pictures.
        names: Their paths below the tree, fit to print.
        owners: Subject of each picture, shape (pictures,).
    """

    subjects: tuple[str, ...]
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    owners: Int[np.ndarray, " pictures"]


def scan(root: str | Path) -> Tree:
    """List the pictures of a tree with one folder a subject; an empty folder is a subject without pictures."""
    root = Path(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []
    paths: list[Path] = []
    owners: list[int] = []
    for number, folder in enumerate(folders):
        try:
            inside = find_images([folder])
        except ImageError:
            inside = []  # The subject stays, as a failure to enrol.
        paths += inside
        owners += [number] * len(inside)
    if not paths:
        raise EvaluationError(f"Expected one folder of pictures a subject in '{printable(root)}', found none.")
    names = tuple(printable(path.relative_to(root)) for path in paths)
    return Tree(tuple(printable(f.name) for f in folders), tuple(paths), names, np.array(owners))


def _mates(gallery: Tree, probes: Tree) -> Int[np.ndarray, " probes"]:
    """Return the number of each probe's subject in the gallery, -1 for strangers."""
    if UNKNOWN in gallery.subjects:
        raise EvaluationError(f"The gallery has a folder '{UNKNOWN}', a name kept for strangers. Rename it.")
    column = {subject: number for number, subject in enumerate(gallery.subjects)}
    mates = np.array([column.get(probes.subjects[owner], -1) for owner in probes.owners])
    if not (mates >= 0).any():
        raise EvaluationError("No folder of probes has the name of a folder of the gallery, so nobody can be found.")
    return mates


def _search(
    samples: Samples, owners: Int[np.ndarray, " references"], mates: Int[np.ndarray, " probes"], *, num_subjects: int
) -> tuple[Float32[np.ndarray, " probes"], Int[np.ndarray, " probes"], Float32[np.ndarray, " probes"]]:
    """Compare each probe with each subject, as a gallery does; return the mate's score and rank, and the best."""
    count = len(owners)
    kept = samples.acquired[:count]
    # References come sorted by subject, so the best of a subject is the best of a run.
    references, subjects = samples.vectors[:count][kept], owners[kept]
    starts = np.flatnonzero(np.diff(subjects, prepend=-1))
    scored = subject_scorer(references, starts) if len(starts) else None
    probes, searched = samples.vectors[count:], samples.acquired[count:]
    mate_scores = np.full(len(probes), -np.inf, dtype=np.float32)
    best, ranks = mate_scores.copy(), np.zeros(len(probes), dtype=np.int64)
    for start in range(0, len(probes), BLOCK):
        block = slice(start, start + BLOCK)
        scores = np.full((len(probes[block]), num_subjects), -np.inf, dtype=np.float32)
        if scored is not None:
            scores[:, subjects[starts]] = scored(probes[block])
        scores[~searched[block]] = -np.inf
        best[block] = scores.max(axis=1)
        # Strangers have column -1: what comes out for them is not used.
        ranks[block] = mate_ranks(scores, mates[block])
        mate_scores[block] = scores[np.arange(len(scores)), mates[block]]
    return mate_scores, ranks, best
