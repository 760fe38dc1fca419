"""Names of subjects: one spelling to keep, one to tell subjects apart by."""

from __future__ import annotations

import re
import unicodedata

from mien.errors import GalleryError

__all__ = ["LONGEST_NAME", "clean_name", "first_spelling", "folded_name", "shown"]

LONGEST_NAME = 200

# Letters by their category, and yet nothing is to be seen: Hangul fillers, the empty Braille cell.
_BLANKS = str.maketrans(dict.fromkeys("\u115f\u1160\u2800\u3164\uffa0", " "))
# Zero-width joiners shape letters of Persian and Indic scripts; beside an ASCII character they do nothing.
_IDLE_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
_JOINERS = "\u200c\u200d"


def clean_name(name: str) -> str:
    """Return a name as it is kept and shown: NFKC, single blanks, nothing invisible but joiners between letters.

    Raises:
        GalleryError: It is no text, empty, too long, or holds control characters or bytes that are no text.
    """
    if not isinstance(name, str):
        raise GalleryError(f"A subject's name is text, got {type(name).__name__}.")
    # Cc: control, Cs: a byte of a file name that is no text. Either would garble a list on a terminal.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name.strip()):
        raise GalleryError("A subject's name is text without control characters. Choose another spelling.")
    text = unicodedata.normalize("NFKC", name).translate(_BLANKS)
    # Cf: format. Directions, soft hyphens, marks of no width: two names that differ in these look the same.
    text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) != "Cf")
    text = " ".join(_IDLE_JOINER.sub("", text).split())
    text = unicodedata.normalize("NFKC", text)  # what stood apart may compose now
    if not text or len(text) > LONGEST_NAME:
        raise GalleryError(f"A subject's name has 1 to {LONGEST_NAME} characters that can be seen, got {len(text)}.")
    return text


def folded_name(name: str) -> str:
    """Return what tells subjects apart: `clean_name` without joiners, so that names that look alike are equal."""
    return unicodedata.normalize("NFKC", clean_name(name).translate(dict.fromkeys(map(ord, _JOINERS))))


def first_spelling(name: str) -> str:
    """Return what told subjects apart in galleries of version 1: composed characters, no blanks around them."""
    return unicodedata.normalize("NFC", name).strip()


def shown(text: object) -> str:
    """Return text for one line of a terminal: what would move its cursor or cannot be encoded is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
