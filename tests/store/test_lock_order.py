"""Two sessions that change the same jobs at once take their locks in one order, whatever order they were given."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from millstream.domain.job import ClaimRequest, Completion, DeadSelection, Failure, Lease, NewJob
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine
from millstream.store import dead_letters, jobs, settlements, upkeep
from millstream.store.database import Database, Session
from millstream.store.jobs import CreateRow, ServerDefaults
from millstream.store.settlements import CompleteRow, FailRow, RenewRow
from tests.conftest import STARTED_AT
from tests.store.conftest import Connect

JOBS = 200


async def running(session: Session) -> list[Lease]:
    ids = [uuid4() for _ in range(JOBS)]
    rows = [CreateRow(1, job_id, NewJob(queue="q", payload="{}")) for job_id in ids]
    await jobs.create_jobs(session, rows, batch_id=1, defaults=ServerDefaults(), labels=[], now=None)
    lease_id = uuid4()
    await session.run(
        "update millstream.jobs set state = 5, worker_id = 'w', lease_id = $1, lease_expires_at = now() + interval"
        " '1 hour', started_at = now()",
        lease_id,
    )
    return [Lease(job_id=job_id, worker_id="w", lease_id=lease_id) for job_id in ids]


async def complete(session: Session, leases: list[Lease], batch_id: int) -> set[UUID]:
    rows = [CompleteRow(1, lease, None) for lease in leases]
    outcome, _ = await settlements.complete_jobs(session, rows, batch_id=batch_id, tell=False, now=None)
    return {leases[place].job_id for place in outcome.places}


async def fail(session: Session, leases: list[Lease], batch_id: int) -> set[UUID]:
    rows = [FailRow(1, lease, "e", None, uuid4()) for lease in leases]
    outcomes = await settlements.fail_jobs(session, rows, batch_id=batch_id, now=None)
    return {outcome.job_id for outcome in outcomes}


async def renew(session: Session, leases: list[Lease], _: int) -> set[UUID]:
    ends = await settlements.renew_leases(session, [RenewRow(1, lease, 60) for lease in leases], None)
    return {leases[place].job_id for place in ends}


Change = Callable[[Session, list[Lease], int], Awaitable[set[UUID]]]


@pytest.mark.parametrize("change", [complete, fail, renew])
async def test_opposite_orders_do_not_deadlock(database: Database, connect: Connect, change: Change) -> None:
    async with database.transaction() as session:
        leases = await running(session)
    # Both are held back by a row in the middle, so that each already holds its first ones when it goes on.
    middle = sorted(lease.job_id for lease in leases)[JOBS // 2]
    holder = await connect()
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.jobs where id = $1 for update", middle)

    async def run(ordered: list[Lease], batch_id: int, *, is_first: bool) -> set[UUID]:
        async with database.transaction() as session:
            return await (complete if is_first else change)(session, ordered, batch_id)

    tasks = [
        asyncio.create_task(run(leases, 11, is_first=True)),
        asyncio.create_task(run(leases[::-1], 12, is_first=False)),
    ]
    watcher = await connect()
    await waiting(watcher, 2)
    await block.rollback()
    first, other = await asyncio.gather(*tasks)
    everything = {lease.job_id for lease in leases}
    assert everything in (first, other)
    if change is not renew:
        assert not first & other


async def waiting(watcher: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(10):
        while not await watcher.fetchval(  # noqa: ASYNC110 - polled with a deadline
            "select count(*) >= $1 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'",
            count,
        ):
            await asyncio.sleep(0.005)


async def with_keys(engine: Engine, principal: Principal, count: int) -> list[UUID]:
    """Enqueue jobs whose keys are in another order than their ids."""
    new = [
        NewJob(queue="q", payload="{}", max_retries=0, idempotency_key=f"k{count - n}") for n in range(count)
    ]
    return [(await engine.jobs.enqueue(principal, job)).id for job in new]


async def finish(engine: Engine, principal: Principal, ids: list[UUID], *, success: bool) -> None:
    for job in await engine.jobs.claim(principal, ClaimRequest(queue="q", worker_id="w", limit=len(ids))):
        lease = Lease(job_id=job.id, worker_id="w", lease_id=job.lease_id)
        if success:
            await engine.jobs.complete(principal, Completion(lease=lease, result=None))
        else:
            await engine.jobs.fail(principal, Failure(lease=lease, error="e"))


async def purge(engine: Engine, principal: Principal) -> int:
    return await engine.jobs.purge_dead(principal, DeadSelection(limit=100))


async def prune(engine: Engine, principal: Principal) -> int:
    async with engine.context.database.transaction() as session:
        bound = (principal.tenant_id, STARTED_AT + timedelta(days=1))
        return await upkeep.prune_done_jobs(session, [bound], limit=100)


async def delete_queue(engine: Engine, principal: Principal) -> int:
    await engine.queues.delete(principal, "q", with_jobs=True)
    return 3


@pytest.mark.parametrize(
    ("delete", "table", "success"),
    [
        (purge, "jobs_dead", False),
        (prune, "jobs_done", True),
        (delete_queue, "jobs", None),
        (delete_queue, "jobs_dead", False),
        (delete_queue, "jobs_done", True),
    ],
)
async def test_deleting_takes_keys_in_their_order_before_jobs(
    engine: Engine,
    principal: Principal,
    connect: Connect,
    delete: Callable[[Engine, Principal], Coroutine[None, None, int]],
    table: str,
    success: bool | None,
) -> None:
    ids = await with_keys(engine, principal, 3)
    if success is not None:
        await finish(engine, principal, ids, success=success)
    holder = await connect()
    watcher = await connect()
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.idempotency_keys where key = 'k2' for update")
    deletion = asyncio.create_task(delete(engine, principal))
    await waiting(watcher, 1)
    # It holds the key before the one it waits for, not the one after it, and no job.
    assert await is_locked(watcher, "idempotency_keys where key = 'k1'")
    assert not await is_locked(watcher, "idempotency_keys where key = 'k3'")
    assert not await is_locked(watcher, table)
    # So that whoever has a key can go on to the job.
    await holder.execute(f"select from millstream.{table} for update nowait")
    await block.rollback()
    assert await deletion == 3


async def is_locked(watcher: asyncpg.Connection, rows: str) -> bool:
    try:
        async with watcher.transaction():
            await watcher.execute(f"select from millstream.{rows} for update nowait")
    except asyncpg.LockNotAvailableError:
        return True
    return False


async def test_deleting_takes_parents_before_what_depends_on_them(
    engine: Engine, principal: Principal, connect: Connect
) -> None:
    [parent] = await with_keys(engine, principal, 1)
    await finish(engine, principal, [parent], success=False)
    child = (await engine.jobs.enqueue(principal, NewJob(queue="c", payload="{}", parent_job_id=parent))).id
    holder = await connect()
    watcher = await connect()
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.jobs_dead where id = $1 for update", parent)
    deletion = asyncio.create_task(purge(engine, principal))
    await waiting(watcher, 1)
    await holder.execute("select from millstream.jobs where id = $1 for update nowait", child)
    await block.rollback()
    assert await deletion == 1


@pytest.mark.parametrize("restart", [False, True])
async def test_dead_letters_are_brought_back_in_the_order_of_their_ids(
    engine: Engine, principal: Principal, connect: Connect, restart: bool
) -> None:
    ids = sorted(await with_keys(engine, principal, 3))
    await finish(engine, principal, ids, success=False)
    holder = await connect()
    watcher = await connect()
    # Of other ages than their ids say: the oldest are chosen, whatever order they are then held in.
    await holder.execute(
        "update millstream.jobs_dead set created_at = created_at - array_position($1, id) * interval '1 hour'",
        ids,
    )
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.jobs_dead where id = $1 for update", ids[1])

    async def retry() -> list[UUID]:
        async with engine.context.database.transaction() as session:
            revived = await dead_letters.retry_dead_jobs(
                session, principal.tenant_id, DeadSelection(limit=100), restart=restart, now=None
            )
        return [job.id for job in revived]

    retrying = asyncio.create_task(retry())
    await waiting(watcher, 1)
    assert await is_locked(watcher, f"jobs_dead where id = '{ids[0]}'")
    assert not await is_locked(watcher, f"jobs_dead where id = '{ids[2]}'")
    await block.rollback()
    # Told the oldest first, as ever.
    assert await retrying == ids[::-1]


async def test_children_of_dead_letters_are_held_in_the_order_of_their_ids(
    engine: Engine, principal: Principal, connect: Connect
) -> None:
    parents = await with_keys(engine, principal, 2)
    await finish(engine, principal, parents, success=False)
    # The first child is the second parent's.
    children = [
        (await engine.jobs.enqueue(principal, NewJob(queue="c", payload="{}", parent_job_id=parent))).id
        for parent in sorted(parents)[::-1]
    ]
    assert children == sorted(children)
    holder = await connect()
    watcher = await connect()
    block = holder.transaction()
    await block.start()
    await holder.execute("select from millstream.jobs where id = $1 for update", children[0])

    async def restart() -> int:
        async with engine.context.database.transaction() as session:
            return len(
                await dead_letters.retry_dead_jobs(
                    session, principal.tenant_id, DeadSelection(limit=100), restart=True, now=None
                )
            )

    retrying = asyncio.create_task(restart())
    await waiting(watcher, 1)
    assert not await is_locked(watcher, f"jobs where id = '{children[1]}'")
    await block.rollback()
    assert await retrying == 2


async def test_without_one_order_there_would_be_a_deadlock(database: Database, connect: Connect) -> None:
    # The proof that the sessions above really meet: the same rows, each taken in the order given.
    async with database.transaction() as session:
        leases = await running(session)
    first, other = leases[0].job_id, leases[-1].job_id
    both = asyncio.Barrier(2)

    async def lock(order: list[UUID]) -> bool:
        connection = await connect()
        await connection.execute("set lock_timeout = '5s'")
        try:
            async with connection.transaction():
                for place, job_id in enumerate(order):
                    if place:
                        await both.wait()
                    await connection.execute("select from millstream.jobs where id = $1 for update", job_id)
        except asyncpg.DeadlockDetectedError:
            return False
        return True

    assert sorted(await asyncio.gather(lock([first, other]), lock([other, first]))) == [False, True]
