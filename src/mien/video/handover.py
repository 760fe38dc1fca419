"""Handing pictures from one thread to the next: all of them, or the newest only.

A file can wait, and no picture of it may be lost. A camera cannot: what is not taken in time is old, so the newest
picture replaces it, and what was replaced is counted.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

__all__ = ["Everything", "HandOver", "NewestOnly", "hand_over"]

T = TypeVar("T")


class HandOver(Protocol[T]):
    """What a thread puts things into and another one takes them out of."""

    dropped: int

    def put(self, item: T) -> bool:
        """Hand a thing over; False where nobody takes things any more."""
        ...

    def get(self) -> T | None:
        """Take the next thing, waiting for it; None where no more will come."""
        ...

    def get_ready(self) -> T | None:
        """Take the next thing if there is one."""
        ...

    def close(self, *, drain: bool = True) -> None:
        """Let nothing more in; what is there can still be taken, unless ``drain`` is false."""
        ...


class Everything(Generic[T]):
    """Every thing is taken, in order; who brings more than ``limit`` waits.

    Args:
        limit: Things that wait at most.

    Attributes:
        dropped: 0.
    """

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self.dropped = 0
        self._limit = limit
        self._things: deque[T] = deque()
        self._open = True
        self._taken = 0  # and not yet done with
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Hand a thing over, waiting for room; False where nobody takes things any more."""
        with self._changed:
            while self._open and len(self._things) >= self._limit:
                self._changed.wait()
            if self._open:
                self._things.append(item)
                self._changed.notify_all()
            return self._open

    def get(self) -> T | None:
        """Take the next thing, waiting for it; None where no more will come."""
        with self._changed:
            while self._open and not self._things:
                self._changed.wait()
            return self._take()

    def get_ready(self) -> T | None:
        """Take the next thing if there is one."""
        with self._changed:
            return self._take()

    def done(self, count: int = 1) -> None:
        """Say that so many things that were taken have been dealt with; see `settle`."""
        with self._changed:
            self._taken -= count
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait until everything that was put in has been dealt with."""
        with self._changed:
            while self._open and (self._things or self._taken):
                self._changed.wait()

    def close(self, *, drain: bool = True) -> None:
        """Let nothing more in; what is there can still be taken, unless ``drain`` is false."""
        with self._changed:
            self._open = False
            if not drain:
                self._things.clear()
            self._changed.notify_all()

    def _take(self) -> T | None:
        if not self._things:
            return None
        self._taken += 1
        self._changed.notify_all()
        return self._things.popleft()


class NewestOnly(Generic[T]):
    """One thing waits at most: a newer one takes its place.

    Attributes:
        dropped: Things that were replaced before anybody took them.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._thing: T | None = None
        self._open = True
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Hand a thing over, in place of one that was not taken in time; False where nobody takes things any more."""
        with self._changed:
            if self._open:
                self.dropped += self._thing is not None
                self._thing = item
                self._changed.notify_all()
            return self._open

    def get(self) -> T | None:
        """Take the newest thing, waiting for it; None where no more will come."""
        with self._changed:
            while self._open and self._thing is None:
                self._changed.wait()
            return self._take()

    def get_ready(self) -> T | None:
        """Take the newest thing if there is one that nobody has taken."""
        with self._changed:
            return self._take()

    def close(self, *, drain: bool = True) -> None:
        """Let nothing more in; what is there can still be taken, unless ``drain`` is false."""
        with self._changed:
            self._open = False
            if not drain:
                self._thing = None
            self._changed.notify_all()

    def _take(self) -> T | None:
        thing, self._thing = self._thing, None
        return thing


def hand_over(live: bool) -> HandOver[T]:
    """Return how pictures leave the reader: of a live source the newest only, of a file all."""
    return NewestOnly() if live else Everything(_WAITING)


_WAITING = 8  # decoded pictures of a file: enough that the reader never is what others wait for
