from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.spooled.wire import Api, LiveServer, LiveTenant


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    """One connection pool for the tests of a module."""
    with httpx2.Client(timeout=40, limits=httpx2.Limits(max_connections=32)) as client:
        yield client


@pytest.fixture(scope="module")
def api(http: httpx2.Client, server: LiveServer) -> Api:
    """A caller in the organization that every test shares: use queue names of your own in it."""
    return Api(http, server.url, server.api_key)


@pytest.fixture
def own(http: httpx2.Client, tenant: LiveTenant) -> Api:
    """A caller in an organization of the test's own, on the top plan."""
    return Api(http, tenant.url, tenant.api_key)


@pytest.fixture
def free(http: httpx2.Client, free_tenant: LiveTenant) -> Api:
    """A caller in a fresh organization on the free plan."""
    return Api(http, free_tenant.url, free_tenant.api_key)


@pytest.fixture(scope="module")
def anonymous(http: httpx2.Client, server: LiveServer) -> Api:
    """A caller without a credential."""
    return Api(http, server.url, None)
