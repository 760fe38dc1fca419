"""Erasing a subject, and proving it: the files are searched for what they must no longer hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from mien.errors import GalleryError
from mien.gallery.live import LiveIndex
from mien.gallery.records import Erasure, Needle, Subject
from mien.gallery.rows import Rows

__all__ = ["Needle", "Remain", "erase", "remains"]

SHORTEST_NAME = 6
"""Bytes; shorter names turn up by chance in gigabytes of vectors."""

_FRAGMENT = 32  # bytes of a needle in a row that count as a remain
_DISTINCT = 10  # different bytes in it: runs of one colour are alike in everybody's crop
_WORD = 8
BLOCK = 1 << 24
_HASH_BITS = 24
_MIXER = np.uint64(0x9E37_79B9_7F4A_7C15)


@dataclass(frozen=True, slots=True)
class Remain:
    """A fragment of a needle that stands in a file."""

    needle: Needle
    fragment: bytes


def erase(rows: Rows, live: LiveIndex, name: str) -> Erasure:
    """Delete a subject's rows, overwrite and compact, then search all files for what was deleted."""
    with rows.write():
        subject = rows.subject(name)
        needles, counts, size = rows.belongings(subject.id)
        samples = [sample.id for sample in rows.samples(subject.id)] if rows.file is None else []
        rows.drop_waiting(subject.id)
        rows.drop_subject(subject.id)
        rows.note("erase", subject.id, f"{counts['sample']} samples")
    out_of_reach = live.blot()
    if rows.file is None:
        return _proof_by_rows(rows, subject, samples, needles, counts, size)
    if not rows.empty_log():
        raise GalleryError(
            f"The subject is deleted, but another program reads {rows.path}, so its log still holds old pages. "
            "Stop that program and run: mien gallery rebuild"
        )
    text = subject.name.encode()
    name_searched = len(text) >= SHORTEST_NAME
    files = [*rows.files(), *live.files()]
    left, shared = remains(files, needles), 0
    named = name_searched and _holds(files, text)
    if left or named:
        # SQLite may leave copies of moved rows in the slack of a page. A rewritten file has live rows only.
        rows.compact()
        files = [*rows.files(), *live.files()]
        left = remains(files, needles)
        # One picture may be a sample of two subjects.
        theirs = [remain for remain in left if remain.needle.place and rows.holds(remain.needle.place, remain.fragment)]
        shared = len({remain.needle for remain in theirs})
        left = [remain for remain in left if remain not in theirs]
        # The name may be part of another text that belongs in the file: another's name, a table's, a model's.
        named = name_searched and _holds(files, text) and not any(subject.name in text for text in rows.texts())
    if left or named:
        kinds = sorted({remain.needle.what for remain in left} | ({"name"} if named else set()))
        raise GalleryError(
            f"Subject {subject.id} is deleted, but bytes of its {', '.join(kinds)} remain in files of {rows.path}. "
            "Stop other programs that use the gallery and run: mien gallery rebuild"
        )
    return Erasure(
        subject_id=subject.id,
        samples=counts["sample"],
        templates=counts["template"],
        crops=counts["crop"],
        bytes_erased=size,
        files=tuple(file.name for file in files),
        bytes_searched=sum(file.stat().st_size for file in files),
        name_searched=name_searched,
        shared=shared,
        out_of_reach=out_of_reach,
    )


def _proof_by_rows(
    rows: Rows, subject: Subject, samples: list[int], needles: list[Needle], counts: Counter[str], size: int
) -> Erasure:
    """Look through the tables of a database server, whose files nobody but itself may read."""
    left = rows.rows_of(subject.id, samples)
    if left:
        raise GalleryError(
            f"Subject {subject.id} is deleted, but {left} rows of it remain in {rows.path}. See: mien gallery check"
        )
    places: dict[str, set[bytes]] = {}
    for needle in needles:
        if needle.place:
            places.setdefault(needle.place, set()).add(needle.data)
    return Erasure(
        subject_id=subject.id,
        samples=counts["sample"],
        templates=counts["template"],
        crops=counts["crop"],
        bytes_erased=size,
        files=rows.tables(),
        bytes_searched=rows.size_bytes(),
        name_searched=True,  # by its fingerprint
        shared=sum(rows.held(place, values) for place, values in places.items()),
    )


def _holds(files: list[Path], text: bytes) -> bool:
    for file in files:
        before = b""
        for block in _blocks(file):
            if text in before + block:
                return True
            before = block[-len(text) :]
    return False


def remains(files: list[Path], needles: list[Needle]) -> list[Remain]:
    """Return fragments of 32 bytes or more, of any place in a needle, that stand anywhere in the files.

    All windows of a word of every needle go into a table; each aligned word of the files is looked up in it. A
    fragment of two words' length holds an aligned word, wherever it begins, so none is missed.
    """
    words, owners, offsets = _windows(needles)
    table = np.zeros(1 << _HASH_BITS, dtype=bool)
    table[_hashed(words)] = True
    found: dict[Remain, None] = {}
    for file in files:
        before = b""
        for block in _blocks(file):
            # With the end of the block before, so that no fragment is cut; whole words, so that alignment stays.
            data = before + block
            aligned = np.frombuffer(data, dtype="<u8", count=len(data) // _WORD)
            likely = np.flatnonzero(table[_hashed(aligned)])
            first = np.searchsorted(words, aligned[likely], side="left")
            last = np.searchsorted(words, aligned[likely], side="right")
            for at, start, end in zip(likely.tolist(), first.tolist(), last.tolist(), strict=True):
                for owner, offset in zip(owners[start:end].tolist(), offsets[start:end].tolist(), strict=True):
                    needle = needles[owner]
                    fragment = _common(data, at * _WORD, needle.data, offset)
                    if len(fragment) >= _FRAGMENT and len(set(fragment)) >= _DISTINCT:
                        found[Remain(needle, fragment)] = None
            before = data[-2 * _FRAGMENT :]
    return list(found)


def _windows(
    needles: list[Needle],
) -> tuple[UInt64[np.ndarray, " words"], Int64[np.ndarray, " words"], Int64[np.ndarray, " words"]]:
    """Return the words at all offsets of all needles, sorted, whose they are and where from; dull ones left out."""
    words, owners, offsets = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for owner, needle in enumerate(needles):
        data = np.frombuffer(needle.data, dtype=np.uint8)
        if len(data) < _FRAGMENT:
            continue
        rows = np.lib.stride_tricks.sliding_window_view(data, _WORD)
        distinct = 1 + np.count_nonzero(np.diff(np.sort(rows, axis=1), axis=1), axis=1)
        kept = np.flatnonzero(distinct > 2)
        words.append(np.ascontiguousarray(rows[kept]).view("<u8").ravel().astype(np.uint64))
        owners.append(np.full(len(kept), owner, dtype=np.int64))
        offsets.append(kept.astype(np.int64))
    every_word = np.concatenate(words)
    order = np.argsort(every_word, kind="stable")
    return every_word[order], np.concatenate(owners)[order], np.concatenate(offsets)[order]


def _hashed(words: UInt64[np.ndarray, " words"]) -> UInt64[np.ndarray, " words"]:
    return np.asarray((words * _MIXER) >> np.uint64(64 - _HASH_BITS))


def _common(data: bytes, at: int, needle: bytes, offset: int) -> bytes:
    """Extend a common word to both sides as far as both agree."""
    left = 0
    while left < min(at, offset) and data[at - left - 1] == needle[offset - left - 1]:
        left += 1
    right = _WORD
    while right < min(len(data) - at, len(needle) - offset) and data[at + right] == needle[offset + right]:
        right += 1
    return data[at - left : at + right]


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block
