"""The address of a gallery in PostgreSQL: ``postgresql://user@host/database?collection=name``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from mien.errors import GalleryError
from mien.gallery.names import shown

__all__ = ["Address", "is_address"]

_SCHEMES = ("postgresql", "postgres")
_COLLECTION = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def is_address(text: object) -> bool:
    """Return whether a gallery's name is the address of a database server rather than a file."""
    return isinstance(text, str) and text.startswith(tuple(f"{scheme}:" for scheme in _SCHEMES))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gallery is.

    Attributes:
        conninfo: What libpq connects to; may hold a password.
        schema: Of the database: each collection has its own, so that no query can reach another's rows.
        shown: For messages: without any password.
    """

    conninfo: str
    schema: str
    shown: str

    def __str__(self) -> str:
        return self.shown

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            GalleryError: It is none, or its collection has no usable name.
        """
        try:
            parts = urlsplit(text)
            settings = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise GalleryError(f"That is no address of a database: {shown(error)}. {_EXAMPLE}") from error
        if parts.scheme not in _SCHEMES or not text.startswith(f"{parts.scheme}://"):
            raise GalleryError(f"That is no address of a database. {_EXAMPLE}")
        named = [value for key, value in settings if key == "collection"]
        collection = named[-1] if named else ""
        if named and not _COLLECTION.fullmatch(collection):
            raise GalleryError(
                f"A collection has a name of up to 40 small letters, digits, - and _, got '{shown(collection)[:60]}'."
            )
        others = [(key, value) for key, value in settings if key != "collection"]
        user, _, servers = parts.netloc.rpartition("@")
        # libpq takes %20 for a space, not +.
        conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(others, quote_via=quote), ""))
        who = f"{shown(unquote(user.partition(':')[0]))}@" if user else ""
        what = f"?collection={collection}" if collection else ""
        return cls(
            conninfo,
            f"mien_{collection}" if collection else "mien",
            f"postgresql://{who}{shown(servers)}{shown(parts.path)}{what}",
        )


_EXAMPLE = "Expected postgresql://USER@HOST/DATABASE, with ?collection=NAME for one of several galleries."
