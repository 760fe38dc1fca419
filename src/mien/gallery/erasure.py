"""Erasing a subject, and proving it: the files are searched for what they must no longer hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt64

from mien.errors import GalleryError
from mien.gallery.records import Erasure

if TYPE_CHECKING:
    from mien.gallery.store import Gallery

__all__ = ["Needle", "Remain", "erase", "remains"]

SHORTEST_NAME = 6
"""Bytes; shorter names turn up by chance in gigabytes of vectors."""

_FRAGMENT = 32  # bytes of a needle in a row that count as a remain
_DISTINCT = 10  # different bytes in it: runs of one colour are alike in everybody's crop
_CROP_HEADER = 64  # bytes of a WebP file: format, size and code tables, which many crops share
_WORD = 8
_BLOCK = 1 << 24
_HASH_BITS = 24
_MIXER = np.uint64(0x9E37_79B9_7F4A_7C15)


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes that must not remain.

    Attributes:
        what: Kind, for messages.
        data: The bytes.
        live: SQL that counts rows that rightly hold a fragment of them, its parameter; empty: none can.
        skip: Bytes at the beginning that all of a kind have alike.
    """

    what: str
    data: bytes
    live: str = ""
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Remain:
    """A fragment of a needle that stands in a file."""

    needle: Needle
    fragment: bytes


def erase(gallery: Gallery, name: str) -> Erasure:
    """Delete a subject's rows, overwrite and compact, then search all files for what was deleted."""
    with gallery.write():
        subject = gallery.subject(name)
        needles, counts, size = _belongings(gallery, subject.id)
        gallery.drop_subject(subject.id)
        gallery.note("erase", subject.id, f"{counts['sample']} samples")
    gallery.live.blot()
    _empty_log(gallery)

    text = subject.name.encode()
    name_searched = len(text) >= SHORTEST_NAME
    files = [*gallery.database_files(), *gallery.index_files()]
    left, shared = remains(files, needles), 0
    named = name_searched and _holds(files, text)
    if left or named:
        # SQLite may leave copies of moved rows in the slack of a page. A rewritten file has live rows only.
        gallery.compact()
        files = [*gallery.database_files(), *gallery.index_files()]
        left = remains(files, needles)
        theirs = [remain for remain in left if _is_anothers(gallery, remain)]
        shared = len({remain.needle for remain in theirs})
        left = [remain for remain in left if remain not in theirs]
        named = name_searched and _holds(files, text) and not _spelled_elsewhere(gallery, subject.name)
    if left or named:
        kinds = sorted({remain.needle.what for remain in left} | ({"name"} if named else set()))
        raise GalleryError(
            f"Subject {subject.id} is deleted, but bytes of its {', '.join(kinds)} remain in files of {gallery.path}. "
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
    )


def _empty_log(gallery: Gallery) -> None:
    if not gallery.empty_log():
        raise GalleryError(
            f"The subject is deleted, but another program reads {gallery.path}, so its log still holds old pages. "
            "Stop that program and run: mien gallery rebuild"
        )


def _belongings(gallery: Gallery, subject_id: int) -> tuple[list[Needle], dict[str, int], int]:
    """Collect what the files hold of a subject, as stored and as it reads; how many rows; and how many bytes."""
    needles: list[Needle] = []
    counts: dict[str, int] = defaultdict(int)
    size = 0
    of_subject = "WHERE sample_id IN (SELECT id FROM sample WHERE subject_id = ?)"
    ask = gallery.connection.execute
    for sample_id, model_id, stored in ask(
        f"SELECT sample_id, model_id, vector FROM template {of_subject}", [subject_id]
    ):
        live = "SELECT count(*) FROM template WHERE instr(vector, ?)"
        opened = gallery.cipher.open(stored, "template", sample_id, model_id)
        needles += [Needle("vectors", stored, live), Needle("vectors", opened, live)]
        needles.append(Needle("vectors", np.frombuffer(opened, "<f2").astype("<f4").tobytes()))
        counts["template"] += 1
        size += len(stored)
    for sample_id, stored in ask(f"SELECT sample_id, image FROM crop {of_subject}", [subject_id]):
        live = "SELECT count(*) FROM crop WHERE instr(image, ?)"
        needles += [
            Needle("crops", stored, live),
            Needle("crops", gallery.cipher.open(stored, "crop", sample_id), live),
        ]
        counts["crop"] += 1
        size += len(stored)
    for sample_id, stored, key in ask("SELECT id, source, source_key FROM sample WHERE subject_id = ?", [subject_id]):
        opened = gallery.cipher.open(stored, "sample", "source", sample_id)
        # The same group picture may well be a sample of others.
        needles.append(Needle("source hashes", opened, "SELECT count(*) FROM sample WHERE instr(source, ?)"))
        needles.append(Needle("source hashes", key, "SELECT count(*) FROM sample WHERE instr(source_key, ?)"))
        counts["sample"] += 1
    row = ask("SELECT name, name_key FROM subject WHERE id = ?", [subject_id]).fetchone()
    needles.append(Needle("name", row[1]))
    if gallery.encrypted:
        needles.append(Needle("name", row[0]))
    return list(dict.fromkeys(needles)), counts, size


def _is_anothers(gallery: Gallery, remain: Remain) -> bool:
    """Return whether a row that is still there holds the same bytes: one picture may be a sample of two subjects."""
    live = remain.needle.live
    return bool(live) and bool(gallery.connection.execute(live, (remain.fragment,)).fetchone()[0])


def _holds(files: list[Path], text: bytes) -> bool:
    for file in files:
        before = b""
        for block in _blocks(file):
            if text in before + block:
                return True
            before = block[-len(text) :]
    return False


def _spelled_elsewhere(gallery: Gallery, name: str) -> bool:
    """Return whether some text that belongs in the file contains the name: another's name, a table's, a model's."""
    texts = [row[0] for row in gallery.connection.execute("SELECT sql FROM sqlite_master UNION SELECT name FROM model")]
    names = [] if gallery.encrypted else [subject.name for subject in gallery.subjects()]
    return any(name in text for text in (*texts, *names) if text)


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
                    fragment = _common(data, at * _WORD, needle.data, offset, needle.skip)
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
        data = np.frombuffer(needle.data, dtype=np.uint8)[needle.skip :]
        if len(data) < _FRAGMENT:
            continue
        rows = np.lib.stride_tricks.sliding_window_view(data, _WORD)
        distinct = 1 + np.count_nonzero(np.diff(np.sort(rows, axis=1), axis=1), axis=1)
        kept = np.flatnonzero(distinct > 2)
        words.append(np.ascontiguousarray(rows[kept]).view("<u8").ravel().astype(np.uint64))
        owners.append(np.full(len(kept), owner, dtype=np.int64))
        offsets.append(kept.astype(np.int64) + needle.skip)
    every_word = np.concatenate(words)
    order = np.argsort(every_word, kind="stable")
    return every_word[order], np.concatenate(owners)[order], np.concatenate(offsets)[order]


def _hashed(words: UInt64[np.ndarray, " words"]) -> UInt64[np.ndarray, " words"]:
    return np.asarray((words * _MIXER) >> np.uint64(64 - _HASH_BITS))


def _common(data: bytes, at: int, needle: bytes, offset: int, skip: int) -> bytes:
    """Extend a common word to both sides as far as both agree, but not into what is skipped."""
    left = 0
    while left < min(at, offset - skip) and data[at - left - 1] == needle[offset - left - 1]:
        left += 1
    right = _WORD
    while right < min(len(data) - at, len(needle) - offset) and data[at + right] == needle[offset + right]:
        right += 1
    return data[at - left : at + right]


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block
