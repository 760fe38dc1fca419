"""Train a closed-set classifier: which of these forty people is it, and is it one of them at all.

It works on the embedder's vectors and takes seconds. The run folder holds the subjects' names and what they look
like to the embedder: treat it like a gallery, and delete it where a subject asks for it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch import Tensor
from torch.nn import functional

from mien.analyzer import Analyzer
from mien.data.acquisition import AnalyzerLike, acquire_faces, read_subjects
from mien.data.samples import Samples
from mien.errors import DataError, UsageError
from mien.metrics.calibration import expected_calibration_error
from mien.metrics.intervals import Interval, bootstrap_rate
from mien.metrics.verification import permissive_threshold
from mien.training.publishing import publish_network
from mien.training.reporter import PictureProgress
from mien.training.run import Run
from mien.vision.subjects import EMBEDDING, PROBABILITIES, SCORE

__all__ = ["ClassifierConfig", "ClassifierReport", "train"]

_LARGEST_SCALE = 500.0
_OPSET = 17
_FEWEST_SUBJECTS = 3  # with fewer, none can play the stranger while two are left to tell apart


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """A classifier of known subjects.

    Attributes:
        out: The run folder.
        data: A folder a subject, a zip of that, or a list (CSV) with ``path`` and ``subject``.
        on: The embedder, as `mien.zoo.named` takes it; '' is the default one.
        head: cosine compares with each subject's mean direction; logistic is a logistic regression.
        l2: Of the logistic regression, on its weights.
        folds: Parts of the cross-validation.
        strangers_named: Largest share of strangers to be given a name; sets the threshold of "unknown".
        seed: Of the folds.
        cache: Folder for embeddings, to share between runs; None keeps them in the run folder.
    """

    out: Path
    data: Path
    on: str = ""
    head: Literal["cosine", "logistic"] = "cosine"
    l2: float = 1e-4
    folds: int = 5
    strangers_named: float = 0.05
    seed: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"Setting 'folds' is 2 or more, got {self.folds}.")
        if not 0 < self.strangers_named < 1 or self.l2 <= 0:
            raise UsageError("Setting 'strangers_named' lies between 0 and 1, and 'l2' is above 0.")


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """What the folds showed: scales and thresholds are measured on faces that had no part in choosing them.

    Attributes:
        subjects: Known subjects.
        faces: Of them.
        held_out: Faces that were classified by a model that had not seen them.
        accuracy: Share of them given their subject, nobody being unknown.
        accuracy_interval: 95 %, resampling subjects.
        calibration_error: Mean gap between probability and accuracy.
        lost: Pictures that show no face or cannot be read.
        refused: Share of them not given their subject where "unknown" is an answer; None with too few subjects.
        refused_interval: 95 %, resampling subjects.
        strangers_named: Share of faces given a name by models that had never seen their subject; None likewise.
        strangers_interval: 95 %, resampling subjects.
        unknown_below: The score below which the shipped model says unknown; None likewise.
    """

    subjects: int
    faces: int
    held_out: int
    accuracy: float
    accuracy_interval: Interval
    calibration_error: float
    lost: int
    refused: float | None = None
    refused_interval: Interval | None = None
    strangers_named: float | None = None
    strangers_interval: Interval | None = None
    unknown_below: float | None = None

    def sentence(self) -> str:
        """Say in words what may be claimed."""
        sentence = f"{self.subjects} subjects: accuracy {_percent(self.accuracy, self.accuracy_interval)}"
        sentence += f" on {self.held_out} held-out faces"
        if self.refused is None or self.strangers_named is None:
            return sentence + "; too few subjects to set a threshold for strangers, so nobody is unknown."
        return (
            f"{sentence}; with `unknown`, {_percent(self.refused, self.refused_interval)} of them are refused or "
            f"misnamed and {_percent(self.strangers_named, self.strangers_interval)} of strangers are given a name."
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """A linear map from a unit vector to one value a subject.

    Attributes:
        weights: Shape (subjects, dimension); of unit length for cosines.
        shift: Shape (subjects,).
        by_cosine: Whether values are cosines, and the largest of them the score; otherwise it is the probability.
    """

    weights: Float64[np.ndarray, "subjects dimension"]
    shift: Float64[np.ndarray, " subjects"]
    by_cosine: bool

    def values(self, vectors: Float[np.ndarray, "faces dimension"]) -> Float64[np.ndarray, "faces subjects"]:
        """Return cosines or logits."""
        return np.asarray(vectors.astype(np.float64) @ self.weights.T + self.shift)

    def score(self, values: Float64[np.ndarray, "faces subjects"]) -> Float64[np.ndarray, " faces"]:
        """Return how much each face is like the subject that it is most like."""
        # Not the calibrated probability: where subjects are easily told apart it is near 1 for strangers, too.
        return np.asarray((values if self.by_cosine else softmax(values, axis=1)).max(axis=1))


def train(
    config: ClassifierConfig, *, analyzer: AnalyzerLike | None = None, samples: Samples | None = None
) -> ClassifierReport:
    """Cross-validate, fit on all faces, and write ``model.onnx`` and ``card.json`` into the run folder.

    Args:
        config: What to do.
        analyzer: Finds and embeds faces; default one with the embedder that ``config.on`` names.
        samples: Pictures with subjects; default those of ``config.data``.

    Raises:
        DataError: Fewer than two subjects, or none with two faces.
        TrainingError: The run folder cannot be used.
    """
    with Run(config.out, config, may_change={"cache"}) as run:
        analyzer = analyzer or Analyzer(embedder=config.on or None, expression=None)
        samples = samples or read_subjects(config.data)
        faces = acquire_faces(
            samples, analyzer, cache=config.cache or config.out / "cache", progress=PictureProgress(least=1)
        )
        names, labels = np.unique(faces.subjects, return_inverse=True)
        _check(labels)

        # Known: each fold is classified by what was learned on the others.
        everybody = np.ones(len(labels), dtype=bool)
        shipped = _fit(config, faces.vectors, labels, everybody)
        folds = _dealt(labels, config.folds, config.seed)
        values = np.full((len(labels), len(names)), np.nan)
        for fold in range(config.folds):
            inside = folds == fold
            if inside.any():
                values[inside] = _fit(config, faces.vectors, labels, ~inside).values(faces.vectors[inside])
        scale = _scale(values[folds >= 0], labels[folds >= 0])

        # Strangers: each group of subjects meets what was learned without them.
        scores = np.full(len(labels), np.nan)
        groups = np.random.default_rng(config.seed).permutation(len(names)) % min(config.folds, len(names))
        if len(names) >= _FEWEST_SUBJECTS:
            for group in np.unique(groups):
                inside = groups[labels] == group
                head = _fit(config, faces.vectors, labels, ~inside)
                scores[inside] = head.score(head.values(faces.vectors[inside]))

        report = _report(config, labels, folds, values, shipped, scale, scores, groups, faces.lost)
        _export(run.out, config, analyzer, names.tolist(), shipped, scale, report)
        run.finish({"outcome": report.sentence(), **asdict(report)})
        return report


def _check(labels: Int[np.ndarray, " faces"]) -> None:
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.max() < 2:
        raise DataError(
            f"A classifier needs at least 2 subjects, and one with 2 faces to check with; got {len(counts)} subjects "
            f"and {len(labels)} faces. Add subjects, or pictures of those there are."
        )


def _dealt(labels: Int[np.ndarray, " faces"], folds: int, seed: int) -> Int[np.ndarray, " faces"]:
    """Deal each subject's faces to the folds; -1 for the only face of a subject, which is always learned from."""
    rng = np.random.default_rng(seed)
    dealt = np.full(len(labels), -1)
    for label in range(int(labels.max()) + 1):
        inside = rng.permutation(np.flatnonzero(labels == label))
        if len(inside) > 1:
            dealt[inside] = (np.arange(len(inside)) + rng.integers(folds)) % folds
    return dealt


def _fit(
    config: ClassifierConfig,
    vectors: Float32[np.ndarray, "faces dimension"],
    labels: Int[np.ndarray, " faces"],
    learned: Bool[np.ndarray, " faces"],
) -> _Head:
    """Learn from some of the faces; a subject without any gets no row, and the others keep their order."""
    present, y = np.unique(labels[learned], return_inverse=True)
    x = vectors[learned].astype(np.float64)
    means = np.zeros((len(present), x.shape[1]))
    np.add.at(means, y, x)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    if config.head == "cosine":
        return _Head(means, np.zeros(len(present)), by_cosine=True)
    weights = torch.tensor(8 * means, requires_grad=True)
    shift = torch.zeros(len(present), dtype=torch.float64, requires_grad=True)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.LBFGS([weights, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(inputs @ weights.T + shift, targets)
        loss = loss + config.l2 / 2 * (weights.square().sum() + shift.square().sum())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return _Head(weights.detach().numpy(), shift.detach().numpy(), by_cosine=False)


def _scale(values: Float64[np.ndarray, "faces subjects"], labels: Int[np.ndarray, " faces"]) -> float:
    """Return the factor (one over the temperature) that makes the softmax of values most probable.

    Targets are drawn in from 0 and 1 by one count, so that faces without an error give a finite factor.

    Source: the targets as in J. Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    drawn_in = 1 / (len(labels) + 2)
    targets = np.full(values.shape, drawn_in / max(values.shape[1] - 1, 1))
    targets[np.arange(len(labels)), labels] = 1 - drawn_in

    def cost(log_scale: float) -> float:
        return -float((targets * log_softmax(math.exp(log_scale) * values, axis=1)).sum(axis=1).mean())

    found = minimize_scalar(cost, bounds=(-math.log(_LARGEST_SCALE), math.log(_LARGEST_SCALE)), method="bounded")
    return math.exp(float(found.x))


def _report(
    config: ClassifierConfig,
    labels: Int[np.ndarray, " faces"],
    folds: Int[np.ndarray, " faces"],
    values: Float64[np.ndarray, "faces subjects"],
    head: _Head,
    scale: float,
    strangers: Float64[np.ndarray, " faces"],
    groups: Int[np.ndarray, " subjects"],
    lost: int,
) -> ClassifierReport:
    held = folds >= 0
    right = (values.argmax(axis=1) == labels) & held
    probability = np.zeros(len(labels))
    for fold in np.unique(folds[held]):
        others = held & (folds != fold)
        # With faces in one fold only there are no others to calibrate on.
        own = _scale(values[others], labels[others]) if others.any() else scale
        probability[folds == fold] = softmax(own * values[folds == fold], axis=1).max(axis=1)
    report = ClassifierReport(
        subjects=int(labels.max()) + 1,
        faces=len(labels),
        held_out=int(held.sum()),
        accuracy=float(right[held].mean()),
        accuracy_interval=bootstrap_rate(right[held], labels[held]),
        calibration_error=expected_calibration_error(probability[held], right[held]),
        lost=lost,
    )
    if np.isnan(strangers).any():
        return report
    limit = _limit(config, strangers)
    named = np.zeros(len(labels), dtype=bool)
    for group in np.unique(groups):
        inside = groups[labels] == group
        named[inside] = strangers[inside] >= _limit(config, strangers[~inside])
    refused = ~right | (head.score(values) < limit)
    return replace(
        report,
        unknown_below=limit,
        refused=float(refused[held].mean()),
        refused_interval=bootstrap_rate(refused[held], labels[held]),
        strangers_named=float(named.mean()),
        strangers_interval=bootstrap_rate(named, labels),
    )


def _limit(config: ClassifierConfig, strangers: Float64[np.ndarray, " faces"]) -> float:
    """Return the lowest score that at most the allowed share of strangers reaches; of few strangers, none."""
    if config.strangers_named * len(strangers) < 1:
        return float(np.nextafter(strangers.max(), np.inf))
    return permissive_threshold(strangers, rate=config.strangers_named, what="Share", scores="faces of strangers")


def _export(
    out: Path,
    config: ClassifierConfig,
    analyzer: AnalyzerLike,
    names: list[str],
    head: _Head,
    scale: float,
    report: ClassifierReport,
) -> None:
    nodes = [
        helper.make_node("MatMul", [EMBEDDING, "weights"], ["products"]),
        helper.make_node("Add", ["products", "shift"], ["values"]),
        helper.make_node("Mul", ["values", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=1),
        helper.make_node("Identity", ["values"], ["likeness"])
        if head.by_cosine
        else helper.make_node("Softmax", ["values"], ["likeness"], axis=1),
        helper.make_node("ReduceMax", ["likeness"], [SCORE], axes=[1], keepdims=0),
    ]
    constants = {"weights": head.weights.T, "shift": head.shift, "scale": np.array(scale)}
    dimension = head.weights.shape[1]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["faces", dimension])],
        [
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["faces", len(names)]),
            helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, ["faces"]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    publish_network(
        out / "model.onnx",
        model.SerializeToString(),
        name=out.resolve().name,
        role="classifier",
        summary=report.sentence(),
        licence="that of the data",
        training_data=f"the user's own: '{config.data.name}'",
        convention={
            "on": config.on or analyzer.card.name,
            "embedder": analyzer.card.id,
            "dimension": dimension,
            "labels": names,
            "unknown_below": report.unknown_below,
        },
        metrics=asdict(report),
    )


def _percent(rate: float, interval: Interval | None) -> str:
    assert interval is not None, "a rate has an interval"
    return f"{100 * rate:.2f} % ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
