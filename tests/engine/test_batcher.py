"""Group commit over a real table: who is answered what, in which order, and what is in the table afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from millstream.domain.errors import (
    InternalError,
    MillstreamError,
    Overloaded,
    PoisonRow,
    RowLocked,
    ShuttingDown,
)
from millstream.engine import batcher as batchers
from millstream.engine.batcher import Batcher
from millstream.engine.poison import POISONS_BEFORE_APART
from millstream.store.database import Database
from tests.engine.landing import Item, Landing

Open = Callable[..., Batcher[Item, int]]


@pytest.fixture
async def landing(database: Database) -> Landing:
    return await Landing.create(database)


@pytest.fixture
async def open_batcher(landing: Landing) -> AsyncIterator[Open]:
    opened: list[Batcher[Item, int]] = []

    def open_batcher(**options: Any) -> Batcher[Item, int]:
        options.setdefault("recover", landing.recover)
        made: Batcher[Item, int] = Batcher("landing", landing.run, **options)
        opened.append(made)
        return made

    yield open_batcher
    landing.gate.set()
    async with asyncio.timeout(15):
        for made in opened:
            await made.close()


async def in_flight(landing: Landing, batcher: Batcher[Item, int], item: Item) -> "asyncio.Task[int]":
    """Submit `item` and return once its statement waits at the closed gate."""
    landing.gate.clear()
    landing.begun.clear()
    task = asyncio.create_task(batcher.submit_one(item.tenant_id, item))
    await landing.begun.wait()
    return task


async def queued(batcher: Batcher[Item, int], count: int) -> None:
    async with asyncio.timeout(10):
        while batcher.waiting_rows != count:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0)


def submit(batcher: Batcher[Item, int], *items: Item) -> "asyncio.Task[list[int | MillstreamError]]":
    return asyncio.create_task(batcher.submit(items[0].tenant_id, items))


async def test_an_idle_batcher_answers_at_once(landing: Landing, open_batcher: Open) -> None:
    assert await open_batcher().submit_one(1, Item(1)) == 1
    assert landing.batches == [[1]]
    assert await landing.landed() == {1: 1}


async def test_what_waits_goes_out_together(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher()
    first = await in_flight(landing, batcher, Item(0))
    others = [submit(batcher, Item(number)) for number in range(1, 101)]
    await queued(batcher, 100)
    landing.gate.set()
    assert await first == 0
    assert await asyncio.gather(*others) == [[number] for number in range(1, 101)]
    assert landing.batches == [[0], list(range(1, 101))]


async def test_a_statement_takes_no_more_rows_than_permitted(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(rows_max=10)
    answers = await batcher.submit(1, [Item(number) for number in range(25)])
    assert answers == list(range(25))
    assert [len(batch) for batch in landing.batches] == [10, 10, 5]


async def test_a_statement_takes_no_more_bytes_than_permitted(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(bytes_max=1_000)
    first = await in_flight(landing, batcher, Item(0))
    others = [asyncio.create_task(batcher.submit_one(1, Item(number), 400)) for number in range(1, 7)]
    await queued(batcher, 6)
    landing.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in landing.batches] == [1, 3, 3]


async def test_only_the_caller_of_a_poison_row_among_500_good_ones_gets_the_error(
    landing: Landing, open_batcher: Open
) -> None:
    batcher = open_batcher()
    first = await in_flight(landing, batcher, Item(0))
    others = [
        submit(batcher, Item(number, tenant_id=number % 7 + 1, value=100 if number == 250 else 1))
        for number in range(1, 502)
    ]
    await queued(batcher, 501)
    landing.gate.set()
    assert await first == 0
    for number, [answer] in enumerate(await asyncio.gather(*others), start=1):
        if number == 250:
            assert isinstance(answer, PoisonRow)
        else:
            assert answer == number
    landed = await landing.landed()
    assert landed == {number: 1 for number in range(502) if number != 250}
    # Halving: twice per level, not once per row.
    assert len(landing.batches) < 25


async def test_a_bulk_request_with_poison_answers_row_by_row(landing: Landing, open_batcher: Open) -> None:
    items = [Item(number, value=100 if number in {3, 7} else 1) for number in range(10)]
    answers = await open_batcher().submit(1, items)
    assert [isinstance(answer, PoisonRow) for answer in answers] == [number in {3, 7} for number in range(10)]
    assert set(await landing.landed()) == set(range(10)) - {3, 7}


async def test_a_tenant_that_keeps_sending_poison_is_batched_apart(
    landing: Landing, open_batcher: Open
) -> None:
    batcher = open_batcher()
    for number in range(POISONS_BEFORE_APART):
        with pytest.raises(PoisonRow):
            await batcher.submit_one(13, Item(number, tenant_id=13, value=100))
    landing.batches.clear()
    first = await in_flight(landing, batcher, Item(100))
    poison = [submit(batcher, Item(200 + number, tenant_id=13, value=100)) for number in range(3)]
    good = [submit(batcher, Item(300 + number, tenant_id=2 + number)) for number in range(3)]
    await queued(batcher, 6)
    landing.gate.set()
    await asyncio.gather(first, *poison, *good)
    # Never in one statement with a neighbour.
    for batch in landing.batches:
        assert {number // 100 == 2 for number in batch} in ({True}, {False})
    assert set(await landing.landed()) == {100, 300, 301, 302}


async def test_neighbours_of_a_poisonous_tenant_are_answered_when_its_caller_has_left(
    landing: Landing, open_batcher: Open
) -> None:
    batcher = open_batcher()
    for number in range(POISONS_BEFORE_APART):
        with pytest.raises(PoisonRow):
            await batcher.submit_one(13, Item(number, tenant_id=13, value=100))
    first = await in_flight(landing, batcher, Item(100))
    left = submit(batcher, Item(200, tenant_id=13))
    await queued(batcher, 1)
    neighbour = submit(batcher, Item(300, tenant_id=2))
    await queued(batcher, 2)
    left.cancel()
    landing.gate.set()
    await first
    async with asyncio.timeout(10):
        assert await neighbour == [300]


async def test_a_caller_that_leaves_the_queue_is_forgotten(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher()
    first = await in_flight(landing, batcher, Item(0))
    left = submit(batcher, Item(1), Item(2))
    stays = submit(batcher, Item(3))
    await queued(batcher, 3)
    left.cancel()
    landing.gate.set()
    await first
    assert await stays == [3]
    with pytest.raises(asyncio.CancelledError):
        await left
    assert set(await landing.landed()) == {0, 3}
    assert batcher.waiting_rows == 0


async def test_what_a_caller_in_flight_left_behind_is_handed_over(
    landing: Landing, open_batcher: Open
) -> None:
    abandoned: list[tuple[Item, int]] = []

    def note(orphans: Sequence[tuple[Item, int]]) -> None:
        abandoned.extend(orphans)

    batcher = open_batcher(abandoned=note)
    task = await in_flight(landing, batcher, Item(5))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    landing.gate.set()
    await batcher.close()
    # It was on its way and is in the table: somebody must know.
    assert abandoned == [(Item(5), 5)]
    assert await landing.landed() == {5: 1}


async def test_a_full_queue_refuses_and_what_it_holds_is_answered(
    landing: Landing, open_batcher: Open
) -> None:
    batcher = open_batcher(queue_rows_max=5)
    first = await in_flight(landing, batcher, Item(0))
    held = submit(batcher, *[Item(number) for number in range(1, 6)])
    await queued(batcher, 5)
    with pytest.raises(Overloaded):
        await batcher.submit_one(2, Item(9, tenant_id=2))
    landing.gate.set()
    await first
    assert await held == [1, 2, 3, 4, 5]
    assert await batcher.submit_one(2, Item(9, tenant_id=2)) == 9


async def test_a_queue_full_of_bytes_refuses_too(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(queue_bytes_max=100)
    first = await in_flight(landing, batcher, Item(0))
    held = asyncio.create_task(batcher.submit_one(1, Item(1), 80))
    await queued(batcher, 1)
    with pytest.raises(Overloaded):
        await batcher.submit_one(1, Item(2), 30)
    landing.gate.set()
    await asyncio.gather(first, held)
    assert await batcher.submit_one(1, Item(2), 100) == 2


async def test_room_of_callers_that_left_is_given_back(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(queue_rows_max=2, queue_bytes_max=100)
    first = await in_flight(landing, batcher, Item(0))
    left = [asyncio.create_task(batcher.submit_one(1, Item(number), 50)) for number in (1, 2)]
    await queued(batcher, 2)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    landing.gate.set()
    await first
    for number in (3, 4, 5):
        assert await batcher.submit_one(1, Item(number), 100) == number


async def test_a_flood_does_not_starve_a_single_request(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(rows_max=10)
    first = await in_flight(landing, batcher, Item(0))
    flood = [submit(batcher, Item(number)) for number in range(1, 201)]
    await queued(batcher, 200)
    single = submit(batcher, Item(999, tenant_id=2))
    await queued(batcher, 201)
    landing.gate.set()
    await asyncio.gather(first, single, *flood)
    # Tenants take turns: in the very next statement, behind 200 others.
    assert 999 in landing.batches[1]


async def test_requests_of_one_tenant_keep_their_order(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(rows_max=7)
    first = await in_flight(landing, batcher, Item(0))
    others = [submit(batcher, Item(number, tenant_id=1)) for number in range(1, 60)]
    mixed = [submit(batcher, Item(100 + number, tenant_id=2)) for number in range(5)]
    await queued(batcher, 64)
    landing.gate.set()
    await asyncio.gather(first, *others, *mixed)
    order = [number for batch in landing.batches for number in batch if number < 100]
    assert order == list(range(60))


async def test_one_key_is_never_twice_in_a_statement(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(key_of=lambda item: item.id)
    answers = await batcher.submit(1, [Item(1), Item(2), Item(1), Item(3), Item(1)])
    assert answers == [1, 2, 1, 3, 1]
    for batch in landing.batches:
        assert len(batch) == len(set(batch))
    # Each of the three was applied.
    assert await landing.landed() == {1: 3, 2: 1, 3: 1}


async def test_one_key_is_never_in_two_lanes_at_once(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(key_of=lambda item: item.id, lanes=3)
    tasks = [submit(batcher, Item(number % 4, tenant_id=number % 3 + 1)) for number in range(60)]
    await asyncio.gather(*tasks)
    assert await landing.landed() == dict.fromkeys(range(4), 15)


async def test_a_whole_request_is_never_spread(landing: Landing, open_batcher: Open) -> None:
    batcher = open_batcher(whole=True, rows_max=10)
    first = await in_flight(landing, batcher, Item(0))
    big = [submit(batcher, *[Item(100 * bulk + number) for number in range(7)]) for bulk in range(1, 5)]
    oversized = submit(batcher, *[Item(1_000 + number) for number in range(15)])
    await queued(batcher, 43)
    landing.gate.set()
    await asyncio.gather(first, oversized, *big)
    for bulk in range(1, 5):
        assert sum(any(number // 100 == bulk for number in batch) for batch in landing.batches) == 1
    assert sum(any(number >= 1_000 for number in batch) for batch in landing.batches) == 1


async def test_closing_answers_all_that_waits_and_refuses_the_rest(
    landing: Landing, open_batcher: Open
) -> None:
    batcher = open_batcher(rows_max=3)
    first = await in_flight(landing, batcher, Item(0))
    others = [submit(batcher, Item(number)) for number in range(1, 20)]
    await queued(batcher, 19)
    closing = asyncio.create_task(batcher.close())
    landing.gate.set()
    await closing
    assert first.done()
    assert await asyncio.gather(*others) == [[number] for number in range(1, 20)]
    with pytest.raises(ShuttingDown):
        await batcher.submit_one(1, Item(99))
    assert set(await landing.landed()) == set(range(20))


async def test_nothing_at_all_is_answered_with_nothing(open_batcher: Open, landing: Landing) -> None:
    assert await open_batcher().submit(1, []) == []
    assert landing.batches == []


async def test_a_defect_is_an_internal_error_and_the_next_one_is_served(landing: Landing) -> None:
    broken = True

    async def run(rows: Sequence[Item], batch_id: int) -> Sequence[int | MillstreamError]:
        if broken:
            raise KeyError("a defect")
        return await landing.run(rows, batch_id)

    batcher: Batcher[Item, int] = Batcher("landing", run)
    with pytest.raises(InternalError):
        await batcher.submit_one(1, Item(1))
    broken = False
    assert await batcher.submit_one(1, Item(1)) == 1
    await batcher.close()


# Rows that someone's open transaction holds


@pytest.fixture
async def held_row(landing: Landing, database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that holds row 7 in an open transaction."""
    connection = await asyncpg.connect(database_dsn)
    await connection.execute("insert into millstream.landing values (7, 1, 1, 0)")
    await connection.execute("begin")
    await connection.execute("select from millstream.landing where id = 7 for update")
    yield connection
    await connection.close()


async def test_neighbours_of_a_locked_row_are_answered_while_it_is_locked(
    landing: Landing, open_batcher: Open, held_row: asyncpg.Connection
) -> None:
    batcher = open_batcher()
    first = await in_flight(landing, batcher, Item(0))
    tasks = {number: submit(batcher, Item(number, tenant_id=number)) for number in range(1, 30)}
    await queued(batcher, 29)
    landing.gate.set()
    await first
    culprit = tasks.pop(7)
    async with asyncio.timeout(30):
        for number, task in tasks.items():
            assert await task == [number]
        # Newcomers do not stand behind it either.
        assert await batcher.submit_one(40, Item(40)) == 40
    assert not culprit.done()
    await held_row.execute("commit")
    assert await culprit == [7]
    assert (await landing.landed())[7] == 2


async def test_a_row_that_stays_locked_is_refused_after_its_time(
    landing: Landing,
    open_batcher: Open,
    held_row: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batchers, "LOCKED_ROW_SECONDS_MAX", 0.5)
    answers = await open_batcher().submit(1, [Item(6), Item(7), Item(8)])
    assert answers[0] == 6
    assert isinstance(answers[1], RowLocked)
    assert answers[2] == 8
    await held_row.execute("rollback")
    assert await landing.landed() == {6: 1, 7: 1, 8: 1}


def test_the_time_for_a_locked_row_is_what_is_documented() -> None:
    assert batchers.LOCKED_ROW_SECONDS_MAX == 5.0


async def test_closing_waits_for_a_row_that_is_tried_alone(
    landing: Landing, open_batcher: Open, held_row: asyncpg.Connection
) -> None:
    batcher = open_batcher()
    culprit = submit(batcher, Item(7), Item(8))
    async with asyncio.timeout(10):
        while not batcher._side_tasks:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.01)
    closing = asyncio.create_task(batcher.close())
    await held_row.execute("commit")
    await closing
    assert await culprit == [7, 8]
