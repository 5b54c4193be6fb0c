"""Clients on the live server, each test with a tenant of its own, and a server that answers from a script."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from millstream import AsyncClient, Client, Retries
from tests.client_sdk.line import Line
from tests.client_sdk.scripted_server import ScriptedServer


class LiveServer(Protocol):
    url: str
    data_dir: Path


class Tenant(Protocol):
    api_key: str


@pytest.fixture
async def client(server: LiveServer, tenant: Tenant) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, tenant.api_key) as client:
        yield client


@pytest.fixture
def blocking_client(server: LiveServer, tenant: Tenant) -> Iterator[Client]:
    with Client(server.url, tenant.api_key) as client:
        yield client


@pytest.fixture
async def line(server: LiveServer) -> AsyncIterator[Line]:
    """A connection to the live server that a test can cut."""
    async with Line(server.url) as line:
        yield line


@pytest.fixture
async def client_on_the_line(line: Line, tenant: Tenant) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(line.url, tenant.api_key, retries=QUICK) as client:
        yield client


@pytest.fixture
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def scripted_client(scripted_server: ScriptedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(scripted_server.url, "sk_test_any", retries=QUICK) as client:
        yield client


QUICK = Retries(attempts=3, wait_initial_seconds=0.01, wait_max_seconds=0.02)
