"""PostgreSQL is killed under load: refusals while it is away, work as before when it is back, nothing lost."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.chaos.conftest import ChaosServer
from tests.chaos.load import Load

Start = Callable[..., ChaosServer]


async def _kill_database(server: ChaosServer, load: Load) -> None:
    refused = load.ledger.statuses[503]
    os.kill(server.postgres_pid, signal.SIGKILL)
    await load.until(lambda: load.ledger.statuses[503] > refused)


@pytest.mark.slow
async def test_requests_are_refused_politely_until_the_killed_database_is_back(start: Start) -> None:
    server = start()
    async with server.load() as load:
        await load.progress(50)
        await _kill_database(server, load)
        await load.progress(50)
        await load.pause()
    assert not load.ledger.unanswered
    await load.ledger.check(server.dsn, finished=False)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_every_job_is_done_once_although_the_database_is_killed_again_and_again(
    start: Start, processes: str
) -> None:
    server = start("--processes", processes)
    async with server.load() as load:
        for _ in range(3):
            await load.progress(150)
            await _kill_database(server, load)
        await load.progress(150)
        await load.drain()
    assert not load.ledger.unanswered
    await load.ledger.check(server.dsn)
