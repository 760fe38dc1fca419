"""Pictures with expression labels, of one data set or of several that are learned from together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from mien.data.samples import Samples, Target, read_samples, standing_elsewhere
from mien.data.splits import fill_valid
from mien.errors import DataError, UsageError
from mien.images import printable
from mien.types import EXPRESSIONS

if TYPE_CHECKING:
    from mien.training.expression import ExpressionConfig

__all__ = ["Labelled", "load_labelled"]

_SHOWN = 5  # names in a warning


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled pictures for training and validation.

    Attributes:
        parts: A data set each. All have the same targets; pictures of a data set that lacks one are unlabelled in it.
        heads: Classes by target, the main one first.
        notes: What should be said about them, a line each.
    """

    parts: tuple[Samples, ...]
    heads: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of pictures by split."""
        return {split: sum(int((part.splits == split).sum()) for part in self.parts) for split in ("train", "valid")}

    def first(self, count: int) -> Labelled:
        """Return the first pictures of each split and data set, so many of each."""
        parts = []
        for part in self.parts:
            few = [np.flatnonzero(part.splits == split)[:count] for split in ("train", "valid")]
            parts.append(part.take(np.concatenate(few)))
        return replace(self, parts=tuple(parts))

    def targets(self, name: str) -> Target:
        """Return what was judged under a name, of all parts after one another."""
        classes = self.heads[name]
        return Target(classes, np.concatenate([part.targets[name].shares for part in self.parts]))

    @property
    def splits(self) -> np.ndarray:
        """Split of each picture, of all parts after one another."""
        return np.concatenate([part.splits for part in self.parts])

    def strata(self) -> Int[np.ndarray, " pictures"]:
        """Return numbers that tell classes and data sets apart, -1 for what its data set's first target leaves open."""
        numbers, before = [], 0
        for part in self.parts:
            name = _first_target(part, self.heads)
            labels = part.targets[name].labels
            numbers.append(np.where(labels >= 0, labels + before, -1))
            before += len(self.heads[name])
        return np.concatenate(numbers)


def load_labelled(config: ExpressionConfig) -> Labelled:
    """Read the data sets of a config, and keep the labelled pictures of train and valid.

    Raises:
        MienError: They hold no such labels, or labels that do not go together, or nothing to learn from or check with.
    """
    named: Sequence[str] = config.names or [""] * len(config.data)
    parts = [
        _called(read_samples(source, kind=config.kind, labels=config.labels), name)
        for source, name in zip(config.data, named, strict=True)
    ]
    heads = _heads(parts, config)
    notes = [_of(part, note, parts) for part in parts for note in part.notes]
    parts = [_with_targets(part, heads) for part in parts]
    joined = Labelled(tuple(parts), heads)
    for name in heads:
        _shown_classes(name, joined.targets(name), joined.splits != "test")
    labelled = [np.any([part.targets[name].labels >= 0 for name in heads], axis=0) for part in parts]
    for part, any_ in zip(parts, labelled, strict=True):
        if not any_.any():
            raise DataError(f"'{printable(part.source)}' has none of the targets {', '.join(heads)}. Leave it out.")
    parts = [_with_valid(part, heads, config) for part in parts]
    kept = []
    leaking = [
        marks & any_ & (part.splits == "train")
        for part, any_, marks in zip(parts, labelled, standing_elsewhere(parts), strict=True)
    ]
    if any(marks.any() for marks in leaking):
        found = [part.names[i] for part, marks in zip(parts, leaking, strict=True) for i in np.flatnonzero(marks)]
        notes.append(_overlap(config, found))
    for part, any_, marks in zip(parts, labelled, leaking, strict=True):
        keep = any_ & (part.splits != "test")
        kept.append(part.take(np.flatnonzero(keep & ~marks if config.drop_leaks else keep)))
    joined = Labelled(tuple(kept), heads)
    for name in heads:
        present = _shown_classes(name, joined.targets(name), joined.splits == "train")
        if missing := [label for index, label in enumerate(heads[name]) if index not in present]:
            notes.append(f"No training picture of '{name}' shows {', '.join(missing)}: the network will not answer it.")
    for part in kept:
        if not (part.splits == "valid").any():
            whose = f" of '{printable(part.source)}'" if len(kept) > 1 else ""
            raise DataError(f"No labelled picture{whose} is left for validation. Add some, or raise valid_share.")
    return replace(joined, notes=tuple(notes))


def _called(samples: Samples, name: str) -> Samples:
    """Return samples with another name of their labels; empty keeps the name."""
    if not name:
        return samples
    if len(samples.targets) != 1:
        raise UsageError(
            f"'{printable(samples.source)}' has the targets {', '.join(samples.targets) or 'none'}; setting 'names' "
            f"renames a single one. Leave its name empty."
        )
    (target,) = samples.targets.values()
    return replace(samples, targets={name: target})


def _heads(parts: Sequence[Samples], config: ExpressionConfig) -> dict[str, tuple[str, ...]]:
    """Return the classes of each target that is learned, in our order where data sets differ in theirs."""
    known = dict.fromkeys(name for part in parts for name in part.targets)
    names = config.heads or tuple(known)
    if not names:
        raise DataError(
            f"'{printable(config.data[0])}' holds no expression labels. Expected a folder for each expression."
        )
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"The data have no target {', '.join(unknown)}; they have {', '.join(known)}.")
    heads: dict[str, tuple[str, ...]] = {}
    for name in names:
        with_it = [part for part in parts if name in part.targets]
        for part in with_it:
            _check_classes(name, part, alone=len(parts) == 1)
        # The widest decides; of several, the first.
        first = max(with_it, key=lambda part: len(part.targets[name].classes))
        heads[name] = first.targets[name].classes
        for other in with_it:
            _check_alike(name, first, other, subset=config.subset_classes)
    return heads


def _check_classes(name: str, part: Samples, *, alone: bool) -> None:
    """Check that a target is about expressions."""
    if strange := [label for label in part.targets[name].classes if label not in EXPRESSIONS]:
        where = "" if alone else f" in '{printable(part.source)}'"
        raise DataError(
            f"The classes {', '.join(strange[:_SHOWN])} of '{name}'{where} are no expressions; known are "
            f"{', '.join(EXPRESSIONS)}. Rename the folders, or give --labels for numbers; other classes are for "
            f"`mien train classifier`."
        )


def _check_alike(name: str, first: Samples, other: Samples, *, subset: bool) -> None:
    """Check that two data sets may share a head."""
    ours, theirs = first.targets[name].classes, other.targets[name].classes
    lacking = [
        f"'{printable(part.source)}' has no {', '.join(gone)}"
        for part, gone in (
            (first, [label for label in theirs if label not in ours]),
            (other, [] if subset else [label for label in ours if label not in theirs]),
        )
        if gone
    ]
    if lacking:
        raise DataError(
            f"The classes of '{name}' differ: {'; '.join(lacking)}. Give each data set a head of its own, such as "
            f'--set \'names=["", "{_word(other.source)}"]\', or the same classes with --labels, or set '
            f"subset_classes=true, and one with fewer classes shares the head."
        )


def _word(source: Path) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in source.stem)[:30] or "other"


def _with_targets(part: Samples, heads: Mapping[str, tuple[str, ...]]) -> Samples:
    """Return samples with all targets, their columns in the order of the heads."""
    targets = {}
    for name, classes in heads.items():
        target = part.targets.get(name)
        if target is None:
            targets[name] = Target(classes, np.full((len(part), len(classes)), np.nan, np.float32))
        else:
            shares = np.zeros((len(part), len(classes)), np.float32)
            shares[:, [classes.index(label) for label in target.classes]] = target.shares
            shares[np.isnan(target.shares).any(axis=1)] = np.nan
            targets[name] = Target(classes, shares, target.agreed)
    return replace(part, targets=targets)


def _first_target(part: Samples, heads: Mapping[str, tuple[str, ...]]) -> str:
    """Return the first target in which a data set has labels."""
    return next((name for name in heads if (part.targets[name].labels >= 0).any()), next(iter(heads)))


def _with_valid(part: Samples, heads: Mapping[str, tuple[str, ...]], config: ExpressionConfig) -> Samples:
    labels = part.targets[_first_target(part, heads)].labels
    return replace(
        part,
        splits=fill_valid(
            part.splits, labels, share=config.valid_share, seed=config.seed, subjects=part.subjects
        ),
    )  # fmt: skip


def _shown_classes(name: str, target: Target, among: Bool[np.ndarray, " samples"]) -> Int[np.ndarray, " present"]:
    """Return the numbers of the classes that some samples show.

    Raises:
        DataError: There are fewer than two.
    """
    present = np.unique(target.labels[among & (target.labels >= 0)])
    if len(present) < 2:
        one = f"only {target.classes[present[0]]}" if len(present) else "none"
        raise DataError(
            f"There is nothing to tell apart: of the classes of '{name}' the training pictures show {one}. "
            f"Add pictures of another class."
        )
    return present


def _overlap(config: ExpressionConfig, names: Sequence[str]) -> str:
    listed = ", ".join(printable(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    found = f"{len(names):,} training pictures stand in another split too ({listed})"
    if config.strict:
        raise DataError(f"{found}. Remove them, or leave --strict out.")
    return f"{found}: {'left out' if config.drop_leaks else 'kept, so figures will flatter'}."


def _of(part: Samples, note: str, parts: Sequence[Samples]) -> str:
    return note if len(parts) == 1 else f"{printable(part.source)}: {note}"
