"""A server that is killed under load has kept every promise that it made."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from tests.chaos.conftest import ChaosServer
from tests.cli.deadline import wait_until
from tests.cli.server_process import is_alive

Start = Callable[..., ChaosServer]


@pytest.mark.slow
async def test_what_a_killed_server_answered_is_there_when_the_next_one_starts(start: Start) -> None:
    server = start()
    async with server.load() as load:
        await load.progress(100)
        server.kill()
        await load.until(lambda: load.ledger.unreachable)
        load.ports[:] = [start().port]
        await load.progress(20)
        await load.pause()
    await load.ledger.check(server.dsn, finished=False)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_every_job_is_done_once_although_the_server_is_killed_again_and_again(
    start: Start, processes: str
) -> None:
    server = start("--processes", processes)
    async with server.load() as load:
        for _ in range(3):
            await load.progress(150)
            server.kill()
            await load.until(lambda: load.ledger.unreachable)
            server = await asyncio.to_thread(start, "--processes", processes)
            load.ports[:] = [server.port]
        await load.progress(150)
        await load.drain()
    assert load.ledger.unanswered
    await load.ledger.check(server.dsn)


@pytest.mark.slow
async def test_every_job_is_done_once_although_one_of_two_processes_is_killed(start: Start) -> None:
    server = start("--processes", "2")
    async with server.load() as load:
        for _ in range(3):
            await load.progress(150)
            children = server.children()
            os.kill(children[0], signal.SIGKILL)
            await asyncio.to_thread(wait_until, lambda gone=children[0]: not is_alive(gone))
        await load.progress(150)
        await load.drain()
    await load.ledger.check(server.dsn)
