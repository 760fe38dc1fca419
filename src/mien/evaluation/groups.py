"""Error rates by group of people: one global threshold, comparisons within each group.

Source: P. Grother, M. Ngan, K. Hanaoka, "Face Recognition Vendor Test part 3: Demographic Effects", NISTIR 8280, 2019:
rates within a group at one threshold, and the ratio of the worst to the others; resampled by subject.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mien.data.lists import delimiter_of, existing_name, read_list, text_of
from mien.errors import EvaluationError, UsageError
from mien.evaluation.acquisition import AnalyzerLike, Samples, acquire
from mien.evaluation.records import plain
from mien.images import printable
from mien.metrics.intervals import Interval, percentile_interval, wilson
from mien.types import OperatingPoint

__all__ = [
    "FEWEST",
    "GroupRates",
    "GroupReport",
    "People",
    "evaluate_groups",
    "measure_groups",
    "rates_within",
    "read_groups",
]

SCHEMA = "mien/evaluation-groups/1"
FEWEST = 10
"""Subjects that a group needs: fewer have at most 45 pairs of strangers, and say nothing of a rate."""

_REPLICATES, _SEED = 1000, 0


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Pictures with what is known of the person on each.

    Attributes:
        paths: One a picture.
        subjects: Whom each shows, shape (pictures,).
        attributes: Of each picture, by name of the attribute, such as ``sex``; an empty string where it is not known.
    """

    paths: tuple[Path, ...]
    subjects: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]

    def groups(self) -> dict[str, Bool[np.ndarray, " pictures"]]:
        """Return the pictures of each group: by each attribute, and by all of them together where there are several."""
        columns = {name: np.array(values, dtype=object) for name, values in self.attributes.items()}
        found: dict[str, Bool[np.ndarray, " pictures"]] = {}
        if len(columns) > 1:
            known = np.all([values != "" for values in columns.values()], axis=0)
            joined = np.array([" ".join(row) for row in zip(*columns.values(), strict=True)], dtype=object)
            found |= {str(value): known & (joined == value) for value in np.unique(joined[known])}
        for values in columns.values():
            found |= {str(value): values == value for value in np.unique(values[values != ""])}
        return found


@dataclass(frozen=True, slots=True)
class GroupRates:
    """Error rates within one group, at a threshold that is the same for all.

    Attributes:
        group: Its name, for instance ``east_asian female``.
        subjects: People in it.
        pictures: Their pictures that show a face.
        num_impostor: Comparisons of two people of the group.
        num_genuine: Comparisons of one person's pictures.
        fmr: False match rate.
        fmr_interval: 95 %, resampling subjects; Wilson's over independent pairs of subjects where no match was seen.
        fnmr: False non-match rate; None without mated comparisons.
        fnmr_interval: Its interval.
    """

    group: str
    subjects: int
    pictures: int
    num_impostor: int
    num_genuine: int
    fmr: float
    fmr_interval: Interval
    fnmr: float | None
    fnmr_interval: Interval | None


@dataclass(frozen=True, slots=True)
class GroupReport:
    """Rates of all groups at one operating point.

    Attributes:
        dataset: Name of the list.
        embedder: Id of the embedder.
        point: The operating point whose threshold decides.
        groups: Largest FMR first.
        too_small: Groups that were left out for having fewer than `FEWEST` people, with how many they have.
        fta: Pictures in which no face was found.
        unreadable: Why other pictures could not be read, by path.
    """

    dataset: str
    embedder: str
    point: OperatingPoint
    groups: tuple[GroupRates, ...]
    too_small: Mapping[str, int]
    fta: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> GroupRates:
        """The group whose strangers match most often."""
        return self.groups[0]

    @property
    def ratio(self) -> float | None:
        """FMR of the worst group over the geometric mean of all; None where a group has no false match at all.

        Source: ISO/IEC 19795-10:2024, the ratio of the maximum to the geometric mean.
        """
        rates = np.array([group.fmr for group in self.groups])
        return float(rates.max() / np.exp(np.log(rates).mean())) if rates.all() else None

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON can hold it."""
        record = {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "embedder": self.embedder,
            "target_fmr": self.point.target_fmr if self.point.num_impostor else None,
            "threshold": self.point.threshold,
            "measured_on": self.point.dataset,
            "worst": self.worst.group,
            "worst_fmr": self.worst.fmr,
            "worst_fmr_interval": self.worst.fmr_interval,
            "ratio_to_geometric_mean": self.ratio,
            "groups": [asdict(group) for group in self.groups],
            "too_small": dict(self.too_small),
            "fta": list(self.fta),
            "unreadable": dict(self.unreadable),
            "intervals": f"95 %, bootstrap over subjects, {_REPLICATES} replicates, seed {_SEED}",
        }
        return cast(dict[str, object], plain(record))


def read_groups(file: Path, *, images: Path | None = None) -> People:
    """Read a CSV with a picture a row: ``path``, optionally ``subject``, and a column an attribute.

    Without the column ``subject`` a picture's folder says whom it shows, and each picture of one flat folder shows
    somebody of their own.

    Args:
        file: The list.
        images: Folder that its paths start from; default: the list's own.

    Raises:
        UsageError: A column is missing, there is no attribute, or the list is empty.
        DataError: It is no text in UTF-8, or a row has another length.
    """
    name = f"'{printable(file.name)}'"
    try:
        text = text_of(file.read_bytes(), name)
    except OSError as error:
        raise UsageError(f"{name} cannot be read ({error.strerror}).") from error
    first = next(csv.reader(text.splitlines()[:1], delimiter=delimiter_of(text), skipinitialspace=True), [])
    columns = [column.strip().lower() for column in first]
    attributes = [column for column in columns if column not in ("path", "subject", "")]
    if "path" not in columns or not attributes:
        raise UsageError(
            f"{name} should have the column path and one a group's attribute, for instance path,subject,sex; got "
            f"{printable(','.join(columns)) or 'no rows'}."
        )
    rows = read_list(text, name, columns=("path",), optional=("subject", *attributes))
    table = [row.values for row in rows]
    if not table:
        raise UsageError(f"{name} names no picture.")
    root = images or file.parent
    paths = tuple(root / existing_name(root, row["path"]) for row in table)
    if "subject" in columns:
        subjects = tuple(row["subject"] for row in table)
    else:
        flat = len({path.parent for path in paths}) == 1
        subjects = tuple(str(path) if flat else str(path.parent) for path in paths)
    return People(paths, subjects, {column: tuple(row[column] for row in table) for column in attributes})


def evaluate_groups(
    analyzer: AnalyzerLike,
    people: People,
    *,
    point: OperatingPoint,
    dataset: str,
    progress: Callable[[], None] | None = None,
) -> GroupReport:
    """Analyse each picture once and compare everybody with everybody of the same group.

    Args:
        analyzer: Finds and embeds faces.
        people: Pictures, subjects and attributes.
        point: Its threshold decides.
        dataset: Name of the list, for the report.
        progress: Called after each picture.

    Raises:
        EvaluationError: No face was found at all, or no group has enough people.
    """
    samples = acquire(analyzer, people.paths, progress=progress)
    return measure_groups(samples, people, point=point, dataset=dataset, embedder=analyzer.embedder.card.id)


def measure_groups(
    samples: Samples, people: People, *, point: OperatingPoint, dataset: str, embedder: str
) -> GroupReport:
    """Measure from embeddings; arguments and errors as of `evaluate_groups`."""
    _, numbers = np.unique(np.array(people.subjects, dtype=object).astype(str), return_inverse=True)
    rates, too_small = [], {}
    for name, chosen in people.groups().items():
        chosen = chosen & samples.acquired
        subjects = numbers[chosen]
        count = len(np.unique(subjects))
        if count < FEWEST:
            too_small[name] = count
        else:
            rates.append(rates_within(name, samples.vectors[chosen], subjects, point.threshold))
    if not rates:
        raise EvaluationError(
            f"No group has {FEWEST} people with a face. Name groups with more people, or fewer columns in the list."
        )
    return GroupReport(
        dataset=dataset,
        embedder=embedder,
        point=point,
        groups=tuple(sorted(rates, key=lambda group: -group.fmr)),
        too_small=too_small,
        fta=tuple(str(people.paths[number]) for number in samples.fta),
        unreadable={str(people.paths[number]): why for number, why in samples.unreadable.items()},
    )


def rates_within(
    name: str,
    vectors: Float32[np.ndarray, "pictures dimension"],
    subjects: Int64[np.ndarray, " pictures"],
    threshold: float,
) -> GroupRates:
    """Compare everybody of one group with everybody else of it.

    Args:
        name: Of the group.
        vectors: Unit embeddings, shape (pictures, dimension).
        subjects: Whom each picture shows, shape (pictures,); two people at least.
        threshold: Scores from here on match.
    """
    _, owner = np.unique(subjects, return_inverse=True)
    people = int(owner.max()) + 1
    # Counts by pair of subjects: everything that resampling needs, without a list of millions of comparisons.
    total, matched = np.zeros((people, people)), np.zeros((people, people))
    for start in range(0, len(vectors), 1024):
        part = slice(start, start + 1024)
        hits = vectors[part] @ vectors.T >= threshold
        later = np.arange(len(vectors)) > np.arange(start, start + len(hits))[:, None]
        first, second = np.nonzero(later)
        cells = owner[part][first] * people + owner[second]
        total += np.bincount(cells, minlength=people * people).reshape(people, people)
        matched += np.bincount(cells, weights=hits[later], minlength=people * people).reshape(people, people)
    total, matched = total + total.T, matched + matched.T  # each comparison once, whichever came first
    mated, accepted = np.diagonal(total).copy() / 2, np.diagonal(matched).copy() / 2
    np.fill_diagonal(total, 0)
    np.fill_diagonal(matched, 0)
    draws = np.random.default_rng(_SEED).multinomial(people, np.full(people, 1 / people), size=_REPLICATES)
    impostor, false = total.sum() / 2, matched.sum() / 2
    genuine = mated.sum()
    return GroupRates(
        group=name,
        subjects=people,
        pictures=len(vectors),
        num_impostor=int(impostor),
        num_genuine=int(genuine),
        fmr=float(false / impostor),
        # Without one match to resample: people in disjoint pairs are independent, and there are half as many of them.
        fmr_interval=_resampled(np.einsum("rs,st,rt->r", draws, matched, draws, optimize=True),
                                np.einsum("rs,st,rt->r", draws, total, draws, optimize=True))
        if false else wilson(0, people // 2),
        fnmr=float(1 - accepted.sum() / genuine) if genuine else None,
        fnmr_interval=_fnmr_interval(draws, mated, accepted) if genuine else None,
    )  # fmt: skip


def _fnmr_interval(draws: Int64[np.ndarray, "replicates people"], mated: np.ndarray, accepted: np.ndarray) -> Interval:
    missed = mated.sum() - accepted.sum()
    if missed in (0, mated.sum()):
        with_pairs = int(np.count_nonzero(mated))
        return wilson(with_pairs if missed else 0, with_pairs)
    return _resampled(draws @ (mated - accepted), draws @ mated)


def _resampled(events: Sequence[float] | np.ndarray, trials: Sequence[float] | np.ndarray) -> Interval:
    with np.errstate(invalid="ignore", divide="ignore"):
        return percentile_interval(np.asarray(events) / np.asarray(trials))
