import asyncio

import pytest

from mien.service.intake import Intake, size_limit
from mien.service.problems import Problem
from mien.service.settings import Limits


def receive_of(*parts, wait_s=0.0):
    waiting = list(parts)

    async def receive():
        await asyncio.sleep(wait_s)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    return receive


async def read(intake):
    await intake.drain()


def test_a_body_is_counted_part_by_part():
    intake = Intake(receive_of(b"12345", b"12345"), Limits(), 9)

    with pytest.raises(Problem, match="larger than the limit"):
        asyncio.run(read(intake))


def test_an_upload_that_stands_still_is_cut():
    with pytest.raises(Problem) as told:
        asyncio.run(read(Intake(receive_of(b"1", b"2", wait_s=0.05), Limits(idle_s=0.01), 9)))

    assert told.value.status_code == 408


def test_an_upload_that_trickles_is_cut():
    limits = Limits(upload_s=0.01, least_bytes_s=1000.0)

    with pytest.raises(Problem, match="slower than 1 kB/s"):
        asyncio.run(read(Intake(receive_of(*[b"x"] * 50, wait_s=0.005), limits, 100)))


def test_the_digest_is_that_of_the_whole_body():
    one, other = (Intake(receive_of(*parts), Limits(), 9) for parts in ((b"ab", b"c"), (b"abc",)))
    asyncio.run(read(one))
    asyncio.run(read(other))

    assert one.digest == other.digest and one.complete


def test_only_jobs_may_bring_an_archive():
    limits = Limits()

    assert size_limit(limits, "/v1/jobs", "application/zip") == limits.archive_bytes
    assert size_limit(limits, "/v1/analyze", "application/zip") == limits.request_bytes
    assert size_limit(limits, "/v1/subjects/split", "application/json; charset=utf-8") == limits.json_bytes
