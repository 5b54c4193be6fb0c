"""Servers and databases are killed under publishers and the members of a group: what they were told stays true."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from tests.chaos.conftest import ChaosServer
from tests.chaos.topic_load import SETTINGS, TopicLoad

Start = Callable[..., ChaosServer]

KILLS = 3
MESSAGES = 400


@pytest.mark.slow
async def test_messages_are_kept_and_settled_once_although_the_server_is_killed_again_and_again(
    start: Start,
) -> None:
    server = start("--processes", "2", environment=SETTINGS)
    load = TopicLoad([server.port], server.api_key)
    await load.prepare()
    async with load:
        for _ in range(KILLS):
            await load.progress(MESSAGES)
            server.kill()
            await load.until(lambda: load.ledger.unreachable)
            server = await asyncio.to_thread(start, "--processes", "2", environment=SETTINGS)
            load.ports[:] = [server.port]
        await load.progress(MESSAGES)
        await load.drain()
    assert load.ledger.unanswered
    assert load.ledger.nacked


@pytest.mark.slow
async def test_messages_are_kept_and_settled_once_although_the_database_is_killed_again_and_again(
    start: Start,
) -> None:
    server = start(environment=SETTINGS)
    load = TopicLoad([server.port], server.api_key)
    await load.prepare()
    async with load:
        for _ in range(KILLS):
            await load.progress(MESSAGES)
            refused = load.ledger.statuses[503]
            os.kill(server.postgres_pid, signal.SIGKILL)
            await load.until(lambda before=refused: load.ledger.statuses[503] > before)
        await load.progress(MESSAGES)
        await load.drain()
    assert not load.ledger.unanswered
    assert load.ledger.nacked
