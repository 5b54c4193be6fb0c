import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from millstream.background import supervisor as supervisors
from millstream.background.loop import Loop, Step
from millstream.background.supervisor import Supervisor
from millstream.domain.clock import SteeredClock
from millstream.domain.errors import DatabaseUnavailable
from millstream.engine.engine import Engine, open_engine
from millstream.engine.upkeep import LEAD_SECONDS
from millstream.observe.signals import RecordedSignals
from millstream.store import installation
from millstream.store.database import Database


@pytest.fixture
async def second_engine(database: Database, database_dsn: str, clock: SteeredClock) -> AsyncIterator[Engine]:
    """What another process has on the same database."""
    opened = await open_engine(
        database, direct=lambda: installation.direct_session(database_dsn), clock=clock
    )
    yield opened
    await opened.close()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lead is sought often, so that a test need not wait for seconds."""
    monkeypatch.setattr(supervisors, "LEAD_INTERVAL_SECONDS", 0.01)


def loop_that(name: str, step: Callable[[], Step], *, leader_only: bool = True) -> Loop:
    async def take() -> Step:
        return step()

    return Loop(name=name, interval_seconds=0.01, step=take, leader_only=leader_only)


def works() -> Step:
    return Step(1)


def breaks() -> Step:
    raise KeyError("a defect")


def supervisor_of(engine: Engine, signals: RecordedSignals, *roster: Loop) -> Supervisor:
    return Supervisor(roster, lead=engine.upkeep.lead, resign=engine.upkeep.resign, signals=signals)


@asynccontextmanager
async def started(*supervisors_: Supervisor) -> AsyncGenerator[None]:
    for supervisor in supervisors_:
        await supervisor.start()
    try:
        yield
    finally:
        for supervisor in supervisors_:
            await supervisor.stop()


async def test_of_two_processes_one_leads_and_the_other_takes_over_when_it_resigns(
    engine: Engine, second_engine: Engine, often: None
) -> None:
    first, second = RecordedSignals(), RecordedSignals()
    one = supervisor_of(
        engine, first, loop_that("pruner", works), loop_that("waker", works, leader_only=False)
    )
    two = supervisor_of(
        second_engine, second, loop_that("pruner", works), loop_that("waker", works, leader_only=False)
    )
    async with started(one, two):
        for _ in range(5):
            await first.wait("pruner.ran")
            await second.wait("waker.ran")
        assert second.count("pruner.ran") == 0
        await one.stop()
        await second.wait("pruner.ran")
        ran = first.count("pruner.ran")
        for _ in range(3):
            await second.wait("pruner.ran")
        assert first.count("pruner.ran") == ran


async def test_a_lead_that_ran_out_is_taken_over(
    engine: Engine, second_engine: Engine, clock: SteeredClock
) -> None:
    assert await engine.upkeep.lead()
    assert not await second_engine.upkeep.lead()
    clock.advance(LEAD_SECONDS)
    assert not await second_engine.upkeep.lead()
    clock.advance(1)
    assert await second_engine.upkeep.lead()
    assert not await engine.upkeep.lead()
    # The old one gives nothing up that is not its own.
    await engine.upkeep.resign()
    assert not await engine.upkeep.lead()


async def test_a_lead_that_is_kept_does_not_run_out(
    engine: Engine, second_engine: Engine, clock: SteeredClock
) -> None:
    assert await engine.upkeep.lead()
    for _ in range(5):
        clock.advance(LEAD_SECONDS - 1)
        assert await engine.upkeep.lead()
        assert not await second_engine.upkeep.lead()


async def test_each_change_of_the_lead_moves_its_fence(
    engine: Engine, second_engine: Engine, clock: SteeredClock
) -> None:
    fences: list[int] = []
    for leader in (engine, engine, second_engine, engine):
        assert await leader.upkeep.lead()
        async with engine.context.database.session() as session:
            row = await session.one("select fence from millstream.leaders")
        assert row is not None
        fences.append(row["fence"])
        if leader is not engine or len(fences) > 1:
            clock.advance(LEAD_SECONDS + 1)
    assert fences == [1, 1, 2, 3]


async def test_of_many_that_seek_the_lead_at_once_one_gets_it(engine: Engine, second_engine: Engine) -> None:
    led = await asyncio.gather(
        *(engine.upkeep.lead() for _ in range(5)), *(second_engine.upkeep.lead() for _ in range(5))
    )
    assert led in ([True] * 5 + [False] * 5, [False] * 5 + [True] * 5)


async def test_the_other_process_takes_over_within_its_loops(
    engine: Engine, second_engine: Engine, clock: SteeredClock, often: None
) -> None:
    signals = RecordedSignals()
    assert await engine.upkeep.lead()
    two = supervisor_of(second_engine, signals, loop_that("pruner", works))
    async with started(two):
        assert signals.count("pruner.ran") == 0
        clock.advance(LEAD_SECONDS + 1)
        await signals.wait("pruner.ran")


async def test_a_failing_loop_does_not_stop_the_others(engine: Engine, often: None) -> None:
    signals = RecordedSignals()
    one = supervisor_of(engine, signals, loop_that("expirer", breaks), loop_that("pruner", works))
    async with started(one):
        for _ in range(20):
            await signals.wait("pruner.ran")
    assert signals.count("expirer.ran") == 0


async def test_without_the_database_nobody_leads_and_with_it_somebody_does(
    engine: Engine, often: None
) -> None:
    signals = RecordedSignals()
    is_away = True
    asked = 0

    async def lead() -> bool:
        nonlocal asked
        asked += 1
        if is_away:
            raise DatabaseUnavailable
        return await engine.upkeep.lead()

    one = Supervisor([loop_that("pruner", works)], lead=lead, resign=engine.upkeep.resign, signals=signals)
    async with started(one):
        async with asyncio.timeout(10):
            while asked < 3:  # noqa: ASYNC110 - polled with a deadline
                await asyncio.sleep(0)
        assert signals.count("pruner.ran") == 0
        is_away = False
        await signals.wait("pruner.ran")


async def test_stopping_leaves_no_task_behind(engine: Engine) -> None:
    before = asyncio.all_tasks()
    one = supervisor_of(engine, RecordedSignals(), loop_that("pruner", works), loop_that("expirer", breaks))
    await one.start()
    assert asyncio.all_tasks() - before
    await one.stop()
    assert asyncio.all_tasks() == before
