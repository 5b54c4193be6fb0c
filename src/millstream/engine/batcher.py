"""Group commit: requests gather while the previous statement is in flight, then go out as the next one.

There is no timer. An idle server answers at once; a busy one grows its batches by itself.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

import structlog
from opentelemetry.trace import Tracer

from millstream.domain import limits
from millstream.domain.errors import (
    InternalError,
    MillstreamError,
    OutcomeUnknown,
    PoisonRow,
    RowLocked,
    ShuttingDown,
    Unavailable,
)
from millstream.engine.batch_queue import BatchQueue, Place, Request
from millstream.engine.batch_tracing import BatchTracing
from millstream.engine.poison import PoisonRecord

R = TypeVar("R")
A = TypeVar("A")

LOCKED_ROW_SECONDS_MAX = 5.0
RECOVERY_SECONDS_MAX = 5.0

_log = structlog.get_logger(__name__)

Run = Callable[[list[R], int], Awaitable[Sequence[A | MillstreamError]]]
"""Runs rows as one transaction under a batch id; the answers are in the order of the rows."""

Recover = Callable[[list[R], int, float], Awaitable[Sequence[A | MillstreamError]]]
"""Finds out what became of rows, given also since when (of `time.monotonic`) the batch was under way."""


class Batcher(Generic[R, A]):
    """Turns concurrent requests for one operation into statements over sets of rows.

    `run` gets rows whose keys (`key_of`) differ and a fresh batch id. `recover` gets the same when the
    connection was lost before the outcome was known: it answers the truth or raises OutcomeUnknown.
    `abandoned` gets rows and answers whose caller has left. With `whole`, the rows of a request are never
    spread over several statements. Requests of one tenant are taken in their order; tenants take turns.
    """

    def __init__(
        self,
        name: str,
        run: Run[R, A],
        *,
        recover: Recover[R, A] | None = None,
        key_of: Callable[[R], Hashable] | None = None,
        abandoned: Callable[[Sequence[tuple[R, A]]], None] | None = None,
        observe: Callable[[int, float, int], None] | None = None,
        whole: bool = False,
        lanes: int = 1,
        rows_max: int = limits.BATCH_ROWS_MAX,
        bytes_max: int = limits.BATCH_BYTES_MAX,
        queue_rows_max: int = limits.BATCH_QUEUE_ROWS_MAX,
        queue_bytes_max: int = limits.BATCH_QUEUE_BYTES_MAX,
    ) -> None:
        self.name = name
        self._run = run
        self._recover = recover
        self._abandoned = abandoned
        self._observe = observe
        self._poison = PoisonRecord()
        self._queue: BatchQueue[R, A] = BatchQueue(
            self._poison,
            key_of=key_of,
            whole=whole,
            rows_max=rows_max,
            bytes_max=bytes_max,
            queue_rows_max=queue_rows_max,
            queue_bytes_max=queue_bytes_max,
        )
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = 0
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._lanes = [
            asyncio.create_task(self._serve(), name=f"batch {name} {lane}") for lane in range(lanes)
        ]

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for a statement."""
        return self._queue.waiting_rows

    async def submit(
        self, tenant_id: int, rows: Sequence[R], size_bytes: int = 0
    ) -> list[A | MillstreamError]:
        """Return the answers to `rows`, each a result or its own error, once they are committed.

        Raises Overloaded when too much waits already, ShuttingDown after `close`. A caller that is cancelled
        leaves: what was not taken yet is forgotten, what was is answered to `abandoned`.
        """
        if self._closing:
            raise ShuttingDown
        if not rows:
            return []
        request: Request[R, A] = Request(tenant_id, rows, size_bytes, self._loop.create_future())
        self._queue.add(request)
        self._work.set()
        self._idle.clear()
        await request.future
        return [answer if answer is not None else InternalError() for answer in request.answers]

    async def submit_one(self, tenant_id: int, row: R, size_bytes: int = 0) -> A:
        """Return the answer to one row, or raise its error."""
        answer = (await self.submit(tenant_id, (row,), size_bytes))[0]
        if isinstance(answer, MillstreamError):
            raise answer
        return answer

    def trace(self, tracer: Tracer) -> None:
        """Have statements and the requests behind them traced. Call it before the first request."""
        tracing: BatchTracing[R, A] = BatchTracing(tracer, self.name, self.submit, self._run)
        self.submit = tracing.submit
        self._run = tracing.run

    async def close(self) -> None:
        """Take no more requests, answer all that wait, then stop."""
        self._closing = True
        await self._idle.wait()
        while self._side_tasks:
            await asyncio.wait(self._side_tasks)
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            await self._work.wait()
            batch = self._queue.take()
            if not batch:
                self._work.clear()
                self._rest()
                continue
            self._running += 1
            try:
                await self._answer(batch)
            finally:
                self._running -= 1
                self._queue.release(batch)
                # What stood back for its key, or for its turn, can go now.
                self._work.set()

    def _rest(self) -> None:
        if not self._running and not self._queue.waiting_rows:
            self._idle.set()

    # Answering

    async def _answer(self, batch: list[Place[R, A]]) -> None:
        try:
            await self._attempt(batch)
        except Exception:  # noqa: BLE001 - the outermost frame of a batch
            _log.exception("batch failed", operation=self.name, rows=len(batch))
            self._settle_all(batch, InternalError())

    async def _attempt(self, batch: list[Place[R, A]]) -> None:
        """Run `batch`; on a refused or locked row, split it until the culprit is alone."""
        batch_id = secrets.randbits(63)
        rows = [request.rows[place] for request, place in batch]
        started_at = time.monotonic()
        try:
            answers = await self._run(rows, batch_id)
        except PoisonRow as error:
            if len(batch) == 1:
                self._poison.note(batch[0][0].tenant_id, time.monotonic())
                self._settle_all(batch, error)
            else:
                await self._split(batch)
            return
        except RowLocked as error:
            if len(batch) > 1:
                await self._split(batch)
            else:
                self._keep_trying(batch, error)
            return
        except OutcomeUnknown as error:
            await self._look_up(batch, rows, batch_id, started_at, error)
            return
        except MillstreamError as error:
            self._settle_all(batch, error)
            return
        if self._observe is not None:
            self._observe(len(batch), time.monotonic() - started_at, self._queue.waiting_rows)
        self._settle_each(batch, answers)

    async def _split(self, batch: list[Place[R, A]]) -> None:
        middle = len(batch) // 2
        await self._attempt(batch[:middle])
        await self._attempt(batch[middle:])

    def _keep_trying(self, batch: list[Place[R, A]], error: RowLocked) -> None:
        # Beside the lane, so that nobody waits behind a row that someone's open transaction holds.
        task = asyncio.create_task(self._try_alone(batch, error), name=f"batch {self.name} locked row")
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    async def _try_alone(self, batch: list[Place[R, A]], error: RowLocked) -> None:
        rows = [request.rows[place] for request, place in batch]
        deadline = time.monotonic() + LOCKED_ROW_SECONDS_MAX
        try:
            while time.monotonic() < deadline:
                batch_id = secrets.randbits(63)
                started_at = time.monotonic()
                try:
                    # Each attempt waits for the lock as long as the session's lock_timeout permits.
                    answers = await self._run(rows, batch_id)
                except RowLocked:
                    continue
                except OutcomeUnknown as lost:
                    await self._look_up(batch, rows, batch_id, started_at, lost)
                    return
                self._settle_each(batch, answers)
                return
            self._settle_all(batch, error)
        except MillstreamError as refused:
            self._settle_all(batch, refused)
        except Exception:  # noqa: BLE001 - the outermost frame of a batch
            _log.exception("batch failed", operation=self.name, rows=len(batch))
            self._settle_all(batch, InternalError())

    async def _look_up(
        self,
        batch: list[Place[R, A]],
        rows: list[R],
        batch_id: int,
        started_at: float,
        error: OutcomeUnknown,
    ) -> None:
        """Find out what became of a batch whose connection was lost; never run it again."""
        if self._recover is None:
            self._settle_all(batch, error)
            return
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while True:
            try:
                self._settle_each(batch, await self._recover(rows, batch_id, started_at))
            except Unavailable:
                if time.monotonic() < deadline and not self._closing:
                    await asyncio.sleep(0.1)
                    continue
                self._settle_all(batch, error)
            except MillstreamError:
                self._settle_all(batch, error)
            return

    def _settle_each(self, batch: list[Place[R, A]], answers: Sequence[A | MillstreamError]) -> None:
        orphans: list[tuple[R, A]] = []
        for (request, place), answer in zip(batch, answers, strict=True):
            request.answers[place] = answer
            request.open -= 1
            if not request.future.done():
                if not request.open:
                    request.future.set_result(None)
            elif not isinstance(answer, MillstreamError):
                orphans.append((request.rows[place], answer))
        if orphans and self._abandoned is not None:
            self._abandoned(orphans)

    def _settle_all(self, batch: list[Place[R, A]], error: MillstreamError) -> None:
        self._settle_each(batch, [error] * len(batch))
