"""Work on every picture of a data set, several at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mien.data.samples import Samples
from mien.zoo import thread_count

__all__ = ["work_on_each"]


def work_on_each(
    samples: Samples, work: Callable[[int], str | None], *, threads: int | None, progress: Callable[[], None] | None
) -> list[tuple[str, str]]:
    """Call ``work`` with the number of each sample, in threads; return names and reasons of those that were unreadable.

    Args:
        samples: The pictures.
        work: Reads and uses one; returns why it cannot be read, or None.
        threads: How many at once; default the CPU quota.
        progress: Called after each picture, in their order.
    """
    unreadable = []
    pool = ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="mien")
    try:
        for name, reason in zip(samples.names, pool.map(work, range(len(samples))), strict=True):
            if reason is not None:
                unreadable.append((name, reason))
            if progress is not None:
                progress()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return unreadable
