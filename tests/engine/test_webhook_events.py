"""What webhooks are told of, and what a job's own address is told. Contract: spooled-tenancy 10.2, spooled-jobs 10.10, 12."""

import asyncio

import pytest

from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    Conflict,
    NotFound,
    PoisonRow,
    QuotaExceeded,
)
from millstream.domain.job import DeadSelection, JobState, NewJob
from millstream.domain.webhook import (
    WebhookChange,
    WebhookEvent,
)
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.hooks import deliveries, read, send, subscribe, told
from tests.engine.work import Work, lease_of
from tests.receiver import Receiver


async def test_every_step_of_a_job_is_told_once(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    lease = await work.run(max_retries=1)
    work.clock.advance(1)
    await work.fail(lease, retry_in_seconds=0)
    work.clock.advance(1)
    [again] = await work.claim()
    work.clock.advance(1)
    await work.fail(lease_of(again))
    work.clock.advance(1)
    await work.engine.jobs.retry(work.principal, lease.job_id)
    [last] = await work.claim()
    work.clock.advance(1)
    await work.complete(lease_of(last), '{"pages": 3}')
    work.clock.advance(1)
    cancelled = await work.enqueue()
    await work.engine.jobs.cancel(work.principal, cancelled)
    assert await told(work, webhook) == [
        *("job.created", "job.started", "job.failed", "job.retried", "job.started", "job.failed"),
        *("job.deadlettered", "job.started", "job.retried", "job.completed", "job.created", "job.cancelled"),
    ]
    assert await send(work) == 12
    assert await send(work) == 0
    assert len(receiver.received) == 12
    # Deliveries are under way together and arrive in any order; of two of one kind the later one is meant.
    received = sorted(receiver.received, key=lambda request: request.json["created_at"])
    by_event = {request.event: request.json for request in received}
    for event, envelope in by_event.items():
        assert envelope["event"] == event
        assert envelope["timestamp"] == envelope["created_at"]
        assert envelope["data"]["queue_name"] == "q"
        assert envelope["data"]["job_id"] == str(cancelled if event == "job.cancelled" else lease.job_id) or (
            event == "job.created"
        )
    assert by_event["job.completed"]["data"]["result"] == {"pages": 3}
    assert by_event["job.completed"]["data"]["worker_id"] == "w"
    assert by_event["job.deadlettered"]["data"]["error"] == "boom"
    assert {event: envelope["data"]["status"] for event, envelope in by_event.items()} == {
        "job.created": "pending",
        "job.started": "processing",
        "job.failed": "deadletter",
        "job.retried": "pending",
        "job.deadlettered": "deadletter",
        "job.completed": "completed",
        "job.cancelled": "cancelled",
    }


async def test_jobs_that_are_cancelled_with_a_deleted_queue_are_told(work: Work, receiver: Receiver) -> None:
    parent = await work.die("parents")
    child = await work.enqueue("children", parent_job_id=parent)
    assert await work.retry_dead(job_ids=(parent,)) == [parent]
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CANCELLED)
    await work.engine.queues.delete(work.principal, "parents", with_jobs=True)
    assert await told(work, webhook) == ["job.cancelled"]
    assert await send(work) == 1
    assert [request.json["data"]["job_id"] for request in receiver.received] == [str(child)]


async def test_leases_that_run_out_and_jobs_that_expire_are_told(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    await work.run(lease_seconds=30, max_retries=0)
    work.clock.advance(31)
    await work.engine.settling.reap()
    assert (await told(work, webhook))[2:] == ["job.failed", "job.deadlettered"]
    work.clock.advance(1)
    await work.enqueue(expires_at=work.in_seconds(1))
    work.clock.advance(2)
    await work.engine.jobs.expire(limit=10)
    assert (await told(work, webhook))[-1] == "job.cancelled"


@pytest.mark.parametrize("by_reaper", [False, True])
async def test_what_is_cancelled_with_its_parent_is_told_too(
    work: Work, receiver: Receiver, by_reaper: bool
) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CANCELLED)
    parent = await work.die("parents")
    child = await work.enqueue(parent_job_id=parent)
    grandchild = await work.enqueue(parent_job_id=child)
    await work.retry_dead(job_ids=(parent,))
    assert await work.state(child) is JobState.BLOCKED
    [running] = await work.claim("parents", lease_seconds=30)
    if by_reaper:
        work.clock.advance(31)
        await work.engine.settling.reap()
    else:
        await work.fail(lease_of(running))
    cancelled = (
        {str(child), str(grandchild)} if await work.state(grandchild) is JobState.CANCELLED else {str(child)}
    )
    assert await work.state(child) is JobState.CANCELLED
    await send(work)
    assert {request.json["data"]["job_id"] for request in receiver.received} == cancelled
    assert set(await told(work, webhook)) == {"job.cancelled"}


async def test_jobs_in_bulk_and_dead_letters_in_bulk_are_told(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED, WebhookEvent.JOB_RETRIED)
    new = [NewJob(queue="q", payload="{}", max_retries=0) for _ in range(5)]
    await work.engine.jobs.enqueue_many(work.principal, new)
    for claimed in await work.claim(limit=5):
        await work.fail(lease_of(claimed))
    work.clock.advance(1)
    await work.engine.jobs.retry_dead(work.principal, DeadSelection(limit=5))
    assert await told(work, webhook) == ["job.created"] * 5 + ["job.retried"] * 5


async def test_a_known_idempotency_key_is_no_new_job(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    await work.enqueue(idempotency_key="k")
    await work.enqueue(idempotency_key="k")
    assert await told(work, webhook) == ["job.created"]


async def test_a_tenant_with_a_cap_is_told_too(work: Work, receiver: Receiver) -> None:
    free = Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)
    webhook = await subscribe(free, receiver.url)
    await free.enqueue(run_at=free.in_seconds(60))
    await send(free)
    assert await told(free, webhook) == ["job.created"]
    assert receiver.received[0].json["data"]["status"] == "scheduled"


async def test_queues_and_workers_are_told(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    await work.engine.queues.pause(work.principal, "q", "deploy")
    await work.engine.queues.resume(work.principal, "q")
    await work.engine.workers.register(work.principal, NewWorker(id="w", queue="q", hostname="h"))
    await work.engine.workers.deregister(work.principal, "w")
    assert await told(work, webhook) == [
        *("queue.paused", "queue.resumed", "worker.registered", "worker.deregistered"),
    ]
    await send(work)
    data = {request.event: request.json["data"] for request in receiver.received}
    worker = {"worker_id": "w", "queue_name": "q", "hostname": "h"}
    assert data == {
        "queue.paused": {"queue_name": "q", "reason": "deploy"},
        "queue.resumed": {"queue_name": "q"},
        "worker.registered": worker,
        "worker.deregistered": worker,
    }


async def test_only_what_was_asked_for_is_told_and_only_to_its_tenant(work: Work, receiver: Receiver) -> None:
    other = Work(work.engine, await make_principal(work.engine), work.clock)
    both = [await subscribe(work, receiver.url, WebhookEvent.JOB_COMPLETED) for _ in range(2)]
    off = await subscribe(work, receiver.url, enabled=False)
    theirs = await subscribe(other, receiver.url)
    await work.complete(await work.run())
    assert [await told(work, webhook) for webhook in both] == [["job.completed"]] * 2
    assert await told(work, off) == []
    assert await told(other, theirs) == []
    with pytest.raises(NotFound):
        await read(other, both[0])
    with pytest.raises(NotFound):
        await deliveries(other, both[0])


async def test_a_refused_change_tells_nothing(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    lease = await work.run()
    await work.complete(lease)
    before = await told(work, webhook)
    with pytest.raises(Conflict):
        await work.complete(lease)
    with pytest.raises(Conflict):
        await work.engine.jobs.cancel(work.principal, lease.job_id)
    assert await told(work, webhook) == before


async def test_a_change_that_cannot_be_told_is_not_made(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    completed, failed = await work.run(), await work.run()
    before = await told(work, webhook)
    async with work.engine.context.database.session() as session, session.together():
        await session.run("set local role millstream_owner")
        await session.run(
            "alter table millstream.outgoing_deliveries add constraint nothing_new check (false) not valid"
        )
    for change in (work.complete(completed), work.fail(failed), work.enqueue(), work.engine.settling.reap()):
        work.clock.advance(10)
        with pytest.raises(PoisonRow):
            await change
    assert [await work.state(lease.job_id) for lease in (completed, failed)] == [JobState.RUNNING] * 2
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 2
    assert await told(work, webhook) == before


async def test_dead_letters_that_do_not_fit_are_not_told(work: Work, receiver: Receiver) -> None:
    free = Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)
    await free.die()
    for _ in range(10):
        await free.enqueue()
    webhook = await subscribe(free, receiver.url, WebhookEvent.JOB_RETRIED)
    with pytest.raises(QuotaExceeded):
        await free.engine.jobs.retry_dead(free.principal, DeadSelection(limit=5))
    assert await told(free, webhook) == []


@pytest.mark.parametrize("dead", [False, True])
async def test_a_jobs_own_address_is_told_of_its_end_alone(
    work: Work, receiver: Receiver, dead: bool
) -> None:
    lease = await work.run(completion_webhook=receiver.url, completion_webhook_secret="shh", max_retries=1)
    await work.fail(lease, 'it "broke"\n', retry_in_seconds=0)
    assert await send(work) == 0
    [again] = await work.claim()
    if dead:
        await work.fail(lease_of(again), 'it "broke"\n')
    else:
        await work.complete(lease_of(again), '{"a": [1, "é"]}')
    assert await send(work) == 1
    [request] = receiver.received
    assert request.is_signed_with("shh")
    assert request.attempt == 1
    assert request.event == ("job.deadlettered" if dead else "job.completed")
    body = request.json
    created_at, completed_at = body.pop("created_at"), body.pop("completed_at")
    assert created_at.endswith("Z")
    assert completed_at is None if dead else completed_at.endswith("Z")
    assert body == {
        "event": request.event,
        "job_id": str(lease.job_id),
        "queue_name": "q",
        "status": "deadletter" if dead else "completed",
        "result": None if dead else {"a": [1, "é"]},
        "error": 'it "broke"\n' if dead else None,
        "retry_count": 1,
    }
    async with work.engine.context.database.session() as session:
        assert await session.many("select id from millstream.outgoing_deliveries") == []


async def test_a_lost_lease_tells_the_jobs_own_address(work: Work, receiver: Receiver) -> None:
    await work.run(completion_webhook=receiver.url, max_retries=0, lease_seconds=30)
    work.clock.advance(31)
    await work.engine.settling.reap()
    assert await send(work) == 1
    assert receiver.events() == ["job.deadlettered"]
    assert "x-spooled-signature" not in receiver.received[0].headers


async def test_a_jobs_own_address_is_retried_and_then_given_up(work: Work, receiver: Receiver) -> None:
    receiver.status = 500
    await work.complete(await work.run(completion_webhook=receiver.url))
    attempts = 0
    for pause in (0, 1, 2, 4, 8, 60):
        work.clock.advance(pause)
        attempts += await send(work)
    assert attempts == 5
    assert len({request.delivery_id for request in receiver.received}) == 1


async def test_a_cancelled_job_does_not_call_back(work: Work, receiver: Receiver) -> None:
    job_id = await work.enqueue(completion_webhook=receiver.url)
    await work.engine.jobs.cancel(work.principal, job_id)
    assert await send(work) == 0


async def test_a_large_result_is_told_to_the_jobs_own_address_only(work: Work, receiver: Receiver) -> None:
    await subscribe(work, receiver.url, WebhookEvent.JOB_COMPLETED)
    result = '"' + "x" * limits.WEBHOOK_RESULT_BYTES_MAX + '"'
    await work.complete(await work.run(completion_webhook=f"{receiver.url}/own"), result)
    await send(work)
    bodies = {request.path: request.json for request in receiver.received}
    assert "result" not in bodies["/hook"]["data"]
    assert len(bodies["/hook/own"]["result"]) == limits.WEBHOOK_RESULT_BYTES_MAX


async def test_another_process_hears_of_a_new_webhook_within_a_second(
    work: Work, second_engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Work(second_engine, work.principal, work.clock)
    await elsewhere.enqueue()
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    async with asyncio.timeout(30):
        # Each job is a look: the first ones may still be untold.
        while not await told(work, webhook):
            await elsewhere.enqueue()


async def test_a_key_of_some_queues_sees_no_webhooks(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url)
    narrow = work.restricted_to("q")
    webhooks, principal = narrow.engine.outgoing_webhooks, narrow.principal
    for call in (
        webhooks.list(principal),
        webhooks.get(principal, webhook.id),
        webhooks.delete(principal, webhook.id),
        webhooks.test(principal, webhook.id),
        webhooks.update(principal, webhook.id, WebhookChange(name="x")),
        webhooks.deliveries(principal, webhook.id, status=None, limit=1, offset=0),
        webhooks.retry(principal, webhook.id, webhook.id),
        subscribe(narrow, receiver.url),
    ):
        with pytest.raises(AccessDenied):
            await call
    # Its jobs are told nevertheless.
    await narrow.enqueue()
    assert await told(work, webhook) == ["job.created"]
