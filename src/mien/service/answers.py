"""Answers to writes, kept for a day, so that a request that is sent again is not done again."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mien.gallery.crypto import Cipher
from mien.service.problems import Problem
from mien.service.store import Store, now

__all__ = ["Answer", "Answers"]

_KEPT = timedelta(days=1)
_LONGEST_KEY = 200
_LARGEST_BODY = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was given.

    Attributes:
        status: Of it.
        headers: Of it, those that describe its body.
        body: Of it.
        digest: SHA-256 of the body of the request.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    digest: bytes


class Answers:
    """What was answered to requests with an ``Idempotency-Key``.

    An answer is kept once the work is done and on the disk. A process that is killed between the two has done the work
    and forgotten it: the request, sent again, is done again, which a gallery notices by the picture's digest.

    Args:
        store: Where they are kept.
        cipher: Seals them.
    """

    def __init__(self, store: Store, cipher: Cipher) -> None:
        self._store, self._cipher = store, cipher
        self._process = secrets.token_hex(8)  # what another process began and never ended is nobody's now
        store.do("DELETE FROM answer WHERE status IS NULL")

    def begin(self, owner: str, key: str, request: str, collection: str) -> Answer | None:
        """Note that a request has come; return the answer to it, if it was answered before.

        Raises:
            Problem: 409: it is being worked on; 422: the key was another request's; 400: it is no key.
        """
        if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
            raise Problem(400, f"An Idempotency-Key is printable text of at most {_LONGEST_KEY} characters.")
        with self._store.write() as connection:
            connection.execute("DELETE FROM answer WHERE created < ?", ((datetime.now(UTC) - _KEPT).isoformat(),))
            row = connection.execute(
                "SELECT request, status, headers, body, body_digest FROM answer WHERE owner = ? AND key = ?",
                (owner, key),
            ).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO answer (owner, key, collection, request, created, process) VALUES (?, ?, ?, ?, ?, ?)",
                    (owner, key, collection, request, now(), self._process),
                )
                return None
        if row[0] != request:
            raise Problem(422, "That Idempotency-Key was another request's. Make a new one for each request.")
        if row[1] is None:
            raise Problem(409, "The same request is being worked on. Wait for its answer.", {"Retry-After": "1"})
        return Answer(row[1], json.loads(row[2]), self._cipher.open(row[3], "answer", owner, key), row[4])

    def end(self, owner: str, key: str, answer: Answer | None) -> None:
        """Keep the answer; None, or one that is no success: let the request be made again."""
        if answer is None or not 200 <= answer.status < 300 or len(answer.body) > _LARGEST_BODY:
            self._store.do("DELETE FROM answer WHERE owner = ? AND key = ?", (owner, key))
            return
        body = self._cipher.seal(answer.body, "answer", owner, key)
        self._store.do(
            "UPDATE answer SET status = ?, headers = ?, body = ?, body_digest = ? WHERE owner = ? AND key = ?",
            (answer.status, json.dumps(answer.headers), body, answer.digest, owner, key),
        )
