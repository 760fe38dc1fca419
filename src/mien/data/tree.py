"""Files below a folder, or inside a zip that is read in place."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from mien.data.splits import split_name
from mien.errors import DataError, ImageError
from mien.files import EXTENSIONS, is_ignored, no_picture, printable, walk
from mien.images import Limits

__all__ = ["FolderTree", "Tree", "ZipTree", "is_picture", "open_tree"]


class Tree(Protocol):
    """Files by name: paths with `/`, relative to the folder or to the zip's root."""

    source: Path

    @property
    def files(self) -> tuple[str, ...]:
        """All files, sorted; hidden ones are left out."""
        ...

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders, sorted, empty ones included."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            ImageError: It is missing, damaged, too large or may not be read.
        """
        ...

    def stamp(self, name: str) -> tuple[int, ...]:
        """Return what changes when the file does; zeros where there is no such file."""
        ...


class FolderTree:
    """Files below a folder, through links, each folder once."""

    def __init__(self, source: Path) -> None:
        self.source = source

    @cached_property
    def _walked(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        files: list[str] = []
        folders: list[str] = []
        for place, entries in walk(self.source):
            if entries is None:
                raise DataError(no_picture(place))  # pictures that nobody sees would be missing without a word
            below = place.relative_to(self.source).as_posix()
            if below != ".":
                folders.append(below)
            prefix = "" if below == "." else f"{below}/"
            files.extend(prefix + entry.name for entry in entries)
        return tuple(sorted(files)), tuple(sorted(folders))

    @property
    def files(self) -> tuple[str, ...]:
        """All files, sorted; hidden ones are left out."""
        return self._walked[0]

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders, sorted, empty ones included."""
        return self._walked[1]

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return "\0" not in name and (self.source / name).is_file()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        path = self.source / name
        try:
            with path.open("rb") as file:
                return _bounded(file.read(Limits().max_bytes + 1), name)
        except FileNotFoundError:
            raise ImageError(f"'{printable(path)}' does not exist. Check the path.") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"'{printable(name)}' cannot be read: {_why(error)}.") from None

    def stamp(self, name: str) -> tuple[int, ...]:
        """Return size and time of change in ns."""
        try:
            status = (self.source / name).stat()
        except (OSError, ValueError):
            return (0, 0)
        return (status.st_size, status.st_mtime_ns)


class ZipTree:
    """Files inside a zip. Nothing is unpacked; a folder that holds all the rest is looked through.

    Raises:
        DataError: The file is no zip, or is damaged.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        try:
            self._zip = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise DataError(f"'{printable(source)}' is no zip that can be read: {_why(error)}.") from None
        members = {info.filename: info for info in self._zip.infolist() if _is_plain(info.filename)}
        prefix = _common_folder(list(members))
        self._files = {name[len(prefix) :]: info for name, info in members.items() if not info.is_dir()}
        folders = {name[len(prefix) :].rstrip("/") for name, info in members.items() if info.is_dir()}
        folders |= {str(above) for name in self._files for above in PurePosixPath(name).parents}
        self._folders = tuple(sorted(folders - {"", "."}))

    @property
    def files(self) -> tuple[str, ...]:
        """All files, sorted; hidden ones are left out."""
        return tuple(sorted(self._files))

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders, sorted, empty ones included."""
        return self._folders

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._files

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        info = self._files.get(name)
        if info is None:
            raise ImageError(f"'{printable(name)}' is not in '{printable(self.source)}'. Check the path.")
        if info.file_size > Limits().max_bytes:
            raise ImageError(f"'{printable(name)}' is larger than the limit of {Limits().max_bytes / 2**20:.0f} MiB.")
        try:
            with self._zip.open(info) as file:
                return file.read(info.file_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ImageError(f"'{printable(name)}' cannot be read from the zip: {_why(error)}.") from None

    def stamp(self, name: str) -> tuple[int, ...]:
        """Return size and checksum."""
        info = self._files.get(name)
        return (info.file_size, info.CRC) if info else (0, 0)


def open_tree(source: Path) -> Tree:
    """Open a folder or a zip.

    Raises:
        DataError: It is neither, or does not exist.
    """
    if source.is_dir():
        return FolderTree(source)
    if not source.exists():
        raise DataError(f"There is no '{printable(source)}'. Check the path.")
    if source.suffix.lower() != ".zip":
        raise DataError(f"'{printable(source)}' is no data set. Expected a folder, a .zip, a .csv or a .parquet.")
    return ZipTree(source)


def is_picture(name: str) -> bool:
    """Return whether a file name has the extension of a picture."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def _is_plain(name: str) -> bool:
    # A member that points out of the archive is nobody's picture.
    return not name.startswith("/") and not any(is_ignored(part) for part in name.rstrip("/").split("/"))


def _common_folder(names: list[str]) -> str:
    """Return the folder, with its slash, that holds everything in sub-folders or beside a list; else nothing."""
    tops = {name.split("/", 1)[0] for name in names if name.rstrip("/")}
    if len(tops) != 1 or not all("/" in name for name in names) or split_name(next(iter(tops))):
        return ""
    top = next(iter(tops)) + "/"
    inside = list(_below(names, top))
    holds_more = any("/" in name for name in inside) or any(not is_picture(name) for name in inside)
    return top + _common_folder(inside) if holds_more and inside else ""


def _below(names: list[str], top: str) -> Iterator[str]:
    return (name[len(top) :] for name in names if len(name) > len(top))


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > Limits().max_bytes:
        raise ImageError(f"'{printable(name)}' is larger than the limit of {Limits().max_bytes / 2**20:.0f} MiB.")
    return data


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
