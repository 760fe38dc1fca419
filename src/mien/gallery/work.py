"""Pictures that wait in a gallery's database for whoever has time: one job for any number of workers and machines.

A worker claims a few pictures for a time, its lease, and extends it while it works; what a killed worker had claimed
others may claim when its lease has run out. A sample is unique by subject and digest of the picture, so a picture that
was enrolled just before its worker died is found to be there already: nothing is lost and nothing is there twice.

Names and paths are sealed as all else is, and are kept only while a picture waits.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import GalleryError
from mien.gallery.ingest import Outcome, Wanted, ingest
from mien.gallery.names import folded_name
from mien.gallery.records import UnreachableError

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery.gallery import Gallery

__all__ = ["Item", "Left", "Work", "work_through"]

LEASE_S = 60.0
"""How long a picture stays with a worker that says nothing: the price of a killed one."""

MOST_TRIES = 5
"""A picture that was claimed so often and never finished, for instance one that exhausts the memory, is given up."""

_OFFERED = 500  # pictures entered in one transaction

_SQLITE_TABLE = """
CREATE TABLE IF NOT EXISTS work (
    id INTEGER PRIMARY KEY, job BLOB NOT NULL, path_key BLOB NOT NULL, subject_key BLOB, item BLOB, status TEXT,
    worker TEXT, lease REAL NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, UNIQUE (job, path_key)
)
"""  # as in postgres/schema/0002_work.sql; made when it is needed, since an older mien can do without it


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that was claimed.

    Attributes:
        id: Of its row.
        path: Below the source.
        subject: Whose it is.
    """

    id: int
    path: str
    subject: str


@dataclass(frozen=True, slots=True)
class Left:
    """How far a job is.

    Attributes:
        free: Pictures that may be claimed now.
        taken: Pictures that some worker has.
        done: What became of the others: added, already, refused, failed.
    """

    free: int
    taken: int
    done: dict[str, int] = field(default_factory=dict)


class Work:
    """The pictures of one job.

    Args:
        gallery: In whose database they wait.
        job: Name that all its workers give it.
        lease_s: How long claimed pictures stay with a worker that says nothing.
    """

    def __init__(self, gallery: Gallery, job: str, *, lease_s: float = LEASE_S) -> None:
        self._gallery, self._rows, self._lease_s = gallery, gallery.rows, lease_s
        self._name = secrets.token_hex(8)
        with self._doing(lambda: contextlib.nullcontext()):
            if not self._rows.has_work():
                with self._rows.write():
                    self._rows.connection.execute(_SQLITE_TABLE)
        self._job = self._rows.cipher.fingerprint(job.encode("utf-8", "surrogateescape"), "work", "job")

    @contextlib.contextmanager
    def _doing(self, hold: Callable[[], contextlib.AbstractContextManager[None]] | None = None) -> Iterator[None]:
        """One transaction beside the gallery's own writes, which it neither waits for nor announces."""
        with self._gallery.lock, self._rows.errors_in_words(), (hold or self._rows.side_write)():
            yield

    def _ask(self, query: str, *values: object) -> Any:
        return self._rows.connection.execute(query, values)

    def offer(self, pictures: Iterable[tuple[str, str]]) -> int:
        """Enter pictures, path below the source and subject each, that the job does not have; return how many."""
        seal, print_of = self._rows.cipher.seal, self._rows.cipher.fingerprint
        before, waiting = self._total(), iter(pictures)
        while block := list(islice(waiting, _OFFERED)):
            rows = []
            for path, subject in block:
                key = print_of(path.encode("utf-8", "surrogateescape"), "work", "path")
                item = seal(json.dumps([path, subject]).encode(), "work", self._job.hex(), key.hex())
                name = print_of(folded_name(subject).encode("utf-8", "surrogateescape"), "subject", "name")
                rows.append((self._job, key, name, item))
            with self._doing():
                self._rows.connection.executemany(
                    "INSERT INTO work (job, path_key, subject_key, item) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    rows,
                )
        return self._total() - before

    def _total(self) -> int:
        with self._doing():
            return int(self._ask("SELECT count(*) FROM work WHERE job = ?", self._job).fetchone()[0])

    def claim(self, count: int) -> list[Item]:
        """Take up to so many pictures that nobody has."""
        clock = self._rows.clock
        with self._doing():
            self._ask(
                f"UPDATE work SET status = 'failed', item = NULL, subject_key = NULL WHERE job = ? AND status IS NULL "
                f"AND tries >= ? AND lease < {clock}",
                self._job,
                MOST_TRIES,
            )
            rows = self._ask(
                f"SELECT id, path_key, item FROM work WHERE job = ? AND status IS NULL AND lease < {clock} "
                f"ORDER BY id LIMIT ?{self._rows.claim_suffix}",
                self._job,
                count,
            ).fetchall()
            for row_id, _, _ in rows:
                self._ask(
                    f"UPDATE work SET worker = ?, lease = {clock} + ?, tries = tries + 1 WHERE id = ?",
                    self._name,
                    self._lease_s,
                    row_id,
                )
        items = []
        for row_id, key, stored in rows:
            path, subject = json.loads(self._rows.cipher.open(bytes(stored), "work", self._job.hex(), bytes(key).hex()))
            items.append(Item(row_id, path, subject))
        return items

    def settle(self, done: Sequence[tuple[int, str]]) -> None:
        """Keep what became of pictures, and forget whose they were."""
        with self._doing():
            self._rows.connection.executemany(
                "UPDATE work SET status = ?, item = NULL, subject_key = NULL, lease = 0 WHERE id = ?",
                [(status, row_id) for row_id, status in done],
            )

    def renew(self) -> None:
        """Say that this worker is still at work on what it has claimed."""
        with self._doing():
            self._ask(
                f"UPDATE work SET lease = {self._rows.clock} + ? WHERE job = ? AND worker = ? AND status IS NULL",
                self._lease_s,
                self._job,
                self._name,
            )

    def release(self) -> None:
        """Give back what this worker has claimed and not finished."""
        with self._doing():
            self._ask(
                "UPDATE work SET lease = 0, worker = NULL, tries = tries - 1 WHERE job = ? AND worker = ? "
                "AND status IS NULL",
                self._job,
                self._name,
            )

    def again(self) -> int:
        """Forget which pictures were refused or failed, so that they are offered anew; return how many."""
        with self._doing():
            found = self._ask("DELETE FROM work WHERE job = ? AND status IN ('refused', 'failed')", self._job)
        return int(found.rowcount)

    def left(self) -> Left:
        """Return how far the job is."""
        clock = self._rows.clock
        with self._doing():
            rows = self._ask(
                f"SELECT status, lease < {clock}, count(*) FROM work WHERE job = ? GROUP BY 1, 2", self._job
            ).fetchall()
        done: Counter[str] = Counter()
        free = taken = 0
        for status, is_free, count in rows:
            if status is not None:
                done[status] += count
            elif is_free:
                free += count
            else:
                taken += count
        return Left(free, taken, dict(done))

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Extend the lease every third of it while a block runs, however long a picture takes."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self._lease_s / 3):
                with contextlib.suppress(GalleryError):  # the block itself meets the same trouble and says so
                    self.renew()

        thread = threading.Thread(target=beat, name="mien lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def work_through(
    gallery: Gallery,
    analyzer: Analyzer,
    work: Work,
    source: Path,
    *,
    batch: int = 8,
    poll_s: float = 1.0,
    patience_s: float = 600.0,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Iterator[Outcome]:
    """Claim and enrol pictures until all workers are done, and yield what became of each.

    Args:
        gallery: Where they go.
        analyzer: Finds and embeds their faces.
        work: The job.
        source: Folder that the pictures' paths are below, on this machine.
        batch: Pictures claimed at a time.
        poll_s: How often to look whether others have finished, or died on, what they claimed.
        patience_s: How long to wait for a database that does not answer.
        say: Is told, in a line, when that begins.
        options: As of `mien.gallery.ingest.ingest`.
    """
    try:
        while True:
            items = _patiently(lambda: work.claim(batch), patience_s, say)
            if items:
                with work.heartbeat():
                    yield from _enrol_claimed(gallery, analyzer, work, source, items, patience_s, say, options)
                continue
            left: Left = _patiently(work.left, patience_s, say)
            if not left.free and not left.taken:
                return
            time.sleep(poll_s)
    finally:
        with contextlib.suppress(GalleryError):
            work.release()


def _enrol_claimed(
    gallery: Gallery,
    analyzer: Analyzer,
    work: Work,
    source: Path,
    items: list[Item],
    patience_s: float,
    say: Callable[[str], None],
    options: dict[str, Any],
) -> Iterator[Outcome]:
    done: list[tuple[int, str]] = []
    try:
        outcomes = ingest(gallery, analyzer, [Wanted(source / one.path, one.subject) for one in items], **options)
        for item, outcome in zip(items, outcomes, strict=True):
            done.append((item.id, outcome.status))
            yield outcome
    except UnreachableError as error:  # what is not settled is claimed again
        say(f"{error} Waiting for it.")
        _patiently(work.release, patience_s, say)
    finally:
        if done:
            _patiently(lambda: work.settle(done), patience_s, say)


def _patiently(action: Callable[[], Any], patience_s: float, say: Callable[[str], None]) -> Any:
    """Do something again until the database answers, at growing intervals."""
    pause_s, until = 0.2, time.monotonic() + patience_s
    told = False
    while True:
        try:
            return action()
        except UnreachableError as error:
            if time.monotonic() + pause_s > until:
                raise
            if not told:
                say(f"{error} Waiting for it.")
                told = True
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)
