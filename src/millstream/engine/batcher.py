"""Group commit: requests gather while the previous statement is in flight, then go out as the next one.

There is no timer. An idle server answers at once; a busy one grows its batches by itself.
"""

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

import structlog
from opentelemetry.trace import Tracer

from millstream.domain import limits
from millstream.domain.errors import (
    InternalError,
    MillstreamError,
    OutcomeUnknown,
    Overloaded,
    PoisonRow,
    RowLocked,
    ShuttingDown,
    Unavailable,
)
from millstream.engine.batch_tracing import BatchTracing

R = TypeVar("R")
A = TypeVar("A")

LOCKED_ROW_SECONDS_MAX = 5.0
APART_SECONDS = 30.0
POISONS_BEFORE_APART = 3
REMEMBERED_POISONS_MAX = 1_000
RECOVERY_SECONDS_MAX = 5.0

_log = structlog.get_logger(__name__)

Run = Callable[[list[R], int], Awaitable[Sequence[A | MillstreamError]]]
"""Runs rows as one transaction under a batch id; the answers are in the order of the rows."""


class _Request(Generic[R, A]):
    """What one caller handed in: its rows, how far they are taken, and their answers."""

    __slots__ = ("answers", "future", "open", "rows", "size_bytes", "taken", "tenant_id")

    def __init__(
        self, tenant_id: int, rows: Sequence[R], size_bytes: int, future: "asyncio.Future[None]"
    ) -> None:
        self.tenant_id = tenant_id
        self.rows = rows
        self.size_bytes = size_bytes
        self.taken = 0
        self.open = len(rows)
        self.answers: list[A | MillstreamError | None] = [None] * len(rows)
        self.future = future


_Place = tuple[_Request[R, A], int]


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
        recover: Run[R, A] | None = None,
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
        self._key_of = key_of
        self._abandoned = abandoned
        self._observe = observe
        self._whole = whole
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._queue_rows_max = queue_rows_max
        self._queue_bytes_max = queue_bytes_max
        self._queues: OrderedDict[int, deque[_Request[R, A]]] = OrderedDict()
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._in_flight_keys: set[Hashable] = set()
        self._poisons: dict[int, tuple[int, float]] = {}
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
        return self._waiting_rows

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
        if (
            self._waiting_rows + len(rows) > self._queue_rows_max
            or self._waiting_bytes + size_bytes > self._queue_bytes_max
        ):
            raise Overloaded
        request: _Request[R, A] = _Request(tenant_id, rows, size_bytes, self._loop.create_future())
        queue = self._queues.get(tenant_id)
        if queue is None:
            queue = self._queues[tenant_id] = deque()
        queue.append(request)
        self._waiting_rows += len(rows)
        self._waiting_bytes += size_bytes
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

    # Taking rows

    async def _serve(self) -> None:
        while True:
            await self._work.wait()
            batch = self._take()
            if not batch:
                self._work.clear()
                self._rest()
                continue
            keys = (
                set[Hashable]()
                if self._key_of is None
                else {self._key_of(request.rows[place]) for request, place in batch}
            )
            self._in_flight_keys |= keys
            self._running += 1
            try:
                await self._answer(batch)
            finally:
                self._running -= 1
                self._in_flight_keys -= keys
                # What stood back for its key, or for its turn, can go now.
                self._work.set()

    def _rest(self) -> None:
        if not self._running and not self._waiting_rows:
            self._idle.set()

    def _take(self) -> list[_Place[R, A]]:
        """Take rows for one statement, tenants in turn, a poisonous tenant by itself."""
        batch: list[_Place[R, A]] = []
        if not self._queues:
            return batch
        keys: set[Hashable] = set(self._in_flight_keys)
        size = 0
        now = time.monotonic()
        stopped: set[int] = set()
        while len(batch) < self._rows_max and size < self._bytes_max:
            tenant_id = next((tenant for tenant in self._queues if tenant not in stopped), None)
            if tenant_id is None:
                break
            apart = self._is_apart(tenant_id, now)
            if apart and batch:
                stopped.add(tenant_id)
                continue
            size += self._take_from(tenant_id, batch, keys, stopped)
            # Nothing was taken when its caller had left: then the others go on.
            if apart and batch:
                break
        return batch

    def _take_from(
        self, tenant_id: int, batch: list[_Place[R, A]], keys: set[Hashable], stopped: set[int]
    ) -> int:
        """Move the tenant's next request, as far as it fits, to `batch`; returns its size."""
        queue = self._queues[tenant_id]
        request = queue[0]
        size = 0
        if request.future.done():
            # Its caller has left.
            self._forget(request)
            queue.popleft()
        elif self._whole and batch and len(batch) + len(request.rows) > self._rows_max:
            stopped.add(tenant_id)
        else:
            first = request.taken
            self._take_rows(request, batch, keys, stopped)
            if request.taken == len(request.rows):
                queue.popleft()
                size = request.size_bytes
                self._waiting_bytes -= size
            self._waiting_rows -= request.taken - first
        if not queue:
            del self._queues[tenant_id]
        else:
            self._queues.move_to_end(tenant_id)
        return size

    def _take_rows(
        self, request: _Request[R, A], batch: list[_Place[R, A]], keys: set[Hashable], stopped: set[int]
    ) -> None:
        rows_max = len(batch) + len(request.rows) if self._whole else self._rows_max
        while request.taken < len(request.rows) and len(batch) < rows_max:
            if self._key_of is not None:
                key = self._key_of(request.rows[request.taken])
                if key in keys:
                    # The same row twice in one statement would be changed once: the second waits its turn.
                    stopped.add(request.tenant_id)
                    return
                keys.add(key)
            batch.append((request, request.taken))
            request.taken += 1

    def _forget(self, request: _Request[R, A]) -> None:
        self._waiting_rows -= len(request.rows) - request.taken
        self._waiting_bytes -= request.size_bytes

    # Answering

    async def _answer(self, batch: list[_Place[R, A]]) -> None:
        try:
            await self._attempt(batch)
        except Exception:  # noqa: BLE001 - the outermost frame of a batch
            _log.exception("batch failed", operation=self.name, rows=len(batch))
            self._settle_all(batch, InternalError())

    async def _attempt(self, batch: list[_Place[R, A]]) -> None:
        """Run `batch`; on a refused or locked row, split it until the culprit is alone."""
        batch_id = secrets.randbits(63)
        rows = [request.rows[place] for request, place in batch]
        started_at = time.perf_counter()
        try:
            answers = await self._run(rows, batch_id)
        except PoisonRow as error:
            if len(batch) == 1:
                self._note_poison(batch[0][0].tenant_id)
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
            await self._look_up(batch, rows, batch_id, error)
            return
        except MillstreamError as error:
            self._settle_all(batch, error)
            return
        if self._observe is not None:
            self._observe(len(batch), time.perf_counter() - started_at, self._waiting_rows)
        self._settle_each(batch, answers)

    async def _split(self, batch: list[_Place[R, A]]) -> None:
        middle = len(batch) // 2
        await self._attempt(batch[:middle])
        await self._attempt(batch[middle:])

    def _keep_trying(self, batch: list[_Place[R, A]], error: RowLocked) -> None:
        # Beside the lane, so that nobody waits behind a row that someone's open transaction holds.
        task = asyncio.create_task(self._try_alone(batch, error), name=f"batch {self.name} locked row")
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    async def _try_alone(self, batch: list[_Place[R, A]], error: RowLocked) -> None:
        rows = [request.rows[place] for request, place in batch]
        deadline = time.monotonic() + LOCKED_ROW_SECONDS_MAX
        try:
            while time.monotonic() < deadline:
                batch_id = secrets.randbits(63)
                try:
                    # Each attempt waits for the lock as long as the session's lock_timeout permits.
                    answers = await self._run(rows, batch_id)
                except RowLocked:
                    continue
                except OutcomeUnknown as lost:
                    await self._look_up(batch, rows, batch_id, lost)
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
        self, batch: list[_Place[R, A]], rows: list[R], batch_id: int, error: OutcomeUnknown
    ) -> None:
        """Find out what became of a batch whose connection was lost; never run it again."""
        if self._recover is None:
            self._settle_all(batch, error)
            return
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while True:
            try:
                self._settle_each(batch, await self._recover(rows, batch_id))
            except Unavailable:
                if time.monotonic() < deadline and not self._closing:
                    await asyncio.sleep(0.1)
                    continue
                self._settle_all(batch, error)
            except MillstreamError:
                self._settle_all(batch, error)
            return

    def _settle_each(self, batch: list[_Place[R, A]], answers: Sequence[A | MillstreamError]) -> None:
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

    def _settle_all(self, batch: list[_Place[R, A]], error: MillstreamError) -> None:
        self._settle_each(batch, [error] * len(batch))

    # Poison

    def _note_poison(self, tenant_id: int) -> None:
        now = time.monotonic()
        count, since = self._poisons.get(tenant_id, (0, now))
        if now - since > APART_SECONDS:
            count = 0
        self._poisons[tenant_id] = (count + 1, now)
        if len(self._poisons) > REMEMBERED_POISONS_MAX:
            self._poisons = {
                tenant: (count, since)
                for tenant, (count, since) in self._poisons.items()
                if now - since < APART_SECONDS
            }

    def _is_apart(self, tenant_id: int, now: float) -> bool:
        if not self._poisons or tenant_id not in self._poisons:
            return False
        count, since = self._poisons[tenant_id]
        if now - since > APART_SECONDS:
            del self._poisons[tenant_id]
            return False
        return count >= POISONS_BEFORE_APART
