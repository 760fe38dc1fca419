"""Expressions: does the network see in a face what raters saw?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from mien.data.crops import Crops, DetectorLike, cut_crops, rgb_faces
from mien.data.samples import Samples, Target
from mien.errors import EvaluationError
from mien.evaluation.records import plain
from mien.metrics.calibration import Reliability, error_at_coverage, reliability
from mien.metrics.expression import ClassScore, Intervals, accuracy, confusion, intervals, macro_f1, per_class
from mien.metrics.intervals import REPLICATES
from mien.vision.expression import entropy

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = [
    "CHOICES",
    "SPLITS",
    "ExpressionReport",
    "Figures",
    "Reader",
    "evaluate_expression",
    "measure_expression",
]

SCHEMA = "mien/evaluation-expression/1"
SPLITS = ("train", "valid", "test", "all")
CHOICES = ("data", "model")
_FOR_BOXES = "fer-48"


class Reader(Protocol):
    """What is measured: `mien.vision.expression.ExpressionReader`, or another model that answers probabilities.

    Attributes:
        card: Of the model.
        heads: Labels by head, the main one first.
        labels: What it tells where no head is named.
        side: Of the faces it is shown, px.
        template: How they are cut; None where it takes them as the detector's box shows them.
        grey: It looks at grey faces.
        uncertain_below: Least probability of an outcome that is not uncertain.
        uncertain_above: Its largest entropy, as a share of the largest that there is; 0 where that is not looked at.
    """

    card: Card
    heads: dict[str, tuple[str, ...]]
    labels: tuple[str, ...]
    side: int
    template: str | None
    grey: bool
    uncertain_below: float
    uncertain_above: float

    def probabilities(
        self, crops: UInt8[np.ndarray, "faces side side 3"], *, head: str | None = None
    ) -> Float[np.ndarray, "faces classes"]:
        """Return probabilities of cut faces, in the order of the head's labels."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """How well probabilities agree with labels.

    Attributes:
        classes: What could be chosen from.
        labels: True class of each picture, shape (pictures,).
        probabilities: Of each class, shape (pictures, classes).
        accuracy: Share of right answers.
        macro_f1: Mean F1 over the classes that have pictures.
        per_class: Precision, recall and F1 by class.
        reliability: How far confidence keeps what it promises; ``reliability.error`` is the ECE.
        intervals: 95 % intervals of accuracy, macro-F1, ECE, and each class's F1.
        uncertain: Share of pictures that the operating point calls uncertain.
        accuracy_of_certain: Of the others; NaN where there are none.
        error_at_80: Share of wrong answers among the four fifths of the pictures that are least undecided.
    """

    classes: tuple[str, ...]
    labels: Int[np.ndarray, " pictures"]
    probabilities: Float[np.ndarray, "pictures classes"]
    accuracy: float
    macro_f1: float
    per_class: tuple[ClassScore, ...]
    reliability: Reliability
    intervals: Intervals
    uncertain: float
    accuracy_of_certain: float
    error_at_80: float

    @property
    def confusion(self) -> Int[np.ndarray, "classes classes"]:
        """Pictures by true class (rows) and answered class (columns)."""
        return confusion(self.labels, self.probabilities.argmax(axis=1), classes=len(self.classes))


@dataclass(frozen=True, slots=True, eq=False)
class ExpressionReport:
    """How well a model tells the expressions of a data set.

    Attributes:
        figures: The measurement. Intervals resample subjects where they are known, else pictures.
        dataset: File name of the data.
        split: Which part was measured.
        target: Whose judgement counts as right.
        model: Id of the model.
        head: Which of its outputs answered; empty where it has one only.
        uncertain_below: The operating point of "uncertain".
        not_found: Pictures in which no face was found: they were shown whole.
        unreadable: Why other pictures could not be read, by name; they are not measured.
        unlabelled: Pictures that raters could not judge, or called no face; they are not measured.
        left_out: Pictures of classes that the model does not know, by class; they are not measured.
        leaks: Pictures left out because they also stand in another split; None where nobody looked.
        disputed: Labelled pictures left out because raters did not agree on them; None where all were measured.
        by_subject: Whether subjects were resampled.
    """

    figures: Figures
    dataset: str
    split: str
    target: str
    model: str
    head: str
    uncertain_below: float
    not_found: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unlabelled: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    leaks: int | None = None
    disputed: int | None = None
    by_subject: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON can hold it; docs/json.md describes it."""
        figures = self.figures
        limits = figures.intervals
        by_class = zip(figures.classes, figures.per_class, limits.f1, strict=True)
        curve, unit = figures.reliability, "subjects" if self.by_subject else "pictures"
        record = {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "split": self.split,
            "target": self.target,
            "model": self.model,
            "head": self.head or None,
            "classes": list(figures.classes),
            "n": len(figures.labels),
            "accuracy": figures.accuracy,
            "accuracy_interval": limits.accuracy,
            "macro_f1": figures.macro_f1,
            "macro_f1_interval": limits.macro_f1,
            "ece": curve.error,
            "ece_interval": limits.ece,
            "per_class": {
                name: {
                    "n": score.n,
                    "precision": score.precision,
                    "recall": score.recall,
                    "f1": score.f1,
                    "f1_interval": interval,
                }
                for name, score, interval in by_class
            },
            "confusion": figures.confusion.tolist(),
            "reliability": {
                "confidence": curve.confidence.tolist(),
                "accuracy": curve.accuracy.tolist(),
                "n": curve.cases.astype(int).tolist(),
            },
            "uncertain": {
                "below": self.uncertain_below,
                "share": figures.uncertain,
                "accuracy_of_others": figures.accuracy_of_certain,
                "error_at_80": figures.error_at_80,
            },
            "not_found": self.not_found,
            "unreadable": dict(self.unreadable),
            "unlabelled": self.unlabelled,
            "left_out": dict(self.left_out),
            "leaks_left_out": self.leaks,
            "disputed_left_out": self.disputed,
            "intervals": f"95 %, bootstrap over {unit}, {REPLICATES} replicates, seed 0",
        }
        return cast(dict[str, object], plain(record))


def evaluate_expression(
    reader: Reader,
    samples: Samples,
    *,
    split: str | None = None,
    target: str | None = None,
    classes: str = "data",
    leaks: bool = True,
    agreed: bool = False,
    as_told: bool = False,
    detector: DetectorLike | None = None,
    progress: Callable[[], None] | None = None,
) -> ExpressionReport:
    """Cut out the faces of a data set as run time does, read their expressions, and measure.

    A model that takes the detector's box, and not a template, is shown the face aligned as in `fer-48`.

    Args:
        reader: The model.
        samples: Pictures with what raters saw.
        split: `train`, `valid`, `test` or `all`; default test where the data has one, else all.
        target: Name of one of the samples' targets; default the one that a head of the model is called after, else the
            first.
        classes: What the model may choose from: `data`, the classes that the data set has, or `model`, all it knows.
        leaks: Keep pictures that also stand in another split.
        agreed: Measure only where raters agreed on the label, as published accuracies on FER+ do.
        as_told: Measure what `mien analyze` tells, which may come of several heads and for other class shares than were
            learned, in place of the head that learned such labels.
        detector: Finds the faces; default the one of run time.
        progress: Called after each picture.

    Raises:
        DataError: None of the pictures can be read.
        EvaluationError: The data lacks the split or target, or no picture is left to measure.
    """
    name, wanted = _target(reader, samples, target)
    head = None if as_told else _head(reader, name, wanted)
    labels_told = reader.labels if head is None else reader.heads[head]
    chosen, split = _split(samples, split)
    twice = np.zeros(len(samples), dtype=bool) if leaks else samples.standing_elsewhere()
    dropped = int((chosen & twice).sum())
    known = _choice(labels_told, wanted, whole=classes == "model")
    number = np.array([known.index(label) if label in known else -1 for label in wanted.classes])
    labels = np.where(wanted.labels >= 0, number[wanted.labels], -1)
    if agreed and wanted.agreed is None:
        raise EvaluationError(f"The target '{name}' has no votes of single raters: measure on all its pictures.")
    considered = chosen & ~twice & (wanted.agreed if agreed and wanted.agreed is not None else True)
    strange = wanted.labels[considered & (wanted.labels >= 0) & (labels < 0)]
    picked = np.flatnonzero(considered & (labels >= 0))
    if not len(picked):
        raise EvaluationError(f"No picture of the split '{split}' has a label that the model knows.")

    part = samples.take(picked)
    crops = _cut(reader, part, detector, progress)
    whole = crops.readable
    faces = rgb_faces(crops.faces[whole])
    answers = reader.probabilities(faces, head=head)[:, [list(labels_told).index(label) for label in known]]
    subjects = None if part.subjects is None or (part.subjects == "").any() else part.subjects[whole]
    return ExpressionReport(
        figures=measure_expression(
            labels[picked][whole],
            answers,
            known,
            subjects=subjects,
            uncertain_below=reader.uncertain_below,
            uncertain_above=reader.uncertain_above,
        ),
        dataset=samples.source.name,
        split=split,
        target=name,
        model=reader.card.id,
        head="" if head is None else head,
        uncertain_below=reader.uncertain_below,
        not_found=int((~crops.found[whole]).sum()),
        unreadable=dict(crops.unreadable),
        unlabelled=int((considered & (wanted.labels < 0)).sum()),
        left_out=dict(Counter(wanted.classes[k] for k in strange)),
        leaks=None if leaks else dropped,
        disputed=int((chosen & ~twice & (wanted.labels >= 0) & ~considered).sum()) if agreed else None,
        by_subject=subjects is not None,
    )


def _choice(heads: Sequence[str], wanted: Target, *, whole: bool) -> list[str]:
    """Return the classes that the model chooses from: those that the data has, or all that it knows."""
    present = [wanted.classes[k] for k in np.unique(wanted.labels[wanted.labels >= 0])]
    known = [label for label in heads if whole or label in present]
    if len(known) < 2:
        raise EvaluationError(
            f"The model knows {len(known)} of the classes of this data ({', '.join(present)}); a choice needs two. "
            f"It knows {', '.join(heads)}."
        )
    return known


def _cut(reader: Reader, samples: Samples, detector: DetectorLike | None, progress: Callable[[], None] | None) -> Crops:
    return cut_crops(
        samples,
        template=reader.template or _FOR_BOXES,
        side=reader.side,
        colour=not reader.grey,
        detector=detector,
        progress=progress,
    )


def measure_expression(
    labels: Int[np.ndarray, " pictures"],
    probabilities: Float[np.ndarray, "pictures classes"],
    classes: Sequence[str],
    *,
    subjects: Shaped[np.ndarray, " pictures"] | None = None,
    uncertain_below: float = 0.0,
    uncertain_above: float = 0.0,
) -> Figures:
    """Compare probabilities with labels.

    Args:
        labels: True class of each picture, shape (pictures,).
        probabilities: Of the classes in the choice, shape (pictures, classes); they are scaled to sum to one, as where
            classes are known not to occur.
        classes: Names of the columns.
        subjects: Who is in each picture, shape (pictures,).
        uncertain_below: Least probability of an outcome that is not uncertain.
        uncertain_above: Its largest entropy, as a share of the largest that there is; 0: it is not looked at.
    """
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    undecided = entropy(probabilities)
    certain = (confidence >= uncertain_below) & (undecided <= (uncertain_above or np.inf))
    table = confusion(labels, probabilities.argmax(axis=1), classes=len(classes))
    return Figures(
        classes=tuple(classes),
        labels=labels,
        probabilities=probabilities,
        accuracy=float(accuracy(table)),
        macro_f1=float(macro_f1(table)),
        per_class=per_class(table),
        reliability=reliability(confidence, right),
        intervals=intervals(labels, probabilities, subjects=subjects),
        uncertain=float(1 - certain.mean()),
        accuracy_of_certain=float(right[certain].mean()) if certain.any() else math.nan,
        error_at_80=error_at_coverage(-undecided, right, 0.8),
    )


def _target(reader: Reader, samples: Samples, name: str | None) -> tuple[str, Target]:
    if not samples.targets:
        raise EvaluationError(f"'{samples.source.name}' has no labels. Name a data set with a class for each picture.")
    if name is None:
        name = next((head for head in reader.heads if head in samples.targets), next(iter(samples.targets)))
    if name not in samples.targets:
        raise EvaluationError(f"'{samples.source.name}' has no labels '{name}', it has {', '.join(samples.targets)}.")
    return name, samples.targets[name]


def _head(reader: Reader, name: str, target: Target) -> str:
    """Return the head that learned from this target, else the first that knows all its classes, else the first."""
    if name in reader.heads:
        return name
    present = {target.classes[k] for k in np.unique(target.labels[target.labels >= 0])}
    return next((head for head, labels in reader.heads.items() if present <= set(labels)), next(iter(reader.heads)))


def _split(samples: Samples, split: str | None) -> tuple[Bool[np.ndarray, " samples"], str]:
    if split is None:
        split = "test" if (samples.splits == "test").any() else "all"
    chosen = np.ones(len(samples), dtype=bool) if split == "all" else samples.splits == split
    if not chosen.any():
        there = ", ".join(sorted({str(name) for name in samples.splits} - {""}))
        raise EvaluationError(
            f"'{samples.source.name}' has no split '{split}', it has {there or 'none'}. Use --split all for all of it."
        )
    return chosen, split
