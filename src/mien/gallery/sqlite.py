"""The SQLite file: opening it, its tables and settings, and its errors in words."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from mien.errors import GalleryError

__all__ = ["VERSION", "connect", "errors_in_words", "transaction"]

APPLICATION_ID = 0x4D69_656E  # "Mien"
VERSION = 2
"""Of the tables. A file of a newer version is refused, never guessed at; one of an older version is read as it is and
brought up to date when it is first opened for writing (`mien.gallery.rows.Rows.bring_up_to_date`)."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- AUTOINCREMENT: the id of an erased row is never used again, so no old reference can point at somebody else.
CREATE TABLE subject (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name BLOB NOT NULL,
    name_key BLOB NOT NULL UNIQUE,
    created TEXT NOT NULL
);
CREATE TABLE sample (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subject_id INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    source BLOB NOT NULL,
    source_key BLOB NOT NULL,
    box_left REAL NOT NULL, box_top REAL NOT NULL, box_right REAL NOT NULL, box_bottom REAL NOT NULL,
    quality REAL,
    reasons TEXT NOT NULL,
    created TEXT NOT NULL,
    UNIQUE (subject_id, source_key)
);
CREATE INDEX sample_source ON sample (source_key); -- whose samples a picture is
-- Crops are apart from samples, so that reading samples does not read pixels.
CREATE TABLE crop (
    sample_id INTEGER PRIMARY KEY REFERENCES sample (id) ON DELETE CASCADE,
    image BLOB NOT NULL,
    digest BLOB NOT NULL
);
CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL);
CREATE TABLE template (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sample_id INTEGER NOT NULL REFERENCES sample (id) ON DELETE CASCADE,
    model_id INTEGER NOT NULL REFERENCES model (id),
    vector BLOB NOT NULL,
    checksum BLOB, -- binds vector, sample and model; NULL where the vector is sealed, whose seal does that
    UNIQUE (sample_id, model_id)
);
-- Which template ids went in which erasure: how other processes and stored indexes learn of it.
CREATE TABLE tombstone (template_id INTEGER PRIMARY KEY, erasure INTEGER NOT NULL);
CREATE TABLE threshold (
    model_id INTEGER NOT NULL REFERENCES model (id),
    target_fmr REAL NOT NULL,
    point TEXT NOT NULL,
    subjects INTEGER NOT NULL,
    templates INTEGER NOT NULL,
    created TEXT NOT NULL,
    PRIMARY KEY (model_id, target_fmr)
) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    action TEXT NOT NULL,
    subject_id INTEGER,
    detail TEXT NOT NULL
);
"""

SYNCHRONOUS = "FULL"
"""What is acknowledged survives a power cut. Tests that need no power cut do without."""

_PAGE_BYTES = 8192  # seven 512-d templates a page; 4096 would waste a quarter of each


def connect(path: Path, *, create: bool, read_only: bool, timeout_s: float) -> sqlite3.Connection:
    """Open a gallery's database, or make it.

    Raises:
        GalleryError: It does not exist, is no gallery, is of a newer version, or cannot be opened.
    """
    if path.is_dir():
        raise GalleryError(f"{path} is a folder; a gallery is one file, such as {path / 'gallery.mien'}.")
    if not path.exists():
        if not create or read_only:
            raise GalleryError(f"There is no gallery {path}. Make one with: mien enroll DIR --gallery {path}")
        if not path.absolute().parent.is_dir():
            raise GalleryError(f"The folder of {path} does not exist. Make it first, or name another place.")
        _make(path)
    with errors_in_words(path, timeout_s):
        connection = _open(path, "ro" if read_only else "rw", timeout_s)
        try:
            _settle(connection, path, read_only=read_only, timeout_s=timeout_s)
        except BaseException:
            connection.close()
            raise
    return connection


def _make(path: Path) -> None:
    """Make an empty file that only its owner may read: templates are biometric data."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise GalleryError(f"The gallery cannot be made at {path}: {error.strerror}.") from error


def _open(path: Path, mode: str, timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # isolation_level=None: transactions begin and end where this package says so.
    connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    if mode != "ro":
        return connection
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # In a folder that cannot be written a WAL database has no place for its shared memory. Without a log beside
        # it the file is complete and can be read as it is.
        log = path.with_name(path.name + "-wal")
        connection.close()
        if log.exists() and log.stat().st_size > 0:
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None, check_same_thread=False)
    return connection


def _settle(connection: sqlite3.Connection, path: Path, *, read_only: bool, timeout_s: float) -> None:
    """Check what the file is, set what it should be, and make the tables of a new one."""
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # no spill of names to a temporary file
    connection.execute("PRAGMA trusted_schema = OFF")
    if _is_new(connection) and not read_only:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        _enter_wal(connection, timeout_s)
        with transaction(connection):
            if _is_new(connection):  # another process may have been faster
                for statement in re.sub("--.*", "", SCHEMA).split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise GalleryError(f"{path} is not a mien gallery. Name the file that `mien enroll` made.")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise GalleryError(
            f"{path} was made by a newer mien (gallery version {version}, this one reads up to {VERSION}). "
            "Upgrade with: pip install --upgrade mien"
        )
    if not read_only:
        _enter_wal(connection, timeout_s)
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        connection.execute("PRAGMA secure_delete = ON")


def _is_new(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])


def _enter_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch to the write-ahead log; SQLite does not wait for others here, so wait for it."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the write lock: all of it is kept, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def errors_in_words(path: Path, timeout_s: float) -> Iterator[None]:
    """Turn SQLite's errors into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the kind of error, the rest its shade.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        words = {
            sqlite3.SQLITE_BUSY: f"{path} is locked: another process held it for {timeout_s:g} s. Try again when it "
            "has finished.",
            sqlite3.SQLITE_FULL: f"No room left for {path}: the disk is full. What was acknowledged is kept; free "
            "some space and go on.",
            sqlite3.SQLITE_IOERR: f"The disk refused to read or write {path}: full, over quota or failing. What was "
            "acknowledged is kept.",
            sqlite3.SQLITE_CORRUPT: f"{path} is damaged. Restore a backup, or rescue what can be read with: "
            f"sqlite3 {path} .recover",
            sqlite3.SQLITE_NOTADB: f"{path} is not a mien gallery. Name the file that `mien enroll` made.",
            sqlite3.SQLITE_READONLY: f"{path} cannot be written: the file or its folder is read-only.",
            sqlite3.SQLITE_CANTOPEN: f"{path} cannot be opened: check that you may read it and write its folder.",
            sqlite3.SQLITE_PERM: f"{path} cannot be opened: permission denied.",
            sqlite3.SQLITE_TOOBIG: "The crop is larger than a database row may be (1 GB).",
        }.get(code)
        if words is None:
            raise
        raise GalleryError(words) from error
