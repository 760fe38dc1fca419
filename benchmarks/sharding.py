"""Search made-up templates that are spread over local processes, a shard each: what a plan for many machines rests on.

Every process stands for a machine: it holds the codes of its shard in memory, vectors in a file, and answers with its
best ten. A probe goes to all of them and the answers are merged. Templates are Gaussian vectors with the mean and
covariance of real embeddings, and each probe lies at cosine 0.6 to its mate. The network is a local pipe, and the
processes share the machine's cores, so times of a fan-out are longer than on machines of their own; the CPU time of a
shard is what a plan needs.

    python benchmarks/sharding.py EMBEDDINGS.npz... [--shards 3] [--rows 1000000] [--probes 200]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from common import machine, write_result

from mien.gallery.index import CodedIndex, Stamp, top

BLOCK = 16_384
MATE_COSINE = 0.6
K = 10
BATCHES = (1, 8, 32)  # probes compared at once


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def blocks(shard: int, rows: int, mean: np.ndarray, root: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a shard's ids and vectors, the same each time."""
    rng, dimension = np.random.default_rng(shard), len(mean)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        vectors = unit(mean + rng.standard_normal((count, dimension), dtype=np.float32) @ root.T)
        yield shard * rows + 1 + np.arange(start, start + count), vectors.astype(np.float16)


def resident() -> int:
    """Return the bytes of memory that are this process's own: files that are mapped don't count."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


def serve(pipe: Connection, shard: int, rows: int, mean: np.ndarray, root: np.ndarray, folder: Path) -> None:
    """Be a shard: build, then answer probes until there are no more."""
    before, started = resident(), time.process_time()
    path = folder / f"shard-{shard}"
    CodedIndex.build(lambda: blocks(shard, rows, mean, root), Stamp("sharding", "made up", len(mean), 0), path)
    index = CodedIndex.load(path)
    assert index is not None
    built = {"build_cpu_seconds": time.process_time() - started, "resident_bytes": resident() - before}
    pipe.send({**built, "scan_cpu_ms": {count: scan_ms(index, count, mean, root) for count in BATCHES}})
    while (probe := pipe.recv()) is not None:
        spent = time.process_time()
        ids, scores = index.search(probe[None], K)
        pipe.send((ids[0], scores[0], time.process_time() - spent))


def scan_ms(index: CodedIndex, count: int, mean: np.ndarray, root: np.ndarray) -> float:
    """Return the CPU time of comparing a probe with all codes, when so many probes are compared at once."""
    rng = np.random.default_rng(7)
    probes = unit(mean + rng.standard_normal((count, len(mean)), dtype=np.float32) @ root.T)
    rotated = np.ascontiguousarray(probes @ index._rotation)
    faiss.omp_set_num_threads(1)
    rounds, started = max(32 // count, 2), time.process_time()
    for _ in range(rounds):
        index._scanner.search(rotated, index.stamp.depth)
    return (time.process_time() - started) / rounds / count * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("embeddings", nargs="+", type=Path)
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each shard")
    parser.add_argument("--probes", type=int, default=200)
    given = parser.parse_args()
    real = np.concatenate([np.load(path)["vectors"] for path in given.embeddings])
    real = unit(real[np.isfinite(real).all(axis=1)])  # pictures without a face have none
    real = np.hstack([real, np.full((len(real), 1), 0.05, np.float32)])  # 129 values, as with a cohort
    mean = real.mean(axis=0)
    root = np.linalg.cholesky(np.cov(real.T) + 1e-7 * np.eye(real.shape[1])).astype(np.float32)
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        pipes, processes, built = [], [], []
        for shard in range(given.shards):
            ours, theirs = context.Pipe()
            arguments = (theirs, shard, given.rows, mean, root, Path(name))
            processes.append(context.Process(target=serve, args=arguments, daemon=True))
            processes[-1].start()
            pipes.append(ours)
            built.append(ours.recv())  # one after the other: they share the cores
        result = measure(pipes, given.rows, given.probes, mean, root)
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(None)
            process.join()
    write_result(
        "sharding",
        {
            "machine": machine(),
            "load_average": round(os.getloadavg()[0], 1),
            "shards": given.shards,
            "templates": given.shards * given.rows,
            "dimension": len(mean),
            "mate_cosine": MATE_COSINE,
            "build_cpu_seconds_a_shard": round(float(np.mean([one["build_cpu_seconds"] for one in built])), 1),
            "scan_cpu_ms_a_probe_in_batches_of": {
                str(count): round(float(np.mean([one["scan_cpu_ms"][count] for one in built])), 2) for count in BATCHES
            },
            "resident_bytes_a_template": round(
                float(np.mean([one["resident_bytes"] for one in built])) / given.rows, 1
            ),
            **result,
            "peak_bytes_of_the_coordinator": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
    )


def measure(pipes: list[Any], rows: int, probes: int, mean: np.ndarray, root: np.ndarray) -> dict[str, Any]:
    """Send probes near templates of all shards to every shard, and merge."""
    rng = np.random.default_rng(99)
    mates = [next(iter(blocks(shard, rows, mean, root))) for shard in range(len(pipes))]
    taken, shard_cpu, found = [], [], 0
    for number in range(probes + 10):
        ids, vectors = mates[number % len(mates)]
        row = int(rng.integers(len(ids)))
        mate = unit(vectors[row : row + 1].astype(np.float32))[0]
        away = (rng.standard_normal(len(mean)) @ root.T).astype(np.float32)
        away -= (away @ mate) * mate
        probe = (MATE_COSINE * mate + np.sqrt(1 - MATE_COSINE**2) * unit(away[None])[0]).astype(np.float32)
        started = time.perf_counter()
        for pipe in pipes:
            pipe.send(probe)
        answers, waiting = [], list(pipes)
        while waiting:
            for pipe in wait(waiting):
                answers.append(pipe.recv())  # type: ignore[union-attr]
                waiting.remove(pipe)
        merged, _ = top(np.concatenate([a[1] for a in answers]), np.concatenate([a[0] for a in answers]), K)
        if number >= 10:  # the first warm up
            taken.append(time.perf_counter() - started)
            shard_cpu += [answer[2] for answer in answers]
            found += int(merged[0]) == int(ids[row])
    p50, p95 = np.percentile(np.array(taken) * 1000, [50, 95])
    return {
        "probes": probes,
        "mate_found_first": found / probes,
        "fan_out_p50_ms": round(float(p50), 1),
        "fan_out_p95_ms": round(float(p95), 1),
        "cpu_ms_a_shard_and_search": round(float(np.mean(shard_cpu)) * 1000, 2),
    }


if __name__ == "__main__":
    main()
