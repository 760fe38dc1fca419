"""Encryption at rest: what a gallery's file may show to someone who holds the file but not the key.

A gallery with a key seals names, source hashes, crops and vectors with AES-256-GCM. Every blob is bound to its
table, row and field (associated data), so that blobs cannot be swapped between rows unnoticed. Names and source
hashes must still be unique, so the file also holds a keyed fingerprint (HMAC-SHA256) of each. What stays in the
clear: how many subjects and samples there are, which samples are of one subject, times, qualities and face boxes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Protocol

from mien.errors import GalleryError

__all__ = ["Cipher", "Plain", "Sealed", "read_key", "write_key"]

KEY_BYTES = 32
_NONCE_BYTES = 12


class Cipher(Protocol):
    """How a gallery turns values into what the file holds, and back."""

    encrypted: bool

    def seal(self, value: bytes, *place: str | int) -> bytes:
        """Return the bytes to store at a place (table, field, row)."""
        ...

    def open(self, stored: bytes, *place: str | int) -> bytes:
        """Return the value that was stored at a place."""
        ...

    def fingerprint(self, value: bytes, *place: str | int) -> bytes:
        """Return 32 bytes that are equal for equal values: for look-ups and uniqueness."""
        ...


class Plain:
    """No encryption: values are stored as they are."""

    encrypted = False

    def seal(self, value: bytes, *place: str | int) -> bytes:
        """Return the value."""
        return value

    def open(self, stored: bytes, *place: str | int) -> bytes:
        """Return the value."""
        return stored

    def fingerprint(self, value: bytes, *place: str | int) -> bytes:
        """Return the SHA-256 of place and value."""
        return hashlib.sha256(_place(place) + value).digest()


class Sealed:
    """AES-256-GCM under a key, each blob bound to its place."""

    encrypted = True

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:  # pragma: no cover - a declared dependency
            raise GalleryError(
                "An encrypted gallery needs the cryptography package. Install it with: pip install cryptography"
            ) from error
        assert len(key) == KEY_BYTES, "a key has 32 bytes"
        # Two keys from one, so that the fingerprint key never meets the cipher.
        self._aead = AESGCM(hmac.digest(key, b"mien gallery: seal", "sha256"))
        self._mac_key = hmac.digest(key, b"mien gallery: fingerprint", "sha256")

    def seal(self, value: bytes, *place: str | int) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, _place(place))

    def open(self, stored: bytes, *place: str | int) -> bytes:
        """Return the value; refuse one that was altered or belongs elsewhere."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], _place(place))
        except (InvalidTag, ValueError) as error:
            where = " ".join(str(part) for part in place)
            raise GalleryError(
                f"The encrypted {where} does not open: it was altered or moved, or the key is not this gallery's. "
                "Run `mien gallery check`, or restore a backup."
            ) from error

    def fingerprint(self, value: bytes, *place: str | int) -> bytes:
        """Return the HMAC-SHA256 of place and value."""
        return hmac.digest(self._mac_key, _place(place) + value, "sha256")


def _place(place: tuple[str | int, ...]) -> bytes:
    """Encode a place so that no two places read alike."""
    return b"".join(f"{len(text)}:{text};".encode() for text in map(str, place))


def write_key(path: str | Path) -> None:
    """Make a new random key file that only its owner may read.

    Args:
        path: Where; must not exist, since overwriting a key would lose every gallery under it.

    Raises:
        GalleryError: The file exists, or cannot be written.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise GalleryError(
            f"{path} exists. A key that is overwritten cannot be brought back; name another file."
        ) from error
    except OSError as error:
        raise GalleryError(f"The key cannot be written to {path}: {error.strerror}.") from error
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_key(path: str | Path) -> bytes:
    """Read a key file made by `write_key`.

    Raises:
        GalleryError: The file is missing, unreadable, or holds no 32 bytes in base64.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(1024)
    except OSError as error:
        raise GalleryError(f"The key file {path} cannot be read: {error.strerror}.") from error
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise GalleryError(
            f"{path} is no key file: expected 32 bytes in base64. Make one with: mien gallery key {path}"
        )
    return key
