"""Waiting until there is work. Contract: pgwf 3, `await_work`."""

import logging
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from millstream.pgwf._async.calls import run_async
from millstream.pgwf._async.lease import AsyncLease
from millstream.pgwf.background import AsyncStop, pause_async
from millstream.pgwf.backoff import Backoff
from millstream.pgwf.channels import unlisten_to
from millstream.pgwf.classification import is_transient
from millstream.pgwf.hold import Hold
from millstream.pgwf.listening import AsyncListener, listening_async
from millstream.pgwf.sources import AsyncOpener, driver_connection_async, run_plain_async, transaction_async
from millstream.pgwf.statements.leases import LeasedJob
from millstream.pgwf.statements.statement import Statement

# How long a wait for announcements goes on before `stop` is looked at.
_SLICE_SECONDS: Final = 0.2

_log = logging.getLogger("millstream.pgwf")


@dataclass(frozen=True)
class AsyncAwaiting:
    """One wait for a job of some capabilities."""

    open: AsyncOpener
    statement: Statement[list[LeasedJob]]
    schema: str
    worker_id: str
    lease_seconds: int
    channels: list[str]
    backoff: Backoff
    deadline: float
    stop: AsyncStop | None

    async def poll_until_found(self) -> AsyncLease | None:
        """Poll, less and less often."""
        return await self._repeat(listen=False)

    async def listen_until_found(self) -> AsyncLease | None:
        """Poll whenever something is announced, and at the ceiling of the back-off."""
        return await self._repeat(listen=True)

    async def _repeat(self, *, listen: bool) -> AsyncLease | None:
        delays = self.backoff.delays()
        while not self._is_stopped():
            try:
                lease = await (self._attend() if listen else self._visit())
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("looking for work failed, and is repeated: %r", error)
                lease = None
            if lease is not None or not await self._pause(delays):
                return lease
        return None

    async def _visit(self) -> AsyncLease | None:
        async with self.open() as connection, self._transaction(connection):
            lease = await self._poll(connection)
            if lease is None:
                # The poll has begun to listen where notifying is on; the next user of the connection did not ask for it.
                await run_plain_async(connection, unlisten_to(self.channels))
            return lease

    async def _attend(self) -> AsyncLease | None:
        async with self.open() as wrapped:
            connection = await driver_connection_async(wrapped)
            async with self._transaction(connection):
                lease = await self._poll(connection)
            if lease is not None:
                return lease
            async with listening_async(connection, self.channels) as listener:
                while True:
                    # Before the first wait too: what was submitted before the LISTEN took effect was not announced to us.
                    async with self._transaction(connection):
                        lease = await self._poll(connection)
                    if lease is not None or not await self._hear(listener):
                        return lease

    def _transaction(self, connection: object) -> AbstractAsyncContextManager[object]:
        return transaction_async(connection)

    async def _poll(self, connection: object) -> AsyncLease | None:
        asked_at = monotonic()
        for leased in await run_async(connection, self.statement):
            return AsyncLease(
                Hold(self.schema, self.worker_id, self.lease_seconds, leased, asked_at=asked_at)
            )
        return None

    async def _hear(self, listener: AsyncListener) -> bool:
        """Wait for an announcement, or until it is time to poll anyway; False when waiting is over."""
        until = min(self.deadline, monotonic() + self.backoff.varied(self.backoff.maximum))
        while not self._is_stopped() and (left := until - monotonic()) > 0:
            if await listener.wait(min(left, _SLICE_SECONDS)):
                break
        return not self._is_stopped() and monotonic() < self.deadline

    async def _pause(self, delays: Iterator[float]) -> bool:
        left = self.deadline - monotonic()
        if left <= 0:
            return False
        await pause_async(min(next(delays), left), self.stop)
        return monotonic() < self.deadline

    def _is_stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()
