"""Collections: each a gallery of its own, which another one's users can neither see, count nor infer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from mien.analyzer import Analyzer
from mien.errors import UsageError
from mien.gallery import Gallery
from mien.gallery.crypto import Cipher
from mien.gallery.deciding import Decision, decide_search
from mien.gallery.records import Erasure, Subject
from mien.service.keys import check_collection_name
from mien.service.problems import Problem
from mien.service.settings import Settings
from mien.service.store import Store, make_folder, now

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = ["DEFAULT", "Collection", "Collections", "Facts"]

DEFAULT = "default"
"""The collection that is meant where none is named."""

T = TypeVar("T")

_MOST_ANSWERS = 100  # rates and thresholds of one state of a gallery


@dataclass(frozen=True, slots=True)
class Facts:
    """What a service notes of a subject beside the gallery.

    Attributes:
        consent: On what ground it is enrolled, in the operator's words.
        retain_until: Day after which it is erased, ISO 8601.
    """

    consent: str | None = None
    retain_until: str | None = None


class Collection:
    """One open collection.

    Attributes:
        name: Of it.
        gallery: Where its subjects are.
        analyzer: Reads pictures for it, without expressions.
    """

    def __init__(
        self, name: str, gallery: Gallery, analyzers: tuple[Analyzer, Analyzer], store: Store, cipher: Cipher
    ) -> None:
        self.name, self.gallery, self._store, self._cipher = name, gallery, store, cipher
        self._given = self._fitted = analyzers
        self._fitted_at: tuple[int, int] | None = None
        self._cohort: str | None = None
        self._listed: tuple[tuple[int, int], list[Subject]] | None = None
        self._lock = threading.Lock()
        self._answers_of: tuple[int, int] | None = None
        self._answers: dict[str, object] = {}

    @property
    def analyzer(self) -> Analyzer:
        """What reads pictures for this gallery, with its own cohort where it has one."""
        return self._fitting()[0]

    @property
    def expressive(self) -> Analyzer:
        """The same, which also reads expressions."""
        return self._fitting()[1]

    def _fitting(self) -> tuple[Analyzer, Analyzer]:
        """Return the analyzers with the gallery's cohort; made anew, with their networks, if that has changed."""
        state = self.gallery.state()
        with self._lock:
            if state == self._fitted_at:
                return self._fitted
        cohort = self.gallery.cohort
        digest = None if cohort is None else cohort.digest
        with self._lock:
            if digest != self._cohort:
                plain, expressive = self._given
                self._fitted = (plain.for_gallery(self.gallery), expressive.for_gallery(self.gallery))
                self._cohort = digest
            self._fitted_at = state
            return self._fitted

    def subjects(self) -> list[Subject]:
        """Return all subjects, by name; kept until somebody writes."""
        with self._lock:
            state = self.gallery.state()
            if self._listed is None or self._listed[0] != state:
                self._listed = (state, self.gallery.subjects())
            return self._listed[1]

    def size(self) -> int:
        """Return how many subjects there are; kept until somebody writes: counting takes longer than searching."""
        return self._kept("size", lambda: len(self.gallery))

    def decide(self, card: Card, *, fmr: float | None, fpir: float | None, threshold: float | None) -> Decision:
        """Return the operating point of a search, as `decide_search`; kept until somebody writes."""
        rates = (fmr, fpir, threshold)
        return self._kept(
            f"decision {card.id} {rates}",
            lambda: decide_search(card, self.gallery, fmr=fmr, fpir=fpir, threshold=threshold),
        )

    def _kept(self, what: str, ask: Callable[[], T]) -> T:
        state = self.gallery.state()
        with self._lock:
            if self._answers_of != state or len(self._answers) > _MOST_ANSWERS:
                self._answers_of, self._answers = state, {}
            if what in self._answers:
                return cast(T, self._answers[what])
        told = ask()
        with self._lock:
            if self._answers_of == state:
                self._answers[what] = told
        return told

    def subject(self, subject_id: int) -> Subject:
        """Return one subject.

        Raises:
            Problem: 404: there is none of that id.
        """
        found = self.gallery.subject_by_id(subject_id) if 0 < subject_id < 1 << 63 else None
        if found is None:
            raise Problem(404, f"There is no subject {subject_id} in this collection.")
        return found

    def facts(self) -> dict[int, Facts]:
        """Return what is noted of subjects, by id."""
        rows = self._store.ask("SELECT subject_id, consent, retain_until FROM fact WHERE collection = ?", (self.name,))
        return {row[0]: Facts(self._opened(row[0], row[1]), row[2]) for row in rows}

    def facts_of(self, subject_id: int) -> Facts:
        """Return what is noted of one subject."""
        rows = self._store.ask(
            "SELECT consent, retain_until FROM fact WHERE collection = ? AND subject_id = ?", (self.name, subject_id)
        )
        return Facts(self._opened(subject_id, rows[0][0]), rows[0][1]) if rows else Facts()

    def note(self, subject_id: int, facts: Facts) -> None:
        """Keep what is known of a subject."""
        sealed = None if facts.consent is None else self.seal(facts.consent.encode(), "consent", subject_id)
        self._store.do(
            "INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?)", (self.name, subject_id, sealed, facts.retain_until)
        )

    def erase(self, subject_id: int) -> Erasure:
        """Erase a subject from the gallery and from what the service keeps beside it."""
        erasure = self.gallery.erase(self.subject(subject_id).name)
        self._store.forget(self.name, subject_id)
        return erasure

    def seal(self, value: bytes, *place: str | int) -> bytes:
        """Encrypt what names a subject, if the gallery is encrypted."""
        return self._cipher.seal(value, "service", self.name, *place)

    def open(self, stored: bytes, *place: str | int) -> bytes:
        """Undo `seal`."""
        return self._cipher.open(stored, "service", self.name, *place)

    def _opened(self, subject_id: int, stored: bytes | None) -> str | None:
        return None if stored is None else self.open(stored, "consent", subject_id).decode()


class Collections:
    """All collections of a service; a gallery is opened when it is first asked for.

    Args:
        settings: Of the service.
        store: Where their names are kept.
        cipher: Seals what names a subject outside the galleries.
        make_analyzer: Makes an analyzer, with expressions or without.
    """

    def __init__(
        self, settings: Settings, store: Store, cipher: Cipher, make_analyzer: Callable[[bool], Analyzer]
    ) -> None:
        self._settings, self._store, self._cipher = settings, store, cipher
        self._lock = threading.RLock()
        self._open: dict[str, Collection] = {}
        self.analyzer, self.expressive = make_analyzer(False), make_analyzer(True)
        self._folder = settings.data / "collections"
        make_folder(self._folder)
        store.do("INSERT OR IGNORE INTO collection VALUES (?, ?, ?, NULL)", (DEFAULT, f"{DEFAULT}.mien", now()))

    def names(self) -> dict[str, int | None]:
        """Return the names of all collections, each with its days of retention, by name."""
        return dict(self._store.ask("SELECT name, retention_days FROM collection ORDER BY name"))

    def opened(self, name: str) -> Collection | None:
        """Return a collection that is open already; None otherwise."""
        return self._open.get(name)

    def get(self, name: str) -> Collection:
        """Return a collection.

        Raises:
            KeyError: There is none of that name.
            GalleryError: Its gallery cannot be opened, or is another embedder's.
        """
        with self._lock:
            if name in self._open:
                return self._open[name]
            rows = self._store.ask("SELECT file FROM collection WHERE name = ?", (name,))
            if not rows:
                raise KeyError(name)
            place: str | Path = self._folder / rows[0][0]
            if name == DEFAULT and self._settings.gallery is not None:
                place = self._settings.gallery
            gallery = Gallery(place, key_file=self._settings.gallery_key)
            try:
                collection = Collection(name, gallery, (self.analyzer, self.expressive), self._store, self._cipher)
                gallery.expect_model(collection.analyzer.card.id)
            except BaseException:
                gallery.close()
                raise
            self._open[name] = collection
            return collection

    def create(self, name: str, retention_days: int | None = None) -> None:
        """Make a collection.

        Raises:
            UsageError: It is no name.
            Problem: 409: there is one already.
        """
        check_collection_name(name)
        if not self._store.do(
            "INSERT OR IGNORE INTO collection VALUES (?, ?, ?, ?)", (name, f"{name}.mien", now(), retention_days)
        ):
            raise Problem(409, "There is a collection of that name already.")

    def keep_for(self, name: str, retention_days: int | None) -> None:
        """Set after how many days subjects without a date of their own are erased; None: never."""
        self._store.do("UPDATE collection SET retention_days = ? WHERE name = ?", (retention_days, name))

    def erase(self, name: str) -> int:
        """Erase a collection with its file; return how many subjects it had.

        Raises:
            UsageError: It is the default one.
        """
        if name == DEFAULT:
            raise UsageError("The collection 'default' cannot go. Erase its subjects instead.")
        with self._lock:
            collection = self.get(name)
            subjects = list(collection.subjects())
            for subject in subjects:
                collection.erase(subject.id)
            collection.gallery.close()
            del self._open[name]
            for path in self._folder.glob(f"{name}.mien*"):
                if path.is_file():
                    path.unlink()
            with self._store.write() as connection:
                for table in ("fact", "answer", "job"):
                    connection.execute(f"DELETE FROM {table} WHERE collection = ?", (name,))
                connection.execute("DELETE FROM collection WHERE name = ?", (name,))
            self._store.empty_log()
        return len(subjects)

    def erase_expired(self) -> int:
        """Erase subjects whose time is over; return how many."""
        today, erased = datetime.now(UTC), 0
        for name, days in self.names().items():
            if days is None and not self._store.ask(
                "SELECT 1 FROM fact WHERE collection = ? AND retain_until IS NOT NULL LIMIT 1", (name,)
            ):
                continue
            collection = self.get(name)
            facts = collection.facts()
            for subject in list(collection.subjects()):
                until = facts.get(subject.id, Facts()).retain_until
                if until is not None:
                    over = until < today.date().isoformat()
                else:
                    over = days is not None and datetime.fromisoformat(subject.created) + timedelta(days) < today
                if over:
                    collection.erase(subject.id)
                    erased += 1
        return erased

    def close(self) -> None:
        """Close all galleries."""
        with self._lock:
            for collection in self._open.values():
                collection.gallery.close()
            self._open.clear()
