"""Who is told what, how often, and what comes of it. Contract: spooled-tenancy 10, spooled-jobs 10.10, 12."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest

from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    Conflict,
    InvalidField,
    NotFound,
    PoisonRow,
    QuotaExceeded,
)
from millstream.domain.job import DeadSelection, JobState, NewJob
from millstream.domain.tenant import PLANS
from millstream.domain.webhook import (
    EVENT_NAMES,
    SUBSCRIBABLE,
    Delivery,
    DeliveryStatus,
    NewWebhook,
    Webhook,
    WebhookChange,
    WebhookEvent,
    WebhookStatus,
)
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of
from tests.receiver import Receiver, listening

ALL = tuple(SUBSCRIBABLE.values())
DAY = 86_400


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as opened:
        yield opened


async def subscribe(work: Work, url: str, *events: WebhookEvent, **options: object) -> Webhook:
    new = NewWebhook(name="w", url=url, events=events or ALL, **options)  # type: ignore[arg-type]
    return await work.engine.outgoing_webhooks.create(work.principal, new)


async def send(work: Work) -> int:
    """Send what is due and wait until it is recorded; returns how many attempts that were."""
    begun = 0
    while claimed := await work.engine.delivering.dispatch():
        begun += claimed
        await work.engine.delivering.settle()
    return begun


async def read(work: Work, webhook: Webhook) -> Webhook:
    return await work.engine.outgoing_webhooks.get(work.principal, webhook.id)


async def deliveries(
    work: Work, webhook: Webhook, status: DeliveryStatus | None = None, limit: int = 100, offset: int = 0
) -> list[Delivery]:
    return list(
        await work.engine.outgoing_webhooks.deliveries(
            work.principal, webhook.id, status=status, limit=limit, offset=offset
        )
    )


async def told(work: Work, webhook: Webhook) -> list[str]:
    """The events that were noted so far, the oldest first; those of one moment by name."""
    rows = await deliveries(work, webhook)
    return [EVENT_NAMES[row.event] for row in sorted(rows, key=lambda row: (row.created_at, row.event))]


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
    by_event = {request.event: request.json for request in receiver.received}
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


async def test_a_failed_attempt_is_tried_again_after_1_2_4_and_8_seconds(
    work: Work, receiver: Receiver
) -> None:
    receiver.status, receiver.answer = 503, b"later"
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    assert await send(work) == 1
    for pause in (1, 2, 4, 8):
        work.clock.advance(pause - 0.01)
        assert await send(work) == 0
        [delivery] = await deliveries(work, webhook)
        assert (delivery.status, delivery.error) == (DeliveryStatus.PENDING, "HTTP 503")
        work.clock.advance(0.01)
        assert await send(work) == 1
    [delivery] = await deliveries(work, webhook)
    assert (delivery.status, delivery.status_code, delivery.error) == (DeliveryStatus.FAILED, 503, "HTTP 503")
    assert (delivery.attempts, delivery.response_body, delivery.delivered_at) == (5, "later", None)
    work.clock.advance(DAY / 2)
    assert await send(work) == 0
    assert [request.attempt for request in receiver.received] == [1, 2, 3, 4, 5]
    assert {request.delivery_id for request in receiver.received} == {str(delivery.id)}
    assert len({request.body for request in receiver.received}) == 1
    after = await read(work, webhook)
    assert (after.failure_count, after.last_status, after.enabled) == (1, WebhookStatus.FAILED, True)
    assert after.last_triggered_at is not None


async def test_a_success_is_final(work: Work, receiver: Receiver) -> None:
    receiver.status, receiver.answer = 204, b""
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    await send(work)
    [delivery] = await deliveries(work, webhook, DeliveryStatus.SUCCESS)
    assert (delivery.status_code, delivery.error, delivery.attempts) == (204, None, 1)
    assert delivery.delivered_at == work.clock.now()
    after = await read(work, webhook)
    assert (after.failure_count, after.last_status) == (0, WebhookStatus.SUCCESS)
    assert await deliveries(work, webhook, DeliveryStatus.FAILED) == []


async def fail_deliveries(work: Work, receiver: Receiver, count: int) -> None:
    """Have `count` deliveries fail for good."""
    receiver.status = 500
    for _ in range(count):
        await work.enqueue()
    for pause in (0, 1, 2, 4, 8):
        work.clock.advance(pause)
        await send(work)


async def test_nineteen_failures_and_a_success_leave_no_trace(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await fail_deliveries(work, receiver, 19)
    assert (await read(work, webhook)).failure_count == 19
    receiver.status = 200
    await work.enqueue()
    await send(work)
    after = await read(work, webhook)
    assert (after.failure_count, after.enabled, after.last_status) == (0, True, WebhookStatus.SUCCESS)
    await fail_deliveries(work, receiver, 1)
    assert (await read(work, webhook)).enabled


async def test_twenty_failures_switch_a_webhook_off_until_it_is_enabled_again(
    work: Work, receiver: Receiver
) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await fail_deliveries(work, receiver, 20)
    after = await read(work, webhook)
    assert (after.failure_count, after.enabled) == (20, False)
    assert after.last_status is WebhookStatus.AUTO_DISABLED
    before = len(await deliveries(work, webhook))
    await work.enqueue()
    assert len(await deliveries(work, webhook)) == before
    enabled = await work.engine.outgoing_webhooks.update(
        work.principal, webhook.id, WebhookChange(enabled=True)
    )
    assert (enabled.failure_count, enabled.enabled, enabled.last_status) == (0, True, None)
    receiver.status = 200
    await work.enqueue()
    await send(work)
    assert (await read(work, webhook)).last_status is WebhookStatus.SUCCESS


async def test_what_is_pending_when_a_webhook_is_switched_off_is_given_up(
    work: Work, receiver: Receiver
) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    await work.engine.outgoing_webhooks.update(work.principal, webhook.id, WebhookChange(enabled=False))
    assert await send(work) == 0
    [delivery] = await deliveries(work, webhook)
    assert (delivery.status, delivery.error, delivery.attempts) == (
        DeliveryStatus.FAILED,
        "Webhook disabled",
        0,
    )
    assert (await read(work, webhook)).failure_count == 0
    assert receiver.received == []


async def test_a_deleted_webhook_is_told_nothing_more(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    await work.engine.outgoing_webhooks.delete(work.principal, webhook.id)
    await work.enqueue()
    assert await send(work) == 0
    with pytest.raises(NotFound):
        await deliveries(work, webhook)
    with pytest.raises(NotFound):
        await work.engine.outgoing_webhooks.delete(work.principal, webhook.id)
    async with work.engine.context.database.session() as session:
        assert await session.many("select id from millstream.outgoing_deliveries") == []


async def test_deliveries_that_outlive_their_webhook_are_dropped(
    work: Work, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELIVERIES_FORGOTTEN_MAX", 1)
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    for _ in range(3):
        await work.enqueue()
    await work.engine.outgoing_webhooks.delete(work.principal, webhook.id)
    assert await send(work) == 0
    async with work.engine.context.database.session() as session:
        assert await session.many("select id from millstream.outgoing_deliveries") == []


async def test_a_delivery_is_retried_on_request(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED, secret="s")
    await fail_deliveries(work, receiver, 1)
    [failed] = await deliveries(work, webhook)
    retry = work.engine.outgoing_webhooks.retry
    refused = await retry(work.principal, webhook.id, failed.id)
    assert (refused.success, refused.status, refused.error) == (False, DeliveryStatus.FAILED, "HTTP 500")
    # It failed before: it counts once.
    assert (await read(work, webhook)).failure_count == 1
    receiver.status = 200
    retried = await retry(work.principal, webhook.id, failed.id)
    assert (retried.success, retried.status, retried.error) == (True, DeliveryStatus.SUCCESS, None)
    [delivery] = await deliveries(work, webhook)
    assert (delivery.id, delivery.attempts, delivery.status) == (failed.id, 7, DeliveryStatus.SUCCESS)
    assert (await read(work, webhook)).failure_count == 0
    assert receiver.received[-1].attempt == 7
    assert receiver.received[-1].is_signed_with("s")
    assert receiver.received[-1].body == receiver.received[0].body
    receiver.status = 500
    assert (await retry(work.principal, webhook.id, failed.id)).status is DeliveryStatus.SUCCESS
    other = await subscribe(work, receiver.url)
    for unknown in ((other.id, failed.id), (webhook.id, UUID(int=1)), (UUID(int=1), failed.id)):
        with pytest.raises(NotFound):
            await retry(work.principal, *unknown)


async def test_a_pending_delivery_retried_on_request_goes_on_in_its_schedule(
    work: Work, receiver: Receiver
) -> None:
    receiver.status = 500
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    await send(work)
    [pending] = await deliveries(work, webhook)
    retried = await work.engine.outgoing_webhooks.retry(work.principal, webhook.id, pending.id)
    assert retried.status is DeliveryStatus.PENDING
    work.clock.advance(2)
    receiver.status = 200
    assert await send(work) == 1
    assert [request.attempt for request in receiver.received] == [1, 2, 3]


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


async def test_of_two_processes_one_sends(work: Work, second_engine: Engine, receiver: Receiver) -> None:
    await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    for _ in range(40):
        await work.enqueue()
    begun = 0
    while found := await asyncio.gather(
        work.engine.delivering.dispatch(), second_engine.delivering.dispatch()
    ):
        begun += sum(found)
        await work.engine.delivering.settle()
        await second_engine.delivering.settle()
        if not sum(found):
            break
    assert begun == 40
    assert len({request.delivery_id for request in receiver.received}) == 40
    assert len(receiver.received) == 40


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


async def test_a_claim_that_ran_out_is_sent_again_under_the_same_id(
    work: Work, second_engine: Engine, receiver: Receiver
) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    await work.enqueue()
    # A process that claims and dies.
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.outgoing_deliveries set claim_id = gen_random_uuid(), next_attempt_at = $1",
            work.in_seconds(40),
        )
    assert await send(work) == 0
    work.clock.advance(40)
    assert await send(work) == 1
    [delivery] = await deliveries(work, webhook)
    assert receiver.received[0].delivery_id == str(delivery.id)
    assert receiver.received[0].attempt == 1


async def test_deliveries_are_pruned_with_the_plans_history(work: Work, receiver: Receiver) -> None:
    free = Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)
    webhook = await subscribe(free, receiver.url, WebhookEvent.JOB_CREATED)
    await free.enqueue()
    await send(free)
    work.clock.advance(PLANS["free"].history_retention_days * DAY)
    await work.engine.upkeep.prune()
    assert len(await deliveries(free, webhook)) == 1
    work.clock.advance(1)
    await work.engine.upkeep.prune()
    assert await deliveries(free, webhook) == []


async def test_the_newest_hundred_deliveries_are_readable(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    for _ in range(6):
        await work.engine.jobs.enqueue_many(
            work.principal, [NewJob(queue="q", payload="{}") for _ in range(20)]
        )
        work.clock.advance(1)
    rows = await deliveries(work, webhook)
    assert len(rows) == 100
    assert [row.created_at for row in rows] == sorted((row.created_at for row in rows), reverse=True)
    assert [row.id for row in await deliveries(work, webhook, limit=10, offset=95)] == [
        row.id for row in rows[95:]
    ]


async def test_the_plan_counts_enabled_webhooks(work: Work, receiver: Receiver) -> None:
    free = Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)
    first = await subscribe(free, receiver.url)
    off = await subscribe(free, receiver.url, enabled=False)
    with pytest.raises(QuotaExceeded) as refused:
        await subscribe(free, receiver.url)
    assert (refused.value.resource, refused.value.current, refused.value.limit) == ("webhooks", 1, 1)
    update = free.engine.outgoing_webhooks.update
    with pytest.raises(QuotaExceeded):
        await update(free.principal, off.id, WebhookChange(enabled=True))
    await update(free.principal, first.id, WebhookChange(enabled=True, name="still"))
    await update(free.principal, first.id, WebhookChange(enabled=False))
    await update(free.principal, off.id, WebhookChange(enabled=True))


async def test_of_many_webhooks_made_at_once_the_plans_number_is_made(
    work: Work, second_engine: Engine, receiver: Receiver
) -> None:
    free = Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)
    elsewhere = Work(second_engine, free.principal, free.clock)
    made = await asyncio.gather(
        *(subscribe(where, receiver.url) for where in (free, elsewhere) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Webhook) for outcome in made) == 1
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in made) == 9


async def test_a_tenant_has_a_thousand_webhooks_at_most(
    work: Work, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WEBHOOKS_MAX", 2)
    for _ in range(2):
        await subscribe(work, receiver.url, enabled=False)
    with pytest.raises(QuotaExceeded):
        await subscribe(work, receiver.url, enabled=False)


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


async def test_an_address_inside_is_refused_when_it_is_stored(work: Work, receiver: Receiver) -> None:
    with pytest.raises(InvalidField, match="Invalid webhook URL"):
        await subscribe(work, "https://10.0.0.1/x")
    webhook = await subscribe(work, receiver.url)
    with pytest.raises(InvalidField, match="Invalid webhook URL"):
        await work.engine.outgoing_webhooks.update(
            work.principal, webhook.id, WebhookChange(url="https://169.254.169.254/latest")
        )
    assert (await read(work, webhook)).url == receiver.url


async def test_an_address_that_became_forbidden_is_never_contacted(work: Work, receiver: Receiver) -> None:
    webhook = await subscribe(work, receiver.url, WebhookEvent.JOB_CREATED)
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.outgoing_webhooks set url = $1", f"https://127.0.0.1:{receiver.port}"
        )
    await work.enqueue()
    await send(work)
    [delivery] = await deliveries(work, webhook)
    assert (delivery.error, delivery.status_code) == ("Invalid webhook URL", None)
    trial = await work.engine.outgoing_webhooks.test(work.principal, webhook.id)
    assert (trial.success, trial.error) == (False, "Invalid webhook URL")
    assert receiver.received == []
