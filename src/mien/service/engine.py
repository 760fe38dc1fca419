"""Who works next: a bounded queue in front of the networks, so that everybody is answered or refused soon."""

from __future__ import annotations

import asyncio
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mien.service.problems import Problem

__all__ = ["Engine"]

T = TypeVar("T")

_LEAST_WAITING = 1  # requests a worker that may wait whatever the last ones took
_FIRST_GUESS_S = 0.05  # of work, until something was timed
_REMEMBERED = 31  # requests whose time is remembered: their median, since an audit of a gallery takes seconds


@dataclass(slots=True)
class _Task(Generic[T]):
    work: Callable[[], T]
    future: Future[T] = field(default_factory=Future)

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Engine:
    """Threads that work on requests, each on one at a time with networks of one thread, and on jobs when idle.

    On a CPU a batch takes as long as its pictures one by one, so that gathering pictures would only make the first
    wait for the last: the queue is there for its bound. How long the next request would wait is known from how many
    wait and how long the last ones took; one that would wait longer than `wait_s` is refused at once.

    Args:
        workers: Threads.
        wait_s: Longest time in the queue.

    Attributes:
        refused: Requests that were refused so far.
        work_s: What a request takes, as far as the last ones tell.
    """

    def __init__(self, workers: int, *, wait_s: float) -> None:
        self.workers, self.wait_s = workers, wait_s
        self.refused = 0
        self.work_s = _FIRST_GUESS_S
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self._waiting: deque[_Task[object]] = deque()
        self._background: deque[_Task[object]] = deque()
        self._running = self._running_jobs = 0
        self._ready = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"mien-worker-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many requests and pictures of jobs are worked on."""
        return self._running

    def expected_wait_s(self) -> float:
        """Return how long a request that came now would wait."""
        return max(self._running + len(self._waiting) + 1 - self.workers, 0) / self.workers * self.work_s

    def check_room(self) -> None:
        """Refuse a request that would wait too long, as `run` does: before its body was looked at, that costs least.

        Raises:
            Problem: 429: too many wait; 503: the service is about to end.
        """
        if self._closing:
            raise Problem(503, "The service is about to end. Try again in a moment.", {"Retry-After": "5"})
        wait = self.expected_wait_s()
        if len(self._waiting) >= _LEAST_WAITING * self.workers and wait > self.wait_s:
            self.refused += 1
            detail = f"The service is busy: {len(self._waiting)} requests wait. Try again in a moment."
            raise Problem(429, detail, {"Retry-After": str(math.ceil(wait))})

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work in turn.

        Raises:
            Problem: 429: too many wait.
        """
        task = _Task(work)
        with self._ready:
            self.check_room()
            self._waiting.append(task)  # type: ignore[arg-type]
            self._ready.notify()
        return await asyncio.wrap_future(task.future)

    def run_when_idle(self, work: Callable[[], T]) -> Future[T]:
        """Do a piece of work of a job once no request waits, on one thread at most unless all else is idle."""
        task = _Task(work)
        with self._ready:
            self._background.append(task)  # type: ignore[arg-type]
            self._ready.notify()
        return task.future

    def close(self, timeout_s: float = 30.0) -> None:
        """Finish what was accepted, and end."""
        with self._ready:
            self._closing = True
            for task in self._background:
                task.future.cancel()
            self._background.clear()
            self._ready.notify_all()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))

    def _next(self) -> tuple[_Task[object], bool] | None:
        with self._ready:
            while True:
                if self._waiting:
                    self._running += 1
                    return self._waiting.popleft(), False
                if self._closing:
                    return None
                # A job leaves a thread to requests where there are two.
                if self._background and self._running_jobs < max(self.workers - 1, 1):
                    self._running += 1
                    self._running_jobs += 1
                    return self._background.popleft(), True
                self._ready.wait()

    def _serve(self) -> None:
        while (found := self._next()) is not None:
            task, of_job = found
            start = time.monotonic()
            task.do()
            took = time.monotonic() - start
            with self._ready:
                self._running -= 1
                self._running_jobs -= of_job
                if not of_job:
                    self._took.append(took)
                    self.work_s = statistics.median(self._took)
                self._ready.notify()
            del task, found
