"""The body of a request as it comes: counted, timed, digested."""

from __future__ import annotations

import asyncio
import hashlib
import time

from starlette.types import Message, Receive

from mien.service.problems import Problem
from mien.service.settings import Limits

__all__ = ["Intake", "size_limit"]


class Intake:
    """Takes the place of an application's ``receive``.

    Args:
        receive: Of the server.
        limits: How slow a body may come.
        most_bytes: How large it may be.

    Attributes:
        complete: Whether all of it came.
    """

    def __init__(self, receive: Receive, limits: Limits, most_bytes: int) -> None:
        self._receive, self._limits, self._most = receive, limits, most_bytes
        self._count, self._start = 0, time.monotonic()
        self._hasher = hashlib.sha256()
        self.complete = False

    @property
    def digest(self) -> bytes:
        """SHA-256 of what came so far."""
        return self._hasher.digest()

    async def __call__(self) -> Message:
        """Return the next part of the body.

        Raises:
            Problem: 408: it comes too slowly; 413: it is too large.
        """
        if self.complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.idle_s):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, f"The upload stood still for {self._limits.idle_s:g} s and was cut.") from None
        if message["type"] != "http.request":
            return message
        part = message.get("body", b"")
        self._count += len(part)
        self._hasher.update(part)
        if self._count > self._most:
            raise too_large(self._most)
        self.complete = not message.get("more_body", False)
        late = time.monotonic() - self._start - self._limits.upload_s
        if late > 0 and not self.complete and self._count < late * self._limits.least_bytes_s:
            rate = self._limits.least_bytes_s / 1000
            raise Problem(408, f"The upload was slower than {rate:g} kB/s for too long and was cut.")
        return message

    async def drain(self) -> None:
        """Read all of it and keep nothing but its digest."""
        while not self.complete:
            if (await self())["type"] == "http.disconnect":
                return


def too_large(most_bytes: int) -> Problem:
    """Return the problem of a body beyond a limit."""
    size = f"{most_bytes / 2**20:g} MiB"
    return Problem(413, f"The request is larger than the limit of {size}. Send less at a time.")


def size_limit(limits: Limits, path: str, content_type: str) -> int:
    """Return how many bytes a request may bring, by where it goes and what it says it is."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/zip", "application/x-zip-compressed") and path in ("/v1/jobs", "/v1/group"):
        return limits.archive_bytes
    return limits.json_bytes if kind.endswith("json") else limits.request_bytes
