"""SIGTERM under load: whatever was accepted is answered, whatever was not has had no effect."""

import asyncio
import json
import signal
from collections.abc import Callable

import pytest

from millstream.store import installation
from tests.chaos.conftest import ChaosServer
from tests.chaos.line import Line

Start = Callable[..., ChaosServer]


async def _numbers(dsn: str) -> set[int]:
    async with installation.direct_session(dsn) as session:
        rows = await session.many("select payload from millstream.all_jobs")
    return {json.loads(row["payload"])["number"] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_server_that_is_asked_to_end_answers_all_that_it_carried_out(
    start: Start, processes: str
) -> None:
    server = start("--processes", processes)
    async with server.load(creators=8) as load:
        for _ in range(3):
            await load.progress(100)
            ending = server
            ending.signal(signal.SIGTERM)
            await load.until(lambda ended=ending: ended.process.poll() is not None)
            assert ending.process.returncode == 0
            server = start("--processes", processes)
            # Nobody knows the new server yet: all that is in the database was carried out by one that has ended,
            # and so must have been answered.
            assert await _numbers(server.dsn) == set(load.ledger.created.values())
            load.ports[:] = [server.port]
        await load.drain()
    await load.ledger.check(server.dsn)


@pytest.mark.slow
async def test_a_claim_that_waits_is_answered_when_the_server_is_asked_to_end(start: Start) -> None:
    server = start()
    waiting, other = Line(server.port, server.api_key), Line(server.port, server.api_key)
    body = {"queue_name": "empty", "worker_id": "w"}
    await waiting.ask("POST", "/api/v1/jobs/claim", body)
    claim = asyncio.create_task(waiting.ask("POST", "/api/v1/jobs/claim", {**body, "wait_seconds": 25}))
    # Its answer comes after the waiting claim was read.
    await other.ask("POST", "/api/v1/jobs/claim", body)
    server.signal(signal.SIGTERM)
    answer = await claim
    assert (answer.status, answer.body) == (200, {"jobs": []})
    waiting.close()
    other.close()
