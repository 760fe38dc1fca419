"""Keys: made, shown once, kept as a keyed hash, checked in constant time, revoked."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mien.errors import UsageError
from mien.service.store import Store, now

__all__ = ["EVERY", "SCOPES", "Key", "Keys", "check_collection_name", "parse_grant"]

SCOPES = ("read", "enrol", "admin")
"""What a key may do in a collection; each includes those before it."""

EVERY = "*"
"""In place of a collection's name: all of them, those to come included."""

_FORM = re.compile(r"mien_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SECRET_BYTES = 32
_LONGEST_LABEL = 100


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret.

    Attributes:
        id: Public part.
        label: Whose or what for.
        grants: Scope by collection; `EVERY` for all.
        created: When, UTC, ISO 8601.
        expires: From when on it is refused; None: never.
        revoked: When it was revoked; None: it was not.
        last_used: Day of its last use; None: never used.
    """

    id: str
    label: str
    grants: Mapping[str, str]
    created: str
    expires: str | None = None
    revoked: str | None = None
    last_used: str | None = None

    def refusal(self) -> str | None:
        """Return why it is refused, or None."""
        if self.revoked is not None:
            return "was revoked"
        if self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(UTC):
            return "has expired"
        return None

    def scope(self, collection: str) -> str | None:
        """Return what it may do in a collection; None: nothing, as if there were none of that name."""
        held = [scope for name in (collection, EVERY) if (scope := self.grants.get(name)) is not None]
        return max(held, key=SCOPES.index, default=None)


class Keys:
    """All keys of a service, kept in memory while nobody else writes to its file.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._secret = _server_secret(store.path.with_name("secret.key"))
        self._lock = threading.Lock()
        self._state: int | None = None
        self._known: dict[str, tuple[Key, bytes]] = {}

    def every(self) -> list[Key]:
        """Return all keys, oldest first, revoked ones included."""
        return [key for key, _ in self._fresh().values()]

    def usable(self) -> list[Key]:
        """Return the keys that are not refused."""
        return [key for key in self.every() if key.refusal() is None]

    def create(
        self, grants: Mapping[str, str], *, label: str = "", expires: timedelta | None = None
    ) -> tuple[Key, str]:
        """Make a key.

        Args:
            grants: Scope by collection.
            label: Whose or what for.
            expires: After how long it is refused; None: never.

        Returns:
            The key, and its text, which nobody can bring back.

        Raises:
            UsageError: No grant, an unknown scope, a name that no collection can have, a label too long.
        """
        if not grants:
            raise UsageError("A key without a grant opens nothing. Grant it a collection.")
        for collection, scope in grants.items():
            if scope not in SCOPES:
                raise UsageError(f"A scope is {', '.join(SCOPES)}, got '{scope[:40]}'.")
            if collection != EVERY:
                check_collection_name(collection)
        if len(label) > _LONGEST_LABEL or not (label.isprintable()):
            raise UsageError(f"A label is printable text of at most {_LONGEST_LABEL} characters.")
        if expires is not None and expires <= timedelta(0):
            raise UsageError("A key expires after more than 0 days.")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(_SECRET_BYTES)
        until = None if expires is None else (datetime.now(UTC) + expires).isoformat(timespec="seconds")
        key = Key(key_id, label, dict(grants), now(), until)
        self._store.do(
            "INSERT INTO key (id, label, hash, grants, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
            (key.id, key.label, self._hash(key_id, secret), json.dumps(dict(grants)), key.created, until),
        )
        self._state = None
        return key, f"mien_{key_id}_{secret}"

    def revoke(self, key_id: str, *, after: timedelta = timedelta(0)) -> Key:
        """Refuse a key from now on, or, in a rotation, after some time.

        Raises:
            UsageError: There is no such key.
        """
        if after > timedelta(0):
            until = (datetime.now(UTC) + after).isoformat(timespec="seconds")
            sql = "UPDATE key SET expires = min(coalesce(expires, ?1), ?1) WHERE id = ?2"
            found = self._store.do(sql, (until, key_id))
        else:
            found = self._store.do("UPDATE key SET revoked = coalesce(revoked, ?) WHERE id = ?", (now(), key_id))
        self._state = None
        if not found:
            raise UsageError(f"There is no key '{key_id[:40]}'. `mien keys list` shows all.")
        return self._fresh()[key_id][0]

    def find(self, text: str) -> Key | None:
        """Return the key of this text, usable or not; None where there is none."""
        match = _FORM.fullmatch(text)
        known = None if match is None else self._fresh().get(match[1])
        # An unknown id costs the same hash and comparison as a known one.
        expected = self._hash("", "") if known is None else known[1]
        given = self._hash(*match.groups()) if match is not None else b"\0" * 32
        if hmac.compare_digest(expected, given) and known is not None:
            return known[0]
        return None

    def used(self, key: Key) -> None:
        """Note the day of a use, once a day."""
        today = now()[:10]
        if key.last_used != today:
            self._store.do("UPDATE key SET last_used = ? WHERE id = ?", (today, key.id))
            self._state = None

    def _fresh(self) -> dict[str, tuple[Key, bytes]]:
        state = self._store.state()
        with self._lock:
            if state != self._state:
                rows = self._store.peek(
                    "SELECT id, label, grants, created, expires, revoked, last_used, hash FROM key ORDER BY rowid"
                )
                self._known = {row[0]: (Key(row[0], row[1], json.loads(row[2]), *row[3:7]), row[7]) for row in rows}
                self._state = state
            return self._known

    def _hash(self, key_id: str, secret: str) -> bytes:
        return hmac.digest(self._secret, f"{key_id}:{secret}".encode(), "sha256")


def parse_grant(text: str) -> tuple[str, str]:
    """Return collection and scope of ``COLLECTION=SCOPE``, or of a scope alone, for the collection `default`."""
    collection, equals, scope = text.partition("=")
    return (collection, scope) if equals else ("default", text)


def check_collection_name(name: str) -> None:
    """Refuse what is no name of a collection: it is a file's name, and part of URLs.

    Raises:
        UsageError: It is none.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            "A collection's name has 1 to 63 small letters, digits, - and _, the first a letter or digit, for "
            "instance staff-2."
        )


def _server_secret(path: Path) -> bytes:
    """Return the secret under which keys are hashed, made at the first start."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError(f"The service's secret cannot be written to {path}: {error.strerror}.") from error
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(_SECRET_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise UsageError(f"Others may read {path}, under which keys are hashed. Run: chmod 600 {path}")
        secret = base64.b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, binascii.Error) as error:
        raise UsageError(f"The service's secret cannot be read: {path}: {error}.") from error
    if len(secret) != _SECRET_BYTES:
        raise UsageError(f"{path} is damaged: expected {_SECRET_BYTES} bytes in base64. Restore it, or remove it and "
                         "make new keys.")  # fmt: skip
    return secret
