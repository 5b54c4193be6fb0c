"""Waiting on a connection of our own until a job is announced. Contract: pgwf 1.9."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, cast

from millstream.drivers import is_one_of
from millstream.pgwf.channels import listen_to, unlisten_to
from millstream.pgwf.sources import run_plain, run_plain_async, transaction, transaction_async


class Listener(Protocol):
    """A connection that listens."""

    def wait(self, seconds: float) -> bool:
        """Return True as soon as something is announced, False after that many seconds."""
        ...


class AsyncListener(Protocol):
    """A connection that listens."""

    async def wait(self, seconds: float) -> bool:
        """Return True as soon as something is announced, False after that many seconds."""
        ...


class _Psycopg(Protocol):
    closed: bool

    def notifies(self, *, timeout: float, stop_after: int) -> Iterator[object]: ...


class _AsyncPsycopg(Protocol):
    closed: bool

    def notifies(self, *, timeout: float, stop_after: int) -> AsyncIterator[object]: ...


class _Asyncpg(Protocol):
    def is_closed(self) -> bool: ...
    async def add_listener(self, channel: str, callback: object) -> None: ...
    async def remove_listener(self, channel: str, callback: object) -> None: ...
    def add_termination_listener(self, callback: object) -> None: ...
    def remove_termination_listener(self, callback: object) -> None: ...


@contextmanager
def listening(connection: object, channels: list[str]) -> Generator[Listener]:
    """Listen on a driver's own connection; what is announced after this has begun is not missed.

    Raises TypeError for a driver that is not psycopg.
    """
    if not is_one_of(connection, ("psycopg", "Connection")):
        raise _cannot_listen(connection)
    with transaction(connection):
        run_plain(connection, listen_to(channels))
    try:
        yield _PsycopgListener(cast("_Psycopg", connection))
    finally:
        if not cast("_Psycopg", connection).closed:
            with transaction(connection):
                run_plain(connection, unlisten_to(channels))


@asynccontextmanager
async def listening_async(connection: object, channels: list[str]) -> AsyncGenerator[AsyncListener]:
    """Listen on a driver's own connection; what is announced after this has begun is not missed.

    Raises TypeError for a driver that is neither asyncpg nor psycopg.
    """
    if is_one_of(connection, ("psycopg", "AsyncConnection")):
        async with transaction_async(connection):
            await run_plain_async(connection, listen_to(channels))
        try:
            yield _AsyncPsycopgListener(cast("_AsyncPsycopg", connection))
        finally:
            if not cast("_AsyncPsycopg", connection).closed:
                async with transaction_async(connection):
                    await run_plain_async(connection, unlisten_to(channels))
    elif is_one_of(connection, ("asyncpg.connection", "Connection"), ("asyncpg.pool", "PoolConnectionProxy")):
        listener = _AsyncpgListener(cast("_Asyncpg", connection), channels)
        await listener.open()
        try:
            yield listener
        finally:
            await listener.close()
    else:
        raise _cannot_listen(connection)


class _PsycopgListener:
    def __init__(self, connection: _Psycopg) -> None:
        self._connection = connection

    def wait(self, seconds: float) -> bool:
        return bool(list(self._connection.notifies(timeout=seconds, stop_after=1)))


class _AsyncPsycopgListener:
    def __init__(self, connection: _AsyncPsycopg) -> None:
        self._connection = connection

    async def wait(self, seconds: float) -> bool:
        return bool([told async for told in self._connection.notifies(timeout=seconds, stop_after=1)])


class _AsyncpgListener:
    def __init__(self, connection: _Asyncpg, channels: list[str]) -> None:
        self._connection = connection
        self._channels = channels
        self._told = asyncio.Event()

    async def open(self) -> None:
        # A connection that ends has to be noticed too: the next poll tells.
        self._connection.add_termination_listener(self._hear)
        for channel in self._channels:
            await self._connection.add_listener(channel, self._hear)

    async def wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return False
        self._told.clear()
        return True

    async def close(self) -> None:
        if self._connection.is_closed():
            return
        self._connection.remove_termination_listener(self._hear)
        for channel in self._channels:
            await self._connection.remove_listener(channel, self._hear)

    def _hear(self, *_announced: object) -> None:
        self._told.set()


def _cannot_listen(connection: object) -> TypeError:
    kind = type(connection)
    return TypeError(f"{kind.__module__}.{kind.__qualname__} cannot listen here: psycopg and asyncpg can")
