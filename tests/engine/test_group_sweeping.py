"""Members that fall silent, restarts, and what ends by itself in groups. Contract: goqueue-messaging 7.7, 14.8."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from millstream.domain.clock import Clock, SteeredClock
from millstream.domain.errors import NotFound, Unavailable
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.engine.relay import LIVE_SECONDS
from millstream.store import installation
from millstream.store.database import Database
from tests.engine.group_work import GROUP, Consumers, labels, until

Start = Callable[[], Awaitable[Engine]]
StartNarrow = Callable[[], Awaitable[tuple[Engine, Database]]]


@pytest.fixture
async def start(database_dsn: str, clock: SteeredClock) -> AsyncIterator[Start]:
    """Start another process's engine; all are gone after the test."""
    opened: list[tuple[Engine, Database]] = []

    async def start_one() -> Engine:
        database = await Database.open(database_dsn, min_size=1, max_size=4)
        engine = await open_engine(
            database, direct=lambda: installation.direct_session(database_dsn), clock=clock
        )
        opened.append((engine, database))
        return engine

    yield start_one
    for engine, database in opened:
        await engine.relay.stop()
        await engine.close()
        await database.close()


@pytest.fixture
async def start_narrow(database_dsn: str, clock: SteeredClock) -> AsyncIterator[StartNarrow]:
    """Start engines with one connection each: while it is in use, they do not reach the database."""
    opened: list[tuple[Engine, Database]] = []

    async def start_one() -> tuple[Engine, Database]:
        database = await Database.open(database_dsn, min_size=1, max_size=1, acquire_seconds=0.01)
        engine = await open_engine(
            database, direct=lambda: installation.direct_session(database_dsn), clock=clock
        )
        opened.append((engine, database))
        return engine, database

    yield start_one
    for engine, database in opened:
        await engine.relay.stop()
        await engine.close()
        await database.close()


async def serve(clock: SteeredClock, seconds: int, *engines: Engine) -> list[int]:
    """Have processes live and sweep for some seconds; returns what each sweep of the last found."""
    found: list[int] = []
    for _ in range(seconds):
        clock.advance(1)
        for engine in engines:
            await engine.relay.beat()
            found.append(await engine.groups.sweep())
    return found


async def test_who_is_silent_for_longer_than_its_session_is_removed(consumers: Consumers) -> None:
    topic = await consumers.topic(partitions=2)
    [a, b] = await consumers.join_first("a", "b")
    await consumers.lease(a.group.id, topic, 0, a.member_id)
    consumers.clock.advance(20)
    await consumers.heartbeat(b.member_id, 1)
    consumers.clock.advance(10)
    assert await consumers.engine.groups.sweep() == 0
    consumers.clock.advance(0.001)
    assert await consumers.engine.groups.sweep() == 1
    with pytest.raises(NotFound, match="may have been evicted"):
        await consumers.heartbeat(a.member_id, 1)
    assert set((await consumers.owners()).values()) == {b.member_id}
    assert (await consumers.heartbeat(b.member_id, 1)).rebalance_required
    assert [owed[0] for owed in await consumers.owed(a.group.id)] == [10, 12]
    counted = await consumers.engine.cooperative.statistics(consumers.principal, GROUP)
    assert counted.by_reason["member_timeout"] == 1


async def test_each_member_has_a_session_of_its_own(consumers: Consumers) -> None:
    await consumers.topic()
    joins = [consumers.joining("a", session_seconds=6), consumers.joining("b", session_seconds=3600)]
    [_, b] = await consumers.gather(*joins)
    consumers.clock.advance(7)
    assert await consumers.engine.groups.sweep() == 1
    status = await consumers.engine.groups.get(consumers.principal, GROUP)
    assert [member.member_id for member in status.members] == [b.member_id]


async def test_two_processes_that_sweep_at_once_remove_a_member_once(
    consumers: Consumers, second_engine: Engine
) -> None:
    await consumers.topic()
    await consumers.join_first("a")
    consumers.clock.advance(31)
    found = await asyncio.gather(consumers.engine.groups.sweep(), second_engine.groups.sweep())
    assert sum(found) == 1
    status = await consumers.engine.groups.get(consumers.principal, GROUP)
    assert (status.members, status.generation) == ([], 2)


async def test_a_restart_keeps_members_and_gives_them_a_fresh_session(
    consumers: Consumers, start: Start
) -> None:
    clock = consumers.clock
    await consumers.topic(partitions=4)
    [a, b] = await consumers.join_first("a", "b")
    await consumers.leave(b.member_id)
    await consumers.engine.close()
    clock.advance(1000)
    engine = await start()
    again = consumers.through(engine)
    assert await serve(clock, 29, engine) == [0] * 29
    # It had no chance to say anything before, and does now.
    told = await again.heartbeat(a.member_id, 2)
    assert (told.rebalance_required, told.generation, len(told.assigned)) == (False, 2, 4)
    assert await serve(clock, 30, engine) == [0] * 30
    assert await serve(clock, 1, engine) == [1]


async def test_a_killed_process_passes_for_a_living_one_only_for_a_moment(
    consumers: Consumers, start: Start
) -> None:
    clock = consumers.clock
    killed = await start()
    await consumers.topic()
    await consumers.join_first("a", session_seconds=10)
    # It beats until its last moment, and nobody removes its row.
    await serve(clock, 9, killed)
    clock.advance(LIVE_SECONDS - 1)
    engine = await start()
    assert await serve(clock, 10, engine) == [0] * 10
    assert await serve(clock, 1, engine) == [1]


async def test_a_new_process_beside_an_old_one_gives_nobody_a_longer_session(
    consumers: Consumers, start: Start
) -> None:
    clock = consumers.clock
    old = await start()
    await old.relay.beat()
    await consumers.topic()
    await consumers.join_first("a")
    await serve(clock, 20, old)
    new = await start()
    for _ in range(10):
        clock.advance(1)
        await old.relay.beat()
        assert await new.groups.sweep() == 0
    clock.advance(1)
    await old.relay.beat()
    assert await new.groups.sweep() == 1


async def test_processes_that_start_together_after_a_while_blame_nobody_for_it(
    consumers: Consumers, start: Start
) -> None:
    clock = consumers.clock
    await consumers.topic()
    await consumers.join_first("a")
    clock.advance(1000)
    one = await start()
    clock.advance(1)
    other = await start()
    assert sum(await serve(clock, 29, one, other)) == 0
    assert sum(await serve(clock, 2, one, other)) == 1


async def test_nobody_is_blamed_for_the_time_in_which_the_database_was_away(
    consumers: Consumers, start_narrow: StartNarrow
) -> None:
    clock = consumers.clock
    await consumers.topic()
    await consumers.join_first("a")
    (one, away_from_one), (other, away_from_other) = await start_narrow(), await start_narrow()
    assert sum(await serve(clock, 10, one, other)) == 0
    async with away_from_one.session(), away_from_other.session():
        clock.advance(60)
        for engine in (one, other):
            with pytest.raises(Unavailable):
                await engine.groups.sweep()
    # From the first sweep that reaches it again.
    assert sum(await serve(clock, 31, one, other)) == 0
    assert sum(await serve(clock, 1, one, other)) == 1


async def test_a_window_that_its_process_did_not_live_to_end_is_ended_by_another(
    consumers: Consumers, second_engine: Engine
) -> None:
    await consumers.topic()
    join = consumers.joining("a")
    await until(lambda: _has_members(consumers, 1))
    join.cancel()
    await asyncio.gather(join, return_exceptions=True)
    consumers.clock.advance(1)
    assert await second_engine.groups.sweep() == 1
    assert len(set((await consumers.owners()).values())) == 1


async def test_nobody_is_removed_before_it_was_told_who_it_is(consumers: Consumers) -> None:
    await consumers.topic(partitions=1)
    consumers.clock.advance(LIVE_SECONDS)
    join = consumers.joining("a", session_seconds=0.01)
    await until(lambda: _has_members(consumers, 1))
    consumers.clock.advance(0.2)
    assert await consumers.engine.groups.sweep() == 0
    consumers.clock.advance(0.05)
    assert await consumers.engine.groups.sweep() == 1
    assert labels(await join) == ["orders-0"]
    consumers.clock.advance(0.011)
    assert await consumers.engine.groups.sweep() == 1


@pytest.mark.parametrize(("window_seconds", "generations"), [(0.2, {1}), (0, {1, 2})])
async def test_joins_of_one_moment_are_answered_together_unless_there_is_no_window(
    database: Database,
    database_dsn: str,
    consumers: Consumers,
    window_seconds: float,
    generations: set[int],
) -> None:
    engine = await open_engine(
        database,
        EngineSettings(
            topics=TopicSettings(gathering_seconds=window_seconds, session_seconds=12, starts_latest=True)
        ),
        direct=lambda: installation.direct_session(database_dsn),
        # The database's time, as on a server.
        clock=Clock(),
    )
    await consumers.topic()
    unsteered = consumers.through(engine)
    joined = await asyncio.gather(unsteered.join("a"), unsteered.join("b"))
    assert {membership.group.generation for membership in joined} == generations
    assert joined[0].me.session_seconds == 12
    assert await engine.groups.sweep() == 0
    await unsteered.heartbeat(joined[0].member_id, 1)
    await engine.close()


async def _has_members(consumers: Consumers, count: int) -> bool:
    summaries = await consumers.engine.groups.list_details(consumers.principal)
    return [summary.members for summary in summaries] == [count]
