"""Where a gallery's rows are, by its name: a file, or the address of a database server."""

from __future__ import annotations

from pathlib import Path

from mien.errors import GalleryError
from mien.gallery.postgres.address import Address, is_address
from mien.gallery.rows import Rows

__all__ = ["open_rows"]


def open_rows(place: str | Path | Address, *, create: bool, read_only: bool, timeout_s: float) -> Rows:
    """Open the rows of a gallery; see `mien.gallery.gallery.Gallery`.

    Raises:
        GalleryError: There is none and none may be made, or it cannot be opened.
    """
    if isinstance(place, Path) and is_address(str(place)):
        raise GalleryError("The address of a database is given as text, not as a Path.")
    if not isinstance(place, Address):
        if not is_address(place):
            return Rows(Path(place), create=create, read_only=read_only, timeout_s=timeout_s)
        place = Address.parse(str(place))
    try:
        from mien.gallery.postgres.rows import PostgresRows
    except ImportError as error:
        raise GalleryError(
            "Galleries in PostgreSQL need psycopg. Install it with: pip install 'mien[postgres]'"
        ) from error
    return PostgresRows(place, create=create, read_only=read_only, timeout_s=timeout_s)
