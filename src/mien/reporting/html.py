"""Self-contained pages: one HTML file with its pictures inside, which loads nothing and sends nothing."""

from __future__ import annotations

import base64
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mien.errors import UsageError
from mien.images import write_whole
from mien.reporting.pictures import colour_of

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["css_colour", "data_uri", "render", "write_text"]

_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def render(template: str, **context: object) -> str:
    """Fill a template of this package; everything that comes from outside is escaped.

    Args:
        template: File name in the folder `templates`.
        context: What the template names.
    """
    return (
        _environment().get_template(template).render(version=version("mien"), made=date.today().isoformat(), **context)
    )


def data_uri(data: bytes) -> str:
    """Return an encoded picture (PNG, JPEG or WebP) as a URI that holds it."""
    kind = next(kind for magic, kind in _TYPES.items() if data.startswith(magic))
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def css_colour(number: int) -> str:
    """Return the colour of a number, see `colour_of`, as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(number))


def write_text(path: Path, text: str) -> None:
    """Write a text file, all of it or nothing.

    Raises:
        UsageError: The folder is missing or cannot be written, or the disk is full.
    """
    try:
        write_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot write '{path.name}': {error.strerror or error}.") from error


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # A misspelt name in a template is our mistake and must not print as nothing.
    return Environment(
        loader=PackageLoader("mien.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
