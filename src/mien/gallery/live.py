"""Keeping an index in step with its database, whoever writes to it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from mien.gallery import index as indexes
from mien.gallery.index import CodedIndex, FlatIndex, Stamp

if TYPE_CHECKING:
    from mien.gallery.store import Gallery

__all__ = ["LiveIndex"]

APPEND_ROWS = 10_000  # written to the stored index when so many templates are not in it yet
REBUILD_WASTE = 0.2  # share of erased rows that makes a stored index worth making anew

Active = tuple[int, str, int]
"""Row id, name and dimension of the model in use."""


class LiveIndex:
    """The index of a gallery: opened or made at the first search, then brought up to date before each.

    Attributes:
        stale: Set by whoever writes through the same connection, whose own commits SQLite does not announce.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._index: FlatIndex | CodedIndex | None = None
        self._model: str | None = None
        self._erasures = 0
        self._version: int | None = None
        self.stale = True

    def fresh(self) -> FlatIndex | CodedIndex | None:
        """Return the index, brought up to what this and other processes have committed; None without templates."""
        # data_version moves when another connection commits.
        version = int(self._gallery.connection.execute("PRAGMA data_version").fetchone()[0])
        if self._index is not None and version == self._version and not self.stale:
            return self._index
        active = self._gallery.active_model()
        if active is None:
            return None
        if self._index is None or self._model != active[1]:
            self._index = self._open(active)
            self._model = active[1]
        self._catch_up(self._index, active)
        if isinstance(self._index, FlatIndex) and len(self._index) > indexes.FLAT_LIMIT:
            self._index = self._build(active)
            self._catch_up(self._index, active)
        if isinstance(self._index, CodedIndex) and self._index.unsaved >= APPEND_ROWS:
            self._save()
        self._version, self.stale = version, False
        return self._index

    def forget(self) -> None:
        """Drop the index from memory; the next search opens it anew."""
        self._index = None

    def close(self) -> None:
        """Save what the stored index lacks, and let go."""
        if isinstance(self._index, CodedIndex):
            self._save()
        self._index = None

    def _open(self, active: Active) -> FlatIndex | CodedIndex:
        self._erasures = self._counted_erasures()
        stored = self._stored(active)
        if stored is not None:
            return stored
        # The index on (sample, model) covers this count: no vector is read.
        count = self._gallery.connection.execute(
            "SELECT count(*) FROM template WHERE model_id = ?", active[:1]
        ).fetchone()[0]
        if count > indexes.FLAT_LIMIT:
            return self._build(active)
        return FlatIndex.build(self._gallery.rows(active), active[2])

    def _stored(self, active: Active) -> CodedIndex | None:
        """Load the stored index if it is this gallery's; blot out first what was erased since."""
        folder = self._gallery.index_folder
        stamp = None if folder is None else indexes.read_stamp(folder)
        if folder is None or stamp is None or not stamp.same_gallery(self._stamp(active)):
            return None
        if stamp.erasures > self._erasures:  # of a later state than the database: a backup was restored
            return None
        if stamp.erasures < self._erasures:
            self._upkeep(lambda: self._blot(folder))
        loaded = CodedIndex.load(folder)
        if loaded is None or loaded.wasted > REBUILD_WASTE or not self._agrees(loaded, active):
            return None
        self._erasures = loaded.stamp.erasures
        return loaded

    def _agrees(self, loaded: CodedIndex, active: Active) -> bool:
        """Compare a few rows with the database: a backup put in its place has other templates under the same ids."""
        ask = self._gallery.connection.execute
        for ids, vectors in loaded.spot_checks(64):
            for template_id, vector in zip(ids.tolist(), vectors, strict=True):
                row = ask("SELECT vector FROM template WHERE id = ? AND model_id = ?", (template_id, active[0]))
                stored = row.fetchone()
                if stored is not None and stored[0] == vector.tobytes():
                    continue
                if ask("SELECT 1 FROM tombstone WHERE template_id = ?", (template_id,)).fetchone() is None:
                    return False
        return True

    def _build(self, active: Active) -> CodedIndex:
        """Make the index of a large gallery; keep it beside the database if that can be written."""
        self._erasures = self._counted_erasures()
        stamp = self._stamp(active)
        folder = None if self._gallery.read_only else self._gallery.index_folder
        if folder is not None:
            # Full disk or locked: memory will do.
            with contextlib.suppress(OSError, sqlite3.OperationalError):
                return CodedIndex.build(lambda: self._gallery.rows(active), stamp, folder, self._install)
        return CodedIndex.build(lambda: self._gallery.rows(active), stamp)

    def _install(self, made: Path, folder: Path) -> None:
        with self._gallery.write():
            indexes.replace_folder(made, folder)
            self._blot(folder)

    def _blot(self, folder: Path) -> None:
        """Remove from the stored index what was erased since it was written. Inside a write."""
        stamp = indexes.read_stamp(folder)
        erasures = self._counted_erasures()
        if stamp is not None and stamp.erasures < erasures:
            indexes.blot(folder, self._tombstones(stamp.erasures), erasures)

    def blot(self) -> None:
        """Remove from memory and from the stored index what was erased."""
        folder = self._gallery.index_folder
        if self._index is not None:
            self._index.remove(self._tombstones(self._erasures))
            self._erasures = self._counted_erasures()
        if folder is not None:
            with self._gallery.write():
                self._blot(folder)

    def _catch_up(self, index: FlatIndex | CodedIndex, active: Active) -> None:
        """Take in what was enrolled and erased since."""
        for ids, vectors in self._gallery.rows(active, after=index.last_id):
            index.add(ids, vectors)
        erasures = self._counted_erasures()
        if erasures != self._erasures:
            index.remove(self._tombstones(self._erasures))
            self._erasures = erasures

    def _save(self) -> None:
        """Write templates that the stored index lacks to it."""
        folder, index = self._gallery.index_folder, self._index
        if isinstance(index, CodedIndex) and index.unsaved and folder is not None:

            def save() -> None:
                self._blot(folder)
                index.append(folder)

            self._upkeep(save)

    def _upkeep(self, action: Callable[[], None]) -> None:
        """Do a piece of upkeep if nobody is writing and the disk takes it; a search does not wait for that."""
        gallery = self._gallery
        if gallery.read_only:
            return
        gallery.connection.execute("PRAGMA busy_timeout = 0")
        try:
            with contextlib.suppress(OSError, sqlite3.OperationalError), gallery.write():
                action()
        finally:
            gallery.connection.execute(f"PRAGMA busy_timeout = {int(gallery.timeout_s * 1000)}")

    def _tombstones(self, since: int) -> Int64[np.ndarray, " rows"]:
        rows = self._gallery.connection.execute("SELECT template_id FROM tombstone WHERE erasure > ?", (since,))
        return np.array([row[0] for row in rows], dtype=np.int64)

    def _counted_erasures(self) -> int:
        return int(self._gallery.meta("erasures") or 0)

    def _stamp(self, active: Active) -> Stamp:
        return Stamp(str(self._gallery.meta("gallery")), active[1], active[2], self._erasures, depth=indexes.DEPTH)
