from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.api.spooled.administrator import Administrator, Make
from tests.api.spooled.wire import Api, JsonObject, LiveServer, LiveTenant, answered


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


@pytest.fixture(scope="module")
def admin(http: httpx2.Client, server: LiveServer) -> Administrator:
    """A caller with the server's admin key."""
    return Administrator(http, server.url, server.admin_key)


@pytest.fixture
def make(admin: Administrator, make_tenant: Callable[..., LiveTenant]) -> Make:
    """Make an organization as the administrator shows it, and a caller with its key: `make(plan_tier="free", name=…)`.

    It costs no hash of full strength, as one that is created over HTTP does.
    """

    def call(plan_tier: str = "free", **fields: object) -> tuple[JsonObject, Api]:
        tenant = make_tenant(plan_tier=plan_tier)
        organization = answered(admin.patch(f"/organizations/{tenant.organization_id}", fields))
        return organization, Api(admin.http, tenant.url, tenant.api_key)

    return call
