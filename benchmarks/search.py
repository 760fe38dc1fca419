"""Search in a million templates, one a subject: mien beside flat NumPy, FAISS, usearch and sqlite-vec.

Templates are random unit vectors and each probe lies at cosine 0.45 to its mate, which is hard: the best of a million
strangers comes about as near. Each engine works in a process of its own on the same files, one probe at a
time, on one thread, and recall is against exact search. Graphs take long to build, so they get
a tenth of the templates.

With --real the templates are half of the given embeddings, filled up with Gaussian vectors of the same mean and
covariance, and the other half are the probes.

    python benchmarks/search.py [--quick] [--real EMBEDDINGS.npy] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MATE_COSINE = 0.45
SIZE, GRAPH_SHARE = 1_000_000, 10
PROBES = 2000
BLOCK = 8192
WARM_UP = 20
MODEL = "benchmark"
Search = Callable[[np.ndarray], int]
"""One probe to the row of its best template."""


# Data


def made_up(size: int, dimension: int, folder: Path) -> None:
    """Write random unit vectors, and probes at a fixed cosine to some of them."""
    rng = np.random.default_rng(dimension)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, size, BLOCK):
            yield unit(rng.standard_normal((min(BLOCK, size - start), dimension), dtype=np.float32))

    write(folder, blocks(), size, dimension)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    # Every engine's part of the templates holds the mates.
    mates = np.sort(rng.choice(size // GRAPH_SHARE, min(PROBES, size // GRAPH_SHARE), replace=False))
    of_mates = unit(vectors[mates].astype(np.float32))
    away = rng.standard_normal(of_mates.shape, dtype=np.float32)
    away = unit(away - (away * of_mates).sum(axis=1, keepdims=True) * of_mates)
    probes = MATE_COSINE * of_mates + np.sqrt(1 - MATE_COSINE**2) * away
    np.save(folder / "probes.npy", probes.astype(np.float32))


def from_real(embeddings: np.ndarray, size: int, folder: Path) -> None:
    """Write half of some real embeddings, filled up to size by a Gaussian that fits them; the rest are probes."""
    rng = np.random.default_rng(0)
    real = unit(embeddings[rng.permutation(len(embeddings))].astype(np.float32))
    half = len(real) // 2
    mean, root = real.mean(axis=0), np.linalg.cholesky(np.cov(real.T) + 1e-7 * np.eye(real.shape[1]))

    def blocks() -> Iterator[np.ndarray]:
        yield real[:half]
        for start in range(half, size, BLOCK):
            noise = rng.standard_normal((min(BLOCK, size - start), real.shape[1]))
            yield unit((mean + noise @ root.T).astype(np.float32))

    write(folder, blocks(), max(size, half), real.shape[1])
    np.save(folder / "probes.npy", real[half:][:PROBES])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write(folder: Path, blocks: Iterator[np.ndarray], size: int, dimension: int) -> None:
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (size, dimension))
    start = 0
    for block in blocks:
        vectors[start : start + len(block)] = block
        start += len(block)
    assert start == size


def exact(folder: Path, size: int) -> dict[str, Any]:
    """Write the best row of each probe, found by scoring everything."""
    vectors, probes = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "probes.npy")
    best, scores = np.zeros(len(probes), np.int64), np.full(len(probes), -2.0, np.float32)
    for start in range(0, size, BLOCK):
        block = probes @ vectors[start : min(start + BLOCK, size)].astype(np.float32).T
        here = block.argmax(axis=1)
        values = block[np.arange(len(probes)), here]
        better = values > scores
        best[better], scores[better] = here[better] + start, values[better]
    np.save(folder / f"best-{size}.npy", best)
    return {"mean_score": float(scores.mean())}


# Engines: build what is kept on disk (and its size), then open it and return a search.


def rows_of(folder: Path, size: int) -> Iterator[np.ndarray]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    for start in range(0, size, BLOCK):
        yield vectors[start : min(start + BLOCK, size)].astype(np.float32)


def mien_build(folder: Path, size: int) -> None:
    from mien.gallery import Gallery
    from mien.gallery.records import Entry
    from mien.types import Box, Embedding, Face

    landmarks = np.zeros((5, 2), np.float32)
    with Gallery(folder / "bench.mien") as gallery:
        row = 0
        for block in rows_of(folder, size):
            entries = []
            for vector in block:
                face = Face(Box(0, 0, 1, 1), landmarks, 1.0, embedding=Embedding(MODEL, vector))
                entries.append(Entry(str(row), face, str(row)))
                row += 1
            gallery.enrol_many(entries)
        started = time.perf_counter()
        gallery.rebuild()
        print(f"  index of {size} templates in {time.perf_counter() - started:.1f} s", file=sys.stderr)


def mien_open(folder: Path, size: int) -> Search:
    from mien.gallery import Gallery
    from mien.types import Embedding

    gallery = Gallery(folder / "bench.mien", create=False)
    return lambda probe: int(gallery.search(Embedding(MODEL, probe), 1)[0].subject)


def numpy_open(folder: Path, size: int) -> Search:
    matrix = np.concatenate(list(rows_of(folder, size)))
    return lambda probe: int((matrix @ probe).argmax())


def faiss_flat_open(folder: Path, size: int) -> Search:
    import faiss

    index = faiss.IndexFlatIP(np.load(folder / "probes.npy").shape[1])
    for block in rows_of(folder, size):
        index.add(block)
    return lambda probe: int(index.search(probe[None], 1)[1][0, 0])


def hnsw_build(folder: Path, size: int) -> None:
    import faiss

    index = faiss.IndexHNSWFlat(np.load(folder / "probes.npy").shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    for block in rows_of(folder, size):
        index.add(block)
    faiss.write_index(index, str(folder / "hnsw.faiss"))


def hnsw_open(effort: int) -> Callable[[Path, int], Search]:
    def opened(folder: Path, size: int) -> Search:
        import faiss

        index = faiss.read_index(str(folder / "hnsw.faiss"))
        index.hnsw.efSearch = effort
        return lambda probe: int(index.search(probe[None], 1)[1][0, 0])

    return opened


def usearch_build(folder: Path, size: int) -> None:
    from usearch.index import Index

    index = Index(ndim=np.load(folder / "probes.npy").shape[1], metric="ip", dtype="f16")
    start = 0
    for block in rows_of(folder, size):
        index.add(np.arange(start, start + len(block)), block)
        start += len(block)
    index.save(str(folder / "bench.usearch"))


def usearch_open(folder: Path, size: int) -> Search:
    from usearch.index import Index

    index = Index.restore(str(folder / "bench.usearch"))
    return lambda probe: int(index.search(probe, 1).keys[0])


def sqlite_vec_connect(folder: Path) -> Any:
    # Not sqlite3: many Pythons are built without loadable extensions.
    import apsw
    import sqlite_vec

    connection = apsw.Connection(str(folder / "vec.db"))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    return connection


def sqlite_vec_build(folder: Path, size: int) -> None:
    connection = sqlite_vec_connect(folder)
    dimension = np.load(folder / "probes.npy").shape[1]
    connection.execute(f"CREATE VIRTUAL TABLE v USING vec0(e float[{dimension}] distance_metric=cosine)")
    row = 0
    with connection:
        for block in rows_of(folder, size):
            bound = [(row + i, vector.tobytes()) for i, vector in enumerate(block)]
            connection.executemany("INSERT INTO v (rowid, e) VALUES (?, ?)", bound)
            row += len(block)


def sqlite_vec_open(folder: Path, size: int) -> Search:
    connection = sqlite_vec_connect(folder)
    ask = "SELECT rowid FROM v WHERE e MATCH ? AND k = 1"
    return lambda probe: int(connection.execute(ask, (probe.tobytes(),)).fetchone()[0])


ENGINES: dict[str, tuple[Callable[[Path, int], None] | None, Callable[[Path, int], Search], int, int]] = {
    # name: build, open, share of the templates (1 in n), probes
    "mien": (mien_build, mien_open, 1, PROBES),
    "numpy flat": (None, numpy_open, 1, 100),
    "faiss flat": (None, faiss_flat_open, 1, 100),
    "sqlite-vec": (sqlite_vec_build, sqlite_vec_open, 1, 20),
    "faiss hnsw32 ef64": (hnsw_build, hnsw_open(64), GRAPH_SHARE, PROBES),
    "faiss hnsw32 ef256": (None, hnsw_open(256), GRAPH_SHARE, PROBES),
    "usearch": (usearch_build, usearch_open, GRAPH_SHARE, PROBES),
}


# One engine, in a process of its own


def build(name: str, folder: Path, size: int) -> dict[str, Any]:
    make = ENGINES[name][0]
    assert make is not None
    started = time.perf_counter()
    make(folder, size)
    return {"build_s": round(time.perf_counter() - started, 1), "build_peak_mb": peak_mb()}


def measure(name: str, folder: Path, size: int, launched: float) -> dict[str, Any]:
    _, opener, _, count = ENGINES[name]
    probes, best = np.load(folder / "probes.npy"), np.load(folder / f"best-{size}.npy")
    count = min(count, len(probes))
    search = opener(folder, size)
    search(probes[0].copy())
    restart = time.time() - launched
    for probe in probes[:WARM_UP]:
        search(probe.copy())
    times, found = [], 0
    for probe, row in zip(probes[:count], best, strict=False):
        probe = probe.copy()
        started = time.perf_counter()
        answer = search(probe)
        times.append(time.perf_counter() - started)
        found += answer == row
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {
        "templates": size,
        "probes": count,
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "recall_at_1": found / count,
        "restart_to_first_answer_s": round(restart, 2),
        "search_peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Return the most memory this process has held. Not ru_maxrss, which begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


# The run


def peers(folder: Path) -> None:
    """Put the peers that are no dependency of ours where only this benchmark sees them."""
    sys.path.append(str(folder))
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        for packages in (("usearch", "numkong", "tqdm"), ("sqlite-vec", "apsw")):
            if subprocess.run([*pip, *packages], check=False).returncode:
                print(f"*** {packages[0]} cannot be installed: left out ***", file=sys.stderr)


def run(task: str, name: str, folder: Path, size: int) -> dict[str, Any] | None:
    # Only what is timed takes part in the race for the machine.
    polite = [] if task == "measure" or not shutil.which("nice") else ["nice", "-n", "19"]
    command = [*polite, sys.executable, __file__, "--task", task, name, str(folder), str(size), str(time.time())]
    # One thread for everybody: what mien uses for one probe, and what a busy machine has to give.
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if task == "measure" else None
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=one)
    if done.returncode:
        print(f"*** {name}: {task} failed, left out ***", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout))


def compare(folder: Path, size: int, names: list[str]) -> dict[str, Any]:
    """Run engines on one set of templates."""
    result: dict[str, Any] = {}
    for name in names:
        built, _, share, _ = ENGINES[name]
        part = size // share
        if not (folder / f"best-{part}.npy").exists():
            run("exact", name, folder, part)
        facts = run("build", name, folder, part) if built else {}
        measured = run("measure", name, folder, part) if facts is not None else None
        if facts is not None and measured is not None:
            result[name] = facts | measured
            print(f"{name}: {json.dumps(result[name])}", file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50,000 templates; writes no result")
    parser.add_argument("--real", type=Path, help="embeddings, shape (n, dimension), as .npy")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="only these")
    parser.add_argument("--dimension", action="append", type=int, help="default: 128 and 512")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mien-bench-search")
    parser.add_argument("--task", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sys.path.append(str(given.work / "peers"))
    if given.task:
        task, name, folder, size, launched = given.task
        match task:
            case "exact":
                facts = exact(Path(folder), int(size))
            case "build":
                facts = build(name, Path(folder), int(size))
            case _:
                facts = measure(name, Path(folder), int(size), float(launched))
        print(json.dumps(facts))
        return
    if given.engine != ["mien"]:
        peers(given.work / "peers")
    size = 50_000 if given.quick else SIZE
    names = given.engine or list(ENGINES)
    result: dict[str, Any] = {}
    if given.real:
        with tempfile.TemporaryDirectory(dir=given.work) as folder:
            embeddings = np.load(given.real, allow_pickle=False)
            from_real(embeddings, size, Path(folder))
            measured = compare(Path(folder), size, given.engine or ["mien"])
            facts = {"embeddings": len(embeddings), "dimension": embeddings.shape[1]}
            result[f"real {embeddings.shape[1]}-d"] = {**facts, **measured}
    else:
        for dimension in given.dimension or (128, 512):
            with tempfile.TemporaryDirectory(dir=given.work) as folder:
                made_up(size, dimension, Path(folder))
                result[f"{dimension}-d"] = compare(Path(folder), size, names)
    print(json.dumps(result, indent=2))
    if given.quick:
        return
    from common import RESULTS, machine, write_result

    path = RESULTS / "search.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    here = {"machine": {**machine(), "load_15min": os.getloadavg()[2]}}  # sizes may be measured on several machines
    write_result("search", before | {"mate_cosine": MATE_COSINE} | {key: here | row for key, row in result.items()})


if __name__ == "__main__":
    main()
