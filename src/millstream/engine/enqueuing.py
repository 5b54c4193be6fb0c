"""Enqueueing: new jobs, idempotency keys and the caps of a plan."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import (
    BadRequest,
    MillstreamError,
    OutcomeUnknown,
    PayloadTooLarge,
    Unavailable,
)
from millstream.domain.job import Enqueued, JobState, NewJob
from millstream.domain.plan import Plan
from millstream.domain.tenant import Principal
from millstream.domain.webhook import JobNote, WebhookEvent
from millstream.engine import outbox
from millstream.engine.batcher import Batcher
from millstream.engine.capped_enqueuing import ROW_BYTES, CappedEnqueuing, Creating
from millstream.engine.context import Context, check_queue
from millstream.engine.events import EventKind
from millstream.store import batches, jobs
from millstream.store.database import Session
from millstream.store.jobs import LABEL_JOB_TYPE, LABEL_QUEUE, Created, CreateRow, Label, ServerDefaults

KNOWN_LABELS_MAX = 100_000

Beside = Callable[[Session, Enqueued], Awaitable[None]]
"""Writes what must be committed together with a job, once that is inserted or found."""

Admit = Callable[[Session], Awaitable[None]]
"""Refuses, by raising, what is to be created; whatever it reads is read before anything is inserted."""

Join = Callable[[Session, Sequence[UUID]], Awaitable[None]]
"""Makes jobs that were inserted one thing, in the same transaction."""

_log = structlog.get_logger(__name__)


class EnqueueLimits(Struct, frozen=True):
    """What this server allows whatever the plan: the size of a payload in bytes."""

    payload_bytes_max: int = 1024 * 1024


class Within(Struct, frozen=True):
    """What became of jobs that an open transaction creates: each, or why there is none.

    `announce` is to be called when that is committed.
    """

    outcomes: list[Created | MillstreamError]
    announce: Callable[[], None]


class Enqueuing:
    """Accepts new jobs."""

    def __init__(
        self,
        context: Context,
        *,
        defaults: ServerDefaults,
        enqueue_limits: EnqueueLimits,
        lanes: int = 1,
    ) -> None:
        self._context = context
        self._defaults = defaults
        self._limits = enqueue_limits
        self._labels: set[Label] = set()
        self.batcher: Batcher[CreateRow, Created] = Batcher(
            "create",
            self._create,
            recover=self._recover,
            observe=context.observe_batch("create"),
            whole=True,
            lanes=lanes,
            rows_max=limits.BATCH_CREATES_MAX,
        )
        self._capped = CappedEnqueuing(
            context,
            Creating(
                labels=self._new_labels,
                insert=self._insert,
                note=self._note,
                announce=self._announce,
                touch_hits=self._touch_hits,
                recover=self._recover,
            ),
            observe=context.observe_batch("create_capped"),
        )

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self._capped.close()
        await self.batcher.close()

    async def enqueue(self, principal: Principal, job: NewJob) -> Enqueued:
        """Create `job`, or find the one that holds its idempotency key. Contract: spooled-jobs 3.1.

        Raises AccessDenied, PayloadTooLarge, BadRequest (unknown parent), QuotaExceeded or Unavailable.
        """
        check_queue(principal, job.queue)
        self.check_payload(principal.plan, job)
        if job.parent_job_id is not None:
            await self._check_parent(principal.tenant_id, job.parent_job_id)
        row = CreateRow(principal.tenant_id, self._context.ids.next(), job)
        if principal.plan.caps_jobs:
            created = (await self._capped.create(principal, (row,)))[0]
        else:
            created = await self.batcher.submit_one(principal.tenant_id, row, len(job.payload) + ROW_BYTES)
        return Enqueued(created.id, created.created)

    async def enqueue_beside(self, principal: Principal, job: NewJob, beside: Beside) -> Enqueued:
        """Create `job` as `enqueue` does, and whatever `beside` writes in the same transaction.

        `beside` is called before the commit; when it raises, nothing is created.
        """
        check_queue(principal, job.queue)
        self.check_payload(principal.plan, job)
        row = CreateRow(principal.tenant_id, self._context.ids.next(), job)
        [created] = await self._create_apart(principal, [row], beside)
        return Enqueued(created.id, created.created)

    async def enqueue_together(
        self, principal: Principal, new: Sequence[NewJob], *, admit: Admit, join: Join
    ) -> list[UUID]:
        """Create all of `new`, which have no idempotency keys, and what `join` makes of them, or nothing; returns their ids.

        Raises AccessDenied, PayloadTooLarge, QuotaExceeded, Unavailable, or what `admit` and `join` raise.
        """
        for job in new:
            check_queue(principal, job.queue)
            self.check_payload(principal.plan, job)
        rows = [CreateRow(principal.tenant_id, self._context.ids.next(), job) for job in new]
        labels = self._new_labels(rows)
        async with self._context.database.batch() as session:
            await admit(session)
            if principal.plan.caps_jobs:
                await self._capped.check_room(session, principal, rows)
            created = await self._insert(session, rows, labels, secrets.randbits(63))
            await self._note(session, rows, created)
            await join(session, [row.id for row in rows])
        self._announce(rows, created, labels)
        return [row.id for row in rows]

    async def enqueue_many(
        self, principal: Principal, new: Sequence[NewJob]
    ) -> list[Enqueued | MillstreamError]:
        """Create all of `new` in their order, in one transaction. Contract: spooled-jobs 3.9.

        A job that the database refuses carries its own error; a plan that has no room for all takes none.
        """
        for job in new:
            check_queue(principal, job.queue)
        answers: list[Enqueued | MillstreamError] = []
        fitting: list[CreateRow] = []
        refused: dict[int, MillstreamError] = {}
        for place, job in enumerate(new):
            try:
                self.check_payload(principal.plan, job)
            except PayloadTooLarge as error:
                refused[place] = error
                continue
            fitting.append(CreateRow(principal.tenant_id, self._context.ids.next(), job))
        if principal.plan.caps_jobs:
            created: Sequence[Created | MillstreamError] = await self._capped.create(principal, fitting)
        else:
            size = sum(len(row.job.payload) + ROW_BYTES for row in fitting)
            created = await self.batcher.submit(principal.tenant_id, fitting, size)
        outcomes = iter(created)
        for place in range(len(new)):
            outcome = refused[place] if place in refused else next(outcomes)
            answers.append(
                outcome if isinstance(outcome, MillstreamError) else Enqueued(outcome.id, outcome.created)
            )
        return answers

    async def create_within(self, session: Session, asked: Sequence[tuple[Plan, NewJob, int]]) -> Within:
        """Create jobs (plan, job without an idempotency key, tenant) in the open transaction of `session`.

        Each is created as far as its tenant's plan has room for it. `session` is not a tenant's.
        """
        outcomes: list[Created | MillstreamError | None] = [None for _ in asked]
        fitting: list[tuple[Plan, CreateRow]] = []
        places: list[int] = []
        for place, (plan, job, tenant_id) in enumerate(asked):
            try:
                self.check_payload(plan, job)
            except PayloadTooLarge as error:
                outcomes[place] = error
                continue
            fitting.append((plan, CreateRow(tenant_id, self._context.ids.next(), job)))
            places.append(place)
        refusals = await self._capped.find_refusals(session, fitting)
        for fit, refusal in refusals.items():
            outcomes[places[fit]] = refusal
        rows = [row for fit, (_, row) in enumerate(fitting) if fit not in refusals]
        labels = self._new_labels(rows)
        created = await self._insert(session, rows, labels, secrets.randbits(63)) if rows else []
        await self._note(session, rows, created)
        answers = iter(created)
        return Within(
            [next(answers) if outcome is None else outcome for outcome in outcomes],
            partial(self._announce, rows, created, labels),
        )

    def check_payload(self, plan: Plan, job: NewJob) -> None:
        """Raise PayloadTooLarge for a payload that the plan, or this server, does not take."""
        # Characters are at most bytes: only a text near the limit is worth encoding.
        limit = min(plan.max_payload_size_bytes, self._limits.payload_bytes_max)
        if len(job.payload) * 4 > limit:
            size = len(job.payload.encode())
            if size > limit:
                # Another plan helps only where it is the plan that decides, not this server.
                raise PayloadTooLarge(
                    f"payload is larger than {limit} bytes",
                    current=size,
                    limit=limit,
                    plan=plan.tier if limit == plan.max_payload_size_bytes else None,
                )

    async def _check_parent(self, tenant_id: int, parent_job_id: UUID) -> None:
        async with self._context.database.session() as session:
            if not await jobs.find_known_jobs(session, [(tenant_id, parent_job_id)]):
                raise BadRequest("parent_job_id is not a job of this organization")

    # The batch

    async def _create(self, rows: list[CreateRow], batch_id: int) -> list[Created | MillstreamError]:
        firsts, places = _collapse(rows)
        labels = self._new_labels(firsts)
        async with self._context.database.session() as session:
            tenant_ids = (row.tenant_id for row in firsts)
            async with self._context.outbox.beside(session, tenant_ids, outbox.CREATION) as notes:
                created = await self._insert(session, firsts, labels, batch_id)
                if notes is not None:
                    notes.extend(_notes_of(firsts, created))
        answers = _spread(created, places)
        self._announce(firsts, created, labels)
        await self._touch_hits(rows, answers)
        return [*answers]

    async def _insert(
        self, session: Session, rows: Sequence[CreateRow], labels: Sequence[Label], batch_id: int
    ) -> list[Created]:
        return await jobs.create_jobs(
            session, rows, batch_id=batch_id, defaults=self._defaults, labels=labels, now=self._context.now()
        )

    async def _note(self, session: Session, rows: Sequence[CreateRow], created: Sequence[Created]) -> None:
        await self._context.outbox.note(session, _notes_of(rows, created))

    async def _touch_hits(self, rows: Sequence[CreateRow], answers: Sequence[Created]) -> None:
        hits = {
            (row.tenant_id, answer.id)
            for row, answer in zip(rows, answers, strict=True)
            if not answer.created
        }
        if not hits:
            return
        try:
            async with self._context.database.session() as session:
                await jobs.touch_jobs(session, sorted(hits), self._context.now())
        except Unavailable as error:
            # The jobs are committed: failing now would be a lie, and running the batch again would find
            # its own rows. Whoever holds a job's row is about to move its updated_at anyway.
            _log.info("jobs found by their keys were not touched", jobs=len(hits), reason=error.message)

    def _new_labels(self, rows: Sequence[CreateRow]) -> list[Label]:
        known = self._labels
        found: set[Label] = set()
        for row in rows:
            label = (row.tenant_id, LABEL_QUEUE, row.job.queue)
            if label not in known:
                found.add(label)
            if row.job.job_type:
                label = (row.tenant_id, LABEL_JOB_TYPE, row.job.job_type)
                if label not in known:
                    found.add(label)
        return list(found)

    def _announce(
        self, rows: Sequence[CreateRow], created: Sequence[Created], labels: Sequence[Label]
    ) -> None:
        """Tell of what is committed: counters, events, waiting claims, the timer of delayed jobs."""
        if labels:
            if len(self._labels) > KNOWN_LABELS_MAX:
                self._labels.clear()
            self._labels.update(labels)
        fresh = 0
        delayed = False
        ready: dict[tuple[int, str], int] = {}
        for row, answer in zip(rows, created, strict=True):
            if not answer.created:
                continue
            fresh += 1
            self._context.tell(EventKind.JOB_CREATED, row.tenant_id, row.job.queue, answer.id)
            if answer.delayed:
                delayed = True
            else:
                key = (row.tenant_id, row.job.queue)
                ready[key] = ready.get(key, 0) + 1
        self._context.meters.enqueued(fresh)
        for (tenant_id, queue), count in ready.items():
            self._context.wakeups.wake(tenant_id, queue, count)
        if delayed:
            self._context.delayed()

    async def _recover(
        self, rows: list[CreateRow], batch_id: int, _started_at: float
    ) -> list[Created | MillstreamError]:
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            known = await jobs.find_known_jobs(session, [(row.tenant_id, row.id) for row in rows])
        return [Created(row.id, True, False) if row.id in known else OutcomeUnknown() for row in rows]

    # Jobs with something beside them: a transaction of their own

    async def _create_apart(
        self, principal: Principal, rows: Sequence[CreateRow], beside: Beside | None = None
    ) -> list[Created]:
        """Create `rows`, if the plan has room for all that are new, and what `beside` writes."""
        if not rows:
            return []
        firsts, places = _collapse(rows)
        labels = self._new_labels(firsts)
        async with self._context.database.transaction() as session:
            if principal.plan.caps_jobs:
                await self._capped.check_room(session, principal, firsts)
            created = await self._insert(session, firsts, labels, secrets.randbits(63))
            await self._note(session, firsts, created)
            if beside is not None:
                for answer in created:
                    await beside(session, Enqueued(answer.id, answer.created))
        answers = _spread(created, places)
        self._announce(firsts, created, labels)
        await self._touch_hits(rows, answers)
        return answers


def _notes_of(rows: Sequence[CreateRow], created: Sequence[Created]) -> list[JobNote]:
    return [
        JobNote(
            row.tenant_id,
            answer.id,
            WebhookEvent.JOB_CREATED,
            JobState.SCHEDULED if answer.delayed else JobState.READY,
        )
        for row, answer in zip(rows, created, strict=True)
        if answer.created
    ]


def _collapse(rows: Sequence[CreateRow]) -> tuple[list[CreateRow], list[tuple[int, bool]]]:
    """Keep the first row of each idempotency key; say for every row where its first is and whether it is it."""
    firsts: list[CreateRow] = []
    places: list[tuple[int, bool]] = []
    keys: dict[tuple[int, str], int] = {}
    for row in rows:
        key = row.job.idempotency_key
        if key is not None:
            place = keys.setdefault((row.tenant_id, key), len(firsts))
            if place < len(firsts):
                places.append((place, False))
                continue
        places.append((len(firsts), True))
        firsts.append(row)
    return firsts, places


def _spread(created: Sequence[Created], places: Sequence[tuple[int, bool]]) -> list[Created]:
    if len(created) == len(places):
        return list(created)
    return [
        created[place] if is_first else Created(created[place].id, False, False) for place, is_first in places
    ]
