"""Labelled clips of faces: which frames belong together, what they show, and of whom they are.

A clip is a folder of frames, or a video file. What it shows stands in the name of a folder above it, in a list, or, for
CK+, in a text file; so does the subject.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mien.data.labels import canonical, numbered
from mien.data.splits import split_name
from mien.errors import DataError
from mien.files import EXTENSIONS, is_ignored, printable, walk
from mien.types import EXPRESSIONS

__all__ = ["VIDEOS", "ClipFile", "Clips", "read_clips"]

VIDEOS = frozenset(f".{name}" for name in ("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv"))
"""File names that are taken for videos, lower case."""

_FRAME = re.compile(r"(S\d{3}_\d{3})_\d{8}$")  # of CK+
_SUBJECT = re.compile(r"([SP]\d{2,4})(?:$|_)")  # CK+: S005, S005_001; Oulu-CASIA: P001
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A labelled clip.

    Attributes:
        name: Its path within the data set.
        frames: The pictures in order, or one video file.
        label: The expression, one of ours.
        subject: Whose; '' where nothing says it.
        split: train, valid, test, or '' where nothing says it.
    """

    name: str
    frames: tuple[Path, ...]
    label: str
    subject: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True)
class Clips:
    """A data set of clips.

    Attributes:
        source: Where it lies.
        clips: In the order of their names.
        notes: What was left out, a line each.
    """

    source: Path
    clips: tuple[ClipFile, ...]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Expressions that are shown, in our order."""
        shown = {clip.label for clip in self.clips}
        return tuple(label for label in EXPRESSIONS if label in shown)

    def fingerprint(self) -> str:
        """Return a hash that changes when files, labels, subjects or splits do."""
        hasher = hashlib.sha256()
        for clip in self.clips:
            stats = [frame.stat() for frame in clip.frames]
            facts = (clip.name, clip.label, clip.subject, clip.split, [(s.st_size, s.st_mtime_ns) for s in stats])
            hasher.update(repr(facts).encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()


def read_clips(source: str | Path) -> Clips:
    """Read a data set of clips.

    Layouts, each also below folders `train`, `valid` and `test`:

    - `happiness/clip7/*.png` or `happiness/clip7.mp4`: AFEW, DFEW and most others;
    - `P001/happiness/*.jpg`: Oulu-CASIA;
    - frames named `S005_001_00000011.png`: CK+, with a folder for each class, with the list `sequences.csv` (subject,
      sequence, label), or with the labels of the original, `S005/001/S005_001_00000011_emotion.txt`;
    - `clips.csv`: columns path (a folder of frames or a video) and label, and subject and split where they are known.

    Raises:
        DataError: There is no such folder, or it holds no labelled clips.
    """
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"There is no folder '{printable(root)}'. Name a folder of clips.")
    if (root / "clips.csv").is_file():
        found, notes = _listed(root)
    else:
        found, notes = _found(root)
    if not found:
        raise DataError(
            f"'{printable(root)}' holds no labelled clips. Expected a folder for each expression, in it a folder of "
            f"frames or a video for each clip; or CK+'s own layout; or clips.csv with path and label."
        )
    return Clips(root, tuple(sorted(found, key=lambda clip: clip.name)), tuple(notes))


def _listed(root: Path) -> tuple[list[ClipFile], list[str]]:
    rows = _rows(root / "clips.csv", "path", "label")
    found, notes, missing, strange = [], [], [], []
    for row in rows:
        path, label = root / row["path"], canonical(row["label"])
        frames = _pictures(path) if path.is_dir() else (path,) if path.is_file() else ()
        if not frames:
            missing.append(row["path"])
        elif label is None:
            strange.append(row["label"])
        else:
            split = split_name(row.get("split") or "") or ""
            found.append(ClipFile(row["path"], frames, label, row.get("subject") or "", split))
    if missing:
        notes.append(f"{len(missing)} clips of clips.csv are not there or are empty, such as '{missing[0]}'.")
    if strange:
        notes.append(f"{len(strange)} clips of clips.csv have labels that are no expressions, such as '{strange[0]}'.")
    return found, notes


def _found(root: Path) -> tuple[list[ClipFile], list[str]]:
    said = {**_said_by_list(root), **_said_by_texts(root)}
    found, unlabelled = [], []
    for parts, frames in _groups(root):
        name = "/".join(parts)
        split = next((split for part in parts for split in [split_name(part)] if split), "")
        label = said.get(parts[-1]) or next(
            (word for part in reversed(parts) for word in [canonical(part)] if word), None
        )
        whose = next((match.group(1) for part in reversed(parts) if (match := _SUBJECT.match(part))), "")
        if label is None:
            unlabelled.append(name)
        else:
            found.append(ClipFile(name, frames, label, whose, split))
    notes = []
    folders = (path for path in root.rglob("*") if path.is_dir() and not any(path.iterdir()))
    if empty := sorted(str(path.relative_to(root)) for path in folders):
        notes.append(f"{len(empty)} folders are empty and no clips, such as {printable(empty[0])}.")
    if unlabelled:
        listed = ", ".join(unlabelled[:_SHOWN]) + (", ..." if len(unlabelled) > _SHOWN else "")
        notes.append(f"{len(unlabelled)} clips have no label and are left out: {printable(listed)}")
    return found, notes


def _groups(root: Path) -> Iterator[tuple[tuple[str, ...], tuple[Path, ...]]]:
    """Yield the frames of each clip with the parts of its name: folders below the root, and for CK+ the sequence's."""
    for folder, entries in walk(root):
        parts = folder.relative_to(root).parts
        names = sorted((e.name for e in entries or () if not is_ignored(e.name) and e.is_file()), key=_by_value)
        for name in names:
            if Path(name).suffix.lower() in VIDEOS:
                yield (*parts, Path(name).stem), (folder / name,)
        by_sequence: dict[str, list[Path]] = {}
        for name in names:
            if Path(name).suffix.lower() in EXTENSIONS:
                match = _FRAME.match(Path(name).stem)
                by_sequence.setdefault(match.group(1) if match else "", []).append(folder / name)
        for sequence, frames in by_sequence.items():
            if sequence or parts:
                yield (*parts, sequence) if sequence else parts, tuple(frames)


def _said_by_list(root: Path) -> dict[str, str]:
    """Return the labels that a `sequences.csv` says, by subject and sequence."""
    if not (root / "sequences.csv").is_file():
        return {}
    rows = _rows(root / "sequences.csv", "subject", "sequence", "label")
    return {f"{row['subject']}_{row['sequence']}": label for row in rows if (label := canonical(row["label"]))}


def _said_by_texts(root: Path) -> dict[str, str]:
    """Return the labels of CK+'s own text files, by subject and sequence; a number as 3.0000000e+00 in each."""
    said = {}
    for file in root.rglob("*_emotion.txt"):
        match = _FRAME.match(file.stem.removesuffix("_emotion"))
        try:
            label = numbered(int(float(file.read_text(encoding="ascii").strip())), "ckplus")
        except (OSError, ValueError):
            continue
        if match and label:
            said[match.group(1)] = label
    return said


def _rows(file: Path, *wanted: str) -> list[Mapping[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            rows: list[Mapping[str, str]] = list(csv.DictReader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{printable(file)}' cannot be read as a list: {error}.") from None
    if rows and (lacking := [name for name in wanted if not all(row.get(name) for row in rows)]):
        raise DataError(f"'{printable(file)}' says no {lacking[0]} in some row. Expected {', '.join(wanted)}.")
    return rows


def _pictures(folder: Path) -> tuple[Path, ...]:
    names = sorted((file.name for file in folder.iterdir()), key=_by_value)
    return tuple(folder / name for name in names if Path(name).suffix.lower() in EXTENSIONS and not is_ignored(name))


def _by_value(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names with numbers by value: frame2 before frame10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name) if part]
