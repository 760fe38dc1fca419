"""The audit log: who asked for what and when. Never a picture, a name or a vector."""

from __future__ import annotations

import contextlib
import threading
from collections import deque

from mien.errors import MienError
from mien.service.store import Store, now

__all__ = ["Audit"]

_EVERY_S = 0.5
_MOST = 1_000_000  # entries that are kept
_MOST_WAITING = 100_000  # entries that wait for a full disk

Entry = tuple[str, str | None, str, str | None, int, int | None]


class Audit:
    """Writes entries in the background, several at once: a read must not wait for the disk.

    A write is in the gallery's own log too, in the same transaction as itself; what is lost of this one, if the process
    is killed, is the last half second of reads.

    Args:
        store: Where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: deque[Entry] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mien-audit", daemon=True)
        self._thread.start()

    def note(
        self, action: str, *, key: str | None, collection: str | None, status: int, subject_id: int | None
    ) -> None:
        """Add an entry."""
        self._entries.append((now(), key, action, collection, status, subject_id))

    def flush(self) -> None:
        """Write what is waiting."""
        batch = []
        while self._entries:
            batch.append(self._entries.popleft())
        if not batch:
            return
        try:
            with self._store.write() as connection:
                connection.executemany(
                    "INSERT INTO audit (time, key, action, collection, status, subject_id) VALUES (?, ?, ?, ?, ?, ?)",
                    batch,
                )
                connection.execute("DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?", (_MOST,))
        except MienError:
            self._entries.extendleft(reversed(batch[-_MOST_WAITING:]))
            raise

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(MienError):
            self.flush()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            with contextlib.suppress(MienError):  # a full disk: they wait
                self.flush()
