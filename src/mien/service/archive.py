"""Pictures in a zip that a stranger sent: read one at a time into memory, never unpacked to the disk."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mien.errors import DataError
from mien.files import EXTENSIONS, is_ignored, printable
from mien.service.settings import Limits

__all__ = ["Member", "members", "read_member"]

_TIGHT = 200  # times smaller than what it holds: no picture packs like that
_FREE_BYTES = 1 << 20  # up to which any packing is allowed
_ENCRYPTED = 0x1


class Member(NamedTuple):
    """A picture of a zip.

    Attributes:
        number: From 1, in the order of the zip.
        name: Of it in the zip.
        folder: Name of the folder that it lies in; empty: none.
        info: Where it is.
    """

    number: int
    name: str
    folder: str
    info: zipfile.ZipInfo


def members(path: Path, limits: Limits) -> list[Member]:
    """Return the pictures of a zip, judged by its table of contents.

    Raises:
        DataError: It is no zip, or encrypted; a name leads out of it; it is too large unpacked, or holds no picture.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, OSError):
        raise DataError("The upload is no zip, or is damaged or cut short. Pack the pictures as .zip.") from None
    found = [Member(number, *names, info) for number, (names, info) in enumerate(_pictures(infos), start=1)]
    if not found:
        raise DataError(f"The zip holds no picture ({', '.join(sorted(EXTENSIONS)[:6])}, ...).")
    if len(found) > limits.archive_pictures:
        raise DataError(f"The zip holds {len(found)} pictures; the limit is {limits.archive_pictures}. Send several.")
    total = sum(member.info.file_size for member in found)
    if total > limits.unpacked_bytes:
        raise DataError(
            f"The zip holds {total / 2**20:,.0f} MiB unpacked; the limit is {limits.unpacked_bytes / 2**20:,.0f} MiB."
        )
    return found


def _pictures(infos: list[zipfile.ZipInfo]) -> Iterator[tuple[tuple[str, str], zipfile.ZipInfo]]:
    for info in infos:
        name = info.filename
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in name.partition("/")[0] or "\0" in name:
            raise DataError("A name in the zip leads out of it. Pack the pictures with relative names.")
        if info.is_dir() or place.suffix.lower() not in EXTENSIONS or any(is_ignored(part) for part in place.parts):
            continue
        if info.flag_bits & _ENCRYPTED:
            raise DataError("The zip is encrypted. Pack the pictures without a password.")
        if info.file_size > _FREE_BYTES and info.file_size > _TIGHT * max(info.compress_size, 1):
            raise DataError("The zip packs a file as tightly as a zip bomb does. Pack the pictures themselves.")
        yield (printable(str(place)), place.parent.name), info


def read_member(archive: zipfile.ZipFile, member: Member, limits: Limits) -> bytes:
    """Return the bytes of a picture.

    Raises:
        DataError: It is damaged, or larger than one may be.
    """
    try:
        with archive.open(member.info) as file:
            data = file.read(limits.picture_bytes + 1)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, OSError, RuntimeError):
        raise DataError(f"'{member.name}' is damaged in the zip. Pack it again.") from None
    if len(data) > limits.picture_bytes:
        raise DataError(f"'{member.name}' is larger than {limits.picture_bytes / 2**20:g} MiB. Make it smaller.")
    return data
