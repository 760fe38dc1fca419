"""What features are worth: how well simple classifiers on top of them do, with all the labels and with few of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Shaped

from mien.data.splits import SPLITS
from mien.errors import EvaluationError, UsageError
from mien.evaluation.records import plain
from mien.images import printable, write_whole
from mien.metrics.expression import confusion, macro_f1
from mien.metrics.intervals import REPLICATES, Interval, percentile_interval

__all__ = [
    "METHODS",
    "SHARES",
    "FeatureReport",
    "FeatureTable",
    "Score",
    "check_format",
    "compare_features",
    "labelled_share",
    "linear_probe",
    "nearest_neighbours",
    "principal_components",
    "save_features",
]

Matrix = Float32[np.ndarray, "samples dimension"]
Labels = Int[np.ndarray, " samples"]
Names = Shaped[np.ndarray, " samples"]

SCHEMA = "mien/features/1"
SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)
"""Of the training and validation labels that are used."""
METHODS = ("linear", "neighbours")

_PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # strongest first: each fit starts where the one before ended
_NEIGHBOURS = (1, 5, 15, 50)
_STEPS = 100  # of L-BFGS
_ROWS = 1000  # of a similarity matrix held at once
_FORMATS = (".parquet", ".csv", ".npz")


@dataclass(frozen=True, slots=True)
class Score:
    """How well one classifier on one kind of features did.

    Attributes:
        features: Kind of features.
        method: One of `METHODS`.
        share: Of the labels that were used.
        labels: Training pictures whose label was used, on average over seeds.
        accuracy: On all test pictures, mean over seeds.
        interval: 95 % interval of it: seeds, and test pictures or their subjects, are resampled.
        macro_f1: Mean over seeds.
        spread: Standard deviation of the accuracy over seeds; 0 for one seed.
        seeds: Draws of labels.
    """

    features: str
    method: str
    share: float
    labels: float
    accuracy: float
    interval: Interval
    macro_f1: float
    spread: float
    seeds: int


@dataclass(frozen=True, slots=True, eq=False)
class FeatureReport:
    """A table of scores.

    Attributes:
        scores: One for each kind of features, method and share.
        dimensions: Of each kind of features.
        classes: What is told apart.
        counts: Pictures by split.
        chance: Accuracy of always answering the most frequent class of training.
    """

    scores: tuple[Score, ...]
    dimensions: Mapping[str, int]
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    chance: float

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON can hold it."""
        record = {
            "schema": SCHEMA,
            "classes": len(self.classes),
            "n": dict(self.counts),
            "chance": self.chance,
            "dimensions": dict(self.dimensions),
            "scores": [asdict(score) for score in self.scores],
            "intervals": f"95 %, bootstrap over seeds and test pictures, {REPLICATES} replicates, seed 0",
            "chosen": "penalty and number of neighbours on validation, with the same share of its labels",
        }
        return cast(dict[str, object], plain(record))

    def text(self) -> str:
        """Return the table as Markdown: a row a kind of features and method, a column a share of labels."""
        shares = sorted({score.share for score in self.scores})
        lines = ["| features | classifier | " + " | ".join(f"{share:.0%}" for share in shares) + " |"]
        lines.append("| --- " * (len(shares) + 2) + "|")
        cells = {(s.features, s.method, s.share): s for s in self.scores}
        for features in dict.fromkeys(score.features for score in self.scores):
            for method in METHODS:
                row = [cells.get((features, method, share)) for share in shares]
                told = ["" if s is None else f"{_percent(s.accuracy)} [{_range(s.interval)}]" for s in row]
                lines.append(f"| {features} | {method} | {' | '.join(told)} |")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """Features of pictures, and what is known about each.

    Attributes:
        features: Shape (pictures, dimension).
        files: Name of each picture.
        labels: What it shows, '' where that is not known.
        subjects: Who, '' where that is not known.
        splits: Which part of the data, '' where that is not known.
    """

    features: Matrix
    files: tuple[str, ...]
    labels: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = {len(column) for column in (self.features, self.files, self.labels, self.subjects, self.splits)}
        assert len(counts) == 1, "one value a picture"


def compare_features(
    features: Mapping[str, Matrix],
    labels: Labels,
    splits: Names,
    classes: Sequence[str],
    *,
    shares: Sequence[float] = SHARES,
    seeds: int = 5,
    subjects: Names | None = None,
    progress: Callable[[], None] | None = None,
) -> FeatureReport:
    """Train a linear probe and a k-NN on each kind of features, with shares of the labels, and test them.

    Every kind of features gets the same labels. They are standardised by all training pictures, labels or not.

    Args:
        features: By kind, rows in the order of the labels.
        labels: Numbers of classes, shape (samples,).
        splits: train, valid or test, shape (samples,).
        classes: Names of the classes.
        shares: Of the labels of train and valid that are used; at least one a class.
        seeds: Draws of these labels; all of them are drawn once.
        subjects: Who is in each picture, for intervals; default every picture is somebody else.
        progress: Called after each score.

    Raises:
        EvaluationError: A split is missing, or a kind of features has another number of rows.
    """
    parts = {name: np.flatnonzero(splits == name) for name in SPLITS}
    if missing := [name for name, found in parts.items() if not len(found)]:
        raise EvaluationError(f"Comparing features needs train, valid and test; there is no {', '.join(missing)}.")
    for kind, values in features.items():
        if len(values) != len(labels):
            raise EvaluationError(f"There are {len(labels)} labels, got {len(values)} rows of features '{kind}'.")
    y = {name: labels[rows] for name, rows in parts.items()}
    true = y["test"]
    groups = np.arange(len(true)) if subjects is None else subjects[parts["test"]]
    scores = []
    for kind, values in features.items():
        x = dict(zip(SPLITS, _standardised(values, parts), strict=True))
        for share in shares:
            draws = range(1 if share >= 1 else seeds)
            answers, used = _answers(x, y, draws, share=share, classes=len(classes))
            for method in METHODS:
                scores.append(_score(kind, method, share, used, np.stack(answers[method]), true, groups, len(classes)))
                if progress is not None:
                    progress()
    most = int(np.bincount(y["train"], minlength=len(classes)).argmax())
    return FeatureReport(
        scores=tuple(scores),
        dimensions={kind: values.shape[1] for kind, values in features.items()},
        classes=tuple(classes),
        counts={name: len(rows) for name, rows in parts.items()},
        chance=float((true == most).mean()),
    )


def _answers(
    x: Mapping[str, Matrix], y: Mapping[str, Labels], seeds: Iterable[int], *, share: float, classes: int
) -> tuple[dict[str, list[Labels]], list[int]]:
    """Return what each method says of the test pictures by draw of the labels, and how many labels were drawn."""
    answers: dict[str, list[Labels]] = {method: [] for method in METHODS}
    used = []
    for seed in seeds:
        train, valid = (labelled_share(y[part], share, seed=seed) for part in ("train", "valid"))
        given = (x["train"][train], y["train"][train], x["valid"][valid], y["valid"][valid], x["test"])
        answers["linear"].append(linear_probe(*given, classes=classes))
        answers["neighbours"].append(nearest_neighbours(*given, classes=classes))
        used.append(len(train))
    return answers, used


def labelled_share(labels: Labels, share: float, *, seed: int) -> Int[np.ndarray, " chosen"]:
    """Draw a share of each class, at least one picture; a smaller share of a seed is part of a larger one."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(rows[: max(round(share * len(rows)), 1)])
    return np.sort(np.concatenate(chosen))


def linear_probe(
    train: Matrix, labels: Labels, valid: Matrix, valid_labels: Labels, test: Matrix, *, classes: int
) -> Int[np.ndarray, " test"]:
    """Answer test pictures by multinomial logistic regression; its L2 penalty is chosen on validation."""
    weights = np.zeros((train.shape[1] + 1, classes))
    best, best_right = weights, -1.0
    for penalty in _PENALTIES:
        weights = fit_logistic(train, labels, penalty, weights)
        right = float((_linear(valid, weights).argmax(axis=1) == valid_labels).mean())
        if right > best_right:
            best, best_right = weights, right
    return np.asarray(_linear(test, best).argmax(axis=1))


def nearest_neighbours(
    train: Matrix, labels: Labels, valid: Matrix, valid_labels: Labels, test: Matrix, *, classes: int
) -> Int[np.ndarray, " test"]:
    """Answer test pictures by a vote of their neighbours by cosine; how many is chosen on validation."""
    counts = [k for k in _NEIGHBOURS if k <= len(train)]
    answers = _votes(train, labels, valid, counts, classes)
    best = max(range(len(counts)), key=lambda i: (answers[i] == valid_labels).mean())
    return _votes(train, labels, test, [counts[best]], classes)[0]


def principal_components(train: Matrix, count: int) -> Callable[[Matrix], Matrix]:
    """Return what projects onto the directions in which training pictures differ most.

    Args:
        train: Shape (samples, dimension).
        count: Directions; fewer where there are not as many.
    """
    mean = train.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((train - mean).astype(np.float64), rowvar=False))
    directions = vectors[:, ::-1][:, :count].astype(np.float32)
    return lambda values: np.asarray((values - mean) @ directions)


def check_format(path: Path) -> None:
    """Refuse a file that `save_features` cannot write, before work goes into it.

    Raises:
        UsageError: The file is of another kind, or Parquet and there is no pyarrow.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"Features are written as {', '.join(_FORMATS)}, not as '{path.suffix}'. Name such a file.")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        except ImportError:
            raise UsageError(
                "Parquet needs pyarrow. Install it with: pip install pyarrow; or name a .csv or .npz file."
            ) from None


def save_features(table: FeatureTable, path: Path) -> None:
    """Write a table as Parquet, CSV or NPZ, by the file's name; all of it or nothing.

    Columns are path, label, subject, split, and the features: one column each (``z000``, ...) in a CSV, one of vectors
    (``features``) in the others.

    Raises:
        UsageError: The file is of another kind, or cannot be written.
    """
    check_format(path)
    known = {"path": table.files, "label": table.labels, "subject": table.subjects, "split": table.splits}
    out = io.BytesIO()
    match path.suffix.lower():
        case ".npz":
            names, label, subject, split = (np.array(values, dtype=np.str_) for values in known.values())
            np.savez_compressed(out, features=table.features, path=names, label=label, subject=subject, split=split)
        case ".csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow([*known, *(f"z{i:03}" for i in range(table.features.shape[1]))])
            for row in zip(*known.values(), table.features.tolist(), strict=True):
                writer.writerow([*row[:-1], *(f"{value:.9g}" for value in row[-1])])
            out.write(text.getvalue().encode("utf-8", "surrogateescape"))
        case _:
            import pyarrow  # type: ignore[import-not-found, unused-ignore]
            import pyarrow.parquet

            vectors = pyarrow.array(list(table.features), type=pyarrow.list_(pyarrow.float32()))
            columns = {name: list(values) for name, values in known.items()} | {"features": vectors}
            pyarrow.parquet.write_table(pyarrow.table(columns), out)
    try:
        write_whole(path, out.getvalue())
    except OSError as error:
        raise UsageError(f"Cannot write '{printable(path)}': {error.strerror or error}.") from error


def _standardised(values: Matrix, parts: Mapping[str, Int[np.ndarray, " part"]]) -> list[Matrix]:
    train = values[parts["train"]].astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-12), deviation, np.inf)
    return [((values[rows] - mean) / scale).astype(np.float32) for rows in parts.values()]


def _linear(x: Matrix, weights: Float64[np.ndarray, "inputs classes"]) -> Float[np.ndarray, "samples classes"]:
    return np.asarray(x @ weights[:-1].astype(np.float32) + weights[-1])


def fit_logistic(
    x: Matrix, labels: Labels, penalty: float, start: Float64[np.ndarray, "inputs classes"]
) -> Float64[np.ndarray, "inputs classes"]:
    """Minimise mean cross-entropy plus half the penalty times the squared weights; the bias is free."""
    from scipy.optimize import minimize

    n, shape = len(x), start.shape
    truth = np.zeros((n, shape[1]), np.float32)
    truth[np.arange(n), labels] = 1.0

    def value(flat: Float64[np.ndarray, " weights"]) -> tuple[float, Float64[np.ndarray, " weights"]]:
        weights = flat.reshape(shape)
        logits = _linear(x, weights)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        total = shares.sum(axis=1, keepdims=True)
        loss = float((np.log(total[:, 0]) - logits[np.arange(n), labels]).mean())
        error = ((shares / total - truth) / n).astype(np.float32)
        gradient = np.concatenate([x.T @ error, error.sum(axis=0, keepdims=True)]).astype(np.float64)
        gradient[:-1] += penalty * weights[:-1]
        return loss + 0.5 * penalty * float((weights[:-1] ** 2).sum()), gradient.ravel()

    found = minimize(value, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x).reshape(shape)


def _votes(
    train: Matrix, labels: Labels, queries: Matrix, counts: Sequence[int], classes: int
) -> list[Int[np.ndarray, " queries"]]:
    """Return the answers of votes among so many neighbours; of equal votes the class with the nearer ones wins."""
    reference, most = _unit(train), max(counts)
    parts: list[list[Labels]] = [[] for _ in counts]
    for start in range(0, len(queries), _ROWS):
        table = _unit(queries[start : start + _ROWS]) @ reference.T
        some = np.argpartition(-table, most - 1, axis=1)[:, :most]
        near = np.take_along_axis(table, some, axis=1)
        order = np.argsort(-near, axis=1)
        some, near = np.take_along_axis(some, order, axis=1), np.take_along_axis(near, order, axis=1)
        for place, k in enumerate(counts):
            votes = np.zeros((len(table), classes))
            for j in range(k):
                votes[np.arange(len(table)), labels[some[:, j]]] += 1 + 1e-3 * near[:, j]
            parts[place].append(votes.argmax(axis=1))
    return [np.concatenate(part) for part in parts]


def _unit(x: Matrix) -> Matrix:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _score(
    kind: str,
    method: str,
    share: float,
    used: Sequence[int],
    answers: Int[np.ndarray, "seeds test"],
    true: Labels,
    groups: Names,
    classes: int,
) -> Score:
    right = answers == true
    return Score(
        features=kind,
        method=method,
        share=share,
        labels=float(np.mean(used)),
        accuracy=float(right.mean()),
        interval=accuracy_interval(right, groups),
        macro_f1=float(np.mean([macro_f1(confusion(true, row, classes=classes)) for row in answers])),
        spread=float(right.mean(axis=1).std(ddof=1)) if len(right) > 1 else 0.0,
        seeds=len(right),
    )


def accuracy_interval(right: Bool[np.ndarray, "seeds test"], groups: Names) -> Interval:
    """Resample seeds and subjects at once: each adds its own uncertainty."""
    rng = np.random.default_rng(0)
    _, number = np.unique(groups, return_inverse=True)
    subjects, seeds = int(number.max()) + 1, len(right)
    # Right answers and pictures by seed and subject.
    sums = np.stack([np.bincount(number.ravel(), row, minlength=subjects) for row in right.astype(float)])
    sizes = np.bincount(number.ravel(), minlength=subjects)
    draws = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=REPLICATES)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=REPLICATES)
    replicates = ((chosen @ sums) * draws).sum(axis=1) / (seeds * (draws @ sizes))
    return percentile_interval(replicates)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _range(interval: Interval) -> str:
    return f"{100 * interval[0]:.1f}, {100 * interval[1]:.1f}"
