"""What a gallery holds, row by row: the only place of SQL, and what a second backend would write anew.

Methods that change rows belong inside `Rows.write`; several reads that must agree belong inside `Rows.snapshot`. Values
are sealed and opened here, so that nobody above sees a stored blob, except to prove that it is gone.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import uuid
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float16, Int64

from mien.errors import GalleryError, ModelError
from mien.gallery.crypto import Cipher, Plain, Sealed
from mien.gallery.index import Remote, Templates, is_unit
from mien.gallery.names import clean_name, first_spelling, folded_name, shown
from mien.gallery.records import ActiveModel, Needle, Owners, Sample, StoredPoint, Subject
from mien.gallery.sqlite import VERSION, connect, errors_in_words, transaction
from mien.types import Box, OperatingPoint, Reason
from mien.vision.cohort import Cohort

if TYPE_CHECKING:
    from mien.gallery.postgres.address import Address

__all__ = ["Rows", "now"]

T = TypeVar("T")

_SIMULATED = (
    "CREATE TABLE IF NOT EXISTS simulated "
    "(template_id bigint PRIMARY KEY REFERENCES template (id) ON DELETE CASCADE, views integer NOT NULL)"
)  # in both dialects; made when it is needed, since an older mien can do without it
_KNOWN = b"mien gallery"  # opens under the right key only
_BLOCK = 4096  # templates read at a time
_SHOWN = 5  # rows that a message names
_SAME_FACE = 0.5  # of two boxes in one picture: the least overlap (intersection over union) that makes them one face


class Rows:
    """The rows of one gallery in an SQLite file.

    Args:
        path: The file; a link is followed, so that whatever is derived lies beside the file itself.
        create: Make the file if there is none.
        read_only: Change nothing.
        timeout_s: How long to wait for another process's write.

    Attributes:
        path: As given, for messages.
        file: What it leads to.
        cipher: Seals and opens what is stored; set by `unlock`.
        writes: Grows with every write through this connection, whose own commits SQLite does not announce.
    """

    _joined_names = "group_concat(model.name, char(10))"
    clock = "CAST(strftime('%s', 'now') AS INTEGER)"
    claim_suffix = ""

    path: Path | Address
    file: Path | None
    connection: Any

    def __init__(self, path: Path, *, create: bool, read_only: bool, timeout_s: float) -> None:
        self.path, self.read_only, self.timeout_s = path, read_only, timeout_s
        self.file = path.resolve()
        self.cipher: Cipher = Plain()
        self.writes = 0
        self.connection = connect(path, create=create, read_only=read_only, timeout_s=timeout_s)
        self._version = self._one("PRAGMA user_version")

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    def errors_in_words(self) -> contextlib.AbstractContextManager[None]:
        """Turn the database's errors into one line that says what to do."""
        assert isinstance(self.path, Path), "this gallery is a file"
        return errors_in_words(self.path, self.timeout_s)

    def unlock(self, key: bytes | None) -> None:
        """Set up a new gallery, or check that the key is the one of this gallery; then bring old tables up to date."""
        if not self.read_only and self.meta("gallery") is None:
            with self.write():
                if self.meta("gallery") is None:
                    self.set_meta("gallery", uuid.uuid4().hex)
                    self.set_meta("created", now())
                    self.set_meta("erasures", 0)
                    if key is not None:
                        self.set_meta("key_check", Sealed(key).seal(_KNOWN, "meta", "key_check"))
        check = self.meta("key_check")
        if isinstance(check, bytes):
            if key is None:
                raise GalleryError(f"{self.path} is encrypted. Name its key file: --key FILE, or key_file= in Python.")
            self.cipher = Sealed(key)
            try:
                self.cipher.open(check, "meta", "key_check")
            except GalleryError as error:
                raise GalleryError(
                    f"The key is not that of {self.path}. Name the key file it was made with."
                ) from error
        elif key is not None:
            raise GalleryError(
                f"{self.path} is not encrypted, but a key was given. Leave the key out, or export the gallery and "
                "import it into a new one made with the key."
            )
        if not self.read_only:
            self.bring_up_to_date()

    def bring_up_to_date(self) -> None:
        """Give a gallery of an older version what it lacks: checksums of templates, names that tell apart by looks."""
        if self._version >= VERSION:
            return
        with self.write():
            self._version = self._one("PRAGMA user_version")
            if self._version >= VERSION:  # another process was faster
                return
            self.connection.execute("ALTER TABLE template ADD COLUMN checksum INTEGER")
            self.connection.execute("CREATE INDEX sample_source ON sample (source_key)")
            self._version = VERSION
            if not self.cipher.encrypted:
                last = 0
                while block := self.connection.execute(
                    "SELECT id, sample_id, model_id, vector FROM template WHERE id > ? ORDER BY id LIMIT ?",
                    (last, _BLOCK),
                ).fetchall():
                    self.connection.executemany(
                        "UPDATE template SET checksum = ? WHERE id = ?",
                        [(self._checksum(vector, sample, model), row) for row, sample, model, vector in block],
                    )
                    last = block[-1][0]
            self._fold_names()
            self.connection.execute(f"PRAGMA user_version = {VERSION}")

    def _fold_names(self) -> None:
        """Look subjects up by how their names look, except where two already look alike: those keep their spelling."""
        rows = self.connection.execute("SELECT id, name, name_key FROM subject ORDER BY id").fetchall()
        taken = {key for _, _, key in rows}
        for subject_id, stored, key in rows:
            try:
                folded = self.name_key(folded_name(self._name(subject_id, stored)))
            except GalleryError:  # damaged, or nothing of it is to be seen: `check` says the first, the second works
                continue
            if folded != key and folded not in taken:
                self.connection.execute("UPDATE subject SET name_key = ? WHERE id = ?", (folded, subject_id))
                taken.add(folded)

    # Transactions

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
            self.writes += 1

    @contextlib.contextmanager
    def side_write(self) -> Iterator[None]:
        """Write something that no search or index depends on."""
        with self.write():
            yield

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

    def upkeep(self, action: Callable[[], None]) -> None:
        """Do a piece of upkeep inside a write if nobody is writing and the disk takes it; a search does not wait."""
        if self.read_only:
            return
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            with contextlib.suppress(OSError, sqlite3.OperationalError), self.write():
                action()
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {int(self.timeout_s * 1000)}")

    def state(self) -> tuple[int, int]:
        """Return what differs once anything was committed, by this connection or another one."""
        return self._one("PRAGMA data_version"), self.writes

    def announcements(self, stop: threading.Event) -> Iterator[None]:
        """Yield whenever somebody has written to this gallery, until told to stop; a file announces nothing."""
        yield from ()

    # Facts, models, the audit log

    def meta(self, key: str) -> bytes | int | str | None:
        """Return a fact about the gallery; None where it is not set."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def set_meta(self, key: str, value: bytes | int | str) -> None:
        """Set a fact about the gallery."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def note(self, action: str, subject_id: int | None, detail: str = "") -> None:
        """Add to the audit log: ids and counts, never names, pixels or vectors."""
        self.connection.execute(
            "INSERT INTO audit (time, action, subject_id, detail) VALUES (?, ?, ?, ?)",
            (now(), action, subject_id, detail),
        )

    def noted(self, action: str) -> int:
        """Count the entries of an action in the audit log."""
        return self._one("SELECT count(*) FROM audit WHERE action = ?", action)

    def active_model(self) -> ActiveModel | None:
        """Return the model in use; None while the gallery is empty."""
        row = self.connection.execute(
            "SELECT id, name, dimension FROM model WHERE id = (SELECT value FROM meta WHERE key = 'model')"
        ).fetchone()
        return None if row is None else ActiveModel(*row)

    def expect_model(self, name: str) -> ActiveModel | None:
        """Return the model in use; refuse one of another name."""
        active = self.active_model()
        if active is not None and active.name != name:
            if self.cohort() is not None:
                raise GalleryError(
                    f"{self.path} has a cohort of its own, and the embedder in use is {shown(name)} without it. Take "
                    "analyzer.for_gallery(gallery), or go back with: mien calibrate --cohort shipped"
                )
            old, new = (model.rsplit("-", 2)[0] for model in (active.name, name))  # name, version, digest
            cure = (
                f"That embedder has changed since. Bring them along with: mien gallery migrate --embedder {shown(new)}"
                if old == new
                else "Choose that embedder, or embed the stored faces anew with: mien gallery migrate"
            )
            raise GalleryError(
                f"{self.path} holds templates of {shown(active.name)}, but the embedder in use is {shown(name)}; their "
                f"vectors cannot be compared. {cure}"
            )
        return active

    def use_model(self, name: str, dimension: int) -> ActiveModel:
        """Return the model in use; the first template of a gallery decides which."""
        active = self.expect_model(name)
        if active is None:
            active = self.add_model(name, dimension)
            self.set_meta("model", active.row_id)
        active.check_dimension(dimension)
        return active

    def add_model(self, name: str, dimension: int) -> ActiveModel:
        """Return the model of that name, made if need be."""
        self.connection.execute(
            "INSERT INTO model (name, dimension) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, dimension)
        )
        row = self.connection.execute("SELECT id, name, dimension FROM model WHERE name = ?", (name,)).fetchone()
        model = ActiveModel(*row)
        model.check_dimension(dimension)
        return model

    def switch_model(self, name: str) -> None:
        """Make a model the one in use and drop the templates of others; without it nothing happens."""
        row = self.connection.execute("SELECT id FROM model WHERE name = ?", (name,)).fetchone()
        if row is None:  # an empty gallery: its first template decides
            return
        self._bury("SELECT id FROM template WHERE model_id != ?", row[0])
        self.connection.execute("DELETE FROM template WHERE model_id != ?", (row[0],))
        self.connection.execute("DELETE FROM meta WHERE key = 'cohort'")
        self.set_meta("model", row[0])

    def cohort(self) -> Cohort | None:
        """Return the cohort of the templates in use; None where it is the embedder's own.

        Raises:
            GalleryError: It is damaged.
        """
        stored = self.meta("cohort")
        if stored is None:
            return None
        assert isinstance(stored, bytes), "keep_cohort writes bytes"
        try:
            return Cohort.of_text(self.cipher.open(stored, "cohort").decode())
        except (GalleryError, ModelError, UnicodeDecodeError) as error:
            raise GalleryError(f"The cohort of {self.path} is damaged. Restore a backup.") from error

    def keep_cohort(self, cohort: Cohort) -> None:
        """Store the cohort of the templates in use."""
        self.set_meta("cohort", self.cipher.seal(cohort.to_text().encode(), "cohort"))

    # Subjects

    def subjects(self) -> list[Subject]:
        """Return all subjects, by name."""
        rows = self.connection.execute(
            "SELECT subject.id, name, count(sample.id), subject.created FROM subject "
            "LEFT JOIN sample ON sample.subject_id = subject.id GROUP BY subject.id"
        )
        simulated = self._simulated_samples()
        found = [Subject(row[0], self._name(row[0], row[1]), row[2], row[3], simulated.get(row[0], 0)) for row in rows]
        return sorted(found, key=lambda subject: subject.name)

    def _simulated_samples(self, subject_id: int | None = None) -> dict[int, int]:
        """Return how many samples of each subject, or of one, have a template that simulated views went into."""
        active = self.active_model() if self.has_simulated() else None
        if active is None:
            return {}
        one, values = ("", ()) if subject_id is None else ("AND subject_id = ? ", (subject_id,))
        rows = self.connection.execute(
            "SELECT subject_id, count(*) FROM simulated JOIN template ON template.id = template_id "
            f"JOIN sample ON sample.id = sample_id WHERE model_id = ? {one}GROUP BY subject_id",
            (active.row_id, *values),
        )
        return {row[0]: row[1] for row in rows}

    def find_subject(self, name: str) -> int | None:
        """Return the id of the subject of that name, or of a name that looks the same; None where there is none."""
        for spelling in dict.fromkeys((first_spelling(name), folded_name(name))):
            row = self.connection.execute(
                "SELECT id FROM subject WHERE name_key = ?", (self.name_key(spelling),)
            ).fetchone()
            if row is not None:
                return int(row[0])
        return None

    def subject(self, name: str) -> Subject:
        """Return one subject.

        Raises:
            GalleryError: There is none of that name.
        """
        clean_name(name)
        subject_id = self.find_subject(name)
        if subject_id is None:
            raise GalleryError("There is no subject of that name. `mien gallery list` shows all.")
        found = self.subject_by_id(subject_id)
        assert found is not None, "names and rows agree"
        return found

    def subject_by_id(self, subject_id: int) -> Subject | None:
        """Return one subject; None where there is none of that id."""
        row = self.connection.execute(
            "SELECT name, (SELECT count(*) FROM sample WHERE subject_id = subject.id), created FROM subject "
            "WHERE id = ?",
            (subject_id,),
        ).fetchone()
        if row is None:
            return None
        simulated = self._simulated_samples(subject_id).get(subject_id, 0)
        return Subject(subject_id, self._name(subject_id, row[0]), row[1], row[2], simulated)

    def add_subject(self, name: str) -> int:
        """Return the id of the subject of that name, made if need be."""
        kept = clean_name(name)
        subject_id = self.find_subject(name)
        if subject_id is None:
            subject_id = self._next_id("subject")
            sealed = self.cipher.seal(kept.encode(), "subject", "name", subject_id)
            self.connection.execute(
                "INSERT INTO subject (id, name, name_key, created) VALUES (?, ?, ?, ?)",
                (subject_id, sealed, self.name_key(folded_name(name)), now()),
            )
        return subject_id

    def subjects_by_key(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the subjects that have one of these fingerprints of names."""
        return {
            row[0]: row[1]
            for part in _parts(keys)
            for row in self.connection.execute(
                f"SELECT name_key, id FROM subject WHERE name_key IN ({','.join('?' * len(part))})", part
            )
        }

    def taken(self, table: str, ids: Sequence[int]) -> bool:
        """Return whether a row has one of these ids."""
        return any(
            self._one(f"SELECT count(*) FROM {table} WHERE id IN ({','.join('?' * len(part))})", *part)
            for part in _parts(ids)
        )

    def rename_subject(self, subject_id: int, name: str) -> None:
        """Give a subject another name, which nobody else has."""
        sealed = self.cipher.seal(clean_name(name).encode(), "subject", "name", subject_id)
        key = self.name_key(folded_name(name))
        self.connection.execute("UPDATE subject SET name = ?, name_key = ? WHERE id = ?", (sealed, key, subject_id))

    def move_samples(self, into: int, other: int) -> int:
        """Give all samples of one subject to another, a picture that both have excepted; return how many moved."""
        moved = self.connection.execute(
            "UPDATE sample SET subject_id = ? WHERE subject_id = ? AND source_key NOT IN "
            "(SELECT source_key FROM sample WHERE subject_id = ?)",
            (into, other, into),
        )
        return int(moved.rowcount)

    def holder(self, sample_id: int) -> int | None:
        """Return the id of the subject that a sample is of; None where there is no such sample."""
        row = self.connection.execute("SELECT subject_id FROM sample WHERE id = ?", (sample_id,)).fetchone()
        return None if row is None else int(row[0])

    def move_sample(self, sample_id: int, into: int) -> bool:
        """Give one sample to another subject; False where that one has its picture already."""
        moved = self.connection.execute(
            "UPDATE sample SET subject_id = ? WHERE id = ? AND source_key NOT IN "
            "(SELECT source_key FROM sample WHERE subject_id = ?)",
            (into, sample_id, into),
        )
        return bool(moved.rowcount)

    def drop_subject(self, subject_id: int) -> None:
        """Delete a subject's rows and let indexes know."""
        self._bury(
            "SELECT template.id FROM template JOIN sample ON sample.id = sample_id WHERE subject_id = ?", subject_id
        )
        self.connection.execute("DELETE FROM subject WHERE id = ?", (subject_id,))

    def drop_waiting(self, subject_id: int) -> None:
        """Delete what waits to be enrolled as this subject: it holds the name."""
        if self.has_work():
            self.connection.execute(
                "DELETE FROM work WHERE subject_key = (SELECT name_key FROM subject WHERE id = ?)", (subject_id,)
            )

    def has_work(self) -> bool:
        """Return whether there is a table of pictures to enrol; see `mien.gallery.work`."""
        return bool(self._one("SELECT count(*) FROM sqlite_master WHERE name = 'work'"))

    def has_simulated(self) -> bool:
        """Return whether there is a table of templates that simulated views went into: once there was one."""
        return bool(self._one("SELECT count(*) FROM sqlite_master WHERE name = 'simulated'"))

    def _bury(self, templates: str, argument: int) -> None:
        """Count an erasure and note which templates it takes: SQL that selects their ids by one parameter."""
        erasures = self.erasures() + 1
        self.set_meta("erasures", erasures)
        self.connection.execute(
            f"INSERT INTO tombstone (template_id, erasure) SELECT id, {erasures} FROM ({templates}) AS gone "
            "WHERE true ON CONFLICT DO NOTHING",
            (argument,),
        )

    def erasures(self) -> int:
        """Return how many erasures the gallery has seen."""
        return int(self.meta("erasures") or 0)

    def tombstones(self, since: int) -> Int64[np.ndarray, " templates"]:
        """Return the ids of templates that went in erasures after a count of them."""
        rows = self.connection.execute("SELECT template_id FROM tombstone WHERE erasure > ?", (since,))
        return np.array([row[0] for row in rows], dtype=np.int64)

    # Samples and crops

    def samples(self, subject_id: int) -> list[Sample]:
        """Return a subject's samples in the order of enrolment."""
        return self.samples_between(subject_id, subject_id)

    def samples_between(self, first: int, last: int) -> list[Sample]:
        """Return the samples of all subjects from one id to another in the order of enrolment."""
        active = self.active_model() if self.has_simulated() else None
        views = "0" if active is None else (
            "coalesce((SELECT views FROM simulated JOIN template ON template.id = template_id "
            f"WHERE sample_id = sample.id AND model_id = {active.row_id}), 0)"
        )  # fmt: skip
        rows = self.connection.execute(
            "SELECT id, source, box_left, box_top, box_right, box_bottom, quality, reasons, created, "
            "coalesce((SELECT length(image) FROM crop WHERE sample_id = sample.id), 0), "
            f"(SELECT {self._joined_names} FROM template JOIN model ON model.id = model_id "
            f"WHERE sample_id = sample.id), subject_id, {views} "
            "FROM sample WHERE subject_id BETWEEN ? AND ? ORDER BY id",
            (first, last),
        ).fetchall()
        return [
            Sample(
                id=row[0],
                subject_id=row[11],
                source_hash=self.cipher.open(row[1], "sample", "source", row[0]).decode(),
                box=Box(*row[2:6]),
                quality=row[6],
                reasons=tuple(Reason(code) for code in row[7].split()),
                created=row[8],
                models=tuple((row[10] or "").split("\n")) if row[10] else (),
                crop_bytes=row[9],
                simulated=row[12],
            )
            for row in rows
        ]

    def samples_by_key(self, keys: Sequence[bytes]) -> set[tuple[int, bytes]]:
        """Return which subjects have which of these pictures, by the fingerprints of their hashes."""
        return {
            (row[0], row[1])
            for part in _parts(keys)
            for row in self.connection.execute(
                f"SELECT subject_id, source_key FROM sample WHERE source_key IN ({','.join('?' * len(part))})", part
            )
        }

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
        """Return the id of the sample of that picture, and whether it was made now."""
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

    def sample_exists(self, sample_id: int) -> bool:
        """Return whether a sample is still there."""
        return self.connection.execute("SELECT 1 FROM sample WHERE id = ?", (sample_id,)).fetchone() is not None

    def others_of_face(self, sample_id: int) -> tuple[str, ...]:
        """Return the names of other subjects that have this very face of this very picture as a sample."""
        boxes = "box_left, box_top, box_right, box_bottom"
        *own, key, subject_id = self.connection.execute(
            f"SELECT {boxes}, source_key, subject_id FROM sample WHERE id = ?", (sample_id,)
        ).fetchone()
        rows = self.connection.execute(
            f"SELECT {boxes}, subject.id, name FROM sample JOIN subject ON subject.id = subject_id "
            "WHERE source_key = ? AND subject_id != ? ORDER BY subject.id",
            (key, subject_id),
        ).fetchall()
        return tuple(self._name(row[4], row[5]) for row in rows if _overlap(own, row[:4]) >= _SAME_FACE)

    def subjects_of_one_face(self) -> set[tuple[int, int]]:
        """Return pairs of subjects, smaller id first, that have the very same face of the very same picture."""
        by_picture: dict[bytes, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
        for key, subject_id, *box in self.connection.execute(
            "SELECT source_key, subject_id, box_left, box_top, box_right, box_bottom FROM sample WHERE source_key IN "
            "(SELECT source_key FROM sample GROUP BY source_key HAVING count(*) > 1)"
        ):
            by_picture[key].append((subject_id, tuple(box)))
        return {
            (min(one, other), max(one, other))
            for of_picture in by_picture.values()
            for (one, box), (other, another) in combinations(of_picture, 2)
            if _overlap(box, another) >= _SAME_FACE
        }

    def crop(self, sample_id: int) -> bytes | None:
        """Return a sample's encoded crop; None where it was not kept."""
        row = self.connection.execute("SELECT image, digest FROM crop WHERE sample_id = ?", (sample_id,)).fetchone()
        return None if row is None else self._crop(sample_id, *row)

    def _crop(self, sample_id: int, stored: bytes, digest: bytes) -> bytes:
        image = self.cipher.open(stored, "crop", sample_id)
        if self.cipher.fingerprint(image, "crop", "digest") != digest:
            raise GalleryError(
                f"The crop of sample {sample_id} differs from its digest: {self.path} is damaged. "
                "See: mien gallery check"
            )
        return image

    def crops_between(self, first: int, last: int) -> dict[int, bytes]:
        """Return the encoded crops of all subjects from one id to another, by sample."""
        rows = self.connection.execute(
            "SELECT crop.sample_id, image, digest FROM crop JOIN sample ON sample.id = crop.sample_id "
            "WHERE subject_id BETWEEN ? AND ?",
            (first, last),
        ).fetchall()
        return {sample_id: self._crop(sample_id, stored, digest) for sample_id, stored, digest in rows}

    def add_crop(self, sample_id: int, image: bytes) -> None:
        """Store an encoded crop."""
        digest = self.cipher.fingerprint(image, "crop", "digest")
        self.connection.execute(
            "INSERT INTO crop VALUES (?, ?, ?)", (sample_id, self.cipher.seal(image, "crop", sample_id), digest)
        )

    # Templates

    def add_template(self, sample_id: int, model: ActiveModel, vector: Float16[np.ndarray, " dimension"]) -> None:
        """Store a vector."""
        data = vector.astype("<f2").tobytes()
        self.connection.execute(
            "INSERT INTO template (sample_id, model_id, vector, checksum) VALUES (?, ?, ?, ?)",
            (
                sample_id,
                model.row_id,
                self.cipher.seal(data, "template", sample_id, model.row_id),
                self._checksum(data, sample_id, model.row_id),
            ),
        )

    def add_templates(
        self, samples: Sequence[int], model: ActiveModel, vectors: Sequence[Float16[np.ndarray, " dimension"]]
    ) -> None:
        """Store many vectors."""
        blobs = [vector.astype("<f2").tobytes() for vector in vectors]
        self.connection.executemany(
            "INSERT INTO template (sample_id, model_id, vector, checksum) VALUES (?, ?, ?, ?)",
            [
                (
                    sample,
                    model.row_id,
                    self.cipher.seal(data, "template", sample, model.row_id),
                    self._checksum(data, sample, model.row_id),
                )
                for sample, data in zip(samples, blobs, strict=True)
            ],
        )

    def mark_simulated(self, model: ActiveModel, views: Mapping[int, int]) -> None:
        """Note, by sample, of how many simulated views its template of a model is the mean. Inside a write."""
        if not views:
            return
        if not self.has_simulated():
            self.connection.execute(_SIMULATED)
        self.connection.executemany(
            "INSERT INTO simulated SELECT id, ? FROM template WHERE sample_id = ? AND model_id = ?",
            [(count, sample, model.row_id) for sample, count in views.items()],
        )

    def simulated(self, model: ActiveModel) -> dict[int, int]:
        """Return, by sample, of how many simulated views its template of a model is the mean, where it is."""
        if not self.has_simulated():
            return {}
        rows = self.connection.execute(
            "SELECT sample_id, views FROM simulated JOIN template ON template.id = template_id WHERE model_id = ?",
            (model.row_id,),
        )
        return {row[0]: row[1] for row in rows}

    def remote(self, model: ActiveModel) -> Remote | None:
        """Return what scores templates where they are stored; None where the index has to hold the vectors."""
        return None

    def templates(self, model: ActiveModel, after: int = 0) -> Templates:
        """Yield ids and vectors of a model's templates in the order of enrolment, a block at a time."""
        cursor = self.connection.execute(
            f"SELECT id, sample_id, vector, {self._stored_checksum} FROM template WHERE id > ? AND model_id = ? "
            "ORDER BY id",
            (after, model.row_id),
        )
        while block := cursor.fetchmany(_BLOCK):
            yield np.array([row[0] for row in block], dtype=np.int64), self._vectors(block, model)

    def vectors(self, subject_id: int, model: ActiveModel) -> dict[int, Float16[np.ndarray, " dimension"]]:
        """Return a subject's templates of a model by sample, in the order of enrolment."""
        return self.vectors_between(subject_id, subject_id, model)

    def vectors_between(
        self, first: int, last: int, model: ActiveModel
    ) -> dict[int, Float16[np.ndarray, " dimension"]]:
        """Return the templates of all subjects from one id to another by sample, in the order of enrolment."""
        rows = self.connection.execute(
            f"SELECT template.id, sample_id, vector, {self._stored_checksum} FROM template "
            "JOIN sample ON sample.id = sample_id WHERE subject_id BETWEEN ? AND ? AND model_id = ? "
            "ORDER BY template.id",
            (first, last, model.row_id),
        ).fetchall()
        return dict(zip((row[1] for row in rows), self._vectors(rows, model), strict=True))

    def vectors_of(
        self, subject_ids: Sequence[int], model: ActiveModel
    ) -> dict[int, Float16[np.ndarray, "samples dimension"]]:
        """Return the templates of several subjects by subject, read at once; one that was erased is left out."""
        found = {}
        for start in range(0, len(subject_ids), 500):
            part = subject_ids[start : start + 500]
            rows = self.connection.execute(
                f"SELECT subject_id, template.id, sample_id, vector, {self._stored_checksum} FROM template "
                f"JOIN sample ON sample.id = sample_id WHERE subject_id IN ({','.join('?' * len(part))}) "
                "AND model_id = ? ORDER BY subject_id, template.id",
                (*part, model.row_id),
            ).fetchall()
            vectors, owners = self._vectors([row[1:] for row in rows], model), np.array([row[0] for row in rows])
            found.update({int(owner): vectors[owners == owner] for owner in np.unique(owners)})
        return found

    def _vectors(
        self, rows: Sequence[tuple[int, int, bytes, int | None]], model: ActiveModel
    ) -> Float16[np.ndarray, "rows dimension"]:
        """Open the vectors of (id, sample, vector, checksum); refuse one that is not what was stored."""
        opened = []
        sealed, length = self.cipher.encrypted, 2 * model.dimension
        for _, sample, stored, checksum in rows:
            data = self.cipher.open(stored, "template", sample, model.row_id) if sealed else stored
            if checksum is not None and checksum != self._checksum(data, sample, model.row_id):
                raise GalleryError(
                    f"The template of sample {sample} differs from its checksum: {self.path} is damaged. "
                    "Restore a backup, or erase that sample's subject and enrol it again. See: mien gallery check"
                )
            if len(data) != length:
                raise GalleryError(
                    f"The template of sample {sample} has a wrong length: {self.path} is damaged. "
                    "See: mien gallery check"
                )
            opened.append(data)
        return np.frombuffer(b"".join(opened), dtype="<f2").reshape(len(rows), model.dimension).astype(np.float16)

    def template_is(self, template_id: int, model: ActiveModel, vector: bytes) -> bool:
        """Return whether an unencrypted template is this vector, or was erased."""
        row = self.connection.execute(
            "SELECT vector FROM template WHERE id = ? AND model_id = ?", (template_id, model.row_id)
        ).fetchone()
        if row is not None and row[0] == vector:
            return True
        found = self.connection.execute("SELECT 1 FROM tombstone WHERE template_id = ?", (template_id,)).fetchone()
        return found is not None

    def owners(self, model: ActiveModel) -> Owners:
        """Return whose each template of a model is, in the order of `templates`."""
        rows = self.connection.execute(
            # The index on (sample, model) has all of it: no vector is read.
            "SELECT template.id, sample.id, subject_id FROM template JOIN sample ON sample.id = sample_id "
            "WHERE model_id = ?",
            (model.row_id,),
        ).fetchall()
        table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
        return Owners(table[:, 0], table[:, 1], table[:, 2])

    def holders(self, templates: Iterable[int]) -> dict[int, tuple[str, int, int]]:
        """Return name, subject id and sample id of templates; one that was erased is left out."""
        found = {}
        wanted = list(templates)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            for template_id, sample_id, subject_id, stored in self.connection.execute(
                "SELECT template.id, sample.id, subject.id, subject.name FROM template "
                "JOIN sample ON sample.id = template.sample_id JOIN subject ON subject.id = sample.subject_id "
                f"WHERE template.id IN ({','.join('?' * len(part))})",
                part,
            ):
                found[template_id] = (self._name(subject_id, stored), subject_id, sample_id)
        return found

    # Samples that lack a template of a model

    def lacking(self, model: str, limit: int = 1 << 62) -> list[int]:
        """Return ids of samples without a template of a model, in the order of enrolment."""
        rows = self.connection.execute(
            "SELECT sample.id FROM sample LEFT JOIN template ON template.sample_id = sample.id "
            "AND template.model_id = (SELECT id FROM model WHERE name = ?) WHERE template.id IS NULL "
            "ORDER BY sample.id LIMIT ?",
            (model, limit),
        )
        return [row[0] for row in rows]

    def cropless(self) -> set[int]:
        """Return ids of samples without a crop."""
        rows = self.connection.execute("SELECT id FROM sample WHERE id NOT IN (SELECT sample_id FROM crop)")
        return {row[0] for row in rows}

    # Operating points

    def points(self, model: ActiveModel | None) -> list[StoredPoint]:
        """Return the calibrated operating points of a model, most permissive first."""
        if model is None:
            return []
        rows = self.connection.execute(
            "SELECT point, created, subjects, templates FROM threshold WHERE model_id = ? ORDER BY target_fmr DESC",
            (model.row_id,),
        ).fetchall()
        return [StoredPoint(_point(row[0]), model.name, *row[1:]) for row in rows]

    def keep_point(self, model: ActiveModel, stored: StoredPoint) -> None:
        """Store an operating point; one for the same target is replaced."""
        point = stored.point
        self.connection.execute(
            "INSERT INTO threshold VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model_id, target_fmr) DO UPDATE SET "
            "point = excluded.point, subjects = excluded.subjects, templates = excluded.templates, "
            "created = excluded.created",
            (
                model.row_id,
                point.target_fmr,
                json.dumps(asdict(point)),
                stored.subjects,
                stored.templates,
                stored.created,
            ),
        )

    # Counts, files, health

    def count(self, table: str) -> int:
        """Return the number of rows of ``subject``, ``sample``, ``crop`` or ``template``."""
        assert table in ("subject", "sample", "crop", "template"), "a table of the gallery"
        return self._one(f"SELECT count(*) FROM {table}")

    def count_templates(self, model: ActiveModel | None) -> int:
        """Return the number of templates of a model; the index on (sample, model) has it: no vector is read."""
        return 0 if model is None else self._one("SELECT count(*) FROM template WHERE model_id = ?", model.row_id)

    def samples_a_subject(self) -> dict[int, int]:
        """Return how many subjects have 1, 2, ... samples."""
        return dict(
            self.connection.execute(
                "SELECT n, count(*) FROM (SELECT count(*) AS n FROM sample GROUP BY subject_id) AS counts "
                "GROUP BY n ORDER BY n"
            ).fetchall()
        )

    def files(self) -> list[Path]:
        """Return the database, its log and its shared memory, as far as they exist."""
        assert self.file is not None, "this gallery is a file"
        names = (self.file.name + suffix for suffix in ("", "-wal", "-shm", "-journal"))
        return [path for path in map(self.file.with_name, names) if path.exists()]

    def size_bytes(self) -> int:
        """Return what the gallery takes on disk."""
        return sum(path.stat().st_size for path in self.files())

    def compact(self) -> None:
        """Rewrite the database without gaps, and empty its log."""
        # VACUUM builds a copy; in memory it would need room for the whole gallery.
        self.connection.execute("PRAGMA temp_store = DEFAULT")
        self.connection.execute("VACUUM")
        self.connection.execute("PRAGMA temp_store = MEMORY")
        self.empty_log()

    def empty_log(self) -> bool:
        """Move the log into the database and cut it to nothing; False if another process still reads from it."""
        return self._one("PRAGMA wal_checkpoint(TRUNCATE)") == 0

    def database_problems(self) -> list[str]:
        """Return what the database itself finds wrong with its file and references, a line each."""
        problems = [
            f"database: {row[0]}"
            for row in self.connection.execute(f"PRAGMA integrity_check({_SHOWN})")
            if row[0] != "ok"
        ]
        dangling = self.connection.execute("PRAGMA foreign_key_check").fetchall()
        if dangling:
            problems.append(f"database: {len(dangling)} rows refer to rows that are not there")
        return problems

    def altered(self, decode: Callable[[bytes], object]) -> dict[str, list[int]]:
        """Open every name, source hash, crop and vector.

        Args:
            decode: Decodes a crop, or raises a GalleryError.

        Returns:
            What is wrong (a sentence that the count precedes), and with which rows: ids, of samples for crops and
            templates.
        """
        wrong: dict[str, list[int]] = defaultdict(list)
        ask, cipher = self._each, self.cipher
        for subject_id, stored, key in ask("SELECT id, name, name_key FROM subject"):
            try:
                name = self._name(subject_id, stored)
                if key not in {self.name_key(first_spelling(name)), self.name_key(folded_name(name))}:
                    wrong["subject names differ from their fingerprint"].append(subject_id)
            except (GalleryError, UnicodeDecodeError):
                wrong["subject names do not open"].append(subject_id)
        for sample_id, stored, key in ask("SELECT id, source, source_key FROM sample"):
            try:
                if cipher.fingerprint(cipher.open(stored, "sample", "source", sample_id), "sample", "source") != key:
                    wrong["source hashes differ from their fingerprint"].append(sample_id)
            except GalleryError:
                wrong["source hashes do not open"].append(sample_id)
        for sample_id, stored, digest in ask("SELECT sample_id, image, digest FROM crop"):
            try:
                image = cipher.open(stored, "crop", sample_id)
                if cipher.fingerprint(image, "crop", "digest") != digest:
                    wrong["crops differ from their digest"].append(sample_id)
                else:
                    decode(image)
            except GalleryError:
                wrong["crops do not open"].append(sample_id)
        for sample_id, model_id, stored, checksum, dimension in ask(
            f"SELECT sample_id, model_id, vector, {self._stored_checksum}, dimension "
            "FROM template JOIN model ON model.id = model_id"
        ):
            try:
                data = cipher.open(stored, "template", sample_id, model_id)
            except GalleryError:
                wrong["templates do not open"].append(sample_id)
                continue
            if len(data) != 2 * dimension:
                wrong["templates have a wrong length"].append(sample_id)
                continue
            if checksum is not None and checksum != self._checksum(data, sample_id, model_id):
                wrong["templates differ from their checksum"].append(sample_id)
            elif checksum is None and not cipher.encrypted and self._version >= VERSION:
                wrong["templates have no checksum"].append(sample_id)
            if not is_unit(np.frombuffer(data, dtype="<f2")):
                wrong["templates are not of unit length"].append(sample_id)
        return wrong

    def look_alikes(self) -> list[int]:
        """Return ids of subjects whose names look like another's; galleries of version 1 could have such."""
        folded = {subject.id: folded_name(subject.name) for subject in self.subjects()}
        counts = Counter(folded.values())
        return [subject_id for subject_id, name in folded.items() if counts[name] > 1]

    # Proof of an erasure

    def belongings(self, subject_id: int) -> tuple[list[Needle], Counter[str], int]:
        """Collect what the files hold of a subject, as stored and as it reads; how many rows; how many bytes.

        Checksums are not verified: what is damaged must go too.
        """
        needles: list[Needle] = []
        counts: Counter[str] = Counter()
        size = 0
        of_subject = "WHERE sample_id IN (SELECT id FROM sample WHERE subject_id = ?)"
        ask = self.connection.execute
        for sample_id, model_id, stored in ask(
            f"SELECT sample_id, model_id, vector FROM template {of_subject}", [subject_id]
        ):
            opened = self._opened_if_sound(stored, "template", sample_id, model_id)
            needles += [Needle("vectors", stored, "template.vector"), Needle("vectors", opened, "template.vector")]
            whole = opened[: len(opened) // 2 * 2]
            needles.append(Needle("vectors", np.frombuffer(whole, "<f2").astype("<f4").tobytes()))
            counts["template"] += 1
            size += len(stored)
        for sample_id, stored in ask(f"SELECT sample_id, image FROM crop {of_subject}", [subject_id]):
            opened = self._opened_if_sound(stored, "crop", sample_id)
            needles += [
                Needle("crops", stored, "crop.image"),
                Needle("crops", opened, "crop.image"),
            ]
            counts["crop"] += 1
            size += len(stored)
        for sample_id, stored, key in ask(
            "SELECT id, source, source_key FROM sample WHERE subject_id = ?", [subject_id]
        ):
            opened = self._opened_if_sound(stored, "sample", "source", sample_id)
            # The same group picture may well be a sample of others.
            needles.append(Needle("source hashes", opened, "sample.source"))
            needles.append(Needle("source hashes", key, "sample.source_key"))
            counts["sample"] += 1
        row = ask("SELECT name, name_key FROM subject WHERE id = ?", [subject_id]).fetchone()
        needles.append(Needle("name", row[1]))
        if self.cipher.encrypted:
            needles.append(Needle("name", row[0]))
        return list(dict.fromkeys(needles)), counts, size

    def _opened_if_sound(self, stored: bytes, *place: str | int) -> bytes:
        try:
            return self.cipher.open(stored, *place)
        except GalleryError:  # altered: what it was cannot be looked for, but it must be possible to erase it
            return stored

    def holds(self, place: str, fragment: bytes) -> bool:
        """Return whether a row that is still there holds these bytes in a place such as ``template.vector``."""
        table, column = place.split(".")
        return bool(self._one(f"SELECT count(*) FROM {table} WHERE instr({column}, ?)", fragment))

    def held(self, place: str, values: Iterable[bytes]) -> int:
        """Count the values that a row holds in a place such as ``template.vector``."""
        return sum(self.holds(place, value) for value in values)

    def rows_of(self, subject_id: int, samples: Sequence[int]) -> int:
        """Count the rows that refer to a subject or to one of these samples."""
        count = self._one("SELECT count(*) FROM subject WHERE id = ?", subject_id)
        count += self._one("SELECT count(*) FROM sample WHERE subject_id = ?", subject_id)
        for table in ("crop", "template"):
            for sample in samples:
                count += self._one(f"SELECT count(*) FROM {table} WHERE sample_id = ?", sample)
        return count

    def tables(self) -> tuple[str, ...]:
        """Return the tables that hold something of a subject."""
        return ("subject", "sample", "crop", "template")

    def texts(self) -> list[str]:
        """Return text that rightly stands in the file in the clear: of the tables, models, and, unencrypted, names."""
        rows = self.connection.execute("SELECT sql FROM sqlite_master UNION SELECT name FROM model")
        names = [] if self.cipher.encrypted else [subject.name for subject in self.subjects()]
        return [row[0] for row in rows if row[0]] + names

    # Private

    @property
    def _stored_checksum(self) -> str:
        """SQL of a template's checksum; galleries of version 1, opened read-only, have none."""
        return "checksum" if self._version >= VERSION else "NULL"

    def _checksum(self, data: bytes, sample_id: int, model_id: int) -> int | None:
        """Return what binds a vector to its row; None where its seal does (AES-GCM, with the row's place).

        CRC-32 finds every flipped bit and every damaged run of 32, and costs a search nothing. It is against accidents:
        who may write the file could write any checksum without a key as well.
        """
        if self.cipher.encrypted:
            return None
        return zlib.crc32(data, (sample_id << 8 ^ model_id) & 0xFFFF_FFFF)

    def _name(self, subject_id: int, stored: bytes) -> str:
        return self.cipher.open(stored, "subject", "name", subject_id).decode()

    def name_key(self, spelling: str) -> bytes:
        """Return the fingerprint by which a name is looked up."""
        return self.cipher.fingerprint(spelling.encode(), "subject", "name")

    def _next_id(self, table: str) -> int:
        """Return the id of the next row: needed before the row, whose blobs are bound to it."""
        row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return 1 if row is None else int(row[0]) + 1

    def reserve(self, table: str, count: int) -> int:
        """Return the first of so many ids in a row that nobody else gets. Inside a write."""
        first = self._next_id(table)
        self.raise_ids(table, first + count - 1)
        return first

    def raise_ids(self, table: str, last: int) -> None:
        """See that no id up to this one is given to a new row. Inside a write."""
        last = max(last, self.last_id(table))
        self.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        self.connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, last))

    def last_id(self, table: str) -> int:
        """Return the highest id that a row ever had."""
        return self._next_id(table) - 1

    def _each(self, query: str) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query that may be too many for memory."""
        yield from self.connection.execute(query)

    def _one(self, sql: str, *values: object) -> int:
        return int(self.connection.execute(sql, values).fetchone()[0])


def _parts(values: Sequence[T], length: int = 500) -> Iterator[Sequence[T]]:
    """Yield values a few hundred at a time: a statement of SQLite takes no more than 999."""
    for start in range(0, len(values), length):
        yield values[start : start + length]


def now() -> str:
    """Return the time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _point(text: str) -> OperatingPoint:
    """Restore an operating point; JSON has lists where the record has tuples."""
    stored = json.loads(text)
    return OperatingPoint(
        **{**stored, "fmr_interval": tuple(stored["fmr_interval"]), "fnmr_interval": tuple(stored["fnmr_interval"])}
    )


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / max(sum(areas) - common, 1e-9)
