"""Work out what 100 million templates and 1,000 requests a second take, from what was measured on one machine.

Nothing is measured here: rates of one core are taken from the other results, and multiplied. Two cases bracket the
rest. In the first the templates are in many collections and a search is of one of them; in the second all are one
collection, in shards of a million by hash of the subject, and every search goes to all of them.

    python benchmarks/scaling_plan.py
"""

from __future__ import annotations

import json
import math
from typing import Any

from common import RESULTS, write_result

TEMPLATES, REQUESTS_A_SECOND = 100_000_000, 1_000
COLLECTIONS = 1_000
USED = 0.6  # of a core, so that queues stay short
COPIES = 2  # of every shard and service, so that one may fail
CORE_HOUR_USD = 0.04  # assumed: about what public clouds ask for a core with 4 GB
HOURS_A_MONTH = 730
CROP_BYTES = 9_600  # a stored face of 112 px, lossless: measured once, on 60 faces


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def cores(milliseconds: float) -> int:
    """Return the cores that so much CPU time a request takes."""
    return math.ceil(REQUESTS_A_SECOND * milliseconds / 1000 / USED)


def month(count: int) -> int:
    return round(count * CORE_HOUR_USD * HOURS_A_MONTH)


def main() -> None:
    speed, search, sharding = read("speed"), read("postgres_search"), read("sharding")
    picture_ms = speed["machine"]["cores"] / speed["throughput"]["files_per_s"] * 1000
    scored = search["scored_by_the_server"]
    one_ms = scored["replica_cpu_ms"] + scored["server_cpu_ms"]
    shard_rows = sharding["templates"] // sharding["shards"]
    shards = TEMPLATES // shard_rows
    shard_ms = sharding["cpu_ms_a_shard_and_search"]
    code_bytes = sharding["resident_bytes_a_template"]
    row_bytes = search["database_bytes"] / search["templates"]
    embedding = cores(picture_ms)

    def case(search_ms: float, copies_of_codes: int) -> dict[str, Any]:
        total = embedding + cores(search_ms)
        return {
            "search_cpu_ms_a_request": round(search_ms, 1),
            "cores_for_search": cores(search_ms),
            "cores_in_all": total,
            "code_memory_gb": round(TEMPLATES * code_bytes * copies_of_codes / 1e9, 1),
            "usd_a_month_for_cores": month(total),
        }

    write_result(
        "scaling_plan",
        {
            "templates": TEMPLATES,
            "requests_a_second": REQUESTS_A_SECOND,
            "assumed": {
                "used": USED,
                "copies": COPIES,
                "core_hour_usd": CORE_HOUR_USD,
                "crop_bytes": CROP_BYTES,
                "collections": COLLECTIONS,
            },
            "picture_cpu_ms": round(picture_ms, 1),
            "cores_for_pictures": embedding,
            "code_bytes_a_template": code_bytes,
            "code_memory_gb_a_shard": round(shard_rows * code_bytes / 1e9, 3),
            "database_bytes_a_template": round(row_bytes),
            "database_gb": round(TEMPLATES * row_bytes / 1e9),
            "database_gb_with_crops": round(TEMPLATES * (row_bytes + CROP_BYTES) / 1e9),
            "shards": shards,
            "rows_a_shard": shard_rows,
            "build_cpu_hours_of_all_codes": round(sharding["build_cpu_seconds_a_shard"] * shards / 3600, 2),
            "ingest_cpu_days_of_all_pictures": round(TEMPLATES * picture_ms / 1000 / 86_400),
            "many_collections": case(one_ms, COPIES),
            "one_collection": case(shard_ms * shards, COPIES),
        },
    )


if __name__ == "__main__":
    main()
