"""A leased job, and what its worker may do with it. Contract: pgwf 3."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from time import monotonic
from types import TracebackType
from typing import Final, TypeVar

from millstream.pgwf._async.calls import run_async
from millstream.pgwf.arguments import extension_seconds, require_positive, seconds_of
from millstream.pgwf.background import AsyncBackground
from millstream.pgwf.errors import JobCancelled, LeaseExpired, LeaseMismatch
from millstream.pgwf.hold import HeldJob, Hold
from millstream.pgwf.jobs import JobDependencies, RescheduledJob
from millstream.pgwf.sources import opener_of_async, transaction_async
from millstream.pgwf.statements.leases import complete_job, extend_lease, limit_time, reschedule_job
from millstream.pgwf.statements.statement import Statement

_BEAT_SECONDS_MAX: Final = 10
# A beat that the database does not end in time is not waited for.
_STOP_SECONDS_MAX: Final = 15

_log = logging.getLogger("millstream.pgwf")
T = TypeVar("T")


class AsyncLease(HeldJob):
    """A job that is leased to a worker. Its times and states are this process's; the database has the last word.

    `complete`, `reschedule` and `extend` run in the caller's transaction. When that is rolled back, call `reopen`.
    """

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold)
        # At most one; shared with it, so that it can put itself in here and leave.
        self._keepers: list[AsyncKeepAlive] = []

    async def extend(self, conn: object, additional: timedelta | float) -> datetime:
        """Move the end of the lease by that much (seconds, or a timedelta; more than 0), returning the new end.

        Raises LeaseExpired without a call when the lease is over or released; LeaseMismatch, JobCancelled.
        """
        self._hold.require_active()
        seconds = extension_seconds(self.remaining, seconds_of(additional))
        return await _move_end(self._hold, conn, seconds)

    async def reschedule(self, conn: object, deps: JobDependencies) -> RescheduledJob:
        """Give the job back: for another capability, for later, or until other jobs are done.

        `expires_at` and the singleton key cannot change; without a payload the job keeps its own. Raises LeaseExpired
        without a call when the lease is over or released; InvalidArgument, DependencyViolation, LeaseMismatch,
        JobCancelled, PayloadError.
        """
        self._hold.require_active()
        statement = reschedule_job(self._hold.schema, self.job_id, self.lease_id, self.worker_id, deps)
        deps.require_key(self.singleton_key, self.job_id)
        return await self._release(conn, statement)

    async def complete(self, conn: object) -> None:
        """Complete the job: it is archived, and those that wait for it can run.

        Also a job that was asked to be cancelled may be completed while the lease lasts. Raises LeaseExpired without a
        call when the lease is over or released; LeaseMismatch.
        """
        self._hold.require_completable()
        statement = complete_job(self._hold.schema, self.job_id, self.lease_id, self.worker_id)
        await self._release(conn, statement)

    def reopen(self) -> None:
        """Take the lease up again after the transaction that completed or rescheduled the job was rolled back.

        A keep-alive that is entered goes on. Raises LeaseExpired when the lease has ended meanwhile.
        """
        self._hold.reopen()
        for keeper in self._keepers:
            keeper.resume()

    def keep_alive(
        self,
        source: object,
        *,
        lease_seconds: int | None = None,
        on_lost: "Callable[[AsyncLease, Exception], None] | None" = None,
    ) -> "AbstractAsyncContextManager[AsyncLease]":
        """Extend the lease from a connection of `source` for as long as the context lasts.

        Each beat moves the end to `lease_seconds` from now (as when it was leased, unless told). A beat that fails is
        repeated until the lease ends. When the lease is lost, `on_lost` is called once with it and with the reason, beside
        what the context does: LeaseMismatch, JobCancelled, or LeaseExpired. Raises InvalidArgument; on entering
        LeaseExpired, and RuntimeError when the lease is kept alive already.
        """
        seconds = (
            self._hold.lease_seconds
            if lease_seconds is None
            else require_positive(lease_seconds, "lease_seconds")
        )
        return AsyncKeepAlive(self, self._hold, self._keepers, source, seconds, on_lost)

    async def _release(self, conn: object, statement: Statement[T]) -> T:
        # Before, because a beat would wait for the lock that the statement takes, and keep it from nobody.
        keepers = list(self._keepers)
        for keeper in keepers:
            await keeper.pause()
        try:
            result = await run_async(conn, statement)
        except BaseException:
            for keeper in keepers:
                keeper.resume()
            raise
        self._hold.is_released = True
        return result


class AsyncKeepAlive:
    """Extends a lease beside what its worker does."""

    def __init__(
        self,
        lease: AsyncLease,
        hold: Hold,
        keepers: "list[AsyncKeepAlive]",
        source: object,
        lease_seconds: int,
        on_lost: Callable[[AsyncLease, Exception], None] | None,
    ) -> None:
        self._lease = lease
        self._hold = hold
        self._keepers = keepers
        self._open = opener_of_async(source)
        self._lease_seconds = lease_seconds
        self._on_lost = on_lost
        self._was_entered = False
        self._is_over = False
        self._background: AsyncBackground | None = None

    async def __aenter__(self) -> AsyncLease:
        """Begin. Raises RuntimeError, LeaseExpired."""
        if self._was_entered or self._keepers:
            raise RuntimeError(f"job {self._lease.job_id} is kept alive already")
        self._hold.require_active()
        self._was_entered = True
        self._keepers.append(self)
        self.resume()
        return self._lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; the job is left as it is."""
        self._is_over = True
        self._keepers.remove(self)
        await self.pause()

    def resume(self) -> None:
        """Begin, or go on, unless the lease was lost."""
        if not self._is_over and self._background is None:
            self._background = AsyncBackground(self._keep, f"millstream keep-alive of {self._lease.job_id}")
            self._background.start()

    async def pause(self) -> None:
        """Stop until `resume`, and wait for a beat that is under way."""
        background, self._background = self._background, None
        if background is not None:
            await background.stop(_STOP_SECONDS_MAX)

    async def _keep(self, background: AsyncBackground) -> None:
        while not await background.wait(self._hold.beat_after()):
            try:
                await self._beat()
            except (LeaseMismatch, JobCancelled) as error:
                if not background.is_stopping:
                    self._hold.loss = error
                    self._end(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the lease is still ours for a while
                if background.is_stopping:
                    return
                _log.warning("extending the lease of job %s failed: %r", self._lease.job_id, error)
                if self._hold.remaining <= 0:
                    expired = LeaseExpired(
                        f"the lease of job {self._lease.job_id} has expired", job_id=self._lease.job_id
                    )
                    expired.__cause__ = error
                    self._end(expired)
                    return

    async def _beat(self) -> None:
        async with self._open() as connection, transaction_async(connection):
            await run_async(connection, limit_time(_BEAT_SECONDS_MAX))
            seconds = self._hold.beat_seconds(self._lease_seconds)
            await _move_end(self._hold, connection, seconds)

    def _end(self, error: Exception) -> None:
        self._is_over = True
        if self._on_lost is None:
            return
        try:
            self._on_lost(self._lease, error)
        except Exception:  # noqa: BLE001 - the caller's
            _log.exception("on_lost of job %s failed", self._lease.job_id)


async def _move_end(hold: Hold, connection: object, seconds: int) -> datetime:
    asked_at = monotonic()
    statement = extend_lease(hold.schema, hold.leased.job_id, hold.leased.lease_id, hold.worker_id, seconds)
    return hold.move_end(await run_async(connection, statement), asked_at=asked_at)
