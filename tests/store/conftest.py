"""Plain connections beside the store's own, as another session of another program would have them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

Connect = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def connect(database_dsn: str) -> AsyncIterator[Connect]:
    """Open connections with the login that the server has; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def connect() -> asyncpg.Connection:
            connection = await asyncpg.connect(database_dsn)
            stack.push_async_callback(connection.close)
            return connection

        yield connect


@pytest.fixture
async def connection(connect: Connect) -> asyncpg.Connection:
    """One such connection."""
    return await connect()
