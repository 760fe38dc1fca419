import asyncio
import threading
import time

import pytest

from mien.service.engine import Engine
from mien.service.problems import Problem


@pytest.fixture
def engine():
    running = Engine(1, wait_s=0.5)
    yield running
    running.close()


def test_requests_come_before_jobs(engine):
    order, begun, go_on = [], threading.Event(), threading.Event()

    async def ask():
        first = asyncio.create_task(engine.run(lambda: (begun.set(), go_on.wait(5), order.append("first"))))
        await asyncio.to_thread(begun.wait, 5)
        job = engine.run_when_idle(lambda: order.append("job"))
        second = asyncio.create_task(engine.run(lambda: order.append("second")))
        await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(first, second, asyncio.wrap_future(job))

    asyncio.run(ask())

    assert order == ["first", "second", "job"]


def test_who_would_wait_too_long_is_refused_with_a_time(engine):
    go_on = threading.Event()

    async def ask():
        engine.work_s = 0.2
        tasks = [asyncio.create_task(engine.run(lambda: go_on.wait(5))) for _ in range(30)]
        await asyncio.sleep(0.01)
        go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(ask())
    refused = [answer for answer in answers if isinstance(answer, Problem)]

    assert len(answers) - len(refused) in (3, 4) and engine.refused == len(refused)
    assert refused[0].status_code == 429 and int(refused[0].headers["Retry-After"]) >= 1


def test_errors_reach_who_asked(engine):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(engine.run(lambda: 1 / 0))


def test_closing_finishes_what_was_accepted_and_drops_jobs():
    engine, done, begun = Engine(1, wait_s=5), [], threading.Event()

    async def ask():
        first = asyncio.create_task(engine.run(lambda: (begun.set(), time.sleep(0.05), done.append(1))))
        second = asyncio.create_task(engine.run(lambda: done.append(2)))
        await asyncio.to_thread(begun.wait, 5)
        job = engine.run_when_idle(lambda: done.append(3))
        await asyncio.to_thread(engine.close)
        await asyncio.gather(first, second)
        with pytest.raises(Problem, match="about to end"):
            await engine.run(lambda: None)
        return job.cancelled()

    assert asyncio.run(ask())
    assert done == [1, 2]
