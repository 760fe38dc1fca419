"""The gallery on SQLite: one file that holds the truth, and a derived index beside it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import threading
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float16, Float32, Int64, UInt8

from mien.errors import GalleryError
from mien.gallery.crypto import Cipher, Plain, Sealed, read_key
from mien.gallery.database import connect, plain_errors, transaction
from mien.gallery.index import CodedIndex, FlatIndex, Rows
from mien.gallery.live import LiveIndex
from mien.gallery.protocol import Embed
from mien.gallery.records import (
    CheckReport,
    Enrolment,
    Entry,
    Erasure,
    Finding,
    Sample,
    Stats,
    StoredPoint,
    Subject,
    Transfer,
)
from mien.types import Box, Candidate, Embedding, Face, OperatingPoint, Reason, Records

__all__ = ["Gallery"]

LONGEST_NAME = 200
_APPEND_ROWS = 10_000  # written to the stored index when so many templates are not in it yet
_REBUILD_WASTE = 0.2  # share of erased rows that makes a stored index worth making anew
_KNOWN = b"mien gallery"  # opens under the right key only


class Owners(NamedTuple):
    """Whose templates are: ids, one entry a template, templates rising."""

    templates: Int64[np.ndarray, " templates"]
    samples: Int64[np.ndarray, " templates"]
    subjects: Int64[np.ndarray, " templates"]


class Gallery:
    """All references of a system, in one SQLite file.

    Safe to share between threads and, by path, between processes: what one enrols or erases the others see at their
    next search. With a key file, names, crops and vectors are encrypted and the index lives in memory only.

    Args:
        path: The database file, such as ``gallery.mien``.
        key_file: Key of an encrypted gallery, or of one to be made; see `mien.gallery.crypto.write_key`.
        model: Id of the embedder in use. A gallery of another one is refused. None: whatever the gallery has.
        create: Make the gallery if there is none.
        read_only: Change nothing, not even the index.
        timeout_s: How long to wait for another process's write.

    Example:
        >>> with Gallery("gallery.mien") as gallery:  # doctest: +SKIP
        ...     gallery.enrol("a subject", face, source_hash=picture.digest)
        ...     gallery.search(probe.embedding, k=3)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        key_file: str | Path | None = None,
        model: str | None = None,
        create: bool = True,
        read_only: bool = False,
        timeout_s: float = 30.0,
    ) -> None:
        if str(path).startswith(("postgresql:", "postgres:")):
            raise GalleryError("Galleries in PostgreSQL are not yet available. Name a file instead.")
        self.path = Path(path)
        self.timeout_s = timeout_s
        self.read_only = read_only
        self.lock = threading.RLock()
        self.cipher: Cipher = Plain()
        key = None if key_file is None else read_key(key_file)
        self.connection = connect(self.path, create=create, read_only=read_only, timeout_s=timeout_s)
        self.live = LiveIndex(self)
        try:
            self._unlock(key)
            if model is not None:
                self._expect(model)
        except BaseException:
            self.connection.close()
            raise

    @plain_errors
    def _unlock(self, key: bytes | None) -> None:
        """Set up a new gallery, or check that the key is the one of this gallery."""
        if not self.read_only and self.meta("gallery") is None:
            with self.write():
                if self.meta("gallery") is None:
                    self.set_meta("gallery", uuid.uuid4().hex)
                    self.set_meta("created", now())
                    self.set_meta("erasures", 0)
                    if key is not None:
                        self.set_meta("key_check", Sealed(key).seal(_KNOWN, "meta", "key_check"))
        check = self.meta("key_check")
        if not isinstance(check, bytes):
            if key is not None:
                raise GalleryError(
                    f"{self.path} is not encrypted, but a key was given. Leave the key out, or export the gallery and "
                    "import it into a new one made with the key."
                )
            return
        if key is None:
            raise GalleryError(f"{self.path} is encrypted. Name its key file: --key FILE, or key_file= in Python.")
        self.cipher = Sealed(key)
        try:
            self.cipher.open(check, "meta", "key_check")
        except GalleryError as error:
            raise GalleryError(f"The key is not that of {self.path}. Name the key file it was made with.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Save the index where that is worth while, and let go of the file."""
        with self.lock:
            self.live.close()
            self.connection.close()

    # Names and models

    @property
    def model(self) -> str | None:
        """Id of the embedder whose templates are searched; None while the gallery is empty."""
        found = self.active_model()
        return None if found is None else found[1]

    @property
    def encrypted(self) -> bool:
        """Whether names, crops and vectors are encrypted."""
        return self.cipher.encrypted

    @plain_errors
    def active_model(self) -> tuple[int, str, int] | None:
        """Return row id, name and dimension of the model in use."""
        row: tuple[int, str, int] | None = self.connection.execute(
            "SELECT id, name, dimension FROM model WHERE id = (SELECT value FROM meta WHERE key = 'model')"
        ).fetchone()
        return row

    def _expect(self, model: str) -> tuple[int, str, int] | None:
        """Refuse a model other than the gallery's."""
        active = self.active_model()
        if active is not None and active[1] != model:
            raise GalleryError(
                f"{self.path} holds templates of {active[1]}, but the embedder in use is {model}; their vectors "
                "cannot be compared. Choose that embedder, or run: mien gallery migrate"
            )
        return active

    def _checked(self, embedding: Embedding) -> tuple[int, str, int] | None:
        active = self._expect(embedding.model)
        if active is not None and len(embedding.vector) != active[2]:
            raise GalleryError(f"Templates of {active[1]} have {active[2]} values, got {len(embedding.vector)}.")
        return active

    def use_model(self, name: str, dimension: int) -> int:
        """Return the row id of the model in use; the first template of a gallery decides which. Inside a write."""
        active = self._expect(name)
        if active is None:
            row_id = self.model_row(name, dimension)
            self.set_meta("model", row_id)
            return row_id
        if dimension != active[2]:
            raise GalleryError(f"Templates of {name} have {active[2]} values, got {dimension}.")
        return active[0]

    def model_row(self, name: str, dimension: int) -> int:
        """Return the row id of a model, made if need be. Inside a write."""
        self.connection.execute("INSERT OR IGNORE INTO model (name, dimension) VALUES (?, ?)", (name, dimension))
        row: tuple[int, int] = self.connection.execute(
            "SELECT id, dimension FROM model WHERE name = ?", (name,)
        ).fetchone()
        if row[1] != dimension:
            raise GalleryError(f"Templates of {name} have {row[1]} values, got {dimension}.")
        return row[0]

    # Enrolment

    def enrol(
        self,
        subject: str,
        face: Face,
        *,
        source_hash: str,
        min_quality: float = 0.0,
        duplicate_threshold: float | None = None,
    ) -> Enrolment:
        """Add one face; on return it is on the disk.

        Args:
            subject: Name of the subject; made if there is none of that name.
            face: With embedding, and with crop if the gallery is ever to change its embedder.
            source_hash: Digest of the picture. The same picture of the same subject twice is one sample.
            min_quality: Refuse faces whose quality was measured and is below this.
            duplicate_threshold: Report other subjects that the face matches at this score; None: don't look.

        Returns:
            What became of it.

        Raises:
            GalleryError: The embedding is another model's, or the gallery cannot be written.
        """
        duplicates: tuple[Candidate, ...] = ()
        if duplicate_threshold is not None and face.embedding is not None and not _refused(face, min_quality):
            name = clean_name(subject)
            found = self.identify(face.embedding, duplicate_threshold, k=4)
            duplicates = tuple(candidate for candidate in found if candidate.subject != name)
        enrolment = self.enrol_many([Entry(subject, face, source_hash)], min_quality=min_quality)[0]
        return replace(enrolment, duplicates=duplicates)

    @plain_errors
    def enrol_many(self, entries: Iterable[Entry], *, min_quality: float = 0.0) -> list[Enrolment]:
        """Add faces in one transaction: all are on the disk on return, or, on an error, none.

        Args:
            entries: Faces and whose they are.
            min_quality: Refuse faces whose quality was measured and is below this.
        """
        with self.write():
            return [self._enrol(entry, min_quality) for entry in entries]

    def _enrol(self, entry: Entry, min_quality: float) -> Enrolment:
        face = entry.face
        reasons = face.quality.reasons if face.quality is not None else ()
        if face.embedding is None:
            raise GalleryError("A face is enrolled by its embedding, and this one has none. Analyse with embed=True.")
        self._checked(face.embedding)
        if _refused(face, min_quality):
            return Enrolment("refused", reasons=reasons or (Reason.LOW_QUALITY,))
        vector = face.embedding.vector
        model_id = self.use_model(face.embedding.model, len(vector))
        subject_id = self.subject_row(entry.subject)
        sample_id, is_new = self.add_sample(
            subject_id,
            source_hash=entry.source_hash,
            box=face.box,
            quality=None if face.quality is None else face.quality.score,
            reasons=reasons,
        )
        if not is_new:
            return Enrolment("already", subject_id, sample_id, reasons)
        if face.crop is not None:
            self.add_crop(sample_id, encode_crop(face.crop))
        self.add_template(sample_id, model_id, vector.astype(np.float16))
        return Enrolment("added", subject_id, sample_id, reasons)

    def subject_row(self, name: str) -> int:
        """Return the id of the subject of that name, made if need be. Inside a write."""
        value = clean_name(name).encode()
        key = self.cipher.fingerprint(value, "subject", "name")
        row = self.connection.execute("SELECT id FROM subject WHERE name_key = ?", (key,)).fetchone()
        if row is not None:
            return int(row[0])
        subject_id = self._next_id("subject")
        self.connection.execute(
            "INSERT INTO subject (id, name, name_key, created) VALUES (?, ?, ?, ?)",
            (subject_id, self.cipher.seal(value, "subject", "name", subject_id), key, now()),
        )
        return subject_id

    def add_sample(
        self,
        subject_id: int,
        *,
        source_hash: str,
        box: Box,
        quality: float | None,
        reasons: Sequence[Reason],
        created: str | None = None,
    ) -> tuple[int, bool]:
        """Return the id of the sample of that picture, and whether it was made now. Inside a write."""
        source = source_hash.encode()
        key = self.cipher.fingerprint(source, "sample", "source")
        row = self.connection.execute(
            "SELECT id FROM sample WHERE subject_id = ? AND source_key = ?", (subject_id, key)
        ).fetchone()
        if row is not None:
            return int(row[0]), False
        sample_id = self._next_id("sample")
        sealed = self.cipher.seal(source, "sample", "source", sample_id)
        self.connection.execute(
            "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sample_id, subject_id, sealed, key, *box.as_tuple(), quality, " ".join(reasons), created or now()),
        )
        return sample_id, True

    def add_crop(self, sample_id: int, image: bytes) -> None:
        """Store an encoded crop. Inside a write."""
        digest = self.cipher.fingerprint(image, "crop", "digest")
        self.connection.execute(
            "INSERT INTO crop VALUES (?, ?, ?)", (sample_id, self.cipher.seal(image, "crop", sample_id), digest)
        )

    def add_template(self, sample_id: int, model_id: int, vector: Float16[np.ndarray, " dimension"]) -> None:
        """Store a vector. Inside a write."""
        sealed = self.cipher.seal(vector.astype("<f2").tobytes(), "template", sample_id, model_id)
        self.connection.execute(
            "INSERT INTO template (sample_id, model_id, vector) VALUES (?, ?, ?)", (sample_id, model_id, sealed)
        )

    # Search

    def search(self, embedding: Embedding, k: int = 10, *, per_subject: bool = False) -> Records[Candidate]:
        """Return the k most similar samples, best first.

        Args:
            embedding: The probe.
            k: How many at most.
            per_subject: Return subjects, each with its best sample, rather than samples.

        Raises:
            GalleryError: The probe is of another model than the gallery.
        """
        return Records(self.search_many([embedding], k, per_subject=per_subject)[0])

    @plain_errors
    def search_many(
        self, embeddings: Sequence[Embedding], k: int = 10, *, per_subject: bool = False
    ) -> list[tuple[Candidate, ...]]:
        """Search several probes, shared between the cores; arguments as of `search`."""
        if k < 1:
            raise GalleryError(f"A search returns at least 1 candidate, got k = {k}.")
        if not embeddings:
            return []
        active = None
        for embedding in embeddings:
            active = self._checked(embedding)
        index = self.live.fresh()
        if active is None or index is None or len(index) == 0:
            return [() for _ in embeddings]
        probes = np.stack([embedding.vector for embedding in embeddings])
        if not per_subject:
            ids, scores = index.search(probes, min(k, len(index)))
            return [self._candidates(*row) for row in zip(ids, scores, strict=True)]
        return [self._best_subjects(index, probe, k) for probe in probes]

    def _best_subjects(
        self, index: FlatIndex | CodedIndex, probe: Float32[np.ndarray, " dimension"], k: int
    ) -> tuple[Candidate, ...]:
        """Look further down the list until it names k subjects."""
        wanted = 4 * k
        while True:
            ids, scores = index.search(probe[None], min(wanted, len(index)))
            best: dict[int, Candidate] = {}
            for candidate in self._candidates(ids[0], scores[0]):
                best.setdefault(candidate.subject_id, candidate)
            if len(best) >= k or wanted >= len(index):
                return tuple(best.values())[:k]
            wanted *= 4

    def identify(self, embedding: Embedding, threshold: float, k: int = 1) -> Records[Candidate]:
        """Return up to k subjects whose best sample scores at least ``threshold``, best first; empty: nobody known."""
        found = self.search(embedding, k, per_subject=True)
        return Records(candidate for candidate in found if candidate.score >= threshold)

    def _candidates(self, ids: Int64[np.ndarray, " k"], scores: Float32[np.ndarray, " k"]) -> tuple[Candidate, ...]:
        """Look up whose templates these are; one that was erased meanwhile is left out."""
        known: dict[int, tuple[int, int, bytes]] = {}
        wanted = [int(template_id) for template_id in ids if template_id >= 0]
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            known |= {
                template_id: row
                for template_id, *row in self.connection.execute(
                    "SELECT template.id, sample.id, subject.id, subject.name FROM template "
                    "JOIN sample ON sample.id = template.sample_id JOIN subject ON subject.id = sample.subject_id "
                    f"WHERE template.id IN ({','.join('?' * len(part))})",
                    part,
                )
            }
        return tuple(
            Candidate(self._name(known[i][1], known[i][2]), known[i][1], known[i][0], float(score))
            for i, score in zip(ids.tolist(), scores, strict=True)
            if i in known
        )

    @property
    def index_folder(self) -> Path | None:
        """Where the index of a large gallery is kept; None for an encrypted one, whose index stays in memory."""
        return None if self.encrypted else self.path.with_name(self.path.name + ".index")

    def rows(self, active: tuple[int, str, int], after: int = 0) -> Rows:
        """Yield ids and vectors of a model's templates in the order of enrolment, a block at a time."""
        cursor = self.connection.execute(
            "SELECT id, sample_id, vector FROM template WHERE id > ? AND model_id = ? ORDER BY id", (after, active[0])
        )
        while block := cursor.fetchmany(4096):
            data = b"".join(self.cipher.open(vector, "template", sample, active[0]) for _, sample, vector in block)
            if len(data) != len(block) * active[2] * 2:
                raise GalleryError(
                    f"{self.path} holds templates of a wrong length: it is damaged. See: mien gallery check"
                )
            vectors = np.frombuffer(data, dtype="<f2").reshape(len(block), active[2])
            yield np.array([row[0] for row in block], dtype=np.int64), vectors.astype(np.float16, copy=False)

    def owners(self, active: tuple[int, str, int]) -> Owners:
        """Return whose each template of a model is, in the order of `rows`."""
        rows = self.connection.execute(
            # The index on (sample, model) has all of it: no vector is read.
            "SELECT template.id, sample.id, subject_id FROM template JOIN sample ON sample.id = sample_id "
            "WHERE model_id = ?",
            active[:1],
        ).fetchall()
        table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
        return Owners(table[:, 0], table[:, 1], table[:, 2])

    # Subjects and samples

    @plain_errors
    def subjects(self) -> list[Subject]:
        """Return all subjects, by name."""
        rows = self.connection.execute(
            "SELECT subject.id, name, count(sample.id), subject.created FROM subject "
            "LEFT JOIN sample ON sample.subject_id = subject.id GROUP BY subject.id"
        )
        found = [Subject(row[0], self._name(row[0], row[1]), row[2], row[3]) for row in rows]
        return sorted(found, key=lambda subject: subject.name)

    @plain_errors
    def subject(self, name: str) -> Subject:
        """Return one subject.

        Raises:
            GalleryError: There is none of that name.
        """
        key = self.cipher.fingerprint(clean_name(name).encode(), "subject", "name")
        row = self.connection.execute(
            "SELECT id, (SELECT count(*) FROM sample WHERE subject_id = subject.id), created FROM subject "
            "WHERE name_key = ?",
            (key,),
        ).fetchone()
        if row is None:
            raise GalleryError("There is no subject of that name. `mien gallery list` shows all.")
        return Subject(row[0], clean_name(name), row[1], row[2])

    @plain_errors
    def samples(self, subject: str) -> list[Sample]:
        """Return a subject's samples in the order of enrolment."""
        rows = self.connection.execute(
            "SELECT id, source, box_left, box_top, box_right, box_bottom, quality, reasons, created, "
            "coalesce((SELECT length(image) FROM crop WHERE sample_id = sample.id), 0), "
            "(SELECT group_concat(model.name, char(10)) FROM template JOIN model ON model.id = model_id "
            "WHERE sample_id = sample.id) FROM sample WHERE subject_id = ? ORDER BY id",
            (self.subject(subject).id,),
        ).fetchall()
        subject_id = self.subject(subject).id
        return [
            Sample(
                id=row[0],
                subject_id=subject_id,
                source_hash=self.cipher.open(row[1], "sample", "source", row[0]).decode(),
                box=Box(*row[2:6]),
                quality=row[6],
                reasons=tuple(Reason(code) for code in row[7].split()),
                created=row[8],
                models=tuple((row[10] or "").split("\n")) if row[10] else (),
                crop_bytes=row[9],
            )
            for row in rows
        ]

    @plain_errors
    def crop(self, sample_id: int) -> UInt8[np.ndarray, "side side 3"] | None:
        """Return a sample's aligned crop, RGB uint8; None where it was not kept."""
        row = self.connection.execute("SELECT image FROM crop WHERE sample_id = ?", (sample_id,)).fetchone()
        return None if row is None else decode_crop(self.cipher.open(row[0], "crop", sample_id))

    @plain_errors
    def vectors(self, subject: str) -> Float32[np.ndarray, "samples dimension"]:
        """Return a subject's templates of the model in use, in the order of enrolment."""
        active = self.active_model()
        if active is None:
            return np.empty((0, 0), dtype=np.float32)
        rows = self.connection.execute(
            "SELECT sample_id, vector FROM template JOIN sample ON sample.id = sample_id "
            "WHERE subject_id = ? AND model_id = ? ORDER BY template.id",
            (self.subject(subject).id, active[0]),
        ).fetchall()
        data = b"".join(self.cipher.open(vector, "template", sample, active[0]) for sample, vector in rows)
        return np.frombuffer(data, dtype="<f2").reshape(len(rows), active[2]).astype(np.float32)

    @plain_errors
    def rename(self, subject: str, name: str) -> None:
        """Give a subject another name.

        Raises:
            GalleryError: There is no such subject, or the new name is taken.
        """
        value = clean_name(name).encode()
        key = self.cipher.fingerprint(value, "subject", "name")
        with self.write():
            subject_id = self.subject(subject).id
            taken = self.connection.execute("SELECT id FROM subject WHERE name_key = ?", (key,)).fetchone()
            if taken is not None and taken[0] != subject_id:
                raise GalleryError("Another subject has that name already. Join the two with: mien gallery merge")
            sealed = self.cipher.seal(value, "subject", "name", subject_id)
            self.connection.execute("UPDATE subject SET name = ?, name_key = ? WHERE id = ?", (sealed, key, subject_id))
            self.note("rename", subject_id)

    @plain_errors
    def merge(self, into: str, other: str) -> int:
        """Move all samples of one subject to another and drop the emptied one.

        A picture that both have stays once.

        Args:
            into: The subject that remains.
            other: The subject that goes.

        Returns:
            How many samples moved.
        """
        with self.write():
            kept, gone = self.subject(into), self.subject(other)
            if kept.id == gone.id:
                raise GalleryError("Both names are of one subject already; there is nothing to merge.")
            moved = self.connection.execute(
                "UPDATE OR IGNORE sample SET subject_id = ? WHERE subject_id = ?", (kept.id, gone.id)
            ).rowcount
            self.drop_subject(gone.id)
            self.note("merge", kept.id, f"subject {gone.id}, {moved} samples")
        return int(moved)

    def drop_subject(self, subject_id: int) -> None:
        """Delete a subject's rows and let indexes know. Inside a write."""
        self.bury(
            "SELECT template.id FROM template JOIN sample ON sample.id = sample_id WHERE subject_id = ?", subject_id
        )
        self.connection.execute("DELETE FROM subject WHERE id = ?", (subject_id,))

    def bury(self, templates: str, argument: int) -> None:
        """Count an erasure and note which templates it takes. Inside a write.

        Args:
            templates: SQL that selects template ids, with one parameter.
            argument: The parameter.
        """
        erasures = int(self.meta("erasures") or 0) + 1
        self.set_meta("erasures", erasures)
        self.connection.execute(
            f"INSERT OR IGNORE INTO tombstone (template_id, erasure) SELECT id, {erasures} FROM ({templates})",
            (argument,),
        )

    @plain_errors
    def erase(self, subject: str) -> Erasure:
        """Remove a subject with all samples, and prove that nothing of them is left.

        Rows are deleted and overwritten, the log is emptied, the stored index blotted; then the files are searched
        for the bytes of every vector, crop and the name.

        Raises:
            GalleryError: There is no such subject; or something of it remains, and where.
        """
        from mien.gallery.erasure import erase

        return erase(self, subject)

    # Upkeep

    @plain_errors
    def stats(self) -> Stats:
        """Return counts and sizes."""
        active = self.active_model()
        count = {
            table: int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in ("subject", "sample", "crop")
        }
        templates = (
            self.connection.execute("SELECT count(*) FROM template WHERE model_id = ?", active[:1]).fetchone()[0]
            if active
            else 0
        )
        spread = self.connection.execute(
            "SELECT n, count(*) FROM (SELECT count(*) AS n FROM sample GROUP BY subject_id) GROUP BY n ORDER BY n"
        ).fetchall()
        return Stats(
            path=str(self.path),
            model=active[1] if active else None,
            dimension=active[2] if active else None,
            subjects=count["subject"],
            samples=count["sample"],
            templates=templates,
            crops=count["crop"],
            encrypted=self.encrypted,
            database_bytes=sum(path.stat().st_size for path in self.database_files()),
            index_bytes=sum(path.stat().st_size for path in self.index_files()),
            erasures=self.connection.execute("SELECT count(*) FROM audit WHERE action = 'erase'").fetchone()[0],
            created=str(self.meta("created")),
            points=tuple(self.points()),
            samples_a_subject=MappingProxyType(dict(spread)),
        )

    def database_files(self) -> list[Path]:
        """Return the database, its log and its shared memory, as far as they exist."""
        names = (self.path.name + suffix for suffix in ("", "-wal", "-shm", "-journal"))
        return [path for path in map(self.path.with_name, names) if path.exists()]

    def index_files(self) -> list[Path]:
        """Return the files of the stored index, and of one in the making."""
        folders = [
            path
            for path in self.path.absolute().parent.iterdir()
            if path.name == f"{self.path.name}.index" or path.name.startswith(f"{self.path.name}.index.")
        ]
        return [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]

    @plain_errors
    def check(self, *, mate_score: float = 0.45, probes: int = 2000) -> CheckReport:
        """Examine everything, and measure what the index finds against exact search.

        An index that falls short is made to look deeper until it does not.

        Args:
            mate_score: The least cosine of a mate that must be found; the operating threshold.
            probes: How many searches measure the recall. Three thousand without a miss support 99.9 %.
        """
        from mien.gallery.health import check

        return check(self, mate_score=mate_score, probes=probes)

    @plain_errors
    def rebuild(self) -> None:
        """Make everything derived anew: compact the database, empty its log, rebuild the index."""
        self.forget_index()
        for path in self.path.absolute().parent.glob("*"):
            if path.name == f"{self.path.name}.index" or path.name.startswith(f"{self.path.name}.index."):
                shutil.rmtree(path, ignore_errors=True)
        self.compact()
        self.live.fresh()

    def compact(self) -> None:
        """Rewrite the database without gaps, and empty its log."""
        # VACUUM builds a copy; in memory it would need room for the whole gallery.
        self.connection.execute("PRAGMA temp_store = DEFAULT")
        self.connection.execute("VACUUM")
        self.connection.execute("PRAGMA temp_store = MEMORY")
        self.empty_log()

    def empty_log(self) -> bool:
        """Move the log into the database and cut it to nothing; False if another process still reads from it."""
        return int(self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]) == 0

    def forget_index(self) -> None:
        """Drop the index from memory; the next search opens it anew."""
        self.live.forget()

    @plain_errors
    def index(self) -> FlatIndex | CodedIndex | None:
        """Return the index in use, up to date; None while the gallery is empty."""
        return self.live.fresh()

    @plain_errors
    def audit(self, threshold: float) -> list[Finding]:
        """Look for templates that match everybody, one person under two names, two persons under one.

        Args:
            threshold: Scores of at least this are matches.
        """
        from mien.gallery.health import audit

        return audit(self, threshold)

    @plain_errors
    def export(self, folder: str | Path) -> Transfer:
        """Write subjects, samples, templates and crops, unencrypted, to a new folder: JSON Lines and PNG."""
        from mien.gallery.exchange import export

        with self.snapshot():
            return export(self, Path(folder))

    @plain_errors
    def import_(self, folder: str | Path) -> Transfer:
        """Read what `export` wrote, all of it or, on an error, nothing; what is there already stays."""
        from mien.gallery.exchange import import_

        return import_(self, Path(folder))

    @plain_errors
    def migrate(
        self, model: str, embed: Embed, *, batch: int = 64, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Embed all crops with another model and, when all are done, switch to it.

        Each batch is kept, so an interrupted migration goes on where it was. Until the switch, searches use the old
        templates. Calibrated thresholds belong to a model and don't carry over.

        Args:
            model: Id of the new embedder.
            embed: Turns crops, RGB uint8 (batch, side, side, 3), into embeddings.
            batch: Crops at a time.
            progress: Called with crops done and crops in all.

        Returns:
            How many crops were embedded now.

        Raises:
            GalleryError: Samples without a crop, which cannot be embedded anew.
        """
        from mien.gallery.migration import migrate

        return migrate(self, model, embed, batch=batch, progress=progress)

    # Operating points

    @plain_errors
    def calibrate(self, fmr: float) -> StoredPoint:
        """Derive the threshold for a false match rate from this gallery's own subjects, and keep it.

        Args:
            fmr: Largest false match rate allowed, a fraction such as 1e-4.

        Raises:
            EvaluationError: Too few comparisons to see one false match at this rate.
        """
        from mien.gallery.calibration import calibrate

        return self.keep_point(calibrate(self, fmr))

    @plain_errors
    def keep_point(self, point: OperatingPoint) -> StoredPoint:
        """Store an operating point of the model in use; one for the same target is replaced."""
        active = self.active_model()
        if active is None:
            raise GalleryError("An empty gallery has no model that a threshold could belong to. Enrol first.")
        stats = self.stats()
        stored = StoredPoint(point, active[1], now(), stats.subjects, stats.templates)
        with self.write():
            self.connection.execute(
                "INSERT OR REPLACE INTO threshold VALUES (?, ?, ?, ?, ?, ?)",
                (
                    active[0],
                    point.target_fmr,
                    json.dumps(asdict(point)),
                    stored.subjects,
                    stored.templates,
                    stored.created,
                ),
            )
            self.note("calibrate", None, f"FMR {point.target_fmr:g}")
        return stored

    def operating_point(self, fmr: float) -> StoredPoint | None:
        """Return the calibrated operating point for a false match rate; None where there is none."""
        return next((stored for stored in self.points() if math.isclose(stored.point.target_fmr, fmr)), None)

    @plain_errors
    def points(self) -> list[StoredPoint]:
        """Return the calibrated operating points of the model in use, most permissive first."""
        active = self.active_model()
        rows = self.connection.execute(
            "SELECT point, created, subjects, templates FROM threshold WHERE model_id = ? ORDER BY target_fmr DESC",
            (active[0] if active else None,),
        ).fetchall()
        return [
            StoredPoint(_point(json.loads(row[0])), active[1] if active else "", row[1], row[2], row[3]) for row in rows
        ]

    # Shared by the modules of this package

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Hold the write lock; nested uses join the outer one."""
        if self.connection.in_transaction:
            yield
            return
        if self.read_only:
            raise GalleryError(f"{self.path} was opened read-only.")
        try:
            with transaction(self.connection):
                yield
        finally:
            self.live.stale = True

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the gallery, whatever others commit meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("COMMIT")

    def note(self, action: str, subject_id: int | None, detail: str = "") -> None:
        """Add to the audit log: ids and counts, never names, pixels or vectors. Inside a write."""
        self.connection.execute(
            "INSERT INTO audit (time, action, subject_id, detail) VALUES (?, ?, ?, ?)",
            (now(), action, subject_id, detail),
        )

    def _name(self, subject_id: int, stored: bytes) -> str:
        return self.cipher.open(stored, "subject", "name", subject_id).decode()

    def _next_id(self, table: str) -> int:
        """Return the id of the next row: needed before the row, whose blobs are bound to it. Inside a write."""
        row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return 1 if row is None else int(row[0]) + 1

    def meta(self, key: str) -> bytes | int | str | None:
        """Return a fact about the gallery; None where it is not set."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def set_meta(self, key: str, value: bytes | int | str) -> None:
        """Set a fact about the gallery. Inside a write."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @plain_errors
    def __len__(self) -> int:
        """Return how many subjects there are."""
        return int(self.connection.execute("SELECT count(*) FROM subject").fetchone()[0])


def now() -> str:
    """Return the time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def clean_name(name: str) -> str:
    """Return a name in one spelling: composed characters, no space around it.

    Raises:
        GalleryError: It is empty, too long, or holds control characters or bytes that are no text.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name or len(name) > LONGEST_NAME:
        raise GalleryError(f"A subject's name has 1 to {LONGEST_NAME} characters, got {len(name)}.")
    # Cc: control, Cs: a byte of a file name that is no text. Either would garble a list on a terminal.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise GalleryError("A subject's name is text without control characters. Choose another spelling.")
    return name


def encode_crop(crop: UInt8[np.ndarray, "side side 3"]) -> bytes:
    """Encode without loss: WebP, a quarter smaller than PNG and faster at this effort."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "WEBP", lossless=True, method=0, quality=0)
    return stream.getvalue()


def decode_crop(image: bytes) -> UInt8[np.ndarray, "side side 3"]:
    """Decode a stored crop."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(image), formats=["WEBP"]) as opened:
            return np.asarray(opened.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise GalleryError("A stored crop does not decode: the gallery is damaged. See: mien gallery check") from error


def _refused(face: Face, min_quality: float) -> bool:
    return face.quality is not None and face.quality.score < min_quality


def _point(stored: dict[str, Any]) -> OperatingPoint:
    """Restore an operating point; JSON has lists where the record has tuples."""
    return OperatingPoint(
        **{**stored, "fmr_interval": tuple(stored["fmr_interval"]), "fnmr_interval": tuple(stored["fnmr_interval"])}
    )
