"""Settling: completions, failures and renewals of running jobs, each fenced by its lease."""

import time
from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import assert_never
from uuid import UUID

from millstream.domain import limits
from millstream.domain.errors import (
    Conflict,
    MillstreamError,
    NotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    Unavailable,
)
from millstream.domain.job import (
    FINISHED_WORDS,
    Completed,
    Completion,
    Failed,
    Failure,
    JobState,
    Lease,
    Release,
    Released,
    Renewal,
)
from millstream.domain.tenant import Principal
from millstream.domain.webhook import JobNote, WebhookEvent
from millstream.engine import outbox
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.engine.events import EventKind
from millstream.engine.fencing import Fence, FencedRow
from millstream.engine.lookback import Lookback
from millstream.engine.releases import Releasing
from millstream.store import batches, job_reads, settlements
from millstream.store.database import Session
from millstream.store.settlements import (
    CompletedJob,
    CompleteOutcome,
    CompleteRow,
    FailOutcome,
    FailRow,
    RenewRow,
)

ROW_BYTES = 100


class Settling:
    """Ends and prolongs attempts."""

    def __init__(self, context: Context, *, lanes: int = 1) -> None:
        self._context = context
        self._lookback = Lookback(context.clock)
        self._releasing = Releasing(context)
        self._fence = Fence(context)
        self.completions: Batcher[CompleteRow, Completed] = Batcher(
            "complete",
            self._complete,
            recover=self._recover_completions,
            key_of=_job_of,
            observe=context.observe_batch("complete"),
            lanes=lanes,
        )
        self.failures: Batcher[FailRow, Failed] = Batcher(
            "fail",
            self._fail,
            recover=self._recover_failures,
            key_of=_job_of,
            observe=context.observe_batch("fail"),
        )
        self.renewals: Batcher[RenewRow, datetime] = Batcher(
            "renew", self._renew, key_of=_job_of, observe=context.observe_batch("renew")
        )

    async def complete(self, principal: Principal, completion: Completion) -> Completed:
        """Record a success. Raises NotFound, Conflict or LeaseExpired. Contract: spooled-jobs 3.12, 3.15."""
        await self._check_scope(principal, [completion.lease])
        row = self._completion_row(principal, completion)
        return await self.completions.submit_one(principal.tenant_id, row, _size_of(row.result))

    async def fail(self, principal: Principal, failure: Failure) -> Failed:
        """Record a failed attempt: another one follows, or a dead letter. Contract: spooled-jobs 3.13, 3.15."""
        await self._check_scope(principal, [failure.lease])
        row = self._failure_row(principal, failure)
        return await self.failures.submit_one(principal.tenant_id, row, ROW_BYTES)

    async def renew(self, principal: Principal, renewal: Renewal) -> datetime:
        """Move the end of a lease and return it. Contract: spooled-jobs 3.14, 3.15."""
        await self._check_scope(principal, [renewal.lease])
        row = RenewRow(principal.tenant_id, renewal.lease, renewal.seconds)
        return await self.renewals.submit_one(principal.tenant_id, row, ROW_BYTES)

    async def settle(
        self, principal: Principal, items: Sequence[Completion | Failure | Release]
    ) -> list[Completed | Failed | Released | MillstreamError]:
        """Record successes, failures and releases together; each item is answered for itself, in their order."""
        answers: list[Completed | Failed | Released | MillstreamError | None] = [None] * len(items)
        releases: list[tuple[int, Lease]] = []
        completions: list[tuple[int, CompleteRow]] = []
        failures: list[tuple[int, FailRow]] = []
        hidden = await self._hidden(principal, [item.lease for item in items])
        for place, item in enumerate(items):
            if item.lease.job_id in hidden:
                answers[place] = NotFound()
                continue
            try:
                match item:
                    case Completion():
                        completions.append((place, self._completion_row(principal, item)))
                    case Failure():
                        failures.append((place, self._failure_row(principal, item)))
                    case Release():
                        releases.append((place, item.lease))
                    case _:
                        assert_never(item)
            except MillstreamError as error:
                answers[place] = error
        size = sum(_size_of(row.result) for _, row in completions)
        completed = await self.completions.submit(principal.tenant_id, [row for _, row in completions], size)
        for (place, _), answer in zip(completions, completed, strict=True):
            answers[place] = answer
        for (place, _), outcome in zip(failures, await self._fail_each(principal, failures), strict=True):
            answers[place] = outcome
        released = await self._releasing.release(principal.tenant_id, [lease for _, lease in releases])
        for (place, _), given_back in zip(releases, released, strict=True):
            answers[place] = given_back
        return [answer for answer in answers if answer is not None]

    async def _fail_each(
        self, principal: Principal, failures: Sequence[tuple[int, FailRow]]
    ) -> Sequence[Failed | MillstreamError]:
        rows = [row for _, row in failures]
        try:
            return await self.failures.submit(principal.tenant_id, rows, ROW_BYTES * len(rows))
        except Unavailable as error:
            # The completions beside them are recorded and must be told so.
            return [error] * len(rows)

    async def reap(self) -> list[FailOutcome]:
        """End attempts whose lease has run out; a full batch means that there may be more."""
        async with self._context.database.session() as session, session.together():
            outcomes = await settlements.fail_jobs(
                session,
                [],
                batch_id=0,
                now=self._context.now(),
                reap=limits.REAPED_ROWS_MAX,
                lookback_seconds=self._lookback.seconds(),
            )
            await self._context.outbox.note(session, _notes_of_failures([], outcomes))
        self._lookback.found(len(outcomes), limit=limits.REAPED_ROWS_MAX)
        self._announce_failures(outcomes)
        return outcomes

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self.completions.close()
        await self.failures.close()
        await self.renewals.close()

    async def _check_scope(self, principal: Principal, leases: Sequence[Lease]) -> None:
        if principal.queues is not None and await self._hidden(principal, leases):
            raise NotFound

    async def _hidden(self, principal: Principal, leases: Sequence[Lease]) -> set[UUID]:
        """Return the jobs that a credential limited to some queues must not see. A job never changes its queue."""
        if principal.queues is None:
            return set()
        given = {lease.job_id for lease in leases}
        async with self._context.database.tenant(principal.tenant_id) as session:
            visible = await job_reads.list_job_statuses(
                session, principal.tenant_id, list(given), principal.visible_queues
            )
        return given - {status.id for status in visible}

    def _completion_row(self, principal: Principal, completion: Completion) -> CompleteRow:
        result = completion.result
        if result is not None and len(result) * 4 > limits.RESULT_BYTES_MAX:
            size = len(result.encode())
            if size > limits.RESULT_BYTES_MAX:
                raise PayloadTooLarge(
                    f"result is larger than {limits.RESULT_BYTES_MAX} bytes",
                    current=size,
                    limit=limits.RESULT_BYTES_MAX,
                )
        return CompleteRow(principal.tenant_id, completion.lease, result)

    def _failure_row(self, principal: Principal, failure: Failure) -> FailRow:
        return FailRow(
            principal.tenant_id,
            failure.lease,
            failure.error,
            failure.retry_in_seconds,
            self._context.ids.next(),
        )

    # Completions

    async def _complete(
        self, rows: list[CompleteRow], batch_id: int
    ) -> Sequence[Completed | MillstreamError]:
        return await self._fence.run(self._complete_once, rows, batch_id)

    async def _complete_once(
        self, session: Session, rows: Sequence[CompleteRow], batch_id: int
    ) -> list[Completed | MillstreamError | None]:
        answers: list[Completed | MillstreamError | None] = [None] * len(rows)
        tell = any(self._context.hub.listens(row.tenant_id) for row in rows)
        tenant_ids = (row.tenant_id for row in rows)
        async with self._context.outbox.beside(session, tenant_ids, outbox.COMPLETION) as notes:
            outcome, released = await settlements.complete_jobs(
                session, rows, batch_id=batch_id, tell=tell, now=self._context.now()
            )
            if notes is not None:
                notes.extend(_notes_of_completions(rows, outcome))
        for place in outcome.places:
            answers[place] = Completed(rows[place].lease.job_id)
        for place, queue in zip(outcome.places, outcome.queues, strict=tell):
            row = rows[place]
            self._context.tell(EventKind.JOB_COMPLETED, row.tenant_id, queue, row.lease.job_id)
        self._context.meters.completed(len(outcome.places))
        self._context.meters.durations_seconds(outcome.seconds)
        if released.workflows_changed:
            self._context.workflows_changed.set()
        for job in released.jobs:
            self._context.wakeups.wake(job.tenant_id, job.queue)
            self._context.tell(EventKind.JOB_READY, job.tenant_id, job.queue, job.id)
        return answers

    async def _recover_completions(
        self, rows: list[CompleteRow], batch_id: int, started_at: float
    ) -> Sequence[Completed | MillstreamError]:
        """Answer which of `rows` the lost batch completed.

        A completion leaves nothing behind that names its batch. What tells a repeated one is its time: a job
        that was finished before this batch began was finished by another, and its caller is told that it is
        already completed. What cannot be told apart are two completions under one lease that are under way at
        the same time in two processes, when the connection of one of them is lost: then both succeed.
        """
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            found = await settlements.find_completed_jobs(
                session, [(row.tenant_id, row.lease.job_id) for row in rows], self._context.now()
            )
        # Looked at after the database's clock was: the age of what this batch did cannot be more than this.
        under_way_seconds = time.monotonic() - started_at
        answers: list[Completed | MillstreamError] = []
        for row, completed in zip(rows, found, strict=True):
            if completed is None or not _is_of(row.lease, completed):
                answers.append(OutcomeUnknown())
            elif completed.seconds_ago > under_way_seconds:
                answers.append(Conflict(FINISHED_WORDS[JobState.COMPLETED]))
            else:
                answers.append(Completed(row.lease.job_id))
        return answers

    # Failures

    async def _fail(self, rows: list[FailRow], batch_id: int) -> Sequence[Failed | MillstreamError]:
        return await self._fence.run(self._fail_once, rows, batch_id)

    async def _fail_once(
        self, session: Session, rows: Sequence[FailRow], batch_id: int
    ) -> list[Failed | MillstreamError | None]:
        answers: list[Failed | MillstreamError | None] = [None] * len(rows)
        tenant_ids = (row.tenant_id for row in rows)
        async with self._context.outbox.beside(session, tenant_ids, outbox.FAILURE) as notes:
            outcomes = await settlements.fail_jobs(session, rows, batch_id=batch_id, now=self._context.now())
            if notes is not None:
                notes.extend(_notes_of_failures(rows, outcomes))
        for outcome in outcomes:
            if outcome.place is not None:
                answers[outcome.place] = Failed(
                    outcome.job_id, outcome.retry_in_seconds if outcome.again else None
                )
        self._announce_failures(outcomes)
        return answers

    def _announce_failures(self, outcomes: Sequence[FailOutcome]) -> None:
        meters = self._context.meters
        retried = 0
        for outcome in outcomes:
            self._context.tell(EventKind.JOB_FAILED, outcome.tenant_id, outcome.queue, outcome.job_id)
            if outcome.again:
                retried += 1
                if outcome.retry_in_seconds == 0:
                    self._context.wakeups.wake(outcome.tenant_id, outcome.queue)
                else:
                    self._context.delayed()
            else:
                self._context.tell(EventKind.JOB_DEAD, outcome.tenant_id, outcome.queue, outcome.job_id)
        if retried < len(outcomes):
            self._context.workflows_changed.set()
        meters.failed(len(outcomes))
        meters.retried(retried)
        meters.dead(len(outcomes) - retried)

    async def _recover_failures(
        self, rows: list[FailRow], batch_id: int, _started_at: float
    ) -> Sequence[Failed | MillstreamError]:
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            ended = await settlements.find_ended_attempts(session, rows)
        answers: list[Failed | MillstreamError] = []
        for row in rows:
            attempt = ended.get(row.event_id)
            if attempt is None:
                answers.append(OutcomeUnknown())
            else:
                answers.append(
                    Failed(row.lease.job_id, None if attempt.buried else attempt.retry_in_seconds or 0)
                )
        return answers

    # Renewals

    async def _renew(self, rows: list[RenewRow], batch_id: int) -> Sequence[datetime | MillstreamError]:
        return await self._fence.run(self._renew_once, rows, batch_id)

    async def _renew_once(
        self, session: Session, rows: Sequence[RenewRow], _batch_id: int
    ) -> list[datetime | MillstreamError | None]:
        ends = await settlements.renew_leases(session, rows, self._context.now())
        return [ends.get(place) for place in range(len(rows))]


def _notes_of_completions(rows: Sequence[CompleteRow], outcome: CompleteOutcome) -> list[JobNote]:
    completed = [rows[place] for place in outcome.places]
    return [
        JobNote(row.tenant_id, row.lease.job_id, WebhookEvent.JOB_COMPLETED, JobState.COMPLETED)
        for row in completed
    ]


def _notes_of_failures(rows: Sequence[FailRow], outcomes: Sequence[FailOutcome]) -> list[JobNote]:
    notes: list[JobNote] = []
    for outcome in outcomes:
        worker_id = None if outcome.place is None else rows[outcome.place].lease.worker_id
        state = JobState.RETRYING if outcome.again else JobState.DEAD
        then = WebhookEvent.JOB_RETRIED if outcome.again else WebhookEvent.JOB_DEADLETTERED
        notes += [
            JobNote(outcome.tenant_id, outcome.job_id, event, state, worker_id)
            for event in (WebhookEvent.JOB_FAILED, then)
        ]
    return notes


def _job_of(row: FencedRow) -> Hashable:
    return row.tenant_id, row.lease.job_id


def _size_of(result: str | None) -> int:
    return ROW_BYTES + (0 if result is None else len(result))


def _is_of(lease: Lease, completed: CompletedJob) -> bool:
    return completed.worker_id == lease.worker_id and (
        lease.lease_id is None or completed.lease_id == lease.lease_id
    )
