"""Keeping an index in step with its database, whoever writes to it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

from mien.errors import GalleryError
from mien.gallery import index as indexes
from mien.gallery.index import CodedIndex, FlatIndex, Stamp
from mien.gallery.records import ActiveModel
from mien.gallery.rows import Rows

__all__ = ["LiveIndex"]

APPEND_ROWS = 10_000  # written to the stored index when so many templates are not in it yet
REBUILD_WASTE = 0.2  # share of erased rows that makes a stored index worth making anew

_FOLDERS = "index_folders"  # the fact under which a gallery remembers where indexes of it were stored


class LiveIndex:
    """The index of a gallery: opened or made at the first search, then brought up to date before each.

    A stored index lies beside the file itself, whatever link the gallery was opened by. The gallery remembers each
    folder in which one was stored, so that an erasure reaches those too that an older mien, another mount or a moved
    file left elsewhere.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._index: FlatIndex | CodedIndex | None = None
        self._model: str | None = None
        self._erasures = 0
        self._state: tuple[int, int] | None = None

    @property
    def folder(self) -> Path | None:
        """Where the index of a large gallery is kept; None where it stays in memory: encrypted, or on a server."""
        file = self._rows.file
        return None if file is None or self._rows.cipher.encrypted else self._beside(file)

    def fresh(self) -> FlatIndex | CodedIndex | None:
        """Return the index, brought up to what this and other processes have committed; None without templates."""
        state = self._rows.state()
        if self._index is not None and state == self._state:
            return self._index
        active = self._rows.active_model()
        if active is None:
            return None
        if self._index is None or self._model != active.name:
            self._index = self._open(active)
            self._model = active.name
        self._catch_up(self._index, active)
        if isinstance(self._index, FlatIndex) and len(self._index) > indexes.FLAT_LIMIT:
            self._index = self._build(active)
            self._catch_up(self._index, active)
        if isinstance(self._index, CodedIndex) and self._index.unsaved >= APPEND_ROWS:
            self._save()
        # What others committed since `state` was asked for is taken in at the next search.
        self._state = (state[0], self._rows.writes)
        return self._index

    def close(self) -> None:
        """Save what the stored index lacks, and let go."""
        if isinstance(self._index, CodedIndex):
            self._save()
        self._index = None

    def rebuild(self) -> None:
        """Make everything derived anew: compact the database, empty its log, rebuild the index."""
        self._index = None
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)
        self._remove_strays()
        self._rows.compact()
        self.fresh()

    def files(self) -> list[Path]:
        """Return the files of the stored index, and of one in the making."""
        return [file for folder in self._folders() for file in sorted(folder.rglob("*")) if file.is_file()]

    def blot(self) -> tuple[str, ...]:
        """Remove what was erased from memory and from every stored index.

        Returns:
            Folders in which an index was once stored, and that cannot be looked into now.

        Raises:
            GalleryError: A stored index elsewhere cannot be removed.
        """
        if self._index is not None:
            self._index.remove(self._rows.tombstones(self._erasures))
            self._erasures = self._rows.erasures()
        folder = self.folder
        if folder is not None:
            with self._rows.write():
                self._blot(folder)
        return self._remove_strays()

    @staticmethod
    def _beside(file: Path) -> Path:
        return file.with_name(file.name + ".index")

    def _folders(self) -> list[Path]:
        """Return the folder of the index, and such as were left in the making, as far as they exist."""
        file = self._rows.file
        if file is None:
            return []
        name = self._beside(file).name
        return [path for path in file.parent.iterdir() if path.name == name or path.name.startswith(f"{name}.")]

    def _remembered(self) -> list[str]:
        try:
            folders = json.loads(str(self._rows.meta(_FOLDERS) or "[]"))
        except ValueError:
            return []
        return [folder for folder in folders if isinstance(folder, str)] if isinstance(folders, list) else []

    def _remember(self, folder: Path) -> None:
        """Note where an index is about to be stored. Inside a write."""
        known = self._remembered()
        if str(folder) not in known:
            self._rows.set_meta(_FOLDERS, json.dumps([*known, str(folder)]))

    def _remove_strays(self) -> tuple[str, ...]:
        """Delete indexes of this gallery that lie elsewhere: they are derived, and nobody brings them up to date.

        One beside another file, a backup of the gallery for instance, is that file's and stays.
        """
        own, held = self.folder, self._rows.file
        if held is None or not isinstance(self._rows.path, Path):
            return ()
        given = self._beside(self._rows.path.absolute())  # where an older mien kept it
        unseen = []
        for folder in dict.fromkeys([given, *map(Path, self._remembered())]):
            if own is not None and folder == own:
                continue
            if not folder.parent.is_dir():
                unseen.append(str(folder))
                continue
            stamp = indexes.read_stamp(folder)
            if stamp is None or stamp.gallery != str(self._rows.meta("gallery")) or _same(folder, own):
                continue
            file = folder.with_name(folder.name.removesuffix(".index"))
            if file.exists() and not _same(file, held):
                continue
            try:
                indexes.remove_folder(folder)
            except OSError as error:
                raise GalleryError(
                    f"An index of this gallery in {folder} cannot be removed: {error.strerror}. Delete that folder."
                ) from error
        return tuple(unseen)

    def _open(self, active: ActiveModel) -> FlatIndex | CodedIndex:
        self._erasures = self._rows.erasures()
        stored = self._stored(active)
        if stored is not None:
            return stored
        if self._rows.count_templates(active) > indexes.FLAT_LIMIT:
            return self._build(active)
        return FlatIndex.build(self._rows.templates(active), active.dimension)

    def _stored(self, active: ActiveModel) -> CodedIndex | None:
        """Load the stored index if it is this gallery's; blot out first what was erased since."""
        folder = self.folder
        stamp = None if folder is None else indexes.read_stamp(folder)
        if folder is None or stamp is None or not stamp.same_gallery(self._stamp(active)):
            return None
        if stamp.erasures > self._erasures:  # of a later state than the database: a backup was restored
            return None
        if stamp.erasures < self._erasures:
            self._rows.upkeep(lambda: self._blot(folder))
        if str(folder) not in self._remembered():  # stored by an older mien, or moved here
            self._rows.upkeep(lambda: self._remember(folder))
        loaded = CodedIndex.load(folder)
        if loaded is None or loaded.wasted > REBUILD_WASTE or not self._agrees(loaded, active):
            return None
        self._erasures = loaded.stamp.erasures
        return loaded

    def _agrees(self, loaded: CodedIndex, active: ActiveModel) -> bool:
        """Compare a few rows with the database: a backup put in its place has other templates under the same ids."""
        return all(
            self._rows.template_is(template_id, active, vector.tobytes())
            for ids, vectors in loaded.spot_checks(64)
            for template_id, vector in zip(ids.tolist(), vectors, strict=True)
        )

    def _build(self, active: ActiveModel) -> CodedIndex:
        """Make the index of a large gallery; keep it beside the database if that can be written."""
        self._erasures = self._rows.erasures()
        stamp = self._stamp(active)
        remote = self._rows.remote(active)
        if remote is not None:
            count = self._rows.count_templates(active)
            return CodedIndex.build_apart(lambda: self._rows.templates(active), count, stamp, remote)
        folder = None if self._rows.read_only else self.folder
        if folder is not None:
            # Full disk or locked: memory will do.
            with contextlib.suppress(OSError, sqlite3.OperationalError):
                return CodedIndex.build(lambda: self._rows.templates(active), stamp, folder, self._install)
        return CodedIndex.build(lambda: self._rows.templates(active), stamp)

    def _install(self, made: Path, folder: Path) -> None:
        with self._rows.write():
            self._remember(folder)
            indexes.replace_folder(made, folder)
            self._blot(folder)

    def _blot(self, folder: Path) -> None:
        """Remove from the stored index what was erased since it was written. Inside a write."""
        stamp = indexes.read_stamp(folder)
        erasures = self._rows.erasures()
        if stamp is not None and stamp.erasures < erasures:
            indexes.blot(folder, self._rows.tombstones(stamp.erasures), erasures)

    def _catch_up(self, index: FlatIndex | CodedIndex, active: ActiveModel) -> None:
        """Take in what was enrolled and erased since."""
        for ids, vectors in self._rows.templates(active, after=index.last_id):
            index.add(ids, vectors)
        erasures = self._rows.erasures()
        if erasures != self._erasures:
            index.remove(self._rows.tombstones(self._erasures))
            self._erasures = erasures

    def _save(self) -> None:
        """Write templates that the stored index lacks to it."""
        folder, index = self.folder, self._index
        if isinstance(index, CodedIndex) and index.unsaved and folder is not None:

            def save() -> None:
                self._blot(folder)
                index.append(folder)

            self._rows.upkeep(save)

    def _stamp(self, active: ActiveModel) -> Stamp:
        return Stamp(
            str(self._rows.meta("gallery")), active.name, active.dimension, self._erasures, depth=indexes.DEPTH
        )


def _same(one: Path, other: Path | None) -> bool:
    """Return whether two paths lead to one file or folder, by links or mounts."""
    try:
        return other is not None and one.samefile(other)
    except OSError:
        return False
