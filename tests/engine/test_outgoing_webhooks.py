"""How often a webhook is told, and what comes of it. Contract: spooled-tenancy 10.4 to 10.7, 19.8 (H10)."""

import asyncio
from uuid import UUID

import pytest

from millstream.domain import limits
from millstream.domain.errors import (
    InvalidField,
    NotFound,
    QuotaExceeded,
)
from millstream.domain.job import NewJob
from millstream.domain.plan import PLANS
from millstream.domain.webhook import (
    DeliveryStatus,
    Webhook,
    WebhookChange,
    WebhookEvent,
    WebhookStatus,
)
from millstream.engine.engine import Engine
from tests.conftest import make_principal
from tests.engine.hooks import deliveries, fail_deliveries, read, send, subscribe
from tests.engine.work import Work
from tests.receiver import Receiver

DAY = 86_400


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
