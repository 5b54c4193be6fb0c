"""Who gets which job. Contract: spooled-jobs 3.11, 10.4."""

import asyncio
from uuid import UUID

import pytest

from millstream.domain.errors import AccessDenied
from millstream.domain.job import ClaimRequest, JobState
from millstream.domain.queue import QueueChange
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of


async def test_the_best_job_comes_first_then_the_oldest(work: Work) -> None:
    ids: dict[str, UUID] = {}
    for name, priority in [("old", 0), ("low", -100), ("young", 0), ("high", 100), ("one", 1)]:
        ids[name] = await work.enqueue(priority=priority)
        work.clock.advance(1)
    claimed = await work.claim(limit=10)
    assert [job.id for job in claimed] == [ids[name] for name in ("high", "one", "old", "young", "low")]


async def test_jobs_of_one_moment_come_in_the_order_of_their_creation(work: Work) -> None:
    ids = [await work.enqueue() for _ in range(20)]
    claimed = await work.claim(limit=20)
    assert [job.id for job in claimed] == ids


async def test_a_changed_priority_changes_the_order(work: Work) -> None:
    first, second = await work.enqueue(), await work.enqueue()
    assert await work.engine.jobs.set_priority(work.principal, second, 7) == 0
    assert [job.id for job in await work.claim(limit=2)] == [second, first]


async def test_a_claim_tells_all_that_a_worker_needs(work: Work) -> None:
    job_id = await work.enqueue(
        payload='{"a": 1}', priority=3, max_retries=5, timeout_seconds=60, job_type="resize"
    )
    [claimed] = await work.claim(lease_seconds=45)
    assert claimed.id == job_id
    assert claimed.payload == '{"a": 1}'
    assert (claimed.priority, claimed.max_retries, claimed.retry_count, claimed.timeout_seconds) == (
        3,
        5,
        0,
        60,
    )
    assert claimed.lease_expires_at == work.in_seconds(45)
    job = await work.job(job_id)
    assert (job.state, job.worker_id, job.lease_id) == (JobState.RUNNING, "w", claimed.lease_id)
    assert job.started_at == job.updated_at == work.clock.now()


async def test_a_limit_is_a_limit(work: Work) -> None:
    for _ in range(5):
        await work.enqueue()
    assert len(await work.claim(limit=2)) == 2
    assert len(await work.claim(limit=100)) == 3
    assert await work.claim(limit=100) == []


async def test_a_queue_that_nobody_has_seen_has_nothing(work: Work) -> None:
    assert await work.claim("nobody-knows-it") == []


async def test_jobs_of_other_queues_are_left_alone(work: Work) -> None:
    await work.enqueue("a")
    assert await work.claim("b", limit=10) == []


async def test_many_claims_at_once_share_the_jobs_without_an_overlap(work: Work) -> None:
    ids = {await work.enqueue(priority=number % 3) for number in range(30)}
    claims = [work.claim(worker=f"w{number}", limit=3) for number in range(12)]
    handed = await asyncio.gather(*claims)
    jobs = [job for claimed in handed for job in claimed]
    assert {job.id for job in jobs} == ids
    assert len(jobs) == len({job.lease_id for job in jobs}) == 30
    assert sorted(len(claimed) for claimed in handed) == [0, 0, *[3] * 10]
    for number, claimed in enumerate(handed):
        for job in claimed:
            assert (await work.job(job.id)).worker_id == f"w{number}"
        assert [job.priority for job in claimed] == sorted((job.priority for job in claimed), reverse=True)


async def test_claims_of_many_queues_and_tenants_in_one_statement_stay_apart(work: Work) -> None:
    other = Work(work.engine, await make_principal(work.engine), work.clock)
    expected: dict[tuple[int, str], set[UUID]] = {}
    for who, tenant in enumerate((work, other)):
        for queue in ("a", "b", "c"):
            expected[who, queue] = {await tenant.enqueue(queue) for _ in range(4)}
    requests = [
        (who, queue, tenant.claim(queue, worker=f"{who}{queue}", limit=2, lease_seconds=10 + 10 * who))
        for who, tenant in enumerate((work, other))
        for queue in ("c", "a", "b")
        for _ in range(2)
    ]
    handed = await asyncio.gather(*(request for _, _, request in requests))
    for (who, queue, _), claimed in zip(requests, handed, strict=True):
        assert len(claimed) == 2
        for job in claimed:
            assert job.queue == queue
            assert job.lease_expires_at == work.in_seconds(10 + 10 * who)
            expected[who, queue].remove(job.id)
    assert not any(expected.values())


@pytest.mark.parametrize(("seconds", "is_claimed"), [(599, False), (600, True), (601, True)])
async def test_a_scheduled_job_is_claimable_from_its_time_on(
    work: Work, seconds: int, is_claimed: bool
) -> None:
    job_id = await work.enqueue(run_at=work.in_seconds(600))
    assert await work.state(job_id) is JobState.SCHEDULED
    work.clock.advance(seconds)
    # The timer has not been there: the claim itself promotes what is due.
    assert [job.id for job in await work.claim()] == [job_id] * is_claimed


async def test_a_time_in_the_past_does_not_delay(work: Work) -> None:
    job_id = await work.enqueue(run_at=work.in_seconds(-5))
    job = await work.job(job_id)
    assert (job.state, job.run_at) == (JobState.READY, work.in_seconds(-5))


async def test_a_promoted_job_keeps_its_time_and_its_place(work: Work) -> None:
    scheduled = await work.enqueue(run_at=work.in_seconds(60))
    work.clock.advance(1)
    later = await work.enqueue()
    work.clock.advance(60)
    # Created first: it waited, but it is older.
    assert [job.id for job in await work.claim(limit=2)] == [scheduled, later]
    assert (await work.job(scheduled)).run_at == work.in_seconds(-1)


@pytest.mark.parametrize(("seconds", "is_claimed"), [(59, True), (60, False), (61, False)])
async def test_an_expired_job_is_never_claimed(work: Work, seconds: int, is_claimed: bool) -> None:
    job_id = await work.enqueue(expires_at=work.in_seconds(60))
    work.clock.advance(seconds)
    assert [job.id for job in await work.claim()] == [job_id] * is_claimed


async def test_expired_jobs_are_cancelled_with_their_reason(work: Work) -> None:
    ready = await work.enqueue(expires_at=work.in_seconds(60))
    scheduled = await work.enqueue(run_at=work.in_seconds(600), expires_at=work.in_seconds(60))
    stays = await work.enqueue(expires_at=work.in_seconds(90))
    running = await work.run("other", expires_at=work.in_seconds(60), lease_seconds=600)
    work.clock.advance(60)
    assert await work.engine.jobs.expire(limit=100) == 2
    for job_id in (ready, scheduled):
        job = await work.job(job_id)
        assert job.state is JobState.CANCELLED
        assert job.last_error is not None
        assert "expired" in job.last_error
        assert job.completed_at is None
    assert await work.state(stays) is JobState.READY
    await work.complete(running)
    assert await work.engine.jobs.expire(limit=100) == 0


async def test_a_paused_queue_hands_nothing_out_and_takes_everything_in(work: Work) -> None:
    lease = await work.run(lease_seconds=600)
    await work.engine.queues.pause(work.principal, "q", "maintenance")
    job_id = await work.enqueue()
    assert await work.claim() == []
    await work.complete(lease)
    work.clock.advance(90)
    resumed = await work.engine.queues.resume(work.principal, "q")
    assert resumed.paused_seconds == 90
    assert [job.id for job in await work.claim()] == [job_id]


async def test_a_disabled_queue_hands_nothing_out(work: Work) -> None:
    await work.enqueue()
    await work.engine.queues.configure(work.principal, "q", QueueChange(enabled=False))
    assert await work.claim() == []
    await work.engine.queues.configure(work.principal, "q", QueueChange(enabled=True))
    assert len(await work.claim()) == 1


async def test_a_key_of_some_queues_claims_from_no_other(work: Work) -> None:
    await work.enqueue("a")
    with pytest.raises(AccessDenied):
        await work.restricted_to("b").claim("a")
    assert len(await work.restricted_to("a", "b").claim("a")) == 1


async def waits(work: Work, queue: str = "q") -> None:
    async with asyncio.timeout(10):
        while (work.principal.tenant_id, queue) not in work.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0)


def claim_and_wait(work: Work, worker: str = "w") -> "asyncio.Task[list[UUID]]":
    async def claim() -> list[UUID]:
        request = ClaimRequest(queue="q", worker_id=worker)
        return [job.id for job in await work.engine.jobs.claim(work.principal, request, wait_seconds=20)]

    return asyncio.create_task(claim())


async def test_a_waiting_claim_gets_the_job_that_arrives(work: Work) -> None:
    claim = claim_and_wait(work)
    await waits(work)
    job_id = await work.enqueue()
    assert await claim == [job_id]


async def test_a_waiting_claim_sees_what_another_process_enqueued(work: Work, second_engine: Engine) -> None:
    claim = claim_and_wait(work)
    await waits(work)
    elsewhere = Work(second_engine, work.principal, work.clock)
    job_id = await elsewhere.enqueue()
    assert await claim == [job_id]


async def test_a_waiting_claim_is_woken_by_a_resumed_queue(work: Work) -> None:
    await work.engine.queues.pause(work.principal, "q", None)
    job_id = await work.enqueue()
    claim = claim_and_wait(work)
    await waits(work)
    await work.engine.queues.resume(work.principal, "q")
    assert await claim == [job_id]


async def test_closing_lets_waiting_claims_go_with_nothing(work: Work) -> None:
    claims = [claim_and_wait(work, f"w{number}") for number in range(3)]
    await waits(work)
    await work.engine.close()
    assert await asyncio.gather(*claims) == [[], [], []]


async def test_a_cancelled_claim_gives_its_leases_back(work: Work) -> None:
    job_id = await work.enqueue()
    # Held back in the middle of its statement by a session that holds a lock it needs.
    async with work.engine.context.database.transaction() as holder:
        await holder.run("lock table millstream.queues in access exclusive mode")
        claim = asyncio.create_task(work.claim())
        await in_statement(work)
        claim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claim
    async with asyncio.timeout(10):
        while not (found := await work.claim(worker="next")):  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.01)
    assert [job.id for job in found] == [job_id]
    assert found[0].retry_count == 0
    await work.complete(lease_of(found[0], "next"))


async def in_statement(work: Work) -> None:
    """Return once a statement of the engine waits for a lock, or has given up waiting for it."""
    async with asyncio.timeout(10), work.engine.context.database.session() as session:
        while True:
            row = await session.one(
                "select count(*) as waiting from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            assert row is not None
            if row["waiting"]:
                return
