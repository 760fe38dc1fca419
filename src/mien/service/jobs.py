"""Work that takes longer than an answer may: enrolling or grouping a zip. What a restart breaks off is gone on with."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import shutil
import sqlite3
import sys
import threading
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mien.errors import DataError, MienError
from mien.files import write_whole
from mien.gallery.deciding import decide
from mien.gallery.ingest import Outcome, duplicate_threshold, enrol_picture
from mien.grouping import Grouping, group_faces
from mien.images import encode_image, load_image
from mien.reporting import Album, Name, schemas
from mien.service.archive import Member, members, read_member
from mien.service.collections import Collection
from mien.service.problems import Problem
from mien.service.store import make_folder, now
from mien.service.uploads import Upload, analyse
from mien.types import Box, Embedding, Face, OperatingPoint, Picture, Quality

if TYPE_CHECKING:
    from collections.abc import Callable

    from mien.service.core import Core

__all__ = ["GROUP_FMR", "Job", "Jobs"]

GROUP_FMR = 1e-4
"""Largest false match rate of a pair of faces in a grouping, where none is asked for."""

JOB = "mien/job/1"
_KEPT = {"enrol": timedelta(days=7), "group": timedelta(days=1)}  # a grouping holds faces that nobody enrolled
_OPEN = ("queued", "running")
_AGAIN_S = 5.0  # until a disk that refused is asked again
_THUMB_QUALITY = 95

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        id: Not to be guessed.
        collection: Whose.
        kind: enrol or group.
        state: queued, running, done, cancelled or failed.
        created: When, UTC, ISO 8601.
        started: When.
        finished: When.
        total: Pictures; None: not counted yet.
        error: Why it failed, in a sentence.
    """

    id: str
    collection: str
    kind: str
    state: str
    created: str
    started: str | None
    finished: str | None
    total: int | None
    error: str | None


class Jobs:
    """The jobs of a service, done one after the other.

    Args:
        core: Of the service.
    """

    def __init__(self, core: Core) -> None:
        self._core, self._store = core, core.store
        self._folder = core.settings.data / "jobs"
        make_folder(self._folder)
        self._wake = threading.Event()
        self._cancelled: set[str] = set()
        self._thread: threading.Thread | None = None
        self._store.do("UPDATE job SET state = 'queued' WHERE state = 'running'")  # of a process that ended

    def start(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, name="mien-jobs", daemon=True)
        self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """End after the picture that is worked on; what is left is gone on with at the next start."""
        self._wake.set()
        if self._thread is not None:
            self._thread.join(30.0)

    def place(self) -> tuple[str, Path]:
        """Return the id of a new job, and where its upload goes."""
        job_id = secrets.token_hex(16)
        make_folder(self._folder / job_id)
        return job_id, self._folder / job_id / "upload.zip"

    def drop_place(self, job_id: str) -> None:
        """Remove the folder of a job."""
        shutil.rmtree(self._folder / job_id, ignore_errors=True)

    def submit(self, job_id: str, collection: Collection, kind: str, wish: Mapping[str, object]) -> Job:
        """Take in a job whose upload is there.

        Raises:
            DataError: The upload is no zip of pictures, or not one that is read here.
        """
        total = len(members(self._folder / job_id / "upload.zip", self._core.settings.limits))
        sealed = collection.seal(json.dumps(wish).encode(), "job", job_id)
        self._store.do(
            "INSERT INTO job (id, collection, kind, state, created, total, wish) VALUES (?, ?, ?, 'queued', ?, ?, ?)",
            (job_id, collection.name, kind, now(), total, sealed),
        )
        self._wake.set()
        return self.get(collection.name, job_id)

    # Asking -----------------------------------------------------------------------------------------------------------

    def of(self, collection: str) -> list[Job]:
        """Return the jobs of a collection, newest first."""
        return [Job(*row) for row in self._store.ask(f"{_SELECT} WHERE collection = ? {_NEWEST}", (collection,))]

    def get(self, collection: str, job_id: str) -> Job:
        """Return a job.

        Raises:
            Problem: 404: the collection has none of that id.
        """
        rows = self._store.ask(f"{_SELECT} WHERE collection = ? AND id = ?", (collection, job_id))
        if not rows:
            raise Problem(404, "There is no job of that id in this collection.")
        return Job(*rows[0])

    def as_json(self, job: Job) -> dict[str, object]:
        """Return the document `mien/job/1`."""
        rows = self._store.ask("SELECT status, count(*) FROM job_item WHERE job = ? GROUP BY status", (job.id,))
        counts = Counter({"added": 0, "already": 0, "refused": 0, "failed": 0} if job.kind == "enrol" else {})
        counts.update(dict(rows))
        facts = {key: value for key, value in schemas.record(job).items() if key != "collection"}
        return {"schema": JOB, **facts, "done": sum(count for _, count in rows), "counts": dict(counts)}

    def items(self, collection: Collection, job_id: str, after: int, limit: int) -> list[dict[str, object]]:
        """Return what became of pictures, those after a number."""
        rows = self._store.ask(
            "SELECT number, record FROM job_item WHERE job = ? AND number > ? ORDER BY number LIMIT ?",
            (job_id, after, limit),
        )
        return [
            {"number": number, **json.loads(collection.open(record, "job", job_id, number))} for number, record in rows
        ]

    def result(self, collection: Collection, job: Job) -> dict[str, object]:
        """Return the document of a grouping, with the names that the gallery has for its people now."""
        groups = self._groups(collection, job)
        names: dict[int, Name] = {}
        for person in groups.grouping.people:
            known = collection.gallery.identify(Embedding(groups.model, person.centre), groups.point.threshold)
            if known:
                names[person.id] = Name(known[0].subject, known[0].score)
        return schemas.groups(groups.grouping, groups.album, names, embedder=groups.model, point=groups.point)

    def face(self, collection: Collection, job: Job, face: int) -> bytes:
        """Return the aligned crop of a face of a grouping, as JPEG."""
        faces = self._groups(collection, job).faces
        if not 0 <= face < len(faces):
            raise Problem(404, f"The grouping has no face {face}.")
        return bytes(faces[face]["crop"])

    def enrol_person(self, collection: Collection, job: Job, person: int, name: str) -> list[Outcome]:
        """Enrol the faces of a person of a grouping."""
        groups = self._groups(collection, job)
        found = next((one for one in groups.grouping.people if one.id == person), None)
        if found is None:
            raise Problem(404, f"The grouping has no person {person}.")
        outcomes = []
        for number in found.faces:
            stored = groups.faces[number]
            quality = None if stored["quality"] is None else Quality(float(stored["quality"]))
            face = Face(
                Box(*stored["box"]),
                np.zeros((5, 2), np.float32),
                1.0,
                quality=quality,
                embedding=Embedding(groups.model, np.asarray(stored["vector"], np.float32)),
                crop=load_image(bytes(stored["crop"])),
            )
            width, height = stored["size"]
            picture = Picture(stored["path"], width=width, height=height, faces=(face,), digest=stored["digest"])
            outcomes.append(enrol_picture(collection.gallery, picture, name, min_quality=0.0))
        return outcomes

    def cancel(self, collection: Collection, job: Job) -> bool:
        """Stop an open job, or remove one that is over; return whether it was removed."""
        if job.state in _OPEN:
            self._cancelled.add(job.id)
            self._end(job.id, "cancelled")
            return False
        self._store.do("DELETE FROM job WHERE id = ? AND collection = ?", (job.id, collection.name))
        self.drop_place(job.id)
        return True

    def remove_all(self, collection: str) -> None:
        """Stop and remove the jobs of a collection, with the pictures and faces that they hold."""
        for job in self.of(collection):
            self._cancelled.add(job.id)
            self._store.do("DELETE FROM job WHERE id = ?", (job.id,))
            self.drop_place(job.id)

    def remove_old(self) -> int:
        """Remove jobs that were over long ago; return how many."""
        removed = 0
        for kind, kept in _KEPT.items():
            since = (datetime.now(UTC) - kept).isoformat(timespec="seconds")
            for (job_id,) in self._store.ask("SELECT id FROM job WHERE kind = ? AND finished < ?", (kind, since)):
                self._store.do("DELETE FROM job WHERE id = ?", (job_id,))
                self.drop_place(job_id)
                removed += 1
        return removed

    # Working ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._core.closing.is_set():
            try:
                rows = self._store.ask(f"{_SELECT} WHERE state = 'queued' ORDER BY created, rowid LIMIT 1")
                if rows:
                    self._do(Job(*rows[0]))
                    continue
            except MienError as error:  # a full disk, a locked file: it may pass
                sys.stderr.write(f"mien: {error}\n")
                self._core.closing.wait(_AGAIN_S)
                continue
            self._wake.wait()
            self._wake.clear()

    def _do(self, job: Job) -> None:
        self._store.do(
            "UPDATE job SET state = 'running', started = coalesce(started, ?) WHERE id = ? AND state = 'queued'",
            (now(), job.id),
        )
        state, error = "done", None
        try:
            collection = self._core.collections.get(job.collection)
            wish = json.loads(collection.open(self._wish(job.id), "job", job.id))
            if not (self._enrol if job.kind == "enrol" else self._group)(job, collection, wish):
                return  # cancelled, or to be gone on with
        except (CancelledError, KeyError):
            return
        except (MienError, Problem) as mistake:
            state, error = "failed", str(getattr(mistake, "detail", mistake))
        except OSError as mistake:
            state, error = "failed", f"The disk refused: {mistake.strerror}."
        except Exception:  # noqa: BLE001 - the edge of this thread; the next job must be done
            sys.stderr.write(f"mien: job {job.id} failed.\n{traceback.format_exc(limit=-8)}")
            state, error = "failed", "The service made a mistake. Its log says more."
        if not self._core.closing.is_set() or state == "done":
            with contextlib.suppress(MienError):
                self._end(job.id, state, error)

    def _wish(self, job_id: str) -> bytes:
        rows = self._store.ask("SELECT wish FROM job WHERE id = ?", (job_id,))
        if not rows:
            raise KeyError(job_id)
        return bytes(rows[0][0])

    def _end(self, job_id: str, state: str, error: str | None = None) -> None:
        self._store.do(
            "UPDATE job SET state = ?, error = ?, finished = ? WHERE id = ? AND state IN ('queued', 'running')",
            (state, error, now(), job_id),
        )
        (self._folder / job_id / "upload.zip").unlink(missing_ok=True)

    def _each(self, job: Job, done: int = 0) -> Iterator[tuple[Member, bytes | DataError]]:
        """Yield the pictures of a job's zip after a number; end early where it was cancelled."""
        limits, path = self._core.settings.limits, self._folder / job.id / "upload.zip"
        found = members(path, limits)
        with zipfile.ZipFile(path) as archive:
            for member in found[done:]:
                if self._core.closing.is_set() or job.id in self._cancelled:
                    return
                try:
                    data: bytes | DataError = read_member(archive, member, limits)
                except DataError as error:
                    data = error
                yield member, data

    def _stopped(self, job: Job) -> bool:
        return self._core.closing.is_set() or job.id in self._cancelled

    def _in_turn(self, work: Callable[[], T]) -> T:
        return self._core.engine.run_when_idle(work).result()

    def _enrol(self, job: Job, collection: Collection, wish: dict[str, Any]) -> bool:
        """Enrol the pictures that are left; return whether that was all of them."""
        done = self._store.ask("SELECT coalesce(max(number), 0) FROM job_item WHERE job = ?", (job.id,))[0][0]
        limits = self._core.settings.limits
        threshold = duplicate_threshold(collection.gallery, collection.analyzer.card)
        for member, data in self._each(job, done):
            subject = wish["subject"] or member.folder

            def work(data: bytes | DataError = data, name: str = member.name, subject: str = subject) -> Outcome:
                if isinstance(data, DataError):
                    return Outcome(Picture(name, error=str(data)), subject, error=str(data))
                if not subject:
                    words = f"Whose picture is '{name}'? Put it into a folder of that name, or name the subject."
                    return Outcome(Picture(name, error=words), "", error=words)
                picture = analyse(collection.analyzer, Upload(name, data), limits, crops=True, digest=True)
                picture = replace(picture, path=name)
                face, least = wish["face"], wish["min_quality"]
                return enrol_picture(
                    collection.gallery, picture, subject, face, min_quality=least, duplicates=threshold
                )

            outcome = self._in_turn(work)
            enrolled = outcome.enrolment
            subject_id = None if enrolled is None else enrolled.subject_id
            self._keep(collection, job.id, member.number, outcome.status, schemas.enrolment(outcome), subject_id)
        return not self._stopped(job)

    def _keep(
        self,
        collection: Collection,
        job_id: str,
        number: int,
        status: str,
        record: Mapping[str, object],
        subject_id: int | None = None,
    ) -> None:
        sealed = collection.seal(json.dumps(schemas.plain(record)).encode(), "job", job_id, number)
        with contextlib.suppress(sqlite3.IntegrityError):  # the job was removed meanwhile
            self._store.do(
                "INSERT OR REPLACE INTO job_item VALUES (?, ?, ?, ?, ?)", (job_id, number, status, subject_id, sealed)
            )

    def _group(self, job: Job, collection: Collection, wish: dict[str, Any]) -> bool:
        """Group the faces of all pictures; one that was broken off begins anew."""
        self._store.do("DELETE FROM job_item WHERE job = ?", (job.id,))
        limits, analyzer = self._core.settings.limits, collection.expressive
        own = collection.gallery if collection.gallery.cohort is not None else None
        fmr = GROUP_FMR if wish["fmr"] is None and wish["threshold"] is None else wish["fmr"]
        point = decide(analyzer.card, fmr=fmr, threshold=wish["threshold"], gallery=own).point
        kept: list[dict[str, Any]] = []
        for member, data in self._each(job):

            def work(data: bytes | DataError = data, name: str = member.name) -> Picture:
                if isinstance(data, DataError):
                    return Picture(name, error=str(data))
                picture = analyse(analyzer, Upload(name, data), limits, crops=True, digest=True)
                return replace(picture, path=name)

            picture = self._in_turn(work)
            kept.append(_stored(picture))
            told: dict[str, object] = {"path": member.name, "faces": len(picture.faces)}
            status = "read" if picture.error is None else "failed"
            facts = told if picture.error is None else {"path": member.name, "error": picture.error}
            self._keep(collection, job.id, member.number, status, {"status": status, **facts})
        if self._stopped(job):
            return False
        document = {"model": analyzer.card.id, "point": schemas.record(point), "least": wish["min_quality"]}
        data = _packed(kept, document)
        write_whole(self._folder / job.id / "groups", collection.seal(data, "groups", job.id), sync=True)
        return True

    def _groups(self, collection: Collection, job: Job) -> _Groups:
        if job.kind != "group":
            raise Problem(409, "Only a job of the kind group has this.")
        if job.state != "done":
            raise Problem(409, f"The job is {job.state}: it has no result.")
        try:
            data = (self._folder / job.id / "groups").read_bytes()
        except OSError:
            raise Problem(404, "The result of that job is gone.") from None
        return _unpacked(collection.open(data, "groups", job.id))


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    album: Album
    grouping: Grouping
    faces: list[dict[str, Any]]
    model: str
    point: OperatingPoint


_SELECT = "SELECT id, collection, kind, state, created, started, finished, total, error FROM job"
_NEWEST = "ORDER BY created DESC, rowid DESC LIMIT 500"


def _stored(picture: Picture) -> dict[str, Any]:
    """Return what a grouping keeps of a picture."""
    faces = []
    for face in picture.faces:
        assert face.crop is not None and face.embedding is not None, "both were asked for"
        told = face.expression
        faces.append(
            {
                "box": face.box.as_tuple(),
                "quality": None if face.quality is None else face.quality.score,
                "expression": None if told is None else "uncertain" if told.uncertain else told.label,
                "vector": face.embedding.vector,
                "crop": encode_image(face.crop, quality=_THUMB_QUALITY),
                "digest": picture.digest,
                "size": (picture.width, picture.height),
                "path": picture.path,
            }
        )
    return {
        "path": picture.path,
        "width": picture.width,
        "height": picture.height,
        "error": picture.error,
        "digest": picture.digest,
        "faces": faces,
    }


def _packed(pictures: list[dict[str, Any]], document: dict[str, Any]) -> bytes:
    faces = [face for picture in pictures for face in picture["faces"]]
    vectors = np.stack([face["vector"] for face in faces]) if faces else np.empty((0, 1), np.float32)
    crops = [face["crop"] for face in faces]
    told = [
        {
            **picture,
            "faces": [{k: v for k, v in face.items() if k not in ("vector", "crop")} for face in picture["faces"]],
        }
        for picture in pictures
    ]
    text = json.dumps(schemas.plain({**document, "pictures": told})).encode()
    file = io.BytesIO()
    np.savez(
        file,
        vectors=vectors,
        crops=np.frombuffer(b"".join(crops), np.uint8),
        ends=np.cumsum([len(crop) for crop in crops], dtype=np.int64),
        text=np.frombuffer(text, np.uint8),
    )
    return file.getvalue()


def _unpacked(data: bytes) -> _Groups:
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        vectors, ends = stored["vectors"], stored["ends"].tolist()
        crops, document = stored["crops"].tobytes(), json.loads(stored["text"].tobytes())
    album, faces, rows = Album(), [], []
    number = 0
    for picture in document["pictures"]:
        thumbs, records = [], []
        for stored_face in picture["faces"]:
            crop = crops[ends[number - 1] if number else 0 : ends[number]]
            stored_face |= {"crop": crop, "vector": vectors[number]}
            quality = None if stored_face["quality"] is None else Quality(stored_face["quality"])
            records.append((stored_face, Face(Box(*stored_face["box"]), _NOWHERE, 1.0, quality=quality)))
            thumbs.append(crop)
            number += 1
        before = len(album.faces)
        album.add(
            Picture(
                picture["path"],
                width=picture["width"],
                height=picture["height"],
                faces=tuple(face for _, face in records),
                error=picture["error"],
                digest=picture["digest"],
            ),
            thumbs,
        )
        if len(album.faces) > before:
            faces += [stored_face for stored_face, _ in records]
            rows += [stored_face["vector"] for stored_face, _ in records]
    album.faces = [
        replace(face, expression=stored_face["expression"])
        for face, stored_face in zip(album.faces, faces, strict=True)
    ]
    matrix = np.stack(rows).astype(np.float32) if rows else np.empty((0, 1), np.float32)
    point: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document["point"].items()
    }
    point["fnmr"] = float("nan") if point["fnmr"] is None else point["fnmr"]
    decided = OperatingPoint(**point)
    grouping = group_faces(
        matrix,
        [face.picture for face in album.faces],
        threshold=decided.threshold,
        quality=[face.quality for face in album.faces],
        min_quality=document["least"],
    )
    return _Groups(album, grouping, faces, document["model"], decided)


_NOWHERE = np.zeros((5, 2), np.float32)
