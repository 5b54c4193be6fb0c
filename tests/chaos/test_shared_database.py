"""Two servers on one data directory share its PostgreSQL; the last one out stops it."""

import signal
from collections.abc import Callable

import pytest

from tests.chaos.conftest import ChaosServer
from tests.chaos.load import Load
from tests.cli.deadline import wait_until
from tests.cli.server_process import is_alive

Start = Callable[..., ChaosServer]


@pytest.mark.slow
def test_the_last_of_two_servers_stops_the_database(start: Start) -> None:
    first, second = start(), start()
    postgres_pid = first.postgres_pid
    assert second.postgres_pid == postgres_pid
    assert first.stop() == 0
    assert is_alive(postgres_pid)
    assert second.is_healthy()
    assert second.stop() == 0
    wait_until(lambda: not is_alive(postgres_pid))


@pytest.mark.slow
async def test_a_server_goes_on_when_its_fellow_is_killed(start: Start) -> None:
    first, second = start(), start()
    postgres_pid = second.postgres_pid
    async with Load([first.port, second.port], second.api_key) as load:
        await load.progress(150)
        first.signal(signal.SIGKILL)
        await load.until(lambda: load.ledger.unreachable)
        await load.progress(150)
        await load.drain()
    assert second.postgres_pid == postgres_pid
    await load.ledger.check(second.dsn)
    assert second.stop() == 0
    wait_until(lambda: not is_alive(postgres_pid))
