"""Lists of comparisons: LFW's `pairs.txt`, a plain CSV, and the field's `.bin` sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from mien.data.lists import delimiter_of, existing_name, read_list
from mien.errors import DataError, EvaluationError
from mien.evaluation.binset import read_bin
from mien.images import printable
from mien.metrics.verification import folds_in_order

__all__ = ["PairSet", "read_pairs"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".JPG", ".JPEG", ".PNG", ".ppm", ".pgm")
_SAME = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True, eq=False)
class PairSet:
    """Comparisons between pictures, each picture named once.

    Attributes:
        name: File name of the list.
        pictures: Distinct pictures, as the list names them.
        sources: Where each picture is, or its encoded bytes.
        first: Picture of each comparison's one side, shape (pairs,).
        second: Picture of its other side, shape (pairs,).
        same: Whether it is mated, shape (pairs,).
        folds: Fold of each comparison, shape (pairs,).
        subjects: Subject of each picture, for resampling, shape (pictures,).
        aligned: True where the pictures are crops on the ArcFace template already.
        central: True where a label means the face in the middle of the picture, as LFW's do.
    """

    name: str
    pictures: tuple[str, ...]
    sources: tuple[Path, ...] | tuple[bytes, ...]
    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    same: Bool[np.ndarray, " pairs"]
    folds: Int[np.ndarray, " pairs"]
    subjects: Int[np.ndarray, " pictures"]
    aligned: bool = False
    central: bool = False

    def __post_init__(self) -> None:
        assert len(self.pictures) == len(self.sources) == len(self.subjects), "one source and subject a picture"
        assert len(self.first) == len(self.second) == len(self.same) == len(self.folds), "one label and fold a pair"

    def __len__(self) -> int:
        return len(self.same)


def read_pairs(path: str | Path, *, images: str | Path | None = None) -> PairSet:
    """Read a list of comparisons in any of the three formats.

    - LFW: a header of folds and pairs (`10 300`, or `1100` for one fold), then lines `name i j` of mated and
      `name i name j` of non-mated pairs; pictures are `name/name_0001.jpg`.
    - CSV with the columns `a,b,same`, with that header or without: two paths below ``images`` and 0, 1, true or
      false; `fold` may follow. Any delimiter of `,`, `;`, `|` and tabs.
    - `.bin`: pictures and labels in one file, aligned to the ArcFace template.

    Args:
        path: The list.
        images: Folder that its paths start from; by default the folder of the list.

    Raises:
        EvaluationError: The list is none of these, is broken, names pictures that are missing, or does not hold
            both mated and non-mated pairs.
    """
    path = Path(path)
    root = path.parent if images is None else Path(images)
    if not path.is_file():
        raise EvaluationError(f"There is no list of pairs '{printable(path)}'. Check the name.")
    if not root.is_dir():
        raise EvaluationError(f"There is no folder of pictures '{printable(root)}'. Check the name.")
    with path.open("rb") as file:
        head = file.read(4096)
    if path.suffix.lower() == ".bin" or head[:1] == b"\x80":
        return _bin_pairs(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise EvaluationError(
            f"{_name(path)} is no text in UTF-8. Expected LFW's pairs.txt, a CSV with a,b,same, or a .bin."
        ) from None
    header = lines[0].strip() if lines else ""
    if header and all(field.isdigit() for field in header.split()):
        return _lfw_pairs(path, root, lines)
    fields = [field.strip().lower() for field in header.split(delimiter_of(header))]
    if {"a", "b", "same"} <= set(fields) or (len(fields) in (3, 4) and fields[2] in _SAME):
        return _csv_pairs(path, root, "\n".join(lines))
    raise EvaluationError(
        f"{_name(path)} starts with '{header[:40]}'. "
        "Expected LFW's header (such as '10 300'), a CSV header 'a,b,same', or a .bin file."
    )


def _lfw_pairs(path: Path, root: Path, lines: Sequence[str]) -> PairSet:
    header = [int(field) for field in lines[0].split()]
    if len(header) > 2 or 0 in header:
        raise EvaluationError(f"{_name(path)} line 1: expected folds and pairs a kind, got '{lines[0].strip()[:40]}'.")
    num_folds, per_kind = header if len(header) == 2 else (1, header[0])
    book, same = _Book(), []
    sides: list[tuple[int, int]] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        # Names may hold spaces where tabs separate.
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        match fields:
            case [name, i, j] if i.isdigit() and j.isdigit():
                sides.append((book.add(_lfw_stem(name, i), name), book.add(_lfw_stem(name, j), name)))
            case [name, i, other, j] if i.isdigit() and j.isdigit():
                sides.append((book.add(_lfw_stem(name, i), name), book.add(_lfw_stem(other, j), other)))
            case _:
                raise EvaluationError(
                    f"{_name(path)} line {number}: expected 'name i j' or 'name i name j', got {len(fields)} fields."
                )
        same.append(len(fields) == 3)
    if len(same) != num_folds * 2 * per_kind or sum(same) != num_folds * per_kind:
        raise EvaluationError(
            f"{_name(path)} announces {num_folds * per_kind} mated and as many non-mated pairs, "
            f"but holds {sum(same)} and {len(same) - sum(same)}. Is the file cut short?"
        )
    folds = np.arange(len(same)) // (2 * per_kind) if num_folds > 1 else folds_in_order(np.array(same))
    found = [next((p for s in _SUFFIXES if (p := root / (stem + s)).is_file()), None) for stem in book.keys]
    _refuse_missing(path, root, [stem for stem, file in zip(book.keys, found, strict=True) if file is None])
    sources = [file for file in found if file is not None]
    pictures = [file.relative_to(root).as_posix() for file in sources]
    return _pair_set(path, pictures, sources, sides, same, folds, subjects=_numbered(book.subjects), central=True)


def _lfw_stem(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _csv_pairs(path: Path, root: Path, text: str) -> PairSet:
    book, same, folds = _Book(), [], []
    sides: list[tuple[int, int]] = []
    try:
        rows = read_list(text, _name(path), columns=("a", "b", "same"), optional=("fold",))
    except DataError as error:
        raise EvaluationError(str(error)) from None
    for row in rows:
        a, b, label = (row.values[key] for key in ("a", "b", "same"))
        if not a or not b or label.lower() not in _SAME:
            raise EvaluationError(
                f"{_name(path)} line {row.line}: expected two paths and 0, 1, true or false, "
                f"got '{label[:20]}' as the label."
            )
        if "fold" in row.values:
            fold = row.values["fold"]
            if not fold.isdigit():
                raise EvaluationError(f"{_name(path)} line {row.line}: expected a whole number as the fold.")
            folds.append(int(fold))
        same.append(_SAME[label.lower()])
        a, b = (existing_name(root, name) for name in (a, b))
        sides.append((book.add(a, Path(a).parent.as_posix()), book.add(b, Path(b).parent.as_posix())))
    sources = [root / name for name in book.keys]
    _refuse_missing(path, root, [n for n, file in zip(book.keys, sources, strict=True) if not file.is_file()])
    labels = np.array(same, dtype=bool)
    subjects = _numbered(book.subjects)
    pairs = np.array(sides, dtype=np.int64).reshape(-1, 2)
    # A folder stands for a subject only where all labels say so.
    if not np.array_equal(subjects[pairs[:, 0]] == subjects[pairs[:, 1]], labels):
        subjects = _components(len(book.keys), pairs[labels])
    chosen = np.array(folds) if folds else folds_in_order(labels)
    return _pair_set(path, book.keys, sources, sides, same, chosen, subjects=subjects)


def _bin_pairs(path: Path) -> PairSet:
    pictures, same = read_bin(path)
    index: dict[bytes, int] = {}
    numbers = np.array([index.setdefault(picture, len(index)) for picture in pictures]).reshape(-1, 2)
    labels = np.array(same, dtype=bool)
    # Sets of this kind are split in the order of the file.
    folds = np.arange(len(labels)) * 10 // len(labels)
    subjects = _components(len(index), numbers[labels])
    names = [f"picture-{number:05d}" for number in range(len(index))]
    return _pair_set(path, names, list(index), numbers.tolist(), same, folds, subjects=subjects, aligned=True)


class _Book:
    """Numbers pictures in the order of their first mention and remembers each one's subject."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.subjects: list[str] = []

    @property
    def keys(self) -> list[str]:
        return list(self._numbers)

    def add(self, key: str, subject: str) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self.subjects.append(subject)
        return self._numbers[key]


def _pair_set(
    path: Path,
    pictures: Sequence[str],
    sources: Sequence[Path] | Sequence[bytes],
    sides: Sequence[Sequence[int]],
    same: Sequence[bool],
    folds: Int[np.ndarray, " pairs"],
    *,
    subjects: Int[np.ndarray, " pictures"],
    aligned: bool = False,
    central: bool = False,
) -> PairSet:
    if not any(same) or all(same):
        raise EvaluationError(
            f"{_name(path)} holds {sum(same)} mated and {len(same) - sum(same)} non-mated pairs. Both are needed."
        )
    pairs = np.array(sides, dtype=np.int64)
    return PairSet(
        name=_name(path),
        pictures=tuple(pictures),
        sources=tuple(sources),  # type: ignore[arg-type]  # all paths, or all bytes
        first=pairs[:, 0],
        second=pairs[:, 1],
        same=np.array(same, dtype=bool),
        folds=folds,
        subjects=subjects,
        aligned=aligned,
        central=central,
    )


def _refuse_missing(path: Path, root: Path, missing: Sequence[str]) -> None:
    if missing:
        shown = ", ".join(printable(name) for name in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise EvaluationError(
            f"{len(missing)} pictures that {_name(path)} names are not in '{printable(root)}': {shown}. "
            "Name the folder that its paths start from: --images, or --data of a study."
        )


def _components(count: int, links: Iterable[Sequence[int]]) -> Int[np.ndarray, " pictures"]:
    """Number the groups that mated pairs tie together: the best guess at subjects where none are named."""
    parent = list(range(count))

    def root(of: int) -> int:
        while parent[of] != of:
            parent[of] = parent[parent[of]]
            of = parent[of]
        return of

    for a, b in links:
        parent[root(int(a))] = root(int(b))
    return np.array([root(i) for i in range(count)])


def _numbered(names: Sequence[str]) -> Int[np.ndarray, " names"]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _name(path: Path) -> str:
    return printable(path.name)
