from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.api.goqueue.wire import Topics
from tests.conftest import LiveServer
from tests.live_tenants import LiveTenant


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    """One connection pool for the tests of a module."""
    with httpx2.Client(timeout=40, limits=httpx2.Limits(max_connections=32)) as client:
        yield client


@pytest.fixture(scope="module")
def api(http: httpx2.Client, server: LiveServer) -> Topics:
    """A caller in a tenant of the module's own: use names of your own in it."""
    return Topics(http, server.url, server.tenants.make().api_key)


@pytest.fixture
def own(http: httpx2.Client, tenant: LiveTenant) -> Topics:
    """A caller in a tenant of the test's own."""
    return Topics(http, tenant.url, tenant.api_key)


@pytest.fixture
def restricted(http: httpx2.Client, make_tenant: Callable[..., LiveTenant]) -> Topics:
    """A caller whose key is limited to queues."""
    tenant = make_tenant(queues=("emails",))
    return Topics(http, tenant.url, tenant.api_key)


@pytest.fixture
def anonymous(http: httpx2.Client, server: LiveServer) -> Topics:
    """A caller without a credential."""
    return Topics(http, server.url, None)
