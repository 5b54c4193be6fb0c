"""The published client, and fresh servers for it: without a credential, as its examples expect."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from millstream.config import Config
from tests.api.goqueue.fresh_server import serving_fresh
from tests.live_tenants import LiveTenant

# The package asks its own module of types for names that it does not have, and cannot be imported as published.
MISSING_TYPES = ("PartitionInfo", "Message", "OffsetCommit")


def _import_client() -> ModuleType:
    package = importlib.util.find_spec("goqueue_client")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).with_name("types.py")
    spec = importlib.util.spec_from_file_location("goqueue_client.types", path)
    assert spec is not None
    assert spec.loader is not None
    types = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(types)
    for name in MISSING_TYPES:
        assert not hasattr(types, name)
        setattr(types, name, dict)
    sys.modules["goqueue_client.types"] = types
    return importlib.import_module("goqueue_client")


goqueue_client = _import_client()


@pytest.fixture
async def fresh_url(database_dsn: str) -> AsyncIterator[str]:
    """The address of a development server with an empty database."""
    async with serving_fresh(database_dsn, Config()) as url:
        yield url


@pytest.fixture
async def fresh_client(fresh_url: str) -> AsyncIterator[object]:
    """The published client of a fresh server."""
    async with goqueue_client.GoQueueClient(fresh_url) as opened:
        yield opened


@pytest.fixture
async def client(tenant: LiveTenant) -> AsyncIterator[object]:
    """The published client of a fresh tenant."""
    headers = {"Authorization": f"Bearer {tenant.api_key}"}
    async with goqueue_client.GoQueueClient(tenant.url, headers=headers) as opened:
        yield opened


@pytest.fixture
def fresh_key(tenant: LiveTenant) -> tuple[str, str]:
    """Address and API key of the fresh tenant."""
    return tenant.url, tenant.api_key
