"""The published client's `ingest` resource, and the log of incoming webhooks in its `webhooks` resource."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from spooled import AsyncSpooledClient, AuthenticationError, NotFoundError, ValidationError
from spooled.errors import QuotaExceededError
from spooled.resources.ingest import CustomWebhookParams

from tests.api.spooled.wire import LiveTenant


async def test_custom(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    params = CustomWebhookParams(
        queue_name="orders", event_type="order.paid", payload={"camelCase": [1]}, priority=5
    )
    made = await own_client.ingest.custom(tenant.organization_id, params, tenant.webhook_token)
    assert (made.queue_name, made.status) == ("orders", "pending")
    assert made.job_id is not None
    job = await own_client.jobs.get(made.job_id)
    assert (job.queue_name, job.payload, job.priority) == ("orders", {"camelCase": [1]}, 5)
    assert (job.max_retries, job.timeout_seconds) == (3, 300)


async def test_custom_with_a_key_is_idempotent(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    params = {"queue_name": "q", "payload": [], "idempotency_key": "once"}
    first = await own_client.ingest.custom(tenant.organization_id, params, tenant.webhook_token)
    [job] = (await own_client.jobs.claim({"queue_name": "q", "worker_id": "w", "limit": 5})).jobs
    assert job.id == first.job_id
    again = await own_client.ingest.custom(tenant.organization_id, params, tenant.webhook_token)
    assert (again.job_id, again.status) == (first.job_id, "processing")


async def test_custom_needs_the_token(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    params = {"queue_name": "q", "payload": 1}
    # The client sends its API key too: that is no webhook token.
    for token in (None, "wrong", tenant.api_key):
        with pytest.raises(AuthenticationError) as caught:
            await own_client.ingest.custom(tenant.organization_id, params, token)
        assert caught.value.code == "AUTHENTICATION_FAILED"
    with pytest.raises(NotFoundError):
        await own_client.ingest.custom(str(uuid.uuid4()), params, tenant.webhook_token)


async def test_custom_refuses_reserved_queues(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    with pytest.raises(ValidationError):
        await own_client.ingest.custom(
            tenant.organization_id, {"queue_name": "admin", "payload": 1}, tenant.webhook_token
        )


async def test_custom_beyond_the_plan(free_client: AsyncSpooledClient, free_tenant: LiveTenant) -> None:
    params = {"queue_name": "q", "payload": 1}
    for _ in range(10):
        await free_client.ingest.custom(free_tenant.organization_id, params, free_tenant.webhook_token)
    with pytest.raises(QuotaExceededError) as caught:
        await free_client.ingest.custom(free_tenant.organization_id, params, free_tenant.webhook_token)
    assert caught.value.code == "QUOTA_EXCEEDED"


async def test_list_inbound_deliveries(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    assert await own_client.webhooks.list_inbound_deliveries() == []
    for event_type in ("one", "two"):
        await own_client.ingest.custom(
            tenant.organization_id,
            {"queue_name": f"q-{event_type}", "event_type": event_type, "payload": 1, "idempotency_key": "k"},
            tenant.webhook_token,
        )
    newest, oldest = await own_client.webhooks.list_inbound_deliveries()
    assert (newest.event_type, oldest.event_type) == ("two", "one")
    assert (newest.status, oldest.status) == ("duplicate", "created")
    assert (newest.provider, newest.matched_queue) == ("custom", "q-two")
    assert newest.job_id == oldest.job_id
    assert abs(datetime.now(UTC) - newest.created_at) < timedelta(minutes=5)
    for params, expected in (
        ({"status": "created"}, [oldest]),
        ({"queue_name": "q-two"}, [newest]),
        ({"limit": 1, "offset": 1}, [oldest]),
        ({"since": newest.created_at}, [newest]),
    ):
        assert await own_client.webhooks.list_inbound_deliveries(params) == expected
