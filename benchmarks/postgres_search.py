"""Search in a PostgreSQL gallery of 100,000 templates, one a subject: recall against exact search, time, freshness.

Templates are half of some real embeddings, filled up with Gaussian vectors of the same mean and covariance; the other
half are the probes. Rows are written with COPY, as a restored backup's would be. Then a second replica is opened, and a
face that is enrolled through the first is searched for in the second. The server is one of our own on a Unix socket,
with its default durability. At the end some probes are searched for as on a server without pgvector.

    python benchmarks/postgres_search.py EMBEDDINGS.npz... [--size 100000] [--probes 10000]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import search
from common import machine, write_result
from psycopg import sql
from psycopg.types.numeric import Int8

from mien.gallery import Gallery
from mien.gallery.postgres.database import HalfVector
from mien.metrics.intervals import wilson
from mien.types import Box, Embedding, Face

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import postgres_server

FRESH = 100


def quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), "p99_ms": round(float(p99), 2)}


def searched(
    gallery: Gallery, probes: np.ndarray, best: np.ndarray, vectors: np.ndarray, server: Any = None
) -> dict[str, Any]:
    """Search every probe alone; an equal score is an equal find."""
    for probe in probes[:20]:
        gallery.search(Embedding(search.MODEL, probe), 1)
    taken, missed, cpu, servers = [], 0, time.process_time(), server.cpu_seconds() if server else 0.0
    for probe, row in zip(probes, best, strict=True):
        started = time.perf_counter()
        (found,) = gallery.search(Embedding(search.MODEL, probe), 1)
        taken.append(time.perf_counter() - started)
        if int(found.subject) != row:
            missed += found.score < float(vectors[row].astype(np.float32) @ probe) - 1e-5
    low, high = wilson(missed, len(probes))
    return {
        "probes": len(probes),
        "recall_at_1": 1 - missed / len(probes),
        "recall_interval_95": [1 - high, 1 - low],
        **quantiles(taken),
        "replica_cpu_ms": round((time.process_time() - cpu) / len(probes) * 1000, 2),
        **({"server_cpu_ms": round((server.cpu_seconds() - servers) / len(probes) * 1000, 2)} if server else {}),
    }


def freshness(writer: Gallery, replica: Gallery) -> dict[str, Any]:
    """Enrol through one, and time the other's next search, which has to find it."""
    rng, taken, writes, seen = np.random.default_rng(1), [], [], 0
    for number in range(FRESH):
        vector = search.unit(rng.standard_normal((1, int(writer.stats().dimension or 0)), dtype=np.float32))[0]
        face = Face(Box(0, 0, 1, 1), np.zeros((5, 2), np.float32), 1.0, embedding=Embedding(search.MODEL, vector))
        started = time.perf_counter()
        writer.enrol(f"late {number}", face, source_hash=f"late {number}")
        writes.append(time.perf_counter() - started)
        started = time.perf_counter()
        seen += replica.search(Embedding(search.MODEL, vector), 1)[0].subject == f"late {number}"
        taken.append(time.perf_counter() - started)
    return {"writes": FRESH, "seen_by_the_next_search": seen, "search": quantiles(taken), "write": quantiles(writes)}


def fill(gallery: Gallery, vectors: np.ndarray) -> None:
    """Write a subject with a sample and a template for each vector; row 0 is the subject named 0."""
    rows, size = gallery.rows, len(vectors)
    with rows.write():
        model = rows.use_model(search.MODEL, vectors.shape[1])
        ask = rows.connection.execute
        ask(
            "INSERT INTO subject SELECT g, convert_to((g - 1)::text, 'UTF8'), sha256(convert_to(g::text, 'UTF8')), '' "
            "FROM generate_series(1, ?) AS g",
            (size,),
        )
        ask(
            "INSERT INTO sample SELECT g, g, convert_to(g::text, 'UTF8'), sha256(convert_to(g::text, 'UTF8')), "
            "0, 0, 1, 1, NULL, '', '' FROM generate_series(1, ?) AS g",
            (size,),
        )
        connection = rows.database._held.connection
        with connection.cursor() as cursor:
            columns = "template (id, sample_id, model_id, vector, checksum)"
            with cursor.copy(f"COPY {columns} FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "int8", "int8", "bytea", "int8"])
                for row, vector in enumerate(vectors, start=1):
                    data = vector.astype("<f2").tobytes()
                    copy.write_row((row, row, model.row_id, data, rows._checksum(data, row, model.row_id)))
            with cursor.copy("COPY embedding FROM STDIN (FORMAT BINARY)") as copy:
                for row, vector in enumerate(vectors, start=1):
                    copy.write_row((Int8(row), HalfVector(vector)))
        for table in ("subject", "sample", "template"):
            rows.raise_ids(table, size)
    rows.database.alone(sql.SQL("VACUUM ANALYZE"))


def measure(folder: Path, size: int, server: Any) -> dict[str, Any]:
    probes, best = np.load(folder / "probes.npy"), np.load(folder / f"best-{size}.npy")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    result: dict[str, Any] = {}
    url = server.url("bench")
    with Gallery(url) as gallery:
        fill(gallery, vectors)
        spent = time.process_time()
        gallery.index()
        result["index_cpu_seconds"] = round(time.process_time() - spent, 1)
        result["database_bytes"] = gallery.stats().database_bytes
        print(result, file=sys.stderr)
        result["scored_by_the_server"] = searched(gallery, probes, best, vectors, server)
        print(result, file=sys.stderr)
        with Gallery(url) as replica:
            replica.index()
            result["freshness"] = freshness(gallery, replica)
        print(result, file=sys.stderr)
        few = slice(0, len(probes) // 20)
        with gallery.rows.write():  # as on a server without pgvector
            gallery.rows.connection.execute("UPDATE state SET scored = false")
        result["scored_by_the_replica"] = searched(gallery, probes[few], best[few], vectors, server)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("embeddings", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--probes", type=int, default=10_000)
    given = parser.parse_args()
    real = np.concatenate([np.load(path)["vectors"] for path in given.embeddings])
    real = real[np.isfinite(real).all(axis=1)]  # pictures without a face have none
    search.PROBES = given.probes
    with tempfile.TemporaryDirectory() as name, postgres_server.temporary(fsync=True) as server:
        folder = Path(name)
        search.from_real(real, given.size, folder)
        search.exact(folder, given.size)
        measured = measure(folder, given.size, server)
    write_result(
        "postgres_search",
        {
            "machine": machine(),
            "load_average": round(os.getloadavg()[0], 1),
            "templates": given.size,
            "dimension": int(real.shape[1]),
            "real_templates": len(real) // 2,
            "embeddings": [path.stem for path in given.embeddings],
            **measured,
        },
    )


if __name__ == "__main__":
    main()
