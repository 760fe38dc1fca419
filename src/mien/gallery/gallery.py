"""The gallery: enrol, search, identify, erase, and keep in order."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from mien.errors import GalleryError
from mien.gallery import calibration, erasure, exchange, health, migration
from mien.gallery.crops import decode_crop, encode_crop
from mien.gallery.crypto import read_key
from mien.gallery.index import CodedIndex, FlatIndex, is_unit
from mien.gallery.live import LiveIndex
from mien.gallery.names import clean_name
from mien.gallery.postgres.address import Address
from mien.gallery.protocol import Change, Embed
from mien.gallery.records import (
    ActiveModel,
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
from mien.gallery.rows import now
from mien.gallery.stores import open_rows
from mien.types import Candidate, Embedding, Face, OperatingPoint, Reason, Records
from mien.vision.cohort import Cohort, pooled

__all__ = ["Gallery"]

_LONGEST_HASH = 500  # characters
_DEEPEST = 128  # templates looked at, once they name enough subjects to answer with
_POOLED = 8  # subjects, the best by a single sample, whose samples are pooled: one further down hardly ever comes first

P = ParamSpec("P")
T = TypeVar("T")


def exclusive(
    verb: Callable[Concatenate[Gallery, P], T],
) -> Callable[Concatenate[Gallery, P], T]:
    """Wrap a verb of the gallery: one thread at a time, on an open gallery only, the database's errors in words."""

    @functools.wraps(verb)
    def wrapped(gallery: Gallery, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with gallery.lock:
            if gallery.closed:
                raise GalleryError(f"{gallery.path} was closed. Open it again with: Gallery(path)")
            with gallery.rows.errors_in_words():
                return verb(gallery, *args, **kwargs)

    return wrapped


class Gallery:
    """All references of a system, in one SQLite file or in a PostgreSQL database.

    Safe to share between threads and, by path, between processes: what one enrols or erases the others see at their
    next search. With a key file, names, crops and vectors are encrypted and the index lives in memory only.

    Args:
        path: The database file, such as ``gallery.mien``, or an address: ``postgresql://host/database``.
        key_file: Key of an encrypted gallery, or of one to be made; see `mien.gallery.crypto.write_key`.
        model: Id of the embedder in use. A gallery of another one is refused. None: whatever the gallery has.
        create: Make the gallery if there is none.
        read_only: Change nothing, not even the index.
        timeout_s: How long to wait for another process's write.
        pool: Score a subject of several samples by the mean of two scores: its best sample's, and that of the template
            that all its samples make together. False: by the best sample alone.

    Attributes:
        rows: What is stored.
        live: The index, in step with it.

    Example:
        >>> with Gallery("gallery.mien") as gallery:  # doctest: +SKIP
        ...     gallery.enrol("a subject", face, source_hash=picture.digest)
        ...     gallery.search(probe.embedding, k=3)
    """

    def __init__(
        self,
        path: str | Path | Address,
        *,
        key_file: str | Path | None = None,
        model: str | None = None,
        create: bool = True,
        read_only: bool = False,
        timeout_s: float = 30.0,
        pool: bool = True,
    ) -> None:
        if not isinstance(path, str | Path | Address):
            raise GalleryError(f"A gallery is a file: expected its path, got {type(path).__name__}.")
        self.lock = threading.RLock()
        self.closed = False
        self._stop = threading.Event()
        self.pool = pool
        key = None if key_file is None else read_key(key_file)
        self.rows = open_rows(path, create=create, read_only=read_only, timeout_s=timeout_s)
        self.path = self.rows.path
        self.live = LiveIndex(self.rows)
        try:
            with self.rows.errors_in_words():
                self.rows.unlock(key)
                if model is not None:
                    self.rows.expect_model(model)
        except BaseException:
            self.rows.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Save the index where that is worth while, and let go of the file. Closing twice does nothing."""
        with self.lock:
            if not self.closed:
                with self.rows.errors_in_words():
                    self.live.close()
                    self.rows.close()
                self.closed = True
                self._stop.set()

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed."""
        return self.rows.read_only

    @property
    def encrypted(self) -> bool:
        """Whether names, crops and vectors are encrypted."""
        return self.rows.cipher.encrypted

    @property
    @exclusive
    def model(self) -> str | None:
        """Id of the embedder whose templates are searched; None while the gallery is empty."""
        active = self.rows.active_model()
        return None if active is None else active.name

    @exclusive
    def expect_model(self, model: str) -> None:
        """Do nothing if the templates are of this embedder, or there are none.

        Raises:
            GalleryError: They are another one's, or of another cohort.
        """
        self.rows.expect_model(model)

    @property
    @exclusive
    def cohort(self) -> Cohort | None:
        """What normalises this gallery's templates where that is not the embedder's own cohort; None where it is."""
        return self.rows.cohort()

    @exclusive
    def __len__(self) -> int:
        """Return how many subjects there are."""
        return self.rows.count("subject")

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
            GalleryError: The embedding is another model's or no unit vector, or the gallery cannot be written.
        """
        entry = Entry(subject, face, source_hash)
        _check_entry(entry)
        duplicates: tuple[Candidate, ...] = ()
        if duplicate_threshold is not None and face.embedding is not None and not _refused(face, min_quality):
            duplicates = self.identify(face.embedding, duplicate_threshold, k=4)
        enrolment = self.enrol_many([entry], min_quality=min_quality)[0]
        others = tuple(candidate for candidate in duplicates if candidate.subject_id != enrolment.subject_id)
        return replace(enrolment, duplicates=others)

    @exclusive
    def enrol_many(self, entries: Iterable[Entry], *, min_quality: float = 0.0) -> list[Enrolment]:
        """Add faces in one transaction: all are on the disk on return, or, on an error, none.

        Args:
            entries: Faces and whose they are.
            min_quality: Refuse faces whose quality was measured and is below this.
        """
        _check_number(min_quality, "min_quality")
        with self.rows.write():
            return [self._enrol(entry, min_quality) for entry in entries]

    def _enrol(self, entry: Entry, min_quality: float) -> Enrolment:
        _check_entry(entry)
        face = entry.face
        reasons = face.quality.reasons if face.quality is not None else ()
        if face.embedding is None:
            raise GalleryError("A face is enrolled by its embedding, and this one has none. Analyse with embed=True.")
        vector = face.embedding.vector
        active = self.rows.expect_model(face.embedding.model)
        if active is not None:
            active.check_dimension(len(vector))
        if _refused(face, min_quality):
            return Enrolment("refused", reasons=reasons or (Reason.LOW_QUALITY,))
        model = self.rows.use_model(face.embedding.model, len(vector))
        subject_id = self.rows.add_subject(entry.subject)
        sample_id, is_new = self.rows.add_sample(
            subject_id,
            source_hash=entry.source_hash,
            box=face.box,
            quality=None if face.quality is None else face.quality.score,
            reasons=reasons,
        )
        same_face = self.rows.others_of_face(sample_id)
        if not is_new:
            return Enrolment("already", subject_id, sample_id, reasons, same_face=same_face)
        if face.crop is not None:
            self.rows.add_crop(sample_id, encode_crop(face.crop))
        self.rows.add_template(sample_id, model, vector.astype(np.float16))
        if face.embedding.simulated:
            self.rows.mark_simulated(model, {sample_id: face.embedding.simulated})
        return Enrolment("added", subject_id, sample_id, reasons, same_face=same_face)

    # Search

    def search(self, embedding: Embedding, k: int = 10, *, per_subject: bool = False) -> Records[Candidate]:
        """Return the k most similar samples, best first.

        Args:
            embedding: The probe.
            k: How many at most.
            per_subject: Return subjects, each with its best sample, rather than samples. The score is that of the
                subject: of all its samples, see ``pool`` of the gallery.

        Raises:
            GalleryError: The probe is of another model than the gallery, or no unit vector.
        """
        return Records(self.search_many([embedding], k, per_subject=per_subject)[0])

    @exclusive
    def search_many(
        self, embeddings: Sequence[Embedding], k: int = 10, *, per_subject: bool = False
    ) -> list[tuple[Candidate, ...]]:
        """Search several probes, shared between the cores; arguments as of `search`."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise GalleryError(f"A search returns at least 1 candidate, got k = {k!r}.")
        active: ActiveModel | None = None
        for embedding in embeddings:
            _check_embedding(embedding)
            active = self.rows.expect_model(embedding.model)
            if active is not None:
                active.check_dimension(len(embedding.vector))
        index = self.live.fresh() if embeddings else None
        if active is None or index is None or len(index) == 0:
            return [() for _ in embeddings]
        probes = np.stack([embedding.vector for embedding in embeddings]).astype(np.float32, copy=False)
        if not per_subject:
            ids, scores = index.search(probes, min(k, len(index)))
            return [self._candidates(*row) for row in zip(ids, scores, strict=True)]
        return [self._best_subjects(index, probe, k, active) for probe in probes]

    def _best_subjects(
        self, index: FlatIndex | CodedIndex, probe: Float32[np.ndarray, " dimension"], k: int, active: ActiveModel
    ) -> tuple[Candidate, ...]:
        """Look further down the list until it names enough subjects, and score them by all their samples."""
        enough = max(k, _POOLED) if self.pool else k
        wanted = 4 * enough
        while True:
            ids, scores = index.search(probe[None], min(wanted, len(index)))
            best: dict[int, Candidate] = {}
            for candidate in self._candidates(ids[0], scores[0]):
                best.setdefault(candidate.subject_id, candidate)
            if len(best) >= enough or wanted >= len(index) or (len(best) >= k and wanted >= _DEEPEST):
                break
            wanted *= 4
        found = list(best.values())[:enough]
        if self.pool:
            found = sorted(self._of_all_samples(found, probe, active), key=lambda one: -one.score)
        return tuple(found[:k])

    def _of_all_samples(
        self, found: Sequence[Candidate], probe: Float32[np.ndarray, " dimension"], active: ActiveModel
    ) -> Iterator[Candidate]:
        """Score subjects by their best sample and by the template that all their samples make together."""
        templates = self.rows.vectors_of([one.subject_id for one in found], active)
        for one in found:
            vectors = templates.get(one.subject_id)
            if vectors is None:  # erased meanwhile
                continue
            together = one.score if len(vectors) < 2 else float(pooled(vectors) @ probe)
            yield replace(one, score=(one.score + together) / 2)

    def _candidates(self, ids: Int64[np.ndarray, " k"], scores: Float32[np.ndarray, " k"]) -> tuple[Candidate, ...]:
        """Look up whose templates these are; one that was erased meanwhile is left out."""
        known = self.rows.holders(template_id for template_id in ids.tolist() if template_id >= 0)
        return tuple(
            Candidate(*known[template_id], float(score))
            for template_id, score in zip(ids.tolist(), scores, strict=True)
            if template_id in known
        )

    def identify(self, embedding: Embedding, threshold: float, k: int = 1) -> Records[Candidate]:
        """Return up to k subjects who score at least ``threshold``, best first; empty: nobody known."""
        _check_number(threshold, "threshold")
        found = self.search(embedding, k, per_subject=True)
        return Records(candidate for candidate in found if candidate.score >= threshold)

    @exclusive
    def index(self) -> FlatIndex | CodedIndex | None:
        """Return the index in use, up to date; None while the gallery is empty."""
        return self.live.fresh()

    def follow(self) -> None:
        """Take in what others write as soon as the database announces it, so that the next search need not.

        A thread does so until the gallery is closed. Searches are up to date without it, too: they take in what they
        lack themselves, which after thousands of enrolments elsewhere is a pause. A file announces nothing.
        """

        def take_in() -> None:
            for _ in self.rows.announcements(self._stop):
                with contextlib.suppress(GalleryError), self.lock:
                    if not self.closed:
                        self.index()

        threading.Thread(target=take_in, name="mien follow", daemon=True).start()

    # Subjects and samples

    @exclusive
    def subjects(self) -> list[Subject]:
        """Return all subjects, by name."""
        return self.rows.subjects()

    @exclusive
    def subject(self, name: str) -> Subject:
        """Return one subject.

        Raises:
            GalleryError: There is none of that name.
        """
        with self.rows.snapshot():
            return self.rows.subject(name)

    @exclusive
    def subject_by_id(self, subject_id: int) -> Subject | None:
        """Return one subject; None where there is none of that id."""
        with self.rows.snapshot():
            return self.rows.subject_by_id(subject_id)

    @exclusive
    def holder(self, sample_id: int) -> Subject | None:
        """Return whose a sample is; None where there is none of that id."""
        with self.rows.snapshot():
            subject_id = self.rows.holder(sample_id)
            return None if subject_id is None else self.rows.subject_by_id(subject_id)

    @exclusive
    def samples(self, subject: str) -> list[Sample]:
        """Return a subject's samples in the order of enrolment."""
        with self.rows.snapshot():
            return self.rows.samples(self.rows.subject(subject).id)

    @exclusive
    def crop(self, sample_id: int) -> UInt8[np.ndarray, "side side 3"] | None:
        """Return a sample's aligned crop, RGB uint8; None where it was not kept."""
        if isinstance(sample_id, bool) or not isinstance(sample_id, int | np.integer):
            raise GalleryError(f"A crop is found by its sample's id, a whole number, got {type(sample_id).__name__}.")
        image = self.rows.crop(int(sample_id))
        return None if image is None else decode_crop(image)

    @exclusive
    def vectors(self, subject: str) -> Float32[np.ndarray, "samples dimension"]:
        """Return a subject's templates of the model in use, in the order of enrolment."""
        with self.rows.snapshot():
            active = self.rows.active_model()
            if active is None:
                return np.empty((0, 0), dtype=np.float32)
            found = self.rows.vectors(self.rows.subject(subject).id, active)
        return np.array(list(found.values()), dtype=np.float32).reshape(len(found), active.dimension)

    @exclusive
    def rename(self, subject: str, name: str) -> None:
        """Give a subject another name.

        Raises:
            GalleryError: There is no such subject, or the new name is taken.
        """
        clean_name(name)
        with self.rows.write():
            subject_id = self.rows.subject(subject).id
            if self.rows.find_subject(name) not in (None, subject_id):
                raise GalleryError("Another subject has that name already. Join the two with: mien gallery merge")
            self.rows.rename_subject(subject_id, name)
            self.rows.note("rename", subject_id)

    @exclusive
    def merge(self, into: str, other: str) -> int:
        """Move all samples of one subject to another and drop the emptied one.

        A picture that both have stays once.

        Args:
            into: The subject that remains.
            other: The subject that goes.

        Returns:
            How many samples moved.
        """
        with self.rows.write():
            kept, gone = self.rows.subject(into), self.rows.subject(other)
            if kept.id == gone.id:
                raise GalleryError("Both names are of one subject already; there is nothing to merge.")
            moved = self.rows.move_samples(kept.id, gone.id)
            self.rows.drop_subject(gone.id)
            self.rows.note("merge", kept.id, f"subject {gone.id}, {moved} samples")
        return moved

    @exclusive
    def split(self, samples: Sequence[int], name: str) -> tuple[int, ...]:
        """Give samples to a subject, made if there is none of that name: they are not of whom they were enrolled as.

        Args:
            samples: Ids; of any subjects.
            name: Whose they are.

        Returns:
            Ids of the samples that moved. One that is that subject's already, or whose picture is, stays.

        Raises:
            GalleryError: There is no sample of one of the ids; nothing was moved.
        """
        clean_name(name)
        with self.rows.write():
            holders = {sample: self.rows.holder(sample) for sample in samples}
            missing = next((sample for sample, holder in holders.items() if holder is None), None)
            if missing is not None or not holders:
                raise GalleryError("No sample was named." if missing is None else f"There is no sample {missing}.")
            into = self.rows.add_subject(name)
            moved = tuple(
                sample for sample, holder in holders.items() if holder != into and self.rows.move_sample(sample, into)
            )
            if moved:
                self.rows.note("split", into, f"samples {', '.join(map(str, moved))}")
        return moved

    @exclusive
    def erase(self, subject: str) -> Erasure:
        """Remove a subject with all samples, and prove that nothing of them is left.

        Rows are deleted and overwritten, the log is emptied, the stored index blotted, indexes of this gallery that
        lie elsewhere removed; then the files are searched for the bytes of every vector, crop and the name.

        Raises:
            GalleryError: There is no such subject; or something of it remains, and where.
        """
        return erasure.erase(self.rows, self.live, subject)

    # Upkeep

    @exclusive
    def stats(self) -> Stats:
        """Return counts and sizes."""
        rows = self.rows
        active = rows.active_model()
        return Stats(
            path=str(self.path),
            model=active.name if active else None,
            dimension=active.dimension if active else None,
            subjects=rows.count("subject"),
            samples=rows.count("sample"),
            templates=rows.count_templates(active),
            crops=rows.count("crop"),
            encrypted=self.encrypted,
            database_bytes=rows.size_bytes(),
            index_bytes=sum(path.stat().st_size for path in self.live.files()),
            erasures=rows.noted("erase"),
            created=str(rows.meta("created")),
            points=tuple(rows.points(active)),
            samples_a_subject=MappingProxyType(rows.samples_a_subject()),
            cohort=None if (cohort := rows.cohort()) is None else len(cohort.vectors),
        )

    @exclusive
    def check(self, *, mate_score: float = 0.45, probes: int = 2000) -> CheckReport:
        """Examine everything, and measure what the index finds against exact search.

        An index that falls short is made to look deeper until it does not.

        Args:
            mate_score: The least cosine of a mate that must be found; the operating threshold.
            probes: How many searches measure the recall. Three thousand without a miss support 99.9 %.
        """
        return health.check(self.rows, self.live, mate_score=mate_score, probes=probes)

    @exclusive
    def rebuild(self) -> None:
        """Make everything derived anew: compact the database, empty its log, rebuild the index."""
        self.live.rebuild()

    @exclusive
    def audit(self, threshold: float) -> list[Finding]:
        """Look for templates that match everybody, one person under two names, two persons under one.

        Args:
            threshold: Scores of at least this are matches.
        """
        _check_number(threshold, "threshold")
        return health.audit(self.rows, self.live, threshold)

    @exclusive
    def export(self, folder: str | Path) -> Transfer:
        """Write subjects, samples, templates and crops, unencrypted, to a new folder: JSON Lines and PNG."""
        with self.rows.snapshot():
            return exchange.export(self.rows, Path(folder))

    @exclusive
    def import_(self, folder: str | Path) -> Transfer:
        """Read what `export` wrote, all of it or, on an error, nothing; what is there already stays."""
        return exchange.import_(self.rows, Path(folder))

    @exclusive
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
        return migration.migrate(self.rows, model, embed, batch=batch, progress=progress)

    @exclusive
    def renormalise(self, model: str, change: Change) -> int:
        """Derive all templates anew from those there are, without any crop, and switch to them in one write.

        Args:
            model: Id of the embedder with the new normalisation.
            change: Turns unit templates, shape (n, dimension), into the new ones, such as `Cohort.normalise`.

        Returns:
            How many templates were derived.
        """
        return migration.renormalise(self.rows, model, change)

    @exclusive
    def change_cohort(
        self, model: str, change: Change, cohort: Cohort | None, *, fmr: Sequence[float] = ()
    ) -> list[StoredPoint]:
        """Normalise all templates by another cohort and calibrate anew: all of it or, on an error, nothing.

        Args:
            model: Id of the embedder with that cohort; see `mien.vision.cohort.with_cohort`.
            change: Turns unit templates of now into those normalised by it.
            cohort: The gallery's own from now on; None: that of the embedder.
            fmr: Rates to calibrate for, since the thresholds of before are of other scores.

        Returns:
            The operating points at those rates.
        """
        with self.rows.write():
            migration.renormalise(self.rows, model, change, cohort)
            return [self.calibrate(rate) for rate in fmr]

    @exclusive
    def state(self) -> tuple[int, int]:
        """Return what differs once anything was written, by this gallery or through another one open on the same."""
        return self.rows.state()

    # Operating points

    @exclusive
    def scores(self) -> calibration.Scores:
        """Return the scores of its samples with each other, which `calibrate` looks at.

        Raises:
            GalleryError: It has fewer than two subjects.
        """
        return calibration.scores(self.rows)

    @exclusive
    def calibrate(self, fmr: float) -> StoredPoint:
        """Derive the threshold for a false match rate from this gallery's own subjects, and keep it.

        Args:
            fmr: Largest false match rate allowed, a fraction such as 1e-4.

        Raises:
            EvaluationError: Too few comparisons to see one false match at this rate.
        """
        _check_number(fmr, "fmr")
        return self.keep_point(calibration.calibrate(self.rows, fmr))

    @exclusive
    def keep_point(self, point: OperatingPoint) -> StoredPoint:
        """Store an operating point of the model in use; one for the same target is replaced."""
        active = self.rows.active_model()
        if active is None:
            raise GalleryError("An empty gallery has no model that a threshold could belong to. Enrol first.")
        with self.rows.write():
            templates = self.rows.count_templates(active)
            stored = StoredPoint(point, active.name, now(), self.rows.count("subject"), templates)
            self.rows.keep_point(active, stored)
            self.rows.note("calibrate", None, f"FMR {point.target_fmr:g}")
        return stored

    def operating_point(self, fmr: float) -> StoredPoint | None:
        """Return the calibrated operating point for a false match rate; None where there is none."""
        _check_number(fmr, "fmr")
        return next((stored for stored in self.points() if math.isclose(stored.point.target_fmr, fmr)), None)

    @exclusive
    def points(self) -> list[StoredPoint]:
        """Return the calibrated operating points of the model in use, most permissive first."""
        return self.rows.points(self.rows.active_model())


def _refused(face: Face, min_quality: float) -> bool:
    return face.quality is not None and face.quality.score < min_quality


# What users bring is checked here and not by assertions, which `python -O` removes.


def _check_entry(entry: Entry) -> None:
    if not isinstance(entry, Entry):
        raise GalleryError(f"Many faces are enrolled as entries: expected an Entry, got {_named_type(entry)}.")
    if not isinstance(entry.subject, str):
        clean_name(entry.subject)
    if not isinstance(entry.face, Face):
        raise GalleryError(f"One face is enrolled at a time: expected a Face, got {_named_type(entry.face)}.")
    source = entry.source_hash
    if not isinstance(source, str) or not 0 < len(source) <= _LONGEST_HASH or not source.isprintable():
        raise GalleryError(
            f"source_hash is printable text of 1 to {_LONGEST_HASH} characters, such as the digest of the picture, "
            f"got {_named_type(source)}. See: mien.images.digest"
        )
    if entry.face.embedding is not None:
        _check_embedding(entry.face.embedding)


def _check_embedding(embedding: Embedding) -> None:
    if not isinstance(embedding, Embedding):
        cure = "Pass its embedding." if isinstance(embedding, Face) else "Make one: Embedding(model, vector)."
        raise GalleryError(f"A probe or template is an Embedding, got {_named_type(embedding)}. {cure}")
    vector = embedding.vector
    if vector.ndim != 1 or not is_unit(vector):
        norm = float(np.linalg.norm(np.asarray(vector, dtype=np.float64)))
        raise GalleryError(
            f"An embedding is a vector of unit length, got shape {vector.shape} and norm {norm:.4g}. Scale raw output "
            "of a network with: mien.types.as_unit(vector)"
        )


def _check_number(value: float, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise GalleryError(f"{what} is a number, got {value!r}.")


def _named_type(value: object) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | tuple | str) else type(value).__name__
