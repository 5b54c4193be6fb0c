"""Every method of the published client's `auth` resource, and its clients that live on tokens."""

from __future__ import annotations

import time

import jwt
import pytest
from spooled import AsyncSpooledClient, AuthenticationError, NotFoundError, SpooledClient
from spooled.types.auth import LoginResponse

from tests.api.spooled.wire import LiveTenant


async def log_in(client: AsyncSpooledClient, tenant: LiveTenant) -> LoginResponse:
    return await client.auth.login({"api_key": tenant.api_key})


async def test_login_and_me(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    tokens = await log_in(own_client, tenant)
    assert (tokens.token_type, tokens.expires_in, tokens.refresh_expires_in) == ("Bearer", 86_400, 2_073_600)
    async with AsyncSpooledClient(access_token=tokens.access_token, base_url=tenant.url) as client:
        me = await client.auth.me()
        assert (me.organization_id, me.queues) == (tenant.organization_id, ["*"])
        assert me.organization is not None
        assert (me.organization.id, me.organization.name) == (tenant.organization_id, "Test tenant")
        assert (me.expires_at - me.issued_at).total_seconds() == tokens.expires_in
        made = await client.jobs.create({"queue_name": "q", "payload": {}})
        assert (await own_client.jobs.get(made.id)).id == made.id
    with pytest.raises(AuthenticationError):
        await own_client.auth.me()


async def test_refresh_and_validate(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    tokens = await log_in(own_client, tenant)
    fresh = await own_client.auth.refresh({"refresh_token": tokens.refresh_token})
    assert (fresh.token_type, fresh.expires_in) == ("Bearer", 86_400)
    for token in (tokens.access_token, fresh.access_token, tokens.refresh_token):
        looked = await own_client.auth.validate({"token": token})
        assert (looked.valid, looked.error) == (True, None)
        assert (looked.organization_id, looked.queues) == (tenant.organization_id, ["*"])
        assert looked.api_key_id
        assert looked.expires_at is not None
    wrong = await own_client.auth.validate({"token": "rubbish"})
    assert (wrong.valid, wrong.error) == (False, "Invalid token")


async def test_logout_ends_both_tokens(own_client: AsyncSpooledClient, tenant: LiveTenant) -> None:
    tokens = await log_in(own_client, tenant)
    async with AsyncSpooledClient(
        access_token=tokens.access_token, refresh_token=tokens.refresh_token, base_url=tenant.url
    ) as client:
        assert await client.auth.logout() is None
    assert (await own_client.auth.validate({"token": tokens.access_token})).valid is False
    with pytest.raises(AuthenticationError):
        await own_client.auth.refresh({"refresh_token": tokens.refresh_token})


async def test_logout_without_a_refresh_token_leaves_it(
    own_client: AsyncSpooledClient, tenant: LiveTenant
) -> None:
    tokens = await log_in(own_client, tenant)
    async with AsyncSpooledClient(access_token=tokens.access_token, base_url=tenant.url) as client:
        await client.auth.logout()
        with pytest.raises(AuthenticationError):
            await client.auth.me()
    await own_client.auth.refresh({"refresh_token": tokens.refresh_token})


async def test_a_client_renews_a_token_that_does_not_count_any_more(
    own_client: AsyncSpooledClient, tenant: LiveTenant
) -> None:
    tokens = await log_in(own_client, tenant)
    stale = jwt.encode({"exp": int(time.time()) - 600}, "x" * 64, "HS256")
    async with AsyncSpooledClient(
        access_token=stale, refresh_token=tokens.refresh_token, base_url=tenant.url
    ) as client:
        assert (await client.auth.me()).organization_id == tenant.organization_id


def test_the_token_that_realtime_connections_use_is_kept_and_renewed_on_demand(tenant: LiveTenant) -> None:
    with SpooledClient(api_key=tenant.api_key, base_url=tenant.url) as client:
        first = client.get_jwt_token()
        assert client.get_jwt_token() == first
        assert client.get_jwt_token(force_refresh=True) != first


async def test_a_wrong_key_is_an_authentication_error(own_client: AsyncSpooledClient) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await own_client.auth.login({"api_key": "sk_test_wrong_key"})
    assert (caught.value.status_code, caught.value.code) == (401, "UNAUTHORIZED")


async def test_sign_in_by_email_is_not_enabled(own_client: AsyncSpooledClient) -> None:
    with pytest.raises(NotFoundError):
        await own_client.auth.start_email_login("somebody@example.com")
    with pytest.raises(NotFoundError):
        await own_client.auth.check_email("somebody@example.com")
