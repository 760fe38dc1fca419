"""What is in a data set, and what is wrong with it, before anything is learnt from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

from mien.data.reading import work_on_each
from mien.data.samples import Samples
from mien.data.splits import SPLITS
from mien.errors import DataError, ImageError
from mien.images import digest, printable

__all__ = ["NEARLY_ALIKE", "Copy", "Report", "inspect"]

NEARLY_ALIKE = 0.97
"""Correlation of two 16 x 16 px thumbnails from which pictures count as nearly alike. On FER2013, 0.97 and more is the
same photograph with other borders, marks or light; at 0.94 the first pairs of two people come in."""

_THUMBNAIL = 16
_BLOCK = 1024  # rows of the table of correlations that are in memory at once
_MOST_LISTED = 10_000
_SHOWN = 5


@dataclass(frozen=True)
class Copy:
    """Two samples in two splits that are one picture, or nearly.

    Attributes:
        first: Number of the one sample.
        second: Number of the other, in another split.
        likeness: 1 for the same pixels, otherwise the correlation of thumbnails.
    """

    first: int
    second: int
    likeness: float


@dataclass(frozen=True, eq=False)
class Report:
    """What `inspect` found.

    Attributes:
        samples: What was inspected.
        classes: Pictures by target, class and split; the split is '' where it is not known.
        unlabelled: Pictures without a label, by target.
        sizes: Pictures by (width, height) in px.
        grey: Pictures whose three channels are the same.
        unreadable: Name and reason of pictures that cannot be read.
        repeated: Pictures that are, pixel by pixel, one that came before.
        conflicts: Groups of such pictures whose labels differ.
        near: Pictures that are nearly alike another one of the same split (or of none), but not the same.
        copies: Pairs across splits, exact ones first, then most alike first.
        num_copied: Pictures of each split that also stand, or nearly, in another one.
        shared_subjects: Subjects that stand in more than one split.
        problems: What should be mended or knowingly accepted before training, a line each.
    """

    samples: Samples
    classes: Mapping[str, Mapping[str, Mapping[str, int]]]
    unlabelled: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int]
    grey: int
    unreadable: tuple[tuple[str, str], ...]
    repeated: int
    conflicts: int
    near: int
    copies: tuple[Copy, ...]
    num_copied: Mapping[str, int]
    shared_subjects: int
    problems: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", tuple(_problems(self)))

    def lines(self) -> list[str]:
        """Return the report as text, the problems last."""
        samples = self.samples
        splits = _splits_of(samples)
        lines = [f"{printable(samples.source)}: {len(samples)} pictures, layout {samples.kind}"]
        if samples.subjects is not None:
            known = samples.subjects[samples.subjects != ""]
            lines.append(f"{len(np.unique(known))} subjects")
        for target, classes in self.classes.items():
            lines += ["", *_table(target, classes, splits, self.unlabelled[target])]
        readable = sum(self.sizes.values())
        if readable:
            common = sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
            sizes = ", ".join(f"{w} x {h} px ({count})" for (w, h), count in common[:4])
            more = f" and {len(common) - 4} more sizes" if len(common) > 4 else ""
            lines += ["", f"Sizes: {sizes}{more}; {self.grey} grey, {readable - self.grey} colour."]
        lines.append(
            f"Copies: {self.repeated} pictures repeat an earlier one exactly; {self.near} are nearly like another one."
        )
        if self.problems:
            lines += ["", f"To mend, or to accept knowingly ({len(self.problems)}):"]
            lines += [f"- {problem}" for problem in self.problems]
            lines += [f"  {line}" for line in self._examples()]
        return lines

    def _examples(self) -> Iterator[str]:
        names, splits = self.samples.names, self.samples.splits
        for copy in self.copies[:_SHOWN]:
            how = "same as" if copy.likeness == 1 else f"nearly ({copy.likeness:.3f})"
            a, b = copy.first, copy.second
            yield f"{splits[a]} {printable(names[a])} {how} {splits[b]} {printable(names[b])}"
        if len(self.copies) > _SHOWN:
            yield "All of them are in the JSON."

    def to_json(self) -> dict[str, object]:
        """Return everything as plain values; copies are listed by name, the first 10,000."""
        names, splits = self.samples.names, self.samples.splits
        return {
            "schema": "mien/data-inspection/1",
            "source": printable(self.samples.source),
            "layout": self.samples.kind,
            "n": len(names),
            "splits": dict(Counter(splits.tolist())),
            "subjects": None if self.samples.subjects is None else len(set(self.samples.subjects.tolist()) - {""}),
            "classes": self.classes,
            "unlabelled": self.unlabelled,
            "sizes": [{"width": w, "height": h, "n": count} for (w, h), count in sorted(self.sizes.items())],
            "grey": self.grey,
            "unreadable": [{"name": printable(name), "reason": reason} for name, reason in self.unreadable],
            "repeated": self.repeated,
            "conflicts": self.conflicts,
            "near": self.near,
            "copied_across_splits": self.num_copied,
            "copies": [
                {
                    "first": printable(names[copy.first]),
                    "first_split": str(splits[copy.first]),
                    "second": printable(names[copy.second]),
                    "second_split": str(splits[copy.second]),
                    "likeness": round(copy.likeness, 4),
                }
                for copy in self.copies[:_MOST_LISTED]
            ],
            "shared_subjects": self.shared_subjects,
            "problems": list(self.problems),
        }

    def refuse_problems(self) -> None:
        """Raise where anything is to be mended.

        Raises:
            DataError: There are problems; the first is named.
        """
        if self.problems:
            more = f" and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
            raise DataError(f"The data has problems: {self.problems[0]}{more}")


def inspect(
    samples: Samples,
    *,
    nearly_alike: float = NEARLY_ALIKE,
    threads: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Report:
    """Read every picture once; count, and look for what would spoil training or flatter a test.

    Args:
        samples: What to inspect.
        nearly_alike: Least correlation of thumbnails of near duplicates, in (0, 1].
        threads: Pictures read at once; default the CPU quota.
        progress: Called after each picture.
    """
    count = len(samples)
    thumbnails = np.zeros((count, _THUMBNAIL**2), np.float32)
    digests = [""] * count
    sizes: list[tuple[int, int] | None] = [None] * count
    grey = np.zeros(count, dtype=bool)

    def look(index: int) -> str | None:
        try:
            image = samples.picture(index)
        except ImageError as error:
            return str(error)
        sizes[index] = (image.shape[1], image.shape[0])
        grey[index] = _is_grey(image)
        digests[index] = digest(image)
        thumbnails[index] = _thumbnail(image)
        return None

    unreadable = work_on_each(samples, look, threads=threads, progress=progress)
    groups = _groups(digests)
    exact = list(_across(groups, samples.splits))
    near, similar = _nearly_alike(thumbnails, digests, samples.splits, nearly_alike)
    copies = [*exact, *similar]
    return Report(
        samples=samples,
        classes={name: _counts(samples, name) for name in samples.targets},
        unlabelled={name: int((target.labels < 0).sum()) for name, target in samples.targets.items()},
        sizes=Counter(size for size in sizes if size is not None),
        grey=int(grey.sum()),
        unreadable=tuple(unreadable),
        repeated=sum(len(group) - 1 for group in groups),
        conflicts=sum(_contradicts(samples, group) for group in groups),
        near=near,
        copies=tuple(copies),
        num_copied=_copied(samples, copies, groups),
        shared_subjects=_shared_subjects(samples),
    )


def _copied(samples: Samples, copies: Sequence[Copy], groups: Sequence[Sequence[int]]) -> dict[str, int]:
    """Return how many pictures of each split also stand in another one."""
    copied = {index: str(samples.splits[index]) for copy in copies for index in (copy.first, copy.second)}
    for group in groups:  # of several copies in one split only the first is paired
        if len({str(samples.splits[i]) for i in group} - {""}) > 1:
            copied.update({i: str(samples.splits[i]) for i in group if samples.splits[i]})
    return {split: n for split in SPLITS if (n := sum(own == split for own in copied.values()))}


def _problems(report: Report) -> Iterator[str]:
    samples = report.samples
    yield from samples.notes
    if report.unreadable:
        name, reason = report.unreadable[0]
        named = reason if printable(name) in reason else f"{printable(name)}: {reason}"
        yield f"{len(report.unreadable)} pictures cannot be read, as {named}"
    if len(samples) == 1:
        yield "There is one picture. Nothing can be learnt and checked from it."
    for target, classes in report.classes.items():
        totals = {name: sum(by_split.values()) for name, by_split in classes.items()}
        empty = [name for name, total in totals.items() if not total]
        single = [name for name, total in totals.items() if total == 1]
        if empty:
            yield f"{target}: no picture of {_some(empty)}."
        if single:
            yield f"{target}: a single picture of {_some(single)}."
        learned = _readable_to_learn_from(report, target)
        few = [name for name, total in totals.items() if total > 1 and learned[name] < 2]
        for count, what in ((1, "a single readable picture"), (0, "no readable picture")):
            if lonely := [name for name in few if learned[name] == count]:
                yield f"{target}: {what} of {_some(lonely)} to learn from."
        if len(totals) - len(empty) == 1:
            yield f"{target}: one class only; there is nothing to tell apart."
        for split in _splits_of(samples):
            lacking = [name for name, by_split in classes.items() if totals[name] > 1 and not by_split.get(split)]
            if lacking and split:
                yield f"{target}: no picture of {_some(lacking)} in {split}."
    if report.num_copied:
        counts = ", ".join(f"{n} of {split}" for split, n in report.num_copied.items())
        exact = sum(copy.likeness == 1 for copy in report.copies)
        yield (
            f"Pictures stand in more than one split, exactly ({exact} pairs) or nearly "
            f"({len(report.copies) - exact} pairs): {counts}. A test on them flatters."
        )
    if marked := int(samples.leaks.sum()):
        yield f"The data set itself marks {marked} pictures as standing in another split too."
    if report.conflicts:
        yield f"{report.conflicts} groups of identical pictures have labels that contradict each other."
    if report.shared_subjects:
        yield f"{report.shared_subjects} subjects stand in more than one split."


def _readable_to_learn_from(report: Report, target: str) -> dict[str, int]:
    """Return how many pictures of each class can be read and do not stand in test or valid."""
    broken = {name for name, _ in report.unreadable}
    usable = np.array([name not in broken for name in report.samples.names])
    usable &= ~np.isin(report.samples.splits, [split for split in SPLITS if split != "train"])
    labels, classes = report.samples.targets[target].labels[usable], report.samples.targets[target].classes
    return dict(zip(classes, np.bincount(labels[labels >= 0], minlength=len(classes)).tolist(), strict=True))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name) for name in names[:_SHOWN]) + more


def _table(target: str, classes: Mapping[str, Mapping[str, int]], splits: Sequence[str], unlabelled: int) -> list[str]:
    """Return counts by class and split, aligned; of very many classes the largest and smallest."""
    rows = [(printable(name), [by.get(split, 0) for split in splits]) for name, by in classes.items()]
    if len(rows) > 24:
        rows.sort(key=lambda row: -sum(row[1]))
        between = [sum(column) for column in zip(*(row[1] for row in rows[12:-6]), strict=True)]
        rows = [*rows[:12], (f"... {len(rows) - 18} more", between), *rows[-6:]]
    columns = [split or "pictures" for split in splits]
    width = max(len(target), *(len(name) for name, _ in rows))
    lines = ["  ".join([target.ljust(width), *(c.rjust(8) for c in columns)])]
    lines += ["  ".join([name.ljust(width), *(str(n).rjust(8) for n in counts)]) for name, counts in rows]
    if unlabelled:
        lines.append(f"without a label: {unlabelled}")
    return lines


def _splits_of(samples: Samples) -> list[str]:
    present = set(samples.splits.tolist())
    return [split for split in (*SPLITS, "") if split in present]


def _counts(samples: Samples, target: str) -> dict[str, dict[str, int]]:
    labels, classes = samples.targets[target].labels, samples.targets[target].classes
    table = {name: dict.fromkeys(_splits_of(samples), 0) for name in classes}
    for split in _splits_of(samples):
        inside = labels[(samples.splits == split) & (labels >= 0)]
        for name, number in zip(classes, np.bincount(inside, minlength=len(classes)).tolist(), strict=True):
            table[name][split] = number
    return table


def _is_grey(image: UInt8[np.ndarray, "height width 3"]) -> bool:
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())


def _thumbnail(image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, " pixels"]:
    """Return a small grey picture of mean zero and length one; a picture of one colour is zero, like nothing else."""
    small = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    values = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()
    values -= values.mean()
    length = float(np.linalg.norm(values))
    return np.asarray(values / length if length > _THUMBNAIL else np.zeros_like(values), dtype=np.float32)


def _groups(digests: Sequence[str]) -> list[list[int]]:
    """Return the groups of two and more samples with the same pixels."""
    by_digest: dict[str, list[int]] = {}
    for index, value in enumerate(digests):
        if value:
            by_digest.setdefault(value, []).append(index)
    return [group for group in by_digest.values() if len(group) > 1]


def _across(groups: Sequence[Sequence[int]], splits: np.ndarray) -> Iterator[Copy]:
    """Yield the first picture of each group in one split with the first in another."""
    for group in groups:
        first = {str(splits[i]): i for i in reversed(group) if splits[i]}
        inside = [first[split] for split in SPLITS if split in first]
        yield from (Copy(a, b, 1.0) for n, a in enumerate(inside) for b in inside[n + 1 :])


def _nearly_alike(
    thumbnails: Float32[np.ndarray, "samples pixels"], digests: Sequence[str], splits: np.ndarray, least: float
) -> tuple[int, list[Copy]]:
    """Compare all thumbnails: how many have a near copy beside them, and the pairs across splits, most alike first.

    All against all is n squared, but one matrix product: 35,000 pictures take seconds.
    """
    # Of pictures with the same pixels one stands for all of its split.
    unique: dict[tuple[str, str], int] = {}
    for i, value in enumerate(digests):
        if value and thumbnails[i].any():
            unique.setdefault((value, str(splits[i])), i)
    chosen: Int64[np.ndarray, " unique"] = np.array(sorted(unique.values()), dtype=np.int64)
    names, split_of = np.unique(splits[chosen], return_inverse=True)
    known = names[split_of] != "" if len(chosen) else np.zeros(0, dtype=bool)
    _, same = np.unique([digests[i] for i in chosen], return_inverse=True)
    vectors = thumbnails[chosen]
    beside = np.zeros(len(chosen), dtype=bool)
    copies: list[Copy] = []
    for start in range(0, len(chosen), _BLOCK):
        stop = min(start + _BLOCK, len(chosen))
        alike = vectors[start:stop] @ vectors[start:].T
        rows, columns = np.nonzero(alike > least)
        likeness = alike[rows, columns]
        rows, columns = rows + start, columns + start
        real = (rows < columns) & (same[rows] != same[columns])
        rows, columns, likeness = rows[real], columns[real], likeness[real]
        cross = (split_of[rows] != split_of[columns]) & known[rows] & known[columns]
        beside[rows[~cross]] = beside[columns[~cross]] = True
        copies += [
            Copy(int(chosen[a]), int(chosen[b]), min(float(value), 0.99999))
            for a, b, value in zip(rows[cross], columns[cross], likeness[cross], strict=True)
        ]
    return int(beside.sum()), sorted(copies, key=lambda copy: -copy.likeness)


def _contradicts(samples: Samples, group: Sequence[int]) -> bool:
    labels: list[Int[np.ndarray, " group"]] = [target.labels[group] for target in samples.targets.values()]
    return any(len(np.unique(own[own >= 0])) > 1 for own in labels)


def _shared_subjects(samples: Samples) -> int:
    if samples.subjects is None:
        return 0
    known = (samples.subjects != "") & (samples.splits != "")
    pairs = set(zip(samples.subjects[known].tolist(), samples.splits[known].tolist(), strict=True))
    return sum(number > 1 for number in Counter(subject for subject, _ in pairs).values())
