"""Enrol a folder with `mien ingest`: two workers beside one, and workers that are killed in the middle.

The pictures are some of a data set, a subject each. First one worker enrols them all, then two do into another
gallery; both in a PostgreSQL server of our own, each worker with one thread. Starting a worker (programs, models) is
timed apart, by a run that finds nothing left. Then two workers are at it, one of which is killed (SIGKILL) at a random
moment and started again, time after time; at the end every picture that was to be enrolled has to be there once.

    python benchmarks/ingest.py [--pictures 300] [--kills 20]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import data_folder, machine, write_result

from mien.gallery import Gallery

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import postgres_server

LEASE_S = 4.0  # shorter than the default, so that a kill costs the benchmark less
WORKER = f"""
import sys
from mien.cli.main import main
from mien.gallery import work
work.Work.__init__.__kwdefaults__["lease_s"] = {LEASE_S}
sys.argv[0] = "mien"
sys.exit(main())
"""


def folder_of(count: int, place: Path) -> Path:
    """Make a folder with a folder a subject of some of the pictures."""
    pictures = sorted((data_folder() / "celeba10k").rglob("*.jpg"))[:count]
    for number, picture in enumerate(pictures):
        (place / f"s{number:05d}").mkdir(parents=True)
        shutil.copy(picture, place / f"s{number:05d}" / picture.name)
    return place


def start(source: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, "ingest", str(source), "--gallery", url, "--job", "job"]
    alone = {**os.environ, "MIEN_THREADS": "1"}  # a worker a core
    return subprocess.Popen(command, env=alone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(source: Path, url: str, workers: int) -> float:
    started = time.perf_counter()
    for process in [start(source, url) for _ in range(workers)]:
        process.wait()
    return time.perf_counter() - started


def held(url: str) -> Counter[str]:
    """Return how often each picture was enrolled."""
    with Gallery(url, create=False) as gallery:
        return Counter(sample.source_hash for one in gallery.subjects() for sample in gallery.samples(one.name))


def killed(source: Path, url: str, kills: int, expected: set[str]) -> dict[str, Any]:
    rng, done, at_work = random.Random(0), 0, 0
    workers = [start(source, url) for _ in range(2)]
    while done < kills:
        time.sleep(rng.uniform(1.5, 6))
        number = rng.randrange(2)
        at_work += workers[number].poll() is None
        workers[number].kill()
        workers[number].wait()
        workers[number] = start(source, url)
        done += 1
    for worker in workers:
        worker.wait()
    found = held(url)
    return {
        "kills": done,
        "killed_at_work": at_work,
        "enrolled": len(found),
        "lost": len(expected - set(found)),
        "double": sum(count - 1 for count in found.values()),
        "unexpected": len(set(found) - expected),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, postgres_server.temporary(fsync=True) as server:
        source = folder_of(given.pictures, Path(name) / "people")
        one = timed(source, server.url("one"), 1)
        idle = timed(source, server.url("one"), 1)
        expected = held(server.url("one"))
        two = timed(source, server.url("two"), 2)
        same = held(server.url("two")) == expected
        result = {
            "machine": machine(),
            "load_average": round(os.getloadavg()[0], 1),
            "pictures": given.pictures,
            "enrolled": len(expected),
            "start_seconds": round(idle, 1),
            "one_worker_seconds": round(one, 1),
            "two_workers_seconds": round(two, 1),
            "both_enrolled_the_same": same,
            "speed_up": round(one / two, 2),
            "speed_up_without_the_start": round((one - idle) / max(two - idle, 0.1), 2),
            "lease_seconds": LEASE_S,
            "killed": killed(source, server.url("killed"), given.kills, set(expected)),
        }
    write_result("ingest", result)


if __name__ == "__main__":
    main()
