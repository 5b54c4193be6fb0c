"""Many settlements in one request, and what the settled jobs are told of. Contract: the settle extension."""

import asyncio
from uuid import uuid4

from msgspec.structs import replace

from millstream.domain import limits
from millstream.domain.errors import Conflict, LeaseExpired, NotFound, PayloadTooLarge
from millstream.domain.job import (
    ClaimRequest,
    Completed,
    Completion,
    Failed,
    Failure,
    JobState,
    Lease,
    Release,
    Released,
)
from millstream.engine.events import EventKind
from tests.engine.work import Work, without_id


async def test_each_item_is_answered_for_itself(work: Work) -> None:
    leases = [await work.run(lease_seconds=600) for _ in range(4)]
    unknown = Lease(job_id=uuid4(), worker_id="w", lease_id=uuid4())
    stolen = Lease(job_id=leases[3].job_id, worker_id="w", lease_id=uuid4())
    answers = await work.engine.jobs.settle(
        work.principal,
        [
            Failure(lease=leases[0], error="e", retry_in_seconds=7),
            Completion(lease=leases[1], result="1"),
            Completion(lease=unknown),
            Failure(lease=stolen, error="e"),
            Completion(lease=leases[2], result='"' + "x" * limits.RESULT_BYTES_MAX + '"'),
        ],
    )
    assert answers[:2] == [Failed(leases[0].job_id, 7), Completed(leases[1].job_id)]
    assert [type(answer) for answer in answers[2:]] == [NotFound, LeaseExpired, PayloadTooLarge]
    states = [await work.state(lease.job_id) for lease in leases]
    assert states == [JobState.RETRYING, JobState.COMPLETED, JobState.RUNNING, JobState.RUNNING]


async def test_the_same_job_twice_is_settled_once(work: Work) -> None:
    done, failed = await work.run(lease_seconds=600), await work.run(lease_seconds=600)
    answers = await work.engine.jobs.settle(
        work.principal,
        [
            Completion(lease=done, result="1"),
            Completion(lease=done, result="2"),
            Failure(lease=failed, error="first"),
            Failure(lease=failed, error="second"),
        ],
    )
    assert [type(answer) for answer in answers] == [Completed, Conflict, Failed, LeaseExpired]
    assert (await work.job(done.job_id)).result == "1"
    job = await work.job(failed.job_id)
    assert (job.retry_count, job.last_error) == (1, "first")


async def test_a_thousand_items_are_settled_in_one_request(work: Work) -> None:
    for _ in range(limits.SETTLE_ITEMS_MAX // 100):
        await asyncio.gather(*(work.enqueue() for _ in range(100)))
    claimed = [job for _ in range(limits.SETTLE_ITEMS_MAX // 100) for job in await work.claim(limit=100)]
    items = [
        Completion(lease=Lease(job_id=job.id, worker_id="w", lease_id=job.lease_id))
        if place % 2
        else Failure(lease=Lease(job_id=job.id, worker_id="w", lease_id=job.lease_id), error="e")
        for place, job in enumerate(claimed)
    ]
    answers = await work.engine.jobs.settle(work.principal, items)
    assert [type(answer) for answer in answers] == [Failed, Completed] * (limits.SETTLE_ITEMS_MAX // 2)
    counts = await work.engine.jobs.counts(work.principal)
    assert (counts[JobState.COMPLETED], counts[JobState.RETRYING]) == (500, 500)


async def test_a_subscriber_hears_what_happens_to_the_jobs_of_its_tenant(work: Work) -> None:
    with work.engine.hub.subscribe(work.principal.tenant_id) as subscriber:
        await work.complete(await work.run())
        dead = await work.die()
        await work.engine.jobs.retry(work.principal, dead)
        await work.engine.jobs.cancel(work.principal, dead)
        heard = [subscriber.events.get_nowait().kind for _ in range(subscriber.events.qsize())]
    assert heard == [
        EventKind.JOB_CREATED,
        EventKind.JOB_CLAIMED,
        EventKind.JOB_COMPLETED,
        EventKind.JOB_CREATED,
        EventKind.JOB_CLAIMED,
        EventKind.JOB_FAILED,
        EventKind.JOB_DEAD,
        EventKind.JOB_RETRIED,
        EventKind.JOB_CANCELLED,
    ]


async def test_a_subscriber_that_does_not_listen_is_dropped_and_told(work: Work) -> None:
    tenant_id = work.principal.tenant_id
    with work.engine.hub.subscribe(tenant_id) as slow, work.engine.hub.subscribe(tenant_id) as quick:
        for _ in range(limits.SUBSCRIBER_EVENTS_MAX + 1):
            work.engine.context.tell(EventKind.JOB_CREATED, tenant_id, "q")
            quick.events.get_nowait()
        assert slow.lagged
        assert not quick.lagged
    assert not work.engine.hub.listens(tenant_id)


async def test_a_released_job_is_claimable_at_once_with_the_retries_it_had(work: Work) -> None:
    lease, by_worker = await work.run(max_retries=0, lease_seconds=600), await work.run(lease_seconds=600)
    expired = await work.run(lease_seconds=30)
    done = await work.run(lease_seconds=600)
    work.clock.advance(31)
    answers = await work.engine.jobs.settle(
        work.principal,
        [
            Release(lease=lease),
            Release(lease=lease),
            Release(lease=without_id(by_worker)),
            Release(lease=expired),
            Release(lease=Lease(job_id=done.job_id, worker_id="w", lease_id=uuid4())),
            Release(lease=Lease(job_id=uuid4(), worker_id="w", lease_id=uuid4())),
            Completion(lease=done),
            Release(lease=done),
            Release(lease=replace(by_worker, worker_id="x")),
        ],
    )
    assert [type(answer) for answer in answers] == [
        Released,
        LeaseExpired,
        Released,
        LeaseExpired,
        Conflict,
        NotFound,
        Completed,
        Conflict,
        Conflict,
    ]
    for released in (lease, by_worker):
        job = await work.job(released.job_id)
        assert (job.state, job.retry_count, job.last_error, job.lease_id) == (JobState.READY, 0, None, None)
    assert await work.state(expired.job_id) is JobState.RUNNING
    assert {job.id for job in await work.claim(limit=10)} == {lease.job_id, by_worker.job_id}


async def test_a_release_wakes_a_worker_that_waits(work: Work) -> None:
    lease = await work.run(lease_seconds=600)
    request = ClaimRequest(queue="q", worker_id="next")
    waiting = asyncio.create_task(work.engine.jobs.claim(work.principal, request, wait_seconds=20))
    async with asyncio.timeout(10):
        while not work.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0)
    await work.engine.jobs.settle(work.principal, [Release(lease=lease)])
    [claimed] = await waiting
    assert (claimed.id, claimed.retry_count) == (lease.job_id, 0)
