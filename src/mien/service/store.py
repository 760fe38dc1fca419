"""The service's own rows: keys, collections, consents, jobs, answers to repeat, the audit log. No picture, no vector.

One SQLite file in the service's folder, mode 0600. Names of subjects stand in it only inside answers to repeat and
results of jobs, both sealed under the key of an encrypted gallery; an erasure deletes them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mien.errors import GalleryError, UsageError
from mien.gallery import sqlite
from mien.gallery.sqlite import errors_in_words, transaction

__all__ = ["Store", "make_folder", "now"]

_VERSION = 1
_TIMEOUT_S = 10.0
_SCHEMA = """
CREATE TABLE key (
    id TEXT PRIMARY KEY, label TEXT NOT NULL, hash BLOB NOT NULL, grants TEXT NOT NULL, created TEXT NOT NULL,
    expires TEXT, revoked TEXT, last_used TEXT
);
CREATE TABLE collection (name TEXT PRIMARY KEY, file TEXT NOT NULL, created TEXT NOT NULL, retention_days INTEGER);
CREATE TABLE fact (
    collection TEXT NOT NULL, subject_id INTEGER NOT NULL, consent BLOB, retain_until TEXT,
    PRIMARY KEY (collection, subject_id)
);
CREATE TABLE answer (
    owner TEXT NOT NULL, key TEXT NOT NULL, collection TEXT NOT NULL, request TEXT NOT NULL, body_digest BLOB,
    status INTEGER, headers TEXT, body BLOB, created TEXT NOT NULL, process TEXT NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, key TEXT, action TEXT NOT NULL, collection TEXT,
    status INTEGER NOT NULL, subject_id INTEGER
);
CREATE INDEX audit_collection ON audit (collection, number);
CREATE TABLE job (
    id TEXT PRIMARY KEY, collection TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, created TEXT NOT NULL,
    started TEXT, finished TEXT, total INTEGER, wish BLOB NOT NULL, error TEXT
);
CREATE TABLE job_item (
    job TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE, number INTEGER NOT NULL, status TEXT NOT NULL,
    subject_id INTEGER, record BLOB NOT NULL, PRIMARY KEY (job, number)
);
CREATE INDEX job_item_subject ON job_item (subject_id);
"""


class Store:
    """The file, shared by all threads of a process and, by the file, by processes.

    Args:
        folder: The service's folder; made if need be, for its owner only.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / "service.db"
        self.lock = threading.RLock()
        new = not self.path.exists()
        try:
            if new:
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise UsageError(f"The service's folder cannot be written: {self.path}: {error.strerror}.") from error
        with errors_in_words(self.path, _TIMEOUT_S):
            self._connection = sqlite3.connect(
                self.path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            for pragma in (
                "foreign_keys = ON",
                "journal_mode = WAL",
                f"synchronous = {sqlite.SYNCHRONOUS}",
                "secure_delete = ON",
            ):
                self._connection.execute(f"PRAGMA {pragma}")
            self._set_up()
            # A reader of its own does not wait while others write, as who checks a key must not.
            self._watch = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._watch_lock = threading.Lock()

    def _set_up(self) -> None:
        with transaction(self._connection):
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise GalleryError(f"{self.path} was made by a newer mien. Upgrade with: pip install --upgrade mien")
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Let go of the file."""
        with self.lock, self._watch_lock:
            self._watch.close()
            self._connection.close()

    def state(self) -> int:
        """Return what differs once anybody has written, this process or another one."""
        return int(self.peek("PRAGMA data_version")[0][0])

    def peek(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a question as `ask`, without waiting for writes that are under way."""
        with self._watch_lock, errors_in_words(self.path, _TIMEOUT_S):
            return self._watch.execute(sql, values).fetchall()

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a question."""
        with self.lock, errors_in_words(self.path, _TIMEOUT_S):
            return self._connection.execute(sql, values).fetchall()

    def do(self, sql: str, values: Sequence[object] = ()) -> int:
        """Do one change, which is on the disk on return; return how many rows it touched."""
        with self.write() as connection:
            return connection.execute(sql, values).rowcount

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Do several changes, all or none."""
        with self.lock, errors_in_words(self.path, _TIMEOUT_S):
            if self._connection.in_transaction:
                yield self._connection
                return
            with transaction(self._connection):
                yield self._connection

    def forget(self, collection: str, subject_id: int) -> None:
        """Delete what stands here of a subject: consent, results of jobs, answers that may name it, and the log."""
        with self.write() as connection:
            connection.execute("DELETE FROM fact WHERE collection = ? AND subject_id = ?", (collection, subject_id))
            connection.execute("DELETE FROM answer WHERE collection = ? AND status IS NOT NULL", (collection,))
            connection.execute(
                "DELETE FROM job_item WHERE subject_id = ? AND job IN (SELECT id FROM job WHERE collection = ?)",
                (subject_id, collection),
            )
        self.empty_log()

    def empty_log(self) -> None:
        """Move the write-ahead log into the file, so that nothing that was deleted stays in it."""
        with self.lock, errors_in_words(self.path, _TIMEOUT_S):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def make_folder(folder: Path) -> None:
    """Make a folder for its owner only.

    Raises:
        UsageError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"The service's folder cannot be made at {folder}: {error.strerror}. Name another.") from error


def now() -> str:
    """Return the time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
