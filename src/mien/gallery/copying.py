"""Copying a gallery into another one, of whatever database: in blocks, resumable, and compared at the end.

Into an empty gallery subjects and samples keep their ids, so clients that stored some need not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, UInt64

from mien.errors import GalleryError
from mien.gallery.names import clean_name, first_spelling, folded_name, shown
from mien.gallery.records import ActiveModel, Sample, Subject
from mien.gallery.rows import Rows

if TYPE_CHECKING:
    from mien.gallery.gallery import Gallery

__all__ = ["Copied", "copy_gallery"]

BLOCK_SAMPLES = 256
"""About how many samples are copied in one transaction: what is lost where a copy is broken off."""
_ORIGIN = "copied_from"
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy moved, and how both compare.

    Attributes:
        subjects: In the source.
        samples: In the source.
        added: Samples that were written now.
        already: Samples that the target had.
        differing: Samples of the source of which the target has no exact equal; 0 if all is well.
        others: Samples that the target has beyond those.
        digest: SHA-256 over the digests of all samples of the source, in hexadecimal.
        same_ids: Whether subjects and samples have the ids that they have in the source.
    """

    subjects: int
    samples: int
    added: int
    already: int
    differing: int
    others: int
    digest: str
    same_ids: bool


@dataclass(frozen=True, slots=True)
class _Stored:
    """A sample with all that belongs to it."""

    subject: Subject
    sample: Sample
    crop: bytes | None
    vector: Float16[np.ndarray, " dimension"] | None


def copy_gallery(
    source: Gallery, target: Gallery, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Copied:
    """Copy all subjects, samples, templates of the model in use, crops, thresholds and the cohort.

    A copy that was broken off goes on where it was when it is started again. What the target has already stays.

    Args:
        source: Is read, as of one moment.
        target: Is written, a block at a time.
        progress: Called with samples done and samples in all.

    Raises:
        GalleryError: Both are one gallery, or their templates are of different embedders.
    """
    with source.lock, target.lock, source.rows.errors_in_words(), target.rows.errors_in_words():
        one, other = source.rows, target.rows
        if one.meta("gallery") == other.meta("gallery"):
            raise GalleryError("Both are the same gallery. Name another one to copy to.")
        with one.snapshot():
            model = one.active_model()
            same_ids = _prepare(one, other, model)
            subjects = sorted(one.subjects(), key=lambda subject: subject.id)
            total, done, added = sum(subject.samples for subject in subjects), 0, 0
            for chunk in _chunks(subjects):
                stored = list(_read(one, chunk, model))
                with other.write():
                    added += _write(other, chunk, stored, model, same_ids)
                done += len(stored)
                progress(done, total)
            with other.write():
                _finish(one, other, model, same_ids)
            ours = _digests(one, model)
        theirs = _digests(other, other.active_model())
    digest = hashlib.sha256(np.sort(ours).tobytes()).hexdigest()
    missing = int(np.count_nonzero(~np.isin(ours, theirs)))
    others = len(theirs) - (len(ours) - missing)
    return Copied(len(subjects), total, added, total - added, missing, others, digest, same_ids)


def _prepare(one: Rows, other: Rows, model: ActiveModel | None) -> bool:
    """Check that both go together; return whether ids can be kept."""
    origin = str(one.meta("gallery"))
    with other.write():
        empty = other.count("subject") == 0 and other.active_model() is None
        if empty:
            other.set_meta(_ORIGIN, origin)
        there = other.active_model()
        if model is not None and there is not None and there.name != model.name:
            raise GalleryError(
                f"{other.path} holds templates of {shown(there.name)}, {one.path} of {shown(model.name)}. Bring one of "
                "them along with: mien gallery migrate"
            )
        cohort = one.cohort()
        if cohort is not None and there is None:
            other.keep_cohort(cohort)
        if model is not None:
            other.use_model(model.name, model.dimension)
    return other.meta(_ORIGIN) == origin


def _chunks(subjects: Sequence[Subject]) -> Iterator[list[Subject]]:
    """Yield neighbours by id with a few hundred samples together."""
    chunk: list[Subject] = []
    samples = 0
    for subject in subjects:
        if chunk and samples + max(subject.samples, 1) > BLOCK_SAMPLES:
            yield chunk
            chunk, samples = [], 0
        chunk.append(subject)
        samples += max(subject.samples, 1)
    if chunk:
        yield chunk


def _read(rows: Rows, chunk: Sequence[Subject], model: ActiveModel | None) -> Iterator[_Stored]:
    by_id = {subject.id: subject for subject in chunk}
    first, last = chunk[0].id, chunk[-1].id
    samples = rows.samples_between(first, last)
    crops = rows.crops_between(first, last)
    vectors = {} if model is None else rows.vectors_between(first, last, model)
    for sample in samples:
        yield _Stored(by_id[sample.subject_id], sample, crops.get(sample.id), vectors.get(sample.id))


def _write(
    rows: Rows, chunk: Sequence[Subject], stored: Sequence[_Stored], model: ActiveModel | None, same_ids: bool
) -> int:
    """Write what the target lacks of a block; return how many samples."""
    ids = _subjects(rows, chunk, same_ids)
    seal, print_of = rows.cipher.seal, rows.cipher.fingerprint
    keys = [print_of(one.sample.source_hash.encode(), "sample", "source") for one in stored]
    known = rows.samples_by_key(keys)
    missing = [(one, key) for one, key in zip(stored, keys, strict=True) if (ids[one.subject.id], key) not in known]
    if not missing:
        return 0
    if same_ids:
        new = [one.sample.id for one, _ in missing]
        rows.raise_ids("sample", max(new))
    else:
        start = rows.reserve("sample", len(missing))
        new = list(range(start, start + len(missing)))
    _refuse_taken(rows, "sample", new)
    lines = []
    for sample_id, (one, key) in zip(new, missing, strict=True):
        sample = one.sample
        sealed = seal(sample.source_hash.encode(), "sample", "source", sample_id)
        reasons = " ".join(sample.reasons)
        box = sample.box.as_tuple()
        lines.append((sample_id, ids[one.subject.id], sealed, key, *box, sample.quality, reasons, sample.created))
    rows.connection.executemany(f"INSERT INTO sample VALUES ({', '.join('?' * 11)})", lines)
    rows.connection.executemany(
        "INSERT INTO crop VALUES (?, ?, ?)",
        [
            (sample_id, seal(one.crop, "crop", sample_id), print_of(one.crop, "crop", "digest"))
            for sample_id, (one, _) in zip(new, missing, strict=True)
            if one.crop is not None
        ],
    )
    if model is not None:
        there = rows.use_model(model.name, model.dimension)
        with_vector = [(i, one.vector) for i, (one, _) in zip(new, missing, strict=True) if one.vector is not None]
        rows.add_templates([i for i, _ in with_vector], there, [vector for _, vector in with_vector])
        views = {i: one.sample.simulated for i, (one, _) in zip(new, missing, strict=True)}
        rows.mark_simulated(there, {i: views[i] for i, _ in with_vector if views[i]})
    return len(missing)


def _subjects(rows: Rows, chunk: Sequence[Subject], same_ids: bool) -> dict[int, int]:
    """Return the target's id of each subject, made where there is none."""
    spellings = {
        subject.id: [rows.name_key(spelling) for spelling in (first_spelling(subject.name), folded_name(subject.name))]
        for subject in chunk
    }
    known = rows.subjects_by_key([key for keys in spellings.values() for key in keys])
    ids = {
        subject: next(known[key] for key in keys if key in known)
        for subject, keys in spellings.items()
        if any(key in known for key in keys)
    }
    missing = [subject for subject in chunk if subject.id not in ids]
    if not missing:
        return ids
    if same_ids:
        new = [subject.id for subject in missing]
        rows.raise_ids("subject", max(new))
    else:
        start = rows.reserve("subject", len(missing))
        new = list(range(start, start + len(missing)))
    _refuse_taken(rows, "subject", new)
    lines: list[tuple[Any, ...]] = []
    for subject_id, subject in zip(new, missing, strict=True):
        name = clean_name(subject.name)
        sealed = rows.cipher.seal(name.encode(), "subject", "name", subject_id)
        lines.append((subject_id, sealed, spellings[subject.id][1], subject.created))
        ids[subject.id] = subject_id
    rows.connection.executemany("INSERT INTO subject (id, name, name_key, created) VALUES (?, ?, ?, ?)", lines)
    return ids


def _refuse_taken(rows: Rows, table: str, ids: Sequence[int]) -> None:
    if rows.taken(table, ids):
        raise GalleryError(
            f"Somebody enrolled into {rows.path} while it was being copied to, so ids cannot be kept. Copy into a new "
            "gallery, and let others use it when the copy is done."
        )


def _finish(one: Rows, other: Rows, model: ActiveModel | None, same_ids: bool) -> None:
    """Take over thresholds, and see that ids of the erased are not used again."""
    there = other.active_model()
    if there is not None:
        has = {stored.point.target_fmr for stored in other.points(there)}
        for stored in one.points(model):
            if stored.point.target_fmr not in has:
                other.keep_point(there, stored)
    if same_ids:
        for table in ("subject", "sample"):
            other.raise_ids(table, one.last_id(table))
    other.note("copy", None, f"{one.count('subject')} subjects, {one.count('sample')} samples")


def _digests(rows: Rows, model: ActiveModel | None) -> UInt64[np.ndarray, " samples"]:
    """Return a digest of each sample with all that belongs to it, whatever its ids are."""
    found = []
    for chunk in _chunks(sorted(rows.subjects(), key=lambda subject: subject.id)):
        for one in _read(rows, chunk, model):
            sample = one.sample
            facts = (
                folded_name(one.subject.name), sample.source_hash, sample.box.as_tuple(), sample.quality,
                [str(reason) for reason in sample.reasons], sample.created,
                *([sample.simulated] if sample.simulated else []),
            )  # fmt: skip
            digest = hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape"))
            digest.update(b"no crop" if one.crop is None else hashlib.sha256(one.crop).digest())
            digest.update(b"no vector" if one.vector is None else one.vector.astype("<f2").tobytes())
            found.append(digest.digest()[:_DIGEST_BYTES])
    # As numbers they can be sorted and looked up; 64 bits tell samples apart, and accidents are all that is looked for.
    return np.frombuffer(b"".join(found), dtype="<u8")
