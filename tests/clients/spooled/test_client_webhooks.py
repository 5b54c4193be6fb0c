"""Every method of the published client's `webhooks` resource for outgoing webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from spooled import AsyncSpooledClient, NotFoundError, RateLimitError, ValidationError
from spooled.types.webhooks import (
    CreateOutgoingWebhookParams,
    ListDeliveriesParams,
    OutgoingWebhookDelivery,
    UpdateOutgoingWebhookParams,
)

from tests.receiver import Receiver, listening


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as opened:
        yield opened


async def settled(client: AsyncSpooledClient, webhook_id: str) -> OutgoingWebhookDelivery:
    """The webhook's only delivery once it is no longer pending."""
    async with asyncio.timeout(30):
        while True:
            rows = await client.webhooks.get_deliveries(webhook_id)
            if rows and rows[0].status != "pending":
                return rows[0]
            await asyncio.sleep(0.02)


async def test_create_get_list_update_and_delete(own_client: AsyncSpooledClient, receiver: Receiver) -> None:
    params = CreateOutgoingWebhookParams(
        name="hook", url=receiver.url, events=["job.completed", "workflow.failed"], secret="s", format="json"
    )
    made = await own_client.webhooks.create(params)
    assert (made.name, made.url, made.events) == ("hook", receiver.url, ["job.completed", "workflow.failed"])
    assert (made.enabled, made.failure_count, made.format, made.last_status) == (True, 0, "json", None)
    assert await own_client.webhooks.get(made.id) == made
    assert await own_client.webhooks.list() == [made]
    changed = await own_client.webhooks.update(made.id, {"name": "new", "enabled": False})
    assert (changed.name, changed.enabled, changed.events) == ("new", False, made.events)
    assert await own_client.webhooks.delete(made.id) is None
    assert await own_client.webhooks.list() == []
    with pytest.raises(NotFoundError):
        await own_client.webhooks.get(made.id)


async def test_a_secret_passed_as_none_is_cleared(own_client: AsyncSpooledClient, receiver: Receiver) -> None:
    made = await own_client.webhooks.create(
        {"name": "hook", "url": receiver.url, "events": ["job.created"], "secret": "s"}
    )
    await own_client.webhooks.update(made.id, UpdateOutgoingWebhookParams(name="still signed"))
    await own_client.webhooks.test(made.id)
    await own_client.webhooks.update(made.id, UpdateOutgoingWebhookParams(secret=None))
    await own_client.webhooks.test(made.id)
    first, second = receiver.received
    assert first.is_signed_with("s")
    assert "x-spooled-signature" not in second.headers


async def test_test(own_client: AsyncSpooledClient, receiver: Receiver) -> None:
    made = await own_client.webhooks.create(
        {"name": "hook", "url": receiver.url, "events": ["job.created"], "enabled": False}
    )
    good = await own_client.webhooks.test(made.id)
    assert (good.success, good.status_code, good.error) == (True, 200, None)
    assert good.response_time_ms >= 0
    receiver.status = 500
    bad = await own_client.webhooks.test(made.id)
    assert (bad.success, bad.status_code, bad.error) == (False, 500, "HTTP 500")


async def test_get_deliveries_and_retry_delivery(own_client: AsyncSpooledClient, receiver: Receiver) -> None:
    made = await own_client.webhooks.create(
        {"name": "hook", "url": receiver.url, "events": ["job.created"], "secret": "s"}
    )
    job = await own_client.jobs.create({"queue_name": "q", "payload": {}})
    delivery = await settled(own_client, made.id)
    assert (delivery.webhook_id, delivery.event, delivery.status) == (made.id, "job.created", "success")
    assert (delivery.status_code, delivery.attempts, delivery.error) == (200, 1, None)
    assert delivery.payload["data"]["job_id"] == job.id
    assert delivery.delivered_at is not None
    params = ListDeliveriesParams(status="success", limit=10, offset=0)
    assert await own_client.webhooks.get_deliveries(made.id, params) == [delivery]
    assert await own_client.webhooks.get_deliveries(made.id, {"status": "failed"}) == []
    retried = await own_client.webhooks.retry_delivery(made.id, delivery.id)
    assert retried.success is True
    assert [request.delivery_id for request in receiver.received] == [delivery.id] * 2
    with pytest.raises(NotFoundError):
        await own_client.webhooks.retry_delivery(made.id, made.id)


async def test_refusals_are_the_clients_own_errors(free_client: AsyncSpooledClient) -> None:
    body = {"name": "hook", "url": "https://example.com/x", "events": ["job.created"]}
    with pytest.raises(ValidationError, match="Invalid webhook URL"):
        await free_client.webhooks.create({**body, "url": "https://169.254.169.254/"})
    await free_client.webhooks.create(body)
    with pytest.raises(RateLimitError) as full:
        await free_client.webhooks.create(body)
    assert full.value.code == "QUOTA_EXCEEDED"
    off = await free_client.webhooks.create({**body, "enabled": False})
    with pytest.raises(RateLimitError):
        await free_client.webhooks.update(off.id, {"enabled": True})
