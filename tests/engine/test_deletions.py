"""Deletions of many jobs: in steps, whole in the end, and fair to what waited for a deleted job. Contract: 3.18, 4.3, 10.7."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from millstream.domain import limits
from millstream.domain.errors import NotFound
from millstream.domain.job import JobState
from millstream.domain.queue import QueueChange
from millstream.engine.events import EventKind
from tests.engine.work import Work, lease_of


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DELETED_ROWS_MAX", 3)
    monkeypatch.setattr(limits, "PURGED_ROWS_MAX", 2)


async def left(work: Work) -> int:
    return sum((await work.engine.jobs.counts(work.principal)).values())


async def rest(work: Work) -> int:
    """Return how many keys and history entries there are."""
    async with work.engine.context.database.session() as session:
        row = await session.one(
            "select (select count(*) from millstream.idempotency_keys) + (select count(*) from"
            " millstream.job_events) as rest"
        )
    assert row is not None
    return int(row["rest"])


@pytest.mark.usefixtures("small_steps")
async def test_a_family_larger_than_a_step_is_purged_whole(work: Work) -> None:
    root = await work.die("roots")
    # A chain below one child, and more children and grandchildren than a step deletes.
    last = root
    for number in range(8):
        last = await work.enqueue("chain", parent_job_id=last, idempotency_key=f"chain {number}")
    for number in range(5):
        child = await work.die("children", parent_job_id=root)
        await work.enqueue("grandchildren", parent_job_id=child, idempotency_key=f"grandchild {number}")
    stranger = await work.enqueue()
    assert await work.purge_dead(queue="roots") == 1
    assert await left(work) == 1
    assert await work.state(stranger) is JobState.READY
    assert await rest(work) == 0


@pytest.mark.usefixtures("small_steps")
async def test_a_purge_of_several_steps_stops_at_its_limit(work: Work) -> None:
    ids = []
    for _ in range(7):
        ids.append(await work.die())
        work.clock.advance(1)
    assert await work.purge_dead(limit=5) == 5
    assert [job.id for job in await work.engine.jobs.statuses(work.principal, ids)] == ids[5:]
    assert await work.purge_dead(limit=5) == 2


async def test_a_dead_letter_that_is_retried_while_it_is_purged_stays_with_its_children(
    work: Work, database_dsn: str
) -> None:
    root = await work.die("roots", idempotency_key="root")
    child = await work.enqueue(parent_job_id=root)
    other = await work.die("roots")
    holder = await asyncpg.connect(database_dsn)
    try:
        await holder.execute("begin")
        # What a retry does: it takes the row away from the dead letters.
        await holder.execute("select from millstream.jobs_dead where id = $1 for update", root)
        purge = asyncio.create_task(work.purge_dead(queue="roots"))
        await waiting(holder)
        await holder.execute("delete from millstream.jobs_dead where id = $1", root)
        await holder.execute("commit")
        assert await purge == 1
    finally:
        await holder.close()
    assert await work.state(child) is JobState.READY
    with pytest.raises(NotFound):
        await work.job(other)


async def waiting(watcher: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while not await watcher.fetchval(  # noqa: ASYNC110 - polled with a deadline
            "select count(*) > 0 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.005)


async def every_state(work: Work) -> list[UUID]:
    """Bring one job of queue `q` into each state."""
    # Ready last: the others would be handed that one.
    states = sorted(JobState, key=lambda state: state is JobState.READY)
    return [(await work.in_state(state)).job_id for state in states]


@pytest.mark.usefixtures("small_steps")
async def test_a_queue_is_deleted_with_its_jobs_in_every_state(work: Work) -> None:
    await work.engine.queues.configure(work.principal, "q", QueueChange())
    ids = await every_state(work)
    keyed = await work.enqueue(idempotency_key="k")
    stranger = await work.enqueue("other")
    await work.engine.queues.delete(work.principal, "q", with_jobs=True)
    assert await work.engine.jobs.statuses(work.principal, [*ids, keyed]) == []
    assert await work.state(stranger) is JobState.READY
    # The failure and the retry of the blocked one's parent, which lives in another queue.
    assert await rest(work) == 2
    with pytest.raises(NotFound):
        await work.engine.queues.get(work.principal, "q")
    with pytest.raises(NotFound):
        await work.engine.queues.delete(work.principal, "q", with_jobs=True)


async def test_what_waited_for_a_job_of_a_deleted_queue_is_cancelled(work: Work) -> None:
    parent = await work.die("parents")
    child = await work.die("children", parent_job_id=parent)
    grandchild = await work.enqueue("grandchildren", parent_job_id=child)
    unblocked = await work.run("runners", parent_job_id=parent)
    await work.retry_dead(job_ids=(child,))
    await work.retry_dead(job_ids=(parent,))
    states = [await work.state(job_id) for job_id in (parent, child, grandchild)]
    assert states == [JobState.READY, JobState.BLOCKED, JobState.BLOCKED]
    with work.engine.hub.subscribe(work.principal.tenant_id) as listener:
        await work.engine.queues.delete(work.principal, "parents", with_jobs=True)
        told = [listener.events.get_nowait() for _ in range(listener.events.qsize())]
    assert {(event.kind, event.job_id) for event in told} == {
        (EventKind.JOB_CANCELLED, child),
        (EventKind.JOB_CANCELLED, grandchild),
    }
    for job_id in (child, grandchild):
        job = await work.job(job_id)
        assert (job.state, job.last_error) == (JobState.CANCELLED, "parent job was deleted")
    await work.complete(unblocked)


async def test_a_blocked_job_within_a_deleted_queue_goes_with_it(work: Work) -> None:
    parent = await work.die()
    child = await work.enqueue(parent_job_id=parent)
    await work.retry_dead(job_ids=(parent,))
    assert await work.state(child) is JobState.BLOCKED
    await work.engine.queues.delete(work.principal, "q", with_jobs=True)
    assert await left(work) == 0


@pytest.mark.usefixtures("small_steps")
async def test_deleting_a_queue_commits_step_by_step_and_answers_when_all_is_gone(
    work: Work, database_dsn: str
) -> None:
    ids = [await work.enqueue() for _ in range(10)]
    holder = await asyncpg.connect(database_dsn)
    watcher = await asyncpg.connect(database_dsn)
    try:
        await holder.execute("begin")
        await holder.execute("select from millstream.jobs where id = $1 for update", ids[-1])
        deletion = asyncio.create_task(work.engine.queues.delete(work.principal, "q", with_jobs=True))
        await waiting(watcher)
        assert await watcher.fetchval("select count(*) from millstream.jobs") == 1
        assert not deletion.done()
        await holder.execute("commit")
        await deletion
    finally:
        await holder.close()
        await watcher.close()
    assert await left(work) == 0


async def test_a_deletion_that_was_cut_short_is_completed_by_the_next(
    work: Work, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELETED_ROWS_MAX", 3)
    await work.engine.queues.configure(work.principal, "q", QueueChange())
    ids = [await work.enqueue() for _ in range(8)]
    holder = await asyncpg.connect(database_dsn)
    try:
        await holder.execute("begin")
        await holder.execute("select from millstream.jobs where id = $1 for update", ids[-1])
        deletion = asyncio.create_task(work.engine.queues.delete(work.principal, "q", with_jobs=True))
        await waiting(holder)
        deletion.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deletion
    finally:
        await holder.close()
    assert await left(work) == 2
    await work.engine.queues.get(work.principal, "q")
    await work.engine.queues.delete(work.principal, "q", with_jobs=True)
    assert await left(work) == 0


async def test_a_job_that_is_claimed_while_its_queue_is_deleted_is_gone_for_its_worker(work: Work) -> None:
    await work.enqueue()
    [claimed] = await work.claim()
    await work.engine.queues.delete(work.principal, "q", with_jobs=True)
    with pytest.raises(NotFound):
        await work.complete(lease_of(claimed))
