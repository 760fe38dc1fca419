"""Kill an enrolling process at a random moment, again and again: is every acknowledged enrolment kept?

A child enrols 200 made-up faces into one gallery and prints a line when each is acknowledged; it also searches, so
that the stored index is being written, too. The parent kills it (SIGKILL) at a random moment, opens the gallery,
checks it, and looks for every line it has read. The gallery grows from round to round.

With --postgres the gallery is in a PostgreSQL server of its own, and in every second round it is the server that is
killed, all its processes at once, and started again.

    python benchmarks/crash.py [--rounds 50] [--postgres] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mien.gallery import Gallery, live
from mien.gallery import index as indexes
from mien.types import Box, Embedding, Face, Quality, as_unit

ENROLMENTS = 200
DIMENSION = 128
# Small, so that galleries of this size have a stored index that is written all the time.
indexes.FLAT_LIMIT = 300
live.APPEND_ROWS = 10


def face(seed: int) -> Face:
    """A face that can be made again to compare with."""
    rng = np.random.default_rng(seed)
    return Face(
        box=Box(0, 0, 50, 60),
        landmarks=np.zeros((5, 2), np.float32),
        score=0.9,
        quality=Quality(0.9),
        embedding=Embedding("crash-test", as_unit(rng.standard_normal(DIMENSION))),
        crop=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
    )


def child(path: Path | str, first: int) -> None:
    """Enrol, and say so after each."""
    with Gallery(path) as gallery:
        for seed in range(first, first + ENROLMENTS):
            gallery.enrol(f"subject {seed % 97}", face(seed), source_hash=f"{seed:064x}")
            print(seed, flush=True)
            if seed % 10 == 0:
                gallery.search(face(seed).embedding)


def round_of(
    path: Path | str, number: int, rng: random.Random, kill: Callable[[subprocess.Popen[str]], None]
) -> tuple[list[int], bool]:
    """Start a child, kill it or its server at a random moment; return what it acknowledged, and whether it was at work.

    ``kill`` is given the child.
    """
    command = [sys.executable, __file__, "--child", str(path), str(number * ENROLMENTS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    stop_after, delay_s = rng.randrange(ENROLMENTS), rng.uniform(0, 0.01)
    acknowledged = []
    for line in process.stdout:
        acknowledged.append(int(line))
        if len(acknowledged) > stop_after:
            break
    time.sleep(delay_s)
    at_work = process.poll() is None
    kill(process)
    # What it said before it died counts as well; a line cut short does not.
    for line in process.stdout.read().splitlines(keepends=True):
        if line.endswith("\n"):
            acknowledged.append(int(line))
    return acknowledged, at_work and process.wait() != 0


def missing(gallery: Gallery, seeds: list[int]) -> int:
    """Count acknowledged faces that are not there, with crop and vector as they were."""
    held = {
        sample.source_hash: (subject.name, sample.id)
        for subject in gallery.subjects()
        for sample in gallery.samples(subject.name)
    }
    lost = 0
    for seed in seeds:
        name, sample_id = held.get(f"{seed:064x}", ("", 0))
        crop = gallery.crop(sample_id) if name == f"subject {seed % 97}" else None
        lost += crop is None or not np.array_equal(crop, face(seed).crop)
    for seed in seeds[:: max(len(seeds) // 200, 1)]:
        best = gallery.search(face(seed).embedding, 1)
        lost += not best or best[0].subject != f"subject {seed % 97}" or best[0].score < 0.999
    return lost


@contextlib.contextmanager
def place(postgres: bool) -> Iterator[tuple[Path | str, Callable[[subprocess.Popen[str]], None] | None]]:
    """Yield where the gallery is to be, and what kills its server and starts it again."""
    if not postgres:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "crash.mien", None
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import postgres_server

    with postgres_server.temporary(fsync=True) as server:

        def kill(process: subprocess.Popen[str]) -> None:
            server.kill()
            process.wait()  # it has lost its database
            server.start()

        yield server.url(), kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path, help="default: results/crash.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true", help="in a PostgreSQL server of its own")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], int(given.child[1]))
        return
    rng = random.Random(given.seed)
    result: dict[str, Any] = {
        "rounds": 0,
        "killed_at_work": 0,
        "acknowledged": 0,
        "opened": 0,
        "checks_passed": 0,
        "missing": 0,
    }
    seeds: list[int] = []
    with place(given.postgres) as (path, kill_server):
        for number in range(given.rounds):
            kill = kill_server if kill_server is not None and number % 2 else subprocess.Popen.kill
            acknowledged, killed = round_of(path, number, rng, kill)
            seeds += acknowledged
            with contextlib.ExitStack() as stack:
                gallery = stack.enter_context(Gallery(path, create=False, timeout_s=5))
                result["opened"] += 1
                report = gallery.check(probes=50)
                result["checks_passed"] += report.ok
                for problem in report.problems:
                    print(problem, file=sys.stderr)
                lost = missing(gallery, acknowledged if number < given.rounds - 1 else seeds)
            result["rounds"] += 1
            result["killed_at_work"] += killed
            result["acknowledged"] = len(seeds)
            result["missing"] += lost
            print(f"round {number + 1}: {len(acknowledged)} acknowledged, {lost} missing", file=sys.stderr)
    result["passed"] = result["checks_passed"] == given.rounds and result["missing"] == 0
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    else:
        from common import machine, write_result

        write_result("crash_postgres" if given.postgres else "crash", {"machine": machine(), **result})
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
