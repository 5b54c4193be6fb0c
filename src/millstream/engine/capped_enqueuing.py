"""New jobs of tenants whose plan caps how many there may be: exact, and still many to a commit.

What a tenant has used is counted under the lock of its row, which every process takes, so that nobody else can create
meanwhile. That costs a few statements, whatever the number of jobs: while one transaction of a tenant is in flight its
further requests wait in line and go out together as its next turn, and the turns of many tenants share a transaction.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import (
    AuthenticationFailed,
    InternalError,
    MillstreamError,
    OutcomeUnknown,
    Overloaded,
    PoisonRow,
    QuotaExceeded,
    ShuttingDown,
)
from millstream.domain.plan import Plan
from millstream.domain.tenant import Principal
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.store import quotas
from millstream.store.database import Session
from millstream.store.jobs import Created, CreateRow, Label
from millstream.store.quotas import JobUsage

# What a row weighs in a batch besides its payload.
ROW_BYTES = 200
# A batch counts turns, and a turn may have hundreds of rows: weighing at least this much each, no more of them get
# into a statement than a statement takes.
_ROW_BYTES_MIN = limits.BATCH_BYTES_MAX // limits.BATCH_CREATES_MAX

_log = structlog.get_logger(__name__)

Outcome = list[Created] | MillstreamError
"""What became of one request: all of its jobs, or the reason why there is none."""


class Creating(Struct, frozen=True, kw_only=True):
    """The steps that creates share, whatever the plan."""

    labels: Callable[[Sequence[CreateRow]], list[Label]]
    insert: Callable[[Session, Sequence[CreateRow], Sequence[Label], int], Awaitable[list[Created]]]
    note: Callable[[Session, Sequence[CreateRow], Sequence[Created]], Awaitable[None]]
    announce: Callable[[Sequence[CreateRow], Sequence[Created], Sequence[Label]], None]
    touch_hits: Callable[[Sequence[CreateRow], Sequence[Created]], Awaitable[None]]
    recover: Callable[[list[CreateRow], int, float], Awaitable[list[Created | MillstreamError]]]


class _Request:
    # What one caller handed in: its rows fit the plan together, or none is created.
    __slots__ = ("future", "plan", "rows", "size_bytes")

    def __init__(self, plan: Plan, rows: Sequence[CreateRow], future: "asyncio.Future[Outcome]") -> None:
        self.plan = plan
        self.rows = rows
        self.size_bytes = sum(max(len(row.job.payload) + ROW_BYTES, _ROW_BYTES_MIN) for row in rows)
        self.future = future


class _Turn(Struct, frozen=True, gc=False):
    # The requests of one tenant that one transaction decides, in their order.
    tenant_id: int
    requests: list[_Request]


class _Answer(Struct, frozen=True, gc=False):
    # The outcomes of a turn's requests.
    outcomes: list[Outcome]


class CappedEnqueuing:
    """Creates jobs as far as the plans of their tenants have room for them."""

    def __init__(
        self,
        context: Context,
        creating: Creating,
        *,
        observe: Callable[[int, float, int], None] | None = None,
    ) -> None:
        self._context = context
        self._creating = creating
        self._observe = observe
        self._lines: dict[int, deque[_Request]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._closing = False
        self._batcher: Batcher[_Turn, _Answer] = Batcher(
            "create capped",
            self._run,
            recover=self._recover,
            rows_max=limits.BATCH_CREATES_MAX,
        )

    async def create(self, principal: Principal, rows: Sequence[CreateRow]) -> list[Created]:
        """Create all of `rows`, or none where the plan has no room for those that are new.

        Requests of a tenant are decided in their order. Raises QuotaExceeded or Unavailable.
        """
        if not rows:
            return []
        request = _Request(principal.plan, rows, asyncio.get_running_loop().create_future())
        self._stand_in_line(principal.tenant_id, request)
        outcome = await request.future
        if isinstance(outcome, MillstreamError):
            raise outcome
        return outcome

    async def check_room(self, session: Session, principal: Principal, rows: Sequence[CreateRow]) -> None:
        """Raise QuotaExceeded unless the plan has room for those of `rows` that are new.

        The tenant's row stays locked until the transaction of `session` ends, so that it remains so.
        """
        request = _Request(principal.plan, rows, asyncio.get_running_loop().create_future())
        [admission] = await self._admit(session, [_Turn(principal.tenant_id, [request])])
        admission.enforce()

    async def find_refusals(
        self, session: Session, asked: Sequence[tuple[Plan, CreateRow]]
    ) -> dict[int, MillstreamError]:
        """Return what keeps jobs of many tenants from being created, by their places in `asked`; the others fit.

        Tenants whose plans cap jobs stay locked until the transaction of `session` ends, so that it remains so.
        """
        turns: dict[int, _Turn] = {}
        places: dict[int, list[int]] = {}
        for place, (plan, row) in enumerate(asked):
            if plan.caps_jobs:
                request = _Request(plan, (row,), asyncio.get_running_loop().create_future())
                turns.setdefault(row.tenant_id, _Turn(row.tenant_id, [])).requests.append(request)
                places.setdefault(row.tenant_id, []).append(place)
        if not turns:
            return {}
        admissions = await self._admit(session, list(turns.values()))
        return {
            place: refusal
            for turn, admission in zip(turns.values(), admissions, strict=True)
            for place, refusal in zip(places[turn.tenant_id], admission.refusals, strict=True)
            if refusal is not None
        }

    async def close(self) -> None:
        """Take no more requests, answer all that wait, then stop."""
        self._closing = True
        while self._serving:
            await asyncio.wait(self._serving)
        await self._batcher.close()

    # The line of a tenant

    def _stand_in_line(self, tenant_id: int, request: _Request) -> None:
        if self._closing:
            raise ShuttingDown
        if (
            self._waiting_rows + len(request.rows) > limits.BATCH_QUEUE_ROWS_MAX
            or self._waiting_bytes + request.size_bytes > limits.BATCH_QUEUE_BYTES_MAX
        ):
            raise Overloaded
        self._waiting_rows += len(request.rows)
        self._waiting_bytes += request.size_bytes
        line = self._lines.get(tenant_id)
        if line is not None:
            line.append(request)
            return
        self._lines[tenant_id] = deque((request,))
        task = asyncio.create_task(self._serve(tenant_id), name="capped creates of a tenant")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, tenant_id: int) -> None:
        line = self._lines[tenant_id]
        while line:
            requests = self._take(line)
            if requests:
                await self._decide(tenant_id, requests)
        # Nobody can have joined since the look: there was nothing to wait for in between.
        del self._lines[tenant_id]

    def _take(self, line: deque[_Request]) -> list[_Request]:
        taken: list[_Request] = []
        size = 0
        while line and size < limits.BATCH_BYTES_MAX:
            request = line.popleft()
            self._waiting_rows -= len(request.rows)
            self._waiting_bytes -= request.size_bytes
            # Otherwise its caller has left.
            if not request.future.done():
                taken.append(request)
                size += request.size_bytes
        return taken

    async def _decide(self, tenant_id: int, requests: list[_Request]) -> None:
        size = sum(request.size_bytes for request in requests)
        try:
            outcomes = (await self._batcher.submit_one(tenant_id, _Turn(tenant_id, requests), size)).outcomes
        except PoisonRow as error:
            if len(requests) > 1:
                for request in requests:
                    await self._decide(tenant_id, [request])
                return
            outcomes: list[Outcome] = [error]
        except MillstreamError as error:
            outcomes = [error for _ in requests]
        except Exception:  # noqa: BLE001 - the outermost frame of a turn
            _log.exception("capped creates failed", requests=len(requests))
            outcomes = [InternalError() for _ in requests]
        for request, outcome in zip(requests, outcomes, strict=True):
            if not request.future.done():
                request.future.set_result(outcome)

    # The transaction

    async def _run(self, turns: list[_Turn], batch_id: int) -> list[_Answer | MillstreamError]:
        creating = self._creating
        started_at = time.perf_counter()
        async with self._context.database.session() as session, session.together():
            admissions = await self._admit(session, turns)
            rows = [row for admission in admissions for row in admission.rows]
            labels = creating.labels(rows)
            created = await creating.insert(session, rows, labels, batch_id) if rows else []
            await creating.note(session, rows, created)
        if self._observe is not None:
            self._observe(len(rows), time.perf_counter() - started_at, self._waiting_rows)
        answers: list[_Answer] = []
        asked: list[CreateRow] = []
        told: list[Created] = []
        start = 0
        for turn, admission in zip(turns, admissions, strict=True):
            end = start + len(admission.rows)
            answer = admission.answer(created[start:end])
            answers.append(answer)
            start = end
            for request, outcome in zip(turn.requests, answer.outcomes, strict=True):
                if not isinstance(outcome, MillstreamError):
                    asked += request.rows
                    told += outcome
        creating.announce(rows, created, labels)
        await creating.touch_hits(asked, told)
        return [*answers]

    async def _admit(self, session: Session, turns: Sequence[_Turn]) -> "list[_Admission]":
        tenants = await quotas.lock_tenants(session, [turn.tenant_id for turn in turns])
        usages = await quotas.count_job_usage(
            session, [(turn.tenant_id, _active_max(turn)) for turn in turns], now=self._context.now()
        )
        keys = [
            (turn.tenant_id, row.job.idempotency_key)
            for turn in turns
            for request in turn.requests
            for row in request.rows
            if row.job.idempotency_key is not None
        ]
        known = await quotas.find_known_keys(session, keys) if keys else set[tuple[int, str]]()
        admissions: list[_Admission] = []
        for turn in turns:
            admission = _Admission(usages[turn.tenant_id], known)
            for request in turn.requests:
                if turn.tenant_id in tenants:
                    admission.decide(request)
                else:
                    admission.refuse(AuthenticationFailed())
            admissions.append(admission)
        return admissions

    async def _recover(
        self, turns: list[_Turn], batch_id: int, started_at: float
    ) -> list[_Answer | MillstreamError]:
        rows = [row for turn in turns for request in turn.requests for row in request.rows]
        found = iter(await self._creating.recover(rows, batch_id, started_at))
        answers: list[_Answer | MillstreamError] = []
        for turn in turns:
            outcomes: list[Outcome] = []
            for request in turn.requests:
                created = [next(found) for _ in request.rows]
                known = [answer for answer in created if not isinstance(answer, MillstreamError)]
                # What is not there may have been refused, or found by its key: nobody can tell any more.
                outcomes.append(known if len(known) == len(created) else OutcomeUnknown())
            answers.append(_Answer(outcomes))
        return answers


class _Admission:
    """Decides the requests of one turn, one by one, and keeps the rows to insert for those that fit."""

    def __init__(self, usage: JobUsage, known: set[tuple[int, str]]) -> None:
        self.rows: list[CreateRow] = []
        self._today = usage.today
        self._active = usage.active
        self._known = known
        self._first_of_key: dict[str, int] = {}
        # For each request, where its rows are in `rows` and whether they are the first of their keys.
        self._decisions: list[list[tuple[int, bool]] | MillstreamError] = []

    def decide(self, request: _Request) -> None:
        adding = self._count_new(request.rows)
        if adding:
            plan = request.plan
            try:
                plan.check_room("jobs_per_day", self._today, adding)
                plan.check_room("active_jobs", self._active, adding)
            except QuotaExceeded as error:
                self.refuse(error)
                return
        self._today += adding
        self._active += adding
        self._decisions.append([self._place(row) for row in request.rows])

    def refuse(self, error: MillstreamError) -> None:
        self._decisions.append(error)

    @property
    def refusals(self) -> list[MillstreamError | None]:
        """What refused each request; None where nothing did."""
        return [decision if isinstance(decision, MillstreamError) else None for decision in self._decisions]

    def enforce(self) -> None:
        """Raise what refused a request, if anything did."""
        for refusal in self.refusals:
            if refusal is not None:
                raise refusal

    def answer(self, created: Sequence[Created]) -> _Answer:
        """Return the outcomes, given what became of `rows`."""
        return _Answer(
            [
                decision
                if isinstance(decision, MillstreamError)
                else [
                    created[place] if is_first else Created(created[place].id, False, False)
                    for place, is_first in decision
                ]
                for decision in self._decisions
            ]
        )

    def _count_new(self, rows: Sequence[CreateRow]) -> int:
        new = 0
        own: set[str] = set()
        for row in rows:
            key = row.job.idempotency_key
            if key is None:
                new += 1
            elif key not in self._first_of_key and key not in own and (row.tenant_id, key) not in self._known:
                own.add(key)
                new += 1
        return new

    def _place(self, row: CreateRow) -> tuple[int, bool]:
        key = row.job.idempotency_key
        if key is not None:
            place = self._first_of_key.setdefault(key, len(self.rows))
            if place < len(self.rows):
                return place, False
        self.rows.append(row)
        return len(self.rows) - 1, True


def _active_max(turn: _Turn) -> int | None:
    # Requests of one moment may have been let in under different plans: each is held against its own.
    finite = [limit for request in turn.requests if (limit := request.plan.max_active_jobs) is not None]
    return max(finite, default=None)
