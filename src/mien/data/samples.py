"""Pictures with what is known about them, read from any usual layout, from a folder or inside a zip.

Layouts: a folder a class or a subject (below train, valid and test or not), FER2013's CSV of pixels, FER+ votes, CK+
frames, and a manifest with one row a picture.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped, UInt8

from mien.data.labels import LABEL_SETS, canonical, class_list, nearest, resolve
from mien.data.lists import delimiter_of, text_of
from mien.data.splits import split_name
from mien.data.tree import FolderTree, Tree, is_picture, open_tree
from mien.errors import DataError, ImageError
from mien.images import digest, load_image, printable
from mien.types import EXPRESSIONS

__all__ = ["KINDS", "Samples", "Target", "one_hot", "read_samples", "standing_elsewhere"]

KINDS = ("auto", "classes", "subjects", "pictures", "fer2013-csv", "ferplus", "ckplus", "manifest")

Names = Shaped[np.ndarray, " samples"]
Row = Mapping[str, str]

_FER2013_LISTS = ("fer2013.csv", "icml_face_data.csv")
_FERPLUS_LIST = "fer2013new.csv"  # FER+ as published: votes by the row of FER2013's list
_VOTES = (*EXPRESSIONS, "unknown", "NF")
_COLUMNS = {
    "path": ("path", "file", "image", "filename", "image_path", "file_name"),
    "label": ("label", "expression", "emotion", "class"),
    "split": ("split", "usage", "partition", "set"),
    "subject": ("subject", "identity", "person", "subject_id"),
}
_CKPLUS_NAME = re.compile(r"(S\d{3})_\d{3}_\d{8}$")
_SPLIT_OF_LIST = "\0split"  # no column of a list is called so
_MOSTLY = 0.8  # share of rows named like expressions above which the others are taken for mistakes


@dataclass(frozen=True, eq=False)
class Target:
    """What raters saw in each sample, as shares over classes.

    Attributes:
        classes: Names of the columns.
        shares: Rows sum to one, shape (samples, classes); a row of NaN is an unlabelled sample.
        agreed: Where raters agreed on the label, shape (samples,); None where single raters are not known.
    """

    classes: tuple[str, ...]
    shares: Float32[np.ndarray, "samples classes"]
    agreed: Bool[np.ndarray, " samples"] | None = None

    def __post_init__(self) -> None:
        assert self.shares.shape[1:] == (len(self.classes),), "one column a class"
        assert self.agreed is None or self.agreed.shape == self.shares.shape[:1]

    @cached_property
    def labels(self) -> Int[np.ndarray, " samples"]:
        """Column of the largest share, the first of equals; -1 where there is no label."""
        if not self.shares.size:
            return np.full(len(self.shares), -1, np.int64)
        known = ~np.isnan(self.shares[:, 0])
        return np.where(known, np.nan_to_num(self.shares).argmax(axis=1), -1).astype(np.int64)

    def take(self, indices: Int[np.ndarray, " taken"] | Bool[np.ndarray, " samples"]) -> Target:
        """Return the target of some samples."""
        return Target(self.classes, self.shares[indices], None if self.agreed is None else self.agreed[indices])


@dataclass(frozen=True, eq=False)
class Samples:
    """Pictures by name, and what is known about each. The pictures themselves are read when asked for.

    Attributes:
        source: Folder, zip or list that they were read from.
        kind: Layout, one of `KINDS`.
        names: Of the pictures: paths relative to the source; ``list.csv:7`` for a picture inside a list.
        targets: What was judged, by name: `expression`, `ferplus`, `fer2013`, or `class` for any other classes.
        splits: `train`, `valid`, `test`, or '' where that is not known.
        subjects: Who is shown, '' where that is not known; None where no sample says.
        leaks: True for samples that the data set itself marks as standing in another split too.
        notes: What was odd while reading, a line each.
    """

    source: Path
    kind: str
    names: tuple[str, ...]
    targets: Mapping[str, Target]
    splits: Names
    subjects: Names | None
    leaks: Bool[np.ndarray, " samples"]
    notes: tuple[str, ...] = ()
    _store: _Store = field(repr=False, kw_only=True)

    def __post_init__(self) -> None:
        count = len(self.names)
        assert len(self.splits) == len(self.leaks) == count, "one split and mark a sample"
        assert self.subjects is None or len(self.subjects) == count, "one subject a sample"
        assert all(len(target.shares) == count for target in self.targets.values()), "one row a sample"

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Int[np.ndarray, " taken"] | Bool[np.ndarray, " samples"]) -> Samples:
        """Return some of the samples, by number or by mask, in the order asked for."""
        chosen = np.arange(len(self))[indices]
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            targets={name: target.take(chosen) for name, target in self.targets.items()},
            splits=self.splits[chosen],
            subjects=None if self.subjects is None else self.subjects[chosen],
            leaks=self.leaks[chosen],
        )

    def picture(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """Read one picture as RGB. May be called from several threads.

        Raises:
            ImageError: It is missing or cannot be read.
        """
        return self._store.picture(self.names[index])

    def pictures(self) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"] | ImageError]]:
        """Yield number and RGB picture of every sample; where it cannot be read, the reason."""
        for index in range(len(self)):
            try:
                yield index, self.picture(index)
            except ImageError as error:
                yield index, error

    def standing_elsewhere(self) -> Bool[np.ndarray, " samples"]:
        """Return which samples stand in another split too, pixel for pixel, or are marked so by their data set.

        Every picture is read.
        """
        return standing_elsewhere([self])[0]

    def fingerprint(self) -> str:
        """Return a digest that changes when a name, a file's size or its time of change does."""
        hasher = hashlib.sha256(str(self.source).encode("utf-8", "surrogateescape"))
        for name in self.names:
            hasher.update(f"{name}{self._store.stamp(name)}".encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()


def standing_elsewhere(parts: Sequence[Samples]) -> list[Bool[np.ndarray, " samples"]]:
    """Return for each data set which of its samples stand in another split too, be it of another data set.

    Every picture is read.
    """
    places: defaultdict[str, set[str]] = defaultdict(set)
    digests: list[list[str]] = []
    for part in parts:
        digests.append([])
        for index, picture in part.pictures():
            digests[-1].append("" if isinstance(picture, ImageError) else digest(picture))
            places[digests[-1][-1]].add(str(part.splits[index]))
    twice = [[bool(key) and len(places[key]) > 1 for key in keys] for keys in digests]
    return [part.leaks | np.array(again, dtype=bool) for part, again in zip(parts, twice, strict=True)]


class _Store:
    """Pictures by name, out of a folder or a zip."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def picture(self, name: str) -> UInt8[np.ndarray, "height width 3"]:
        data = self.tree.read(name)
        try:
            return load_image(data)
        except ImageError as error:
            # From bytes, a picture has no name of its own.
            raise ImageError(str(error).replace("The picture", f"'{printable(name)}'", 1)) from None

    def stamp(self, name: str) -> tuple[int, ...]:
        return self.tree.stamp(name)


class _Pixels(_Store):
    """Pictures by name, out of a list of grey values."""

    def __init__(self, tree: Tree, table: str, rows: Mapping[str, UInt8[np.ndarray, "side side"] | str]) -> None:
        super().__init__(tree)
        self.table, self.rows = table, rows

    def picture(self, name: str) -> UInt8[np.ndarray, "height width 3"]:
        row = self.rows[name]
        if isinstance(row, str):
            raise ImageError(f"{printable(name)}: {row}")
        return np.repeat(row[:, :, None], 3, axis=2)

    def stamp(self, name: str) -> tuple[int, ...]:
        return self.tree.stamp(self.table)


def one_hot(labels: Sequence[str | None], classes: Sequence[str]) -> Target:
    """Return labels as a target; None is unlabelled."""
    column = {name: i for i, name in enumerate(classes)}
    numbers = np.array([-1 if label is None else column[label] for label in labels], dtype=np.int64)
    shares = np.zeros((len(numbers), len(classes)), np.float32)
    known = numbers >= 0
    shares[known, numbers[known]] = 1.0
    shares[~known] = np.nan
    return Target(tuple(classes), shares)


def read_samples(source: str | Path, *, kind: str = "auto", labels: str | Sequence[str] | None = None) -> Samples:
    """Read a data set in any of the known layouts.

    - `classes`: a folder a class, with train, valid and test above them or not. Named like expressions they become
      the target `expression` in our order and words, otherwise the target `class`.
    - `subjects`: a folder a subject.
    - `pictures`: nothing but pictures, without a label, below train, valid and test or not.
    - `fer2013-csv`: `fer2013.csv` with `emotion,pixels,Usage`; `fer2013new.csv` beside it adds the FER+ votes.
    - `ferplus`: `labels.csv` with `split,file,fer2013_label,fp_neutral, ...,leaks_into`.
    - `ckplus`: a folder a class, files named `S005_001_00000011.png`: the subject is in the name.
    - `manifest`: a CSV or Parquet with `path` and any of `label`, `split`, `subject`.

    Args:
        source: A folder, a zip (read in place), or the list itself.
        kind: One of `KINDS`; `auto` looks for the lists, then takes folders for classes.
        labels: The classes that labels may mean: a name of `LABEL_SETS`, or a list. Labels outside of it count as
            unlabelled and are noted; numbers are understood only with it.

    Raises:
        DataError: There is no such data set, it is of another layout, or none of its labels can be used.
    """
    if kind not in KINDS:
        raise DataError(f"There is no layout '{kind}'. Known are {', '.join(KINDS)}.")
    source = Path(source)
    table: str | None = None
    tree: Tree
    if source.is_file() and source.suffix.lower() in (".csv", ".tsv", ".parquet"):
        tree, table = FolderTree(source.parent), source.name
    else:
        tree = open_tree(source)
    if kind == "auto":
        kind, table = _guess(tree, table)
    samples = _READERS[kind](tree, table, labels)
    if not len(samples):
        raise DataError(f"'{printable(source)}' holds no pictures in the layout '{kind}'. Check the path and --kind.")
    for target in samples.targets.values():
        if not len(target.classes) or (target.labels < 0).all():
            raise DataError(
                f"'{printable(source)}' holds no label that can be used. " + (" ".join(samples.notes) or "Check it.")
            )
    return replace(samples, source=source)


def _guess(tree: Tree, table: str | None) -> tuple[str, str | None]:
    """Return the layout, and the list that says so."""
    lists = (
        [table] if table else [name for name in tree.files if "/" not in name and name.endswith((".csv", ".parquet"))]
    )
    manifests = []
    for name in lists:
        if name.endswith(".parquet"):
            manifests.append(name)
            continue
        header = _header(tree, name)
        if "pixels" in header:
            return "fer2013-csv", name
        if {"fp_neutral", "file", "split"} <= header:
            return "ferplus", name
        if {"subject", "sequence", "frames"} <= header:
            return "ckplus", None
        if header & set(_COLUMNS["path"]) and header & {*_COLUMNS["label"], *_COLUMNS["subject"]}:
            manifests.append(name)
    if table or len(manifests) == 1:
        return "manifest", table or manifests[0]
    if manifests:
        return "manifest", None  # all of them: often one a split
    pictures = [name for name in tree.files if is_picture(name)]
    if pictures and all(_CKPLUS_NAME.match(PurePosixPath(name).stem) for name in pictures):
        return "ckplus", None
    return "classes", None


# --- folders ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Folders:
    """Pictures below one level of folders, with a level of splits above it or not."""

    names: tuple[str, ...]
    splits: Names
    inside: tuple[str, ...]  # folder of each picture
    folders: tuple[str, ...]  # all of them, empty ones included
    notes: tuple[str, ...]


def _folders(tree: Tree, what: str) -> _Folders:
    tops = {name for name in tree.folders if "/" not in name}
    above = {name for name in tops if split_name(name)}
    with_pictures = {name.split("/")[0] for name in tree.files if "/" in name and is_picture(name)}
    if what == "subjects" and not any(name.count("/") > 1 and name.split("/")[0] in above for name in tree.files):
        above = set()  # Dev and Val are people: a split has folders of subjects
    if above and (others := sorted(with_pictures - above)):
        raise DataError(
            f"Beside {', '.join(sorted(above))} there is '{printable(others[0])}' with pictures. Expected "
            f"either train, valid and test, or the {what}."
        )
    depth = 1 if above else 0
    names, inside, loose = [], [], 0
    for name in tree.files:
        if not is_picture(name):
            continue
        parts = name.split("/")
        if len(parts) < depth + 2:
            loose += 1
            continue
        names.append(name)
        inside.append(parts[depth])
    if not names:
        where = printable(tree.source)
        raise DataError(
            f"'{where}' holds no folders of pictures: expected a folder for each of its {what}"
            + (
                f", got {loose} pictures without one. Sort them, or list them in a CSV with path and label."
                if loose
                else "."
            )
        )
    folders = {parts[depth] for folder in tree.folders if len(parts := folder.split("/")) > depth}
    notes = [f"{loose} pictures stand in no folder of {what}; they are left out."] if loose else []
    splits = [split_name(name.split("/")[0]) or "" if depth else "" for name in names]
    return _Folders(tuple(names), _array(splits), tuple(inside), tuple(sorted(folders)), tuple(notes))


def _read_classes(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    found = _folders(tree, "classes")
    name, target, notes = _target(found.inside, labels, known=found.folders, place=lambda i: found.names[i])
    return Samples(
        tree.source, "classes", found.names, {name: target}, found.splits, None, _no(found.names),
        (*found.notes, *notes), _store=_Store(tree),
    )  # fmt: skip


def _read_subjects(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    found = _folders(tree, "subjects")
    return Samples(
        tree.source, "subjects", found.names, {}, found.splits, _array(found.inside), _no(found.names),
        found.notes, _store=_Store(tree),
    )  # fmt: skip


def _read_pictures(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    names = tuple(name for name in tree.files if is_picture(name))
    splits = [split_name(name.split("/")[0]) or "" if "/" in name else "" for name in names]
    return Samples(
        tree.source, "pictures", names, {}, _array(splits), None, _no(names), _store=_Store(tree),
    )  # fmt: skip


def _read_ckplus(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    samples = _read_classes(tree, table, labels)
    stems = [_CKPLUS_NAME.match(PurePosixPath(name).stem) for name in samples.names]
    subjects = _array([stem.group(1) if stem else "" for stem in stems])
    strange = int((subjects == "").sum())
    notes = [f"{strange} pictures are not named like CK+ frames; their subject is not known."] if strange else []
    return replace(samples, kind="ckplus", subjects=subjects, notes=(*samples.notes, *notes))


# --- lists -----------------------------------------------------------------------------------------------------------


def _read_manifest(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    lists = [table] if table else _split_lists(tree)
    rows: list[Row] = []
    for name in lists:
        own = _rows(tree, name)
        if len(lists) > 1:
            # train_labels.csv and test_labels.csv: the split is in the list's name where no column says it.
            split = _split_in(name)
            own = [{_SPLIT_OF_LIST: split, **row} for row in own]
            if rows and set(own[0]) != set(rows[0]):
                raise DataError(
                    f"'{printable(tree.source)}' holds {len(lists)} lists with different columns: "
                    f"{', '.join(map(printable, lists))}. Name the one that is meant."
                )
        rows += own
    table = " and ".join(lists)
    columns = {key: next((c for c in names if rows and c in rows[0]), None) for key, names in _COLUMNS.items()}
    if columns["path"] is None:
        raise DataError(f"{printable(table)} has no column 'path'. Expected path and any of label, split, subject.")

    def column(key: str) -> list[str]:
        name = columns[key]
        return [row[name].strip() for row in rows] if name else [""] * len(rows)

    names, notes = _resolved(tree, column("path"), table)
    if len(lists) > 1 and len(set(names)) < len(names):
        raise DataError(
            f"'{printable(tree.source)}' holds lists that name the same pictures: {', '.join(map(printable, lists))}. "
            "Name the one that is meant."
        )
    own_splits = [row.get(_SPLIT_OF_LIST, "") for row in rows]
    splits, more = _splits(column("split") if columns["split"] else own_splits, table)
    notes += more
    targets = {}
    if columns["label"]:
        name, target, more = _target(column("label"), labels, place=lambda i: f"{printable(table)}:{i + 2}")
        targets[name] = target
        notes += more
    subjects = _array(column("subject")) if columns["subject"] else None
    if again := len(names) - len(set(names)):
        notes.append(f"{again} rows of {printable(table)} name a picture that another row names too.")
    return Samples(
        tree.source, "manifest", tuple(names), targets, splits, subjects, _no(names), tuple(notes), _store=_Store(tree)
    )


def _read_ferplus(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    table = table or "labels.csv"
    rows = _rows(tree, table, "file", "split", "fer2013_label", "leaks_into", *(f"fp_{name}" for name in _VOTES))
    names, notes = _resolved(tree, [row["file"] for row in rows], table)
    splits, more = _splits([row["split"] for row in rows], table)
    notes += more
    votes, more = _votes(rows, [f"fp_{name}" for name in _VOTES], table)
    notes += more
    _, fer2013, more = _target(
        [row["fer2013_label"] for row in rows], "fer2013", place=lambda i: f"{printable(table)}:{i + 2}"
    )
    notes += more
    leaks = np.array([bool(row["leaks_into"].strip()) for row in rows])
    targets = {"ferplus": votes, "fer2013": fer2013}
    return Samples(
        tree.source, "ferplus", tuple(names), targets, splits, None, leaks, tuple(notes), _store=_Store(tree)
    )


def _read_fer2013_csv(tree: Tree, table: str | None, labels: str | Sequence[str] | None) -> Samples:
    table = table or next((name for name in _FER2013_LISTS if tree.has(name)), None) or _only_list(tree)
    rows = _rows(tree, table, "pixels")
    names = tuple(f"{table}:{i + 2}" for i in range(len(rows)))
    splits, notes = _splits([row.get("usage", "") for row in rows], table)
    given = labels or "fer2013"
    _, fer2013, more = _target([row.get("emotion", "") for row in rows], given, place=lambda i: printable(names[i]))
    notes += more
    targets = {"fer2013" if given == "fer2013" else "expression": fer2013}
    if tree.has(_FERPLUS_LIST):
        voted = _rows(tree, _FERPLUS_LIST, *(name.lower() for name in _VOTES))
        if len(voted) != len(rows):
            raise DataError(
                f"{_FERPLUS_LIST} has {len(voted)} rows and {printable(table)} {len(rows)}; row by row they belong "
                "together. Take both lists whole."
            )
        votes, more = _votes(voted, [name.lower() for name in _VOTES], _FERPLUS_LIST)
        targets = {"ferplus": votes, **targets}
        notes += more
    store = _Pixels(tree, table, {name: _pixels(row["pixels"]) for name, row in zip(names, rows, strict=True)})
    return Samples(tree.source, "fer2013-csv", names, targets, splits, None, _no(names), tuple(notes), _store=store)


_READERS: dict[str, Callable[[Tree, str | None, str | Sequence[str] | None], Samples]] = {
    "classes": _read_classes,
    "subjects": _read_subjects,
    "pictures": _read_pictures,
    "fer2013-csv": _read_fer2013_csv,
    "ferplus": _read_ferplus,
    "ckplus": _read_ckplus,
    "manifest": _read_manifest,
}


# --- what the readers share ------------------------------------------------------------------------------------------


def _target(
    given: Sequence[str],
    labels: str | Sequence[str] | None,
    *,
    known: Sequence[str] = (),
    place: Callable[[int], str],
) -> tuple[str, Target, list[str]]:
    """Return name and target of labels as they were written, and notes on those that mean no class.

    Args:
        given: What was written for each sample; '' is unlabelled.
        labels: The classes allowed; None makes them out from what is written.
        known: Classes that exist even where no sample has them: empty folders.
        place: Where a sample's label stands, for the note.
    """
    words = sorted({*given, *known} - {""}, key=_natural)
    notes = []
    if labels is not None:
        classes: tuple[str, ...] = class_list(labels)
        meant = {word: resolve(word, labels) for word in words}
    elif words and _named_like_expressions(given, words, folders=bool(known)):
        meant = {word: canonical(word) for word in words}
        classes = tuple(name for name in EXPRESSIONS if name in meant.values())
    else:
        classes, meant = tuple(words), {word: word for word in words}
        if words and all(word.isdecimal() for word in words):
            notes.append(
                f"The classes are numbers ({', '.join(words[:8])}); what they mean is not guessed. If they are "
                f"expressions, name their data set with --labels ({', '.join(LABEL_SETS)})."
            )
    strange = [i for i, word in enumerate(given) if word and meant[word] is None]
    if strange:
        shown = "; ".join(f"{place(i)} has '{printable(given[i])}'{nearest(given[i], classes)}" for i in strange[:5])
        more = f"; and {len(strange) - 5} more" if len(strange) > 5 else ""
        notes.append(f"{len(strange)} labels are none of {', '.join(classes)} and count as missing: {shown}{more}.")
    name = "expression" if classes and set(classes) <= set(EXPRESSIONS) else "class"
    return name, one_hot([meant[word] if word else None for word in given], classes), notes


def _natural(word: str) -> tuple[tuple[int, str], ...]:
    """Sort s2 before s10."""
    parts = re.split(r"([0-9]+)", word)
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts)


def _named_like_expressions(given: Sequence[str], words: Sequence[str], *, folders: bool) -> bool:
    """Whether all classes are expressions; in a list, where people mistype, whether nearly all labels are."""
    if folders:
        return all(canonical(word) for word in words)
    return sum(canonical(word) is not None for word in given) >= _MOSTLY * sum(bool(word) for word in given)


def _votes(rows: Sequence[Row], columns: Sequence[str], table: str) -> tuple[Target, list[str]]:
    """Return votes as shares over our classes; a majority for unknown or for no face (NF) makes a sample unlabelled.

    Raters agreed where, single votes left out, more than half of the votes are for one class: the majority of Barsoum
    et al., ICMI 2016, section 3, which published accuracies are about.
    """
    broken: list[int] = []
    counts = np.zeros((len(rows), len(columns)), np.float32)
    for i, row in enumerate(rows):
        values = [row[name].strip() or "0" for name in columns]
        if all(value.isdecimal() for value in values):
            counts[i] = [int(value) for value in values]
        else:
            broken.append(i)
    num = len(EXPRESSIONS)
    sums = counts[:, :num].sum(axis=1, keepdims=True)
    shares = counts[:, :num] / np.maximum(sums, 1)
    shares[(sums[:, 0] == 0) | (counts.argmax(axis=1) >= num)] = np.nan
    repeated = np.where(counts > 1, counts, 0)
    agreed = (2 * repeated.max(axis=1) > repeated.sum(axis=1)) & (repeated.argmax(axis=1) < num)
    notes = (
        [f"{len(broken)} rows of {printable(table)} have votes that are no numbers, as row {broken[0] + 2}."]
        if broken
        else []
    )
    return Target(EXPRESSIONS, shares.astype(np.float32), agreed & ~np.isnan(shares[:, 0])), notes


def _splits(given: Sequence[str], table: str) -> tuple[Names, list[str]]:
    strange = sorted({text.strip() for text in given if text.strip() and not split_name(text)})
    notes = []
    if strange:
        shown = ", ".join(f"'{printable(text)}'" for text in strange[:5])
        notes = [f"{printable(table)} names splits that are none of train, valid, test: {shown}; taken as not known."]
    return _array([split_name(text) or "" for text in given]), notes


def _resolved(tree: Tree, given: Sequence[str], table: str) -> tuple[list[str], list[str]]:
    """Return the paths of a list as names of the tree; a bare file name that only one folder has is found there."""
    names = [name.strip().replace("\\", "/").removeprefix("./") for name in given]
    missing = [i for i, name in enumerate(names) if not tree.has(name)]
    if missing:
        by_name: dict[str, list[str]] = {}
        for name in tree.files:
            by_name.setdefault(name.rsplit("/", 1)[-1], []).append(name)
        for i in missing:
            places = by_name.get(names[i], [])
            if len(places) == 1:
                names[i] = places[0]
        missing = [i for i in missing if not tree.has(names[i])]
    if names and len(missing) == len(names):
        raise DataError(
            f"None of the {len(names)} pictures that {printable(table)} names exists, such as '{printable(given[0])}'. "
            "Paths start from the list's own folder."
        )
    if not missing:
        return names, []
    shown = ", ".join(f"{printable(table)}:{i + 2}" for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
    return names, [f"{len(missing)} pictures that {printable(table)} names do not exist: {shown}."]


def _split_lists(tree: Tree) -> list[str]:
    """Return the lists of a folder: the only one, or several of which each is named after a split."""
    lists = [name for name in tree.files if "/" not in name and name.endswith((".csv", ".parquet"))]
    lists = [
        name for name in lists if name.endswith(".parquet") or _header(tree, name) & set(_COLUMNS["path"])
    ] or lists
    if len(lists) == 1 or (len(lists) > 1 and all(_split_in(name) for name in lists)):
        return lists
    named = f": {', '.join(printable(name) for name in lists[:5])}" if lists else ""
    raise DataError(
        f"'{printable(tree.source)}' holds {len(lists)} lists (.csv, .parquet) beside its pictures{named}; expected "
        "one, or one for each of train, valid and test. Name the list itself."
    )


def _split_in(table: str) -> str:
    """Return the split that a list's name holds: test for test_labels.csv; '' for none."""
    words = re.split(r"[^a-z]+", PurePosixPath(table).stem.lower())
    return next((split for word in words if (split := split_name(word))), "")


def _only_list(tree: Tree) -> str:
    lists = [name for name in tree.files if "/" not in name and name.endswith((".csv", ".parquet"))]
    if len(lists) != 1:
        raise DataError(
            f"'{printable(tree.source)}' holds {len(lists)} lists (.csv, .parquet) beside its pictures, expected one. "
            "Name the list itself."
        )
    return lists[0]


def _header(tree: Tree, table: str) -> set[str]:
    first = _text(tree, table).partition("\n")[0]
    return {name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter_of(first)), [])}


def _rows(tree: Tree, table: str, *needed: str) -> list[Row]:
    """Read a list; column names are lower-cased and trimmed, except FER+'s own."""
    if table.endswith(".parquet"):
        return _parquet_rows(tree, table)
    try:
        text = _text(tree, table)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter_of(text), skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        keys = [name if name in needed else name.lower() for name in header]
        rows: list[Row] = []
        for values in reader:
            if not values:
                continue
            if len(values) != len(keys):
                raise DataError(
                    f"{printable(table)} line {reader.line_num}: expected {len(keys)} values "
                    f"({', '.join(header[:6])}{', ...' if len(header) > 6 else ''}), got {len(values)}."
                )
            rows.append(dict(zip(keys, values, strict=True)))
    except csv.Error as error:
        raise DataError(f"{printable(table)} is no CSV that can be read: {error}.") from None
    if missing := [name for name in needed if name not in keys]:
        raise DataError(f"{printable(table)} has no column {', '.join(missing[:4])}; it has {', '.join(header[:12])}.")
    if not rows:
        raise DataError(f"{printable(table)} has no rows.")
    return rows


def _parquet_rows(tree: Tree, table: str) -> list[Row]:
    try:
        import pyarrow  # type: ignore[import-not-found, unused-ignore]
        import pyarrow.parquet as parquet  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise DataError(
            f"{printable(table)} is Parquet. Install a reader with: pip install pyarrow; or save it as CSV."
        ) from None
    try:
        table_ = parquet.read_table(io.BytesIO(_bytes(tree, table)))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{printable(table)} is no Parquet that can be read: {str(error).splitlines()[0]}.") from None
    rows: list[Row] = [
        {key.strip().lower(): "" if value is None else str(value) for key, value in row.items()}
        for row in table_.to_pylist()
    ]
    if not rows:
        raise DataError(f"{printable(table)} has no rows.")
    return rows


def _bytes(tree: Tree, table: str) -> bytes:
    try:
        return tree.read(table)
    except ImageError as error:
        raise DataError(str(error)) from None


def _text(tree: Tree, table: str) -> str:
    return text_of(_bytes(tree, table), printable(table))


def _pixels(text: str) -> UInt8[np.ndarray, "side side"] | str:
    """Return a row of grey values as a picture, or what is wrong with it."""
    try:
        values = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        return "expected grey values 0 to 255, got something that is no whole number."
    side = math.isqrt(len(values))
    if not len(values) or side * side != len(values):
        return f"expected as many grey values as a square has (48 x 48 = 2304), got {len(values)}."
    if values.min() < 0 or values.max() > 255:
        return f"expected grey values 0 to 255, got {values.min()} to {values.max()}."
    return values.reshape(side, side).astype(np.uint8)


def _array(texts: Sequence[str]) -> Names:
    return np.array(texts, dtype=np.str_)


def _no(names: Sequence[str]) -> Bool[np.ndarray, " samples"]:
    return np.zeros(len(names), dtype=bool)
