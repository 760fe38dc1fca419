"""Measure peak memory of `mien analyze` against the number of pictures, and the time of a cold start.

    python benchmarks/memory.py

The pictures are 640x480 JPEG scenes of drawn people. Each figure comes from a process of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, write_result

from mien.drawing import draw_scene
from mien.images import save_image

COUNTS = (50, 200, 1000)
LIMIT_MB = 500
FLAT_MB = 40
"""The most that 1,000 pictures may take above 50: the allocator's habits, not ours."""
REPEATS = 7

# Peak memory of a child is asked for in a process whose only child it is.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(status, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def run(*arguments: str) -> tuple[float, float]:
    """Run `mien` and return seconds and peak MB."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "mien", *arguments]
    status, seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert status == "0", f"mien {' '.join(arguments)} ended with status {status}"
    return float(seconds), float(peak)


def make(folder: Path, count: int) -> Path:
    """Fill a folder; 20 scenes are drawn, the rest are links to them."""
    folder.mkdir()
    for i in range(count):
        if i < 20:
            save_image(folder / f"{i:04}.jpg", draw_scene([3 * i, 3 * i + 1, 3 * i + 2], seed=i).image)
        else:
            os.link(folder / f"{i % 20:04}.jpg", folder / f"{i:04}.jpg")
    return folder


def folder_rows(place: Path, *options: str) -> list[dict[str, float]]:
    rows = []
    for count in COUNTS:
        folder = place / f"{count}{'-'.join(options)}"
        seconds, peak = run("analyze", "--jsonl", *options, str(make(folder, count)))
        rows.append({"pictures": count, "peak_mb": round(peak, 1), "pictures_a_second": round(count / seconds, 1)})
        print(options, rows[-1])
    return rows


def cold(*arguments: str) -> dict[str, float]:
    """Return the median and the worst of several starts; the files are in the page cache."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mien", *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    found = {"p50_s": round(statistics.median(times), 3), "worst_s": round(max(times), 3)}
    print(arguments[0], found)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        plain = folder_rows(place)
        embedded = folder_rows(place, "--embeddings")
        one = str(place / "50" / "0000.jpg")
        starts = {
            "mien --help": cold("--help"),
            "mien analyze, one picture": cold("analyze", one),
            "mien analyze --jsonl --embeddings, one picture": cold("analyze", "--jsonl", "--embeddings", one),
            "mien verify, two pictures": cold("verify", one, one),
        }
    checks = {
        "under the limit": max(row["peak_mb"] for row in [*plain, *embedded]) < LIMIT_MB,
        "flat": all(rows[-1]["peak_mb"] - rows[0]["peak_mb"] < FLAT_MB for rows in (plain, embedded)),
        "help under 0.3 s": starts["mien --help"]["p50_s"] < 0.3,
        "cold analyze under 1.5 s": starts["mien analyze, one picture"]["p50_s"] < 1.5,
    }
    print(checks)
    result = {"machine": machine(), "limit_mb": LIMIT_MB, "analyze": plain, "analyze --embeddings": embedded}
    write_result("memory", {**result, "cold_start": starts, "checks": checks})
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
