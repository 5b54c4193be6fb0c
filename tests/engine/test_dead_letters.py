"""Leases that run out, dead letters and their children. Contract: spooled-jobs 3.5, 3.17, 3.18, 10.6, 10.7."""

from uuid import uuid4

import pytest

from millstream.domain.errors import AccessDenied, BadRequest, NotFound
from millstream.domain.job import JobEventKind, JobState
from tests.engine.work import Work, lease_of

K = JobEventKind


async def test_a_lease_that_ran_out_gives_the_job_back_at_once(work: Work) -> None:
    lease = await work.run(lease_seconds=30)
    work.clock.advance(30)
    assert await work.engine.settling.reap() == []
    work.clock.advance(1)
    assert len(await work.engine.settling.reap()) == 1
    job = await work.job(lease.job_id)
    assert (job.state, job.retry_count, job.run_at) == (JobState.READY, 1, None)
    assert (job.worker_id, job.lease_id, job.lease_expires_at) == (None, None, None)
    assert "lease expired" in (job.last_error or "")
    assert [claimed.id for claimed in await work.claim()] == [lease.job_id]
    assert await work.history(lease.job_id) == [K.CREATED, K.CLAIMED, K.LEASE_EXPIRED, K.CLAIMED]


async def test_a_lease_that_ran_out_for_the_last_time_buries_the_job(work: Work) -> None:
    lease = await work.run(max_retries=1, lease_seconds=30)
    for expected in (JobState.READY, JobState.DEAD):
        work.clock.advance(31)
        await work.engine.settling.reap()
        assert await work.state(lease.job_id) is expected
        await work.claim()
    job = await work.job(lease.job_id)
    assert job.retry_count == 1
    assert "lease expired" in (job.last_error or "")
    assert (await work.history(lease.job_id))[-2:] == [K.LEASE_EXPIRED, K.DEAD_LETTERED]


async def test_a_renewed_lease_is_not_reaped(work: Work) -> None:
    lease = await work.run(lease_seconds=30)
    await work.renew(lease, 60)
    work.clock.advance(45)
    assert await work.engine.settling.reap() == []
    await work.complete(lease)


async def test_one_retry_gives_a_dead_letter_exactly_one_more_attempt(work: Work) -> None:
    job_id = await work.die()
    work.clock.advance(5)
    job = await work.engine.jobs.retry(work.principal, job_id)
    assert (job.state, job.retry_count, job.last_error, job.run_at) == (JobState.READY, 1, None, None)
    [claimed] = await work.claim()
    assert (await work.fail(lease_of(claimed))).retry_in_seconds is None
    assert await work.state(job_id) is JobState.DEAD


async def test_dead_letters_retried_together_begin_anew(work: Work) -> None:
    job_id = await work.enqueue(max_retries=1)
    for _ in range(2):
        work.clock.advance(10)
        [claimed] = await work.claim()
        await work.fail(lease_of(claimed))
    assert await work.retry_dead() == [job_id]
    job = await work.job(job_id)
    assert (job.state, job.retry_count, job.last_error, job.run_at) == (JobState.READY, 0, None, None)
    assert job.updated_at == work.clock.now()
    # Claimed at once, with all its retries.
    [claimed] = await work.claim()
    assert (await work.fail(lease_of(claimed))).retry_in_seconds == 1


async def test_the_oldest_dead_letters_are_retried_first(work: Work) -> None:
    ids = []
    for _ in range(4):
        ids.append(await work.die())
        work.clock.advance(1)
    assert await work.retry_dead(limit=3) == ids[:3]
    assert await work.state(ids[3]) is JobState.DEAD


async def test_only_dead_letters_of_the_queue_are_retried(work: Work) -> None:
    wanted, other = await work.die("a"), await work.die("b")
    assert await work.retry_dead(queue="a") == [wanted]
    assert await work.state(other) is JobState.DEAD


async def test_ids_that_are_no_dead_letters_are_skipped(work: Work) -> None:
    dead, alive = await work.die(), await work.enqueue()
    assert await work.retry_dead(job_ids=(alive, dead, uuid4(), dead)) == [dead]
    assert await work.state(alive) is JobState.READY


async def test_a_key_of_some_queues_retries_and_purges_those_only(work: Work) -> None:
    mine, other = await work.die("a"), await work.die("b")
    restricted = work.restricted_to("a")
    with pytest.raises(AccessDenied):
        await restricted.retry_dead(queue="b")
    with pytest.raises(AccessDenied):
        await restricted.purge_dead(queue="b")
    assert await restricted.retry_dead(job_ids=(other,)) == []
    assert await restricted.retry_dead() == [mine]
    assert await restricted.purge_dead() == 0
    assert await work.state(other) is JobState.DEAD


async def test_purging_deletes_the_oldest_with_their_history(work: Work) -> None:
    ids = []
    for _ in range(3):
        ids.append(await work.die())
        work.clock.advance(10)
    assert await work.purge_dead(limit=1) == 1
    assert await work.purge_dead(created_before=work.in_seconds(-15)) == 1
    for job_id in ids[:2]:
        with pytest.raises(NotFound):
            await work.job(job_id)
    assert await work.state(ids[2]) is JobState.DEAD
    assert await work.purge_dead() == 1
    async with work.engine.context.database.session() as session:
        assert await session.one("select from millstream.job_events") is None


async def test_a_parent_does_not_block_at_creation(work: Work) -> None:
    parent = await work.enqueue("parents")
    child = await work.enqueue(parent_job_id=parent)
    assert [job.id for job in await work.claim()] == [child]


async def test_an_unknown_parent_is_refused(work: Work) -> None:
    with pytest.raises(BadRequest):
        await work.enqueue(parent_job_id=uuid4())


async def test_children_wait_for_a_parent_that_begins_anew(work: Work) -> None:
    parent = await work.die("parents")
    ready = await work.enqueue(parent_job_id=parent)
    scheduled = await work.enqueue(parent_job_id=parent, run_at=work.in_seconds(600))
    running = await work.run("other", parent_job_id=parent, lease_seconds=3_600)
    await work.retry_dead(job_ids=(parent,))
    assert await work.state(ready) is JobState.BLOCKED
    assert await work.state(scheduled) is JobState.BLOCKED
    assert await work.state(running.job_id) is JobState.RUNNING
    assert await work.claim() == []
    [claimed] = await work.claim("parents")
    await work.complete(lease_of(claimed))
    # In the transaction of the parent's completion.
    assert await work.state(ready) is JobState.READY
    assert await work.state(scheduled) is JobState.SCHEDULED
    assert [job.id for job in await work.claim(limit=5)] == [ready]
    work.clock.advance(600)
    assert [job.id for job in await work.claim(limit=5)] == [scheduled]


async def test_children_that_wait_are_cancelled_when_their_parent_dies_again(work: Work) -> None:
    parent = await work.die("parents")
    child = await work.enqueue(parent_job_id=parent)
    await work.retry_dead(job_ids=(parent,))
    [claimed] = await work.claim("parents")
    await work.fail(lease_of(claimed))
    job = await work.job(child)
    assert (job.state, job.last_error) == (JobState.CANCELLED, "parent job failed")


async def test_children_that_wait_are_cancelled_with_their_parent(work: Work) -> None:
    parent = await work.die("parents")
    child = await work.enqueue(parent_job_id=parent)
    await work.retry_dead(job_ids=(parent,))
    await work.engine.jobs.cancel(work.principal, parent)
    job = await work.job(child)
    assert (job.state, job.last_error) == (JobState.CANCELLED, "parent job was cancelled")


async def test_a_parent_that_dies_for_the_first_time_leaves_its_children_alone(work: Work) -> None:
    lease = await work.run("parents", max_retries=0)
    child = await work.enqueue(parent_job_id=lease.job_id)
    await work.fail(lease)
    assert await work.state(child) is JobState.READY


async def test_purging_a_parent_deletes_its_children_wherever_they_are(work: Work) -> None:
    parent = await work.die("parents")
    done = await work.run(parent_job_id=parent)
    await work.complete(done)
    dead = await work.die(parent_job_id=parent)
    alive = await work.enqueue(parent_job_id=parent, idempotency_key="k")
    stranger = await work.enqueue()
    assert await work.purge_dead(queue="parents") == 1
    for job_id in (parent, done.job_id, dead, alive):
        with pytest.raises(NotFound):
            await work.job(job_id)
    assert await work.state(stranger) is JobState.READY
    async with work.engine.context.database.session() as session:
        assert await session.one("select from millstream.idempotency_keys") is None
        assert await session.one("select from millstream.job_events") is None


async def test_purging_deletes_what_descends_from_a_dead_letter_to_the_last(work: Work) -> None:
    family = [await work.die("parents")]
    for queue in ("a", "b", "c"):
        lease = await work.run(queue, parent_job_id=family[-1], max_retries=0, idempotency_key=queue)
        await (work.fail(lease) if queue == "b" else work.complete(lease))
        family.append(lease.job_id)
    family.append(await work.enqueue("d", parent_job_id=family[-1]))
    stranger = await work.enqueue(idempotency_key="stranger")
    assert await work.purge_dead(queue="parents") == 1
    for job_id in family:
        with pytest.raises(NotFound):
            await work.job(job_id)
    assert await work.state(stranger) is JobState.READY
    async with work.engine.context.database.session() as session:
        [key] = await session.many("select key from millstream.idempotency_keys")
        assert await session.one("select from millstream.job_events") is None
    assert key["key"] == "stranger"
