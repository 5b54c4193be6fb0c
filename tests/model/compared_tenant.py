"""One tenant on a real engine beside the reference, and the comparison of all that is visible."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import BadRequest, Conflict, LeaseExpired, MillstreamError, NotFound
from millstream.domain.job import Job, JobFilter, JobState
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.conftest import STARTED_AT, TEMPLATE, Cluster, make_principal
from tests.model.reference import Reference, ReferenceJob, Refused, Status

T = TypeVar("T")

QUEUES = ("alpha", "beta")
GRAVES = "graves"
WORKERS = ("ann", "bob")
# Far more than one run makes: a page holds everything.
EVERYTHING = 10_000
STATUSES = {
    JobState.READY: Status.PENDING,
    JobState.RETRYING: Status.PENDING,
    JobState.BLOCKED: Status.PENDING,
    JobState.SCHEDULED: Status.SCHEDULED,
    JobState.RUNNING: Status.PROCESSING,
    JobState.COMPLETED: Status.COMPLETED,
    JobState.DEAD: Status.DEADLETTER,
    JobState.CANCELLED: Status.CANCELLED,
}
REFUSALS: dict[type[MillstreamError], Refused] = {
    NotFound: Refused.NOT_FOUND,
    Conflict: Refused.CONFLICT,
    LeaseExpired: Refused.LEASE_EXPIRED,
    BadRequest: Refused.BAD_REQUEST,
}


class ComparedTenant(RuleBasedStateMachine):
    """One tenant on a fresh database of `cluster`; `steps` counts the operations of all runs."""

    cluster: ClassVar[Cluster]
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = SteeredClock(STARTED_AT)
        self.reference = Reference()
        self.database_name = f"model_{uuid4().hex[:12]}"
        self.runner = asyncio.Runner()
        self.now = self.clock.now

    @initialize()
    def open(self) -> None:
        self.engine: Engine = self.runner.run(self._open())
        self.jobs = self.engine.jobs

    async def _open(self) -> Engine:
        async with installation.direct_session(self.cluster.superuser_dsn) as session:
            await session.run(f"create database {self.database_name} template {TEMPLATE}")
        dsn = self.cluster.dsn_of(self.database_name)
        self.database = await Database.open(dsn, min_size=1, max_size=5)
        engine = await open_engine(
            self.database, direct=lambda: installation.direct_session(dsn), clock=self.clock
        )
        self.principal = await make_principal(engine)
        for worker in WORKERS:
            await engine.workers.register(self.principal, NewWorker(id=worker, queue="alpha", hostname="h"))
        return engine

    def teardown(self) -> None:
        try:
            if hasattr(self, "engine"):
                self.runner.run(self._check_totals())
        finally:
            self.runner.run(self._close())
            self.runner.close()

    async def _check_totals(self) -> None:
        """What is counted by appended deltas agrees once they are folded. Contract: spooled-jobs 2.7."""
        await self.engine.upkeep.fold_counters()
        for name in WORKERS:
            worker = await self.engine.workers.get(self.principal, name)
            assert worker.jobs_processed == self.reference.processed.get(name, 0)
            assert worker.jobs_failed == self.reference.failed.get(name, 0)

    async def _close(self) -> None:
        if hasattr(self, "engine"):
            await self.engine.close()
            await self.database.close()
        async with installation.direct_session(self.cluster.superuser_dsn) as session:
            await session.run(f"drop database if exists {self.database_name} with (force)")

    @invariant()
    def everything_visible_agrees(self) -> None:
        ComparedTenant.steps += 1
        if hasattr(self, "engine"):
            self.run(self._compare())

    async def _compare(self) -> None:
        page = await self.jobs.list(self.principal, JobFilter(limit=EVERYTHING))
        assert {job.id for job in page.jobs} == set(self.reference.jobs)
        assert len(page.jobs) == len(self.reference.jobs)
        for job in page.jobs:
            self._compare_job(job, self.reference.jobs[job.id])
        counts = await self.jobs.counts(self.principal)
        for state in JobState:
            assert counts.get(state, 0) == sum(job.state is state for job in page.jobs)
        for queue in (*QUEUES, GRAVES):
            stats = await self.engine.queues.stats(self.principal, queue)
            own = [STATUSES[job.state] for job in page.jobs if job.queue == queue]
            assert stats.pending == own.count(Status.PENDING)
            assert stats.processing == own.count(Status.PROCESSING)
        for job_id in self.reference.purged[-2:]:
            assert await attempt(self.jobs.get(self.principal, job_id)) is Refused.NOT_FOUND
        if page.jobs:
            # One job's history a step: the newest entry is where a step shows.
            told = max(page.jobs, key=lambda job: (job.updated_at, job.id))
            history = await self.jobs.history(self.principal, told.id, descending=False, limit=500, offset=0)
            kinds = [event.kind.name.lower() for event in history.events]
            assert sorted(kinds) == sorted(self.reference.jobs[told.id].history)

    def _compare_job(self, job: Job, reference: ReferenceJob) -> None:
        status = STATUSES[job.state]
        assert (job.state is JobState.BLOCKED) == reference.blocked
        if reference.visible_status is Status.SCHEDULED and status is Status.PENDING:
            # Activated by the way, as soon as its time had come.
            assert reference.run_at is not None
            assert reference.run_at <= self.now()
            reference.status = Status.PENDING
        assert status is reference.visible_status
        assert job.parent_job_id == reference.parent_id
        assert job.queue == reference.queue
        assert job.priority == reference.priority
        assert (job.retry_count, job.max_retries) == (reference.retry_count, reference.max_retries)
        assert (job.worker_id, job.lease_id) == (reference.worker_id, reference.lease_id)
        assert job.lease_expires_at == reference.lease_expires_at
        assert (job.run_at, job.expires_at) == (reference.run_at, reference.expires_at)
        assert (job.created_at, job.started_at) == (reference.created_at, reference.started_at)
        assert (job.completed_at, job.result) == (reference.completed_at, reference.result)
        assert job.idempotency_key == reference.idempotency_key
        if reference.last_error in ("lease", "expired", "parent"):
            # The contract leaves the wording open.
            assert job.last_error is not None
            assert reference.last_error in job.last_error
        else:
            assert job.last_error == reference.last_error

    def pick(self, pick: int, first: Status) -> ReferenceJob:
        """Return a job, most often one in the status `first`."""
        jobs = self.ordered(first)
        return jobs[pick % len(jobs)]

    def ordered(self, first: Status) -> list[ReferenceJob]:
        now = self.now()
        waited_for = {job.parent_id for job in self.reference.jobs.values() if job.blocked}
        return sorted(
            self.reference.jobs.values(),
            key=lambda job: (
                job.status is not first,
                job.lease_expires_at is not None and job.lease_expires_at <= now,
                job.id not in waited_for,
                job.place,
            ),
        )

    def tick(self) -> None:
        # No two attempts begin in the same microsecond, as no two transactions of a database do.
        self.clock.advance(0.001)

    def run(self, operation: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(operation)


async def attempt(operation: Coroutine[Any, Any, T]) -> T | Refused:
    try:
        return await operation
    except (NotFound, Conflict, LeaseExpired, BadRequest) as error:
        return REFUSALS[type(error)]
