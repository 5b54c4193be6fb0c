from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from spooled import AsyncSpooledClient, SpooledClient

from tests.api.spooled.wire import Api, LiveServer, LiveTenant
from tests.clients.spooled.flavour import awaitable

# The slow tests run the other one.
FLAVOURS = ("sync", pytest.param("async", marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=40) as client:
        yield client


@pytest.fixture(scope="module")
def api(http: httpx2.Client, server: LiveServer) -> Api:
    """A raw caller in the organization that the client fixtures use too."""
    return Api(http, server.url, server.api_key)


@pytest.fixture(scope="module")
def spooled_client(server: LiveServer) -> Iterator[SpooledClient]:
    """The synchronous client in the organization that every test shares: use queue names of your own in it."""
    with SpooledClient(api_key=server.api_key, base_url=server.url) as client:
        yield client


@pytest.fixture
async def async_spooled_client(server: LiveServer) -> AsyncIterator[AsyncSpooledClient]:
    async with AsyncSpooledClient(api_key=server.api_key, base_url=server.url) as client:
        yield client


@pytest.fixture(params=FLAVOURS)
def plain(request: pytest.FixtureRequest) -> SpooledClient | AsyncSpooledClient:
    """Each flavour of the client in turn, as published: what a worker runtime takes."""
    return request.getfixturevalue("spooled_client" if request.param == "sync" else "async_spooled_client")


@pytest.fixture
def client(plain: SpooledClient | AsyncSpooledClient) -> AsyncSpooledClient:
    """Each flavour of the client in turn, behind one face."""
    return awaitable(plain) if isinstance(plain, SpooledClient) else plain


async def of_tenant(flavour: str, tenant: LiveTenant) -> AsyncIterator[AsyncSpooledClient]:
    if flavour == "sync":
        with SpooledClient(api_key=tenant.api_key, base_url=tenant.url) as client:
            yield awaitable(client)
    else:
        async with AsyncSpooledClient(api_key=tenant.api_key, base_url=tenant.url) as client:
            yield client


@pytest.fixture(params=FLAVOURS)
async def own_client(request: pytest.FixtureRequest, tenant: LiveTenant) -> AsyncIterator[AsyncSpooledClient]:
    """Each flavour in turn, in an organization of the test's own."""
    async for client in of_tenant(request.param, tenant):
        yield client


@pytest.fixture(params=FLAVOURS)
async def free_client(
    request: pytest.FixtureRequest, free_tenant: LiveTenant
) -> AsyncIterator[AsyncSpooledClient]:
    """Each flavour in turn, in a fresh organization on the free plan."""
    async for client in of_tenant(request.param, free_tenant):
        yield client
