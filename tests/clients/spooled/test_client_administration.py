"""Every method of the published client's `admin` resource, and of `organizations` and `billing` but for usage and members."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from spooled import (
    AsyncSpooledClient,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    SpooledClient,
    SpooledError,
    ValidationError,
)
from spooled.errors import UnsupportedOperationError

from tests.api.spooled.wire import LiveServer, LiveTenant
from tests.clients.spooled.conftest import FLAVOURS
from tests.clients.spooled.flavour import awaitable


@pytest.fixture(params=FLAVOURS)
async def admin_client(
    request: pytest.FixtureRequest, server: LiveServer
) -> AsyncIterator[AsyncSpooledClient]:
    """Each flavour in turn, with the admin key beside its API key."""
    options = {"api_key": server.api_key, "base_url": server.url, "admin_key": server.admin_key}
    if request.param == "sync":
        with SpooledClient(**options) as client:
            yield awaitable(client)
    else:
        async with AsyncSpooledClient(**options) as client:
            yield client


def a_slug() -> str:
    return f"org-{uuid.uuid4().hex[:20]}"


async def test_an_organization_is_created_listed_changed_and_deleted(
    admin_client: AsyncSpooledClient, server: LiveServer
) -> None:
    slug = a_slug()
    made = await admin_client.organizations.create({"name": "Example", "slug": slug})
    with pytest.raises(ConflictError):
        await admin_client.organizations.create({"name": "Example", "slug": slug})
    async with AsyncSpooledClient(api_key=made.api_key.key, base_url=server.url) as client:
        (row,) = await client.organizations.list()
        assert (row.id, row.slug, row.plan_tier) == (made.organization.id, slug, "free")
        changed = await client.organizations.update(
            row.id, {"name": "Renamed", "billing_email": "p@example.com", "settings": {"camelCase": 1}}
        )
        assert await client.organizations.get(row.id) == changed
        assert (changed.name, changed.billing_email, changed.settings) == (
            "Renamed",
            "p@example.com",
            {"camelCase": 1},
        )
        assert await client.organizations.delete(row.id) is None
        with pytest.raises(AuthenticationError):
            await client.organizations.get(row.id)


async def test_a_foreign_organization_is_not_found(client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    with pytest.raises(NotFoundError):
        await client.organizations.get(tenant.organization_id)
    with pytest.raises(NotFoundError):
        await client.organizations.update(tenant.organization_id, {"name": "Taken over"})
    with pytest.raises(NotFoundError):
        await client.organizations.delete(tenant.organization_id)


async def test_slugs(client: AsyncSpooledClient) -> None:
    generated = await client.organizations.generate_slug("Guide & Readers")
    checked = await client.organizations.check_slug(generated.slug)
    assert (checked.available, checked.valid, checked.error) == (True, True, None)
    taken = await client.organizations.check_slug("default")
    assert (taken.available, taken.suggestion) == (False, "default-2")
    invalid = await client.organizations.check_slug("No Slug")
    assert (invalid.available, invalid.valid) == (False, False)
    assert invalid.error


async def test_webhook_tokens(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    before = await own_client.organizations.get_webhook_token()
    after = await own_client.organizations.regenerate_webhook_token()
    assert before.webhook_token != after.webhook_token is not None
    assert after.webhook_url == f"{tenant.url}/api/v1/webhooks/{tenant.organization_id}/custom"
    assert await own_client.organizations.get_webhook_token() == after
    with pytest.raises(UnsupportedOperationError):
        await own_client.organizations.clear_webhook_token()


async def test_billing(own_client: AsyncSpooledClient) -> None:
    status = await own_client.billing.get_status()
    assert (status.plan_tier, status.has_stripe_customer) == ("enterprise", False)
    with pytest.raises(SpooledError) as caught:
        await own_client.billing.create_portal({"return_url": "https://example.com"})
    assert (caught.value.status_code, caught.value.code) == (400, "BAD_REQUEST")


async def test_the_administrator_creates_finds_changes_and_deletes(
    admin_client: AsyncSpooledClient, server: LiveServer
) -> None:
    admin, slug = admin_client.admin, a_slug()
    made = await admin.create_organization(
        {"name": "Example", "slug": slug, "plan_tier": "pro", "custom_limits": {"max_queues": 3}}
    )
    organization = await admin.get_organization(made.organization.id)
    assert organization == made.organization
    assert organization.custom_limits == {"max_queues": 3}
    rows = await admin.list_organizations({"plan_tier": "pro", "limit": 100})
    assert organization.id in [row.id for row in rows]
    assert await admin.list_organizations()
    changed = await admin.update_organization(
        organization.id, {"plan_tier": "starter", "custom_limits": {}, "settings": {"a": 1}}
    )
    assert (changed.plan_tier, changed.custom_limits, changed.settings) == ("starter", None, {"a": 1})
    with pytest.raises(ValidationError):
        await admin.update_organization(organization.id, {"custom_limits": {"max_queues": -1}})
    async with AsyncSpooledClient(api_key=made.api_key.key, base_url=server.url) as client:
        assert (await client.billing.get_status()).plan_tier == "starter"
        assert await admin.delete_organization(organization.id) is None
        with pytest.raises(AuthenticationError):
            await client.billing.get_status()
    assert (await admin.get_organization(organization.id)).plan_tier == "deleted"
    assert await admin.delete_organization(organization.id, hard=True) is None
    with pytest.raises(NotFoundError):
        await admin.get_organization(organization.id)


async def test_the_administrator_makes_keys_and_resets_usage(
    admin_client: AsyncSpooledClient, tenant: LiveTenant
) -> None:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    key = await admin_client.admin.create_api_key(
        tenant.organization_id,
        {"name": "made", "queues": ["emails"], "rate_limit": 5, "expires_at": expires_at},
    )
    assert (key.name, key.expires_at) == ("made", expires_at)
    async with AsyncSpooledClient(api_key=key.key, base_url=tenant.url) as client:
        assert [row.id for row in await client.organizations.list()] == [tenant.organization_id]
    assert await admin_client.admin.reset_usage(tenant.organization_id) is None


async def test_the_administrator_reads_stats_and_plans(admin_client: AsyncSpooledClient) -> None:
    stats = await admin_client.admin.get_stats()
    assert stats.organizations.total >= 1
    assert stats.system.api_version == "v1"
    plans = await admin_client.admin.list_plans()
    assert [plan.tier for plan in plans] == ["free", "starter", "pro", "enterprise"]


async def test_without_the_admin_key_nothing_is_administered(
    client: AsyncSpooledClient, server: LiveServer
) -> None:
    with pytest.raises(ValueError, match="Admin key"):
        await client.admin.get_stats()
    other = AsyncSpooledClient(api_key=server.api_key, base_url=server.url, admin_key="wrong")
    async with other:
        with pytest.raises(AuthenticationError) as caught:
            await other.admin.get_stats()
    assert caught.value.code == "INVALID_ADMIN_KEY"
