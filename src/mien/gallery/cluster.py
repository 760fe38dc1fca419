"""Workers of `mien ingest` on a Ray cluster: Ray starts them, the gallery's database hands out the pictures.

Any number of workers may die and be started again, since each is the ordinary loop of `mien.gallery.work`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import UsageError
from mien.gallery.gallery import Gallery
from mien.gallery.work import Work, work_through

if TYPE_CHECKING:
    from mien.analyzer import Analyzer

__all__ = ["run_on_ray", "run_worker"]

_RETRIES = 5  # of a worker whose node goes


def run_worker(
    make: Callable[[Gallery], Analyzer], gallery: str, key: Path | None, job: str, source: Path, options: dict[str, Any]
) -> Counter[str]:
    """Be one worker from beginning to end; return what became of its pictures.

    Args:
        make: Returns the analyzer that fits a gallery.
        gallery: Its address.
        key: Its key file, on the worker's machine.
        job: Name of the job.
        source: Folder of the pictures, on the worker's machine.
        options: As of `mien.gallery.ingest.ingest`.
    """
    with Gallery(gallery, key_file=key, create=False) as opened:
        outcomes = work_through(opened, make(opened), Work(opened, job), source, **options)
        return Counter(outcome.status for outcome in outcomes)


def run_on_ray(
    worker: Callable[[], Counter[str]], *, address: str | None = None, workers: int | None = None
) -> Iterator[Counter[str]]:
    """Start workers on a cluster, and yield what each did as it ends.

    Args:
        worker: Does the work of one; must be picklable.
        address: Of the cluster; None starts Ray on this machine alone.
        workers: How many; None: a CPU each, with one left free on the cluster for what else runs there.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray. Install it with: pip install 'mien[ray]'") from error
    try:
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
    except Exception as error:  # Ray has no narrower one for a node that does not start
        told = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise UsageError(f"Ray does not start, or there is no cluster at {address}: {told}") from error
    try:
        count = workers or max(int(ray.cluster_resources().get("CPU", 1)) - 1, 1)
        # A pool of actors that takes all CPUs hangs Ray; tasks wait in a queue, so any number of them ends.
        run = ray.remote(num_cpus=1, max_retries=_RETRIES)(_called)
        waiting = [run.remote(worker) for _ in range(count)]
        while waiting:
            ended, waiting = ray.wait(waiting)
            yield from ray.get(ended)
    finally:
        ray.shutdown()


def _called(worker: Callable[[], Counter[str]]) -> Counter[str]:
    return worker()
