"""The published client against a server that limits requests. Contract: spooled-tenancy 8.2."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from spooled import AsyncSpooledClient, RateLimitError, SpooledClient
from spooled.config import RetryConfig
from spooled.errors import QuotaExceededError

from tests.cli.server_process import ServerProcess
from tests.clients.spooled.flavour import awaitable
from tests.live_tenants import LiveTenant
from tests.rate_limits.servers import make_tenant, running

pytestmark = pytest.mark.slow

Open = Callable[..., AbstractAsyncContextManager[AsyncSpooledClient]]


@pytest.fixture(scope="module")
def limited() -> Iterator[ServerProcess]:
    with running() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens each flavour in turn for a tenant; it tries as often as it is told."""

    @asynccontextmanager
    async def open_client(tenant: LiveTenant, *, retries: int = 0) -> AsyncGenerator[AsyncSpooledClient]:
        options = {
            "api_key": tenant.api_key,
            "base_url": tenant.url,
            "retry": RetryConfig(max_retries=retries, base_delay=0.01),
        }
        if request.param == "sync":
            with SpooledClient(**options) as client:
                yield awaitable(client)
        else:
            async with AsyncSpooledClient(**options) as client:
                yield client

    return open_client


async def test_a_request_too_many_is_a_rate_limit_error_with_its_time(
    limited: ServerProcess, opened: Open
) -> None:
    async with opened(make_tenant(limited, plan_tier="enterprise", rate_limit=2)) as client:
        for remaining in (1, 0):
            await client.jobs.list()
            assert client.rate_limit is not None
            assert (client.rate_limit.limit, client.rate_limit.remaining) == (2, remaining)
        for call in (client.jobs.list(), client.jobs.create({"queue_name": "q", "payload": {}})):
            with pytest.raises(RateLimitError) as caught:
                await call
            error = caught.value
            assert not isinstance(error, QuotaExceededError)
            assert (error.status_code, error.code) == (429, "RATE_LIMIT_EXCEEDED")
            assert (error.limit, error.remaining, error.scope) == (2, 0, "api_key")
            # Two a minute are one in thirty seconds.
            assert 20 <= error.retry_after <= 30
            assert error.reset is not None
            assert timedelta(0) < error.reset - datetime.now(UTC) <= timedelta(seconds=62)
            assert error.is_retryable()
            assert error.request_id


async def test_a_client_that_may_retry_gets_through(limited: ServerProcess, opened: Open) -> None:
    async with opened(make_tenant(limited), retries=3) as client:
        # Ten at once and five a second: the rest of these have to wait for their time.
        for _ in range(14):
            await client.jobs.list()


async def test_a_quota_is_still_a_quota_error(limited: ServerProcess, opened: Open) -> None:
    async with opened(make_tenant(limited)) as client:
        await client.jobs.bulk_enqueue({"queue_name": "q", "jobs": [{"payload": n} for n in range(10)]})
        with pytest.raises(QuotaExceededError, match="limit reached") as caught:
            await client.jobs.create({"queue_name": "q", "payload": {}})
        error = caught.value
        assert (error.code, error.resource, error.limit) == ("QUOTA_EXCEEDED", "active_jobs", 10)
        assert not error.is_retryable()
        assert client.rate_limit is not None
        assert (client.rate_limit.limit, client.rate_limit.scope) == (10, "organization")
