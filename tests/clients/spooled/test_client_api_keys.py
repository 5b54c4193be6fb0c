"""Every method of the published client's `api_keys` resource, and the members of its organization."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from spooled import AsyncSpooledClient, AuthenticationError, NotFoundError, ValidationError
from spooled.errors import AuthorizationError, QuotaExceededError
from spooled.types.api_keys import CreateApiKeyParams, UpdateApiKeyParams

from tests.api.spooled.wire import LiveTenant


async def test_create_get_list(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    params = CreateApiKeyParams(name="mailer", queues=["emails"], rate_limit=60, expires_at=ends)
    made = await own_client.api_keys.create(params)
    assert (made.name, made.expires_at) == ("mailer", ends)
    key = await own_client.api_keys.get(made.id)
    assert (key.name, key.queues, key.rate_limit, key.expires_at) == ("mailer", ["emails"], 60, ends)
    assert key.organization_id == tenant.organization_id
    assert key.key_prefix is not None
    assert made.key.startswith(key.key_prefix)
    assert (key.is_active, key.created_at, key.last_used) == (True, made.created_at, None)
    newest, oldest = await own_client.api_keys.list()
    assert (newest.id, newest.queues, oldest.name) == (made.id, ["emails"], "test")
    plain = await own_client.api_keys.create({"name": "plain"})
    assert plain.expires_at is None
    assert (await own_client.api_keys.get(plain.id)).queues == []


async def test_a_naive_end_is_utc(own_client: AsyncSpooledClient) -> None:
    ends = (datetime.now(UTC) + timedelta(days=1)).replace(tzinfo=None)
    made = await own_client.api_keys.create({"name": "naive", "expires_at": ends})
    assert made.expires_at == ends.replace(tzinfo=UTC)


async def test_update_and_delete(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    made = await own_client.api_keys.create({"name": "k"})
    changed = await own_client.api_keys.update(
        made.id, UpdateApiKeyParams(name="other", queues=["a"], rate_limit=5)
    )
    assert (changed.id, changed.name, changed.queues, changed.rate_limit) == (made.id, "other", ["a"], 5)
    async with AsyncSpooledClient(api_key=made.key, base_url=tenant.url) as client:
        await client.jobs.create({"queue_name": "a", "payload": {}})
        with pytest.raises(AuthorizationError):
            await client.api_keys.list()
        assert await own_client.api_keys.delete(made.id) is None
        with pytest.raises(AuthenticationError) as caught:
            await client.jobs.create({"queue_name": "a", "payload": {}})
        assert (caught.value.status_code, caught.value.code) == (401, "UNAUTHORIZED")
        assert (await own_client.api_keys.update(made.id, {"is_active": True})).is_active
        await client.jobs.create({"queue_name": "a", "payload": {}})


async def test_refusals(free_client: AsyncSpooledClient) -> None:
    unknown = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        await free_client.api_keys.get(unknown)
    with pytest.raises(NotFoundError):
        await free_client.api_keys.update(unknown, {"name": "n"})
    with pytest.raises(NotFoundError):
        await free_client.api_keys.delete(unknown)
    with pytest.raises(ValidationError):
        await free_client.api_keys.create({"name": "<b>"})
    await free_client.api_keys.create({"name": "second"})
    with pytest.raises(QuotaExceededError) as caught:
        await free_client.api_keys.create({"name": "third"})
    assert not caught.value.is_retryable()


async def test_members(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    made = await own_client.api_keys.create({"name": "some", "queues": ["q"]})
    owner, member = await own_client.organizations.get_members(tenant.organization_id)
    assert (owner.name, owner.role) == ("test", "owner")
    assert (member.id, member.user_id, member.name, member.role) == (made.id, made.id, "some", "member")
    assert member.email == ""
    assert member.joined_at == made.created_at
