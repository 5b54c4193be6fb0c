"""The server's database connections are cut under load: answers are the truth, or say that it is not known."""

from collections.abc import Callable

import pytest

from millstream.store import installation
from tests.chaos.conftest import ChaosServer
from tests.chaos.load import Load

Start = Callable[..., ChaosServer]

_CUT = (
    "select count(pg_terminate_backend(pid)) as cut from pg_stat_activity"
    " where backend_type = 'client backend' and pid <> pg_backend_pid()"
)


async def _cut_repeatedly(dsn: str, load: Load, times: int, *, answers_between: int) -> None:
    async with installation.direct_session(dsn) as session:
        for _ in range(times):
            answered = load.ledger.statuses.total()
            await load.until(lambda before=answered: load.ledger.statuses.total() >= before + answers_between)
            row = await session.one(_CUT)
            assert row is not None
            assert row["cut"] > 0


@pytest.mark.slow
async def test_nothing_is_lost_or_done_twice_when_connections_are_cut_a_few_times(start: Start) -> None:
    server = start()
    async with server.load() as load:
        await load.progress(20)
        await _cut_repeatedly(server.dsn, load, 5, answers_between=60)
        await load.progress(20)
        await load.pause()
    assert not load.ledger.unanswered
    await load.ledger.check(server.dsn, finished=False)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_every_job_is_done_once_although_connections_are_cut_again_and_again(
    start: Start, processes: str
) -> None:
    server = start("--processes", processes)
    async with server.load(creators=8, workers=8) as load:
        await load.progress(20)
        await _cut_repeatedly(server.dsn, load, 60, answers_between=97)
        await load.progress(50)
        await load.drain()
    assert load.ledger.statuses[503]
    assert not load.ledger.unanswered
    await load.ledger.check(server.dsn)
