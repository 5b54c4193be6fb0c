"""Workflows stand as the contract's model says, whatever is done to their jobs in whatever order."""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import BadRequest, Conflict
from millstream.domain.job import (
    ClaimRequest,
    Completion,
    DeadSelection,
    DependencyMode,
    Failure,
    JobState,
    Lease,
    NewJob,
)
from millstream.domain.tenant import Principal
from millstream.domain.workflow import (
    NewStep,
    NewWorkflow,
    StepCounts,
    Wait,
    WorkflowStatus,
    blocked_for_good,
    next_status,
)
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.conftest import STARTED_AT, TEMPLATE, Cluster, make_principal

T = TypeVar("T")
ALL, ANY = DependencyMode.ALL, DependencyMode.ANY
WAITING = (JobState.READY, JobState.BLOCKED)
# What can be done while there is a job in one of the states; how often it stands in the list is how likely it is.
DEEDS: tuple[tuple[str, tuple[JobState, ...]], ...] = (
    *[("claim", (JobState.READY,))] * 4,
    *[("complete", (JobState.RUNNING,))] * 3,
    *[("fail", (JobState.RUNNING,))] * 2,
    *[("add_dependency", WAITING)] * 2,
    ("cancel_job", WAITING),
    ("retry_job", (JobState.DEAD,)),
    ("retry_dead", (JobState.DEAD,)),
    ("retry_workflow", (JobState.DEAD,)),
    ("purge", (JobState.DEAD,)),
    ("retry_workflow", (JobState.RUNNING,)),
    ("cancel_workflow", (*WAITING, JobState.RUNNING, JobState.DEAD)),
)


@dataclass
class ModelJob:
    """What the contract says of one job: state, attempts, and what it waits for."""

    id: UUID
    mode: DependencyMode
    depends_on: set[UUID]
    max_retries: int
    state: JobState = JobState.READY
    retry_count: int = 0


@dataclass
class ModelWorkflow:
    """The rules of section 10.7 as they are worded, and a status by the pure model of section 10.8."""

    jobs: dict[UUID, ModelJob]
    status: WorkflowStatus = WorkflowStatus.PENDING
    started: bool = False
    deleted: set[UUID] = field(default_factory=set)

    def of(self, *states: JobState) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in states]

    def is_met(self, job: ModelJob) -> bool:
        completed = [self.jobs[other].state is JobState.COMPLETED for other in job.depends_on]
        return not completed or (all(completed) if job.mode is ALL else any(completed))

    def release(self) -> None:
        for job in self.of(JobState.BLOCKED):
            if self.is_met(job):
                job.state = JobState.READY

    def cancel(self, jobs: list[ModelJob]) -> None:
        for job in jobs:
            job.state = JobState.CANCELLED
        while hopeless := [job for job in self.of(JobState.BLOCKED) if self.is_hopeless(job)]:
            for job in hopeless:
                job.state = JobState.CANCELLED

    def is_hopeless(self, job: ModelJob) -> bool:
        cancelled = [self.jobs[other].state is JobState.CANCELLED for other in job.depends_on]
        return bool(cancelled) and (any(cancelled) if job.mode is ALL else all(cancelled))

    def purge(self) -> None:
        gone = {job.id for job in self.of(JobState.DEAD)}
        self.deleted |= gone
        for job_id in gone:
            del self.jobs[job_id]
        for job in self.jobs.values():
            job.depends_on -= gone
        self.release()
        self.cancel([])

    def waits_for(self, job: ModelJob, other: ModelJob) -> bool:
        return other.id in job.depends_on or any(
            self.waits_for(self.jobs[each], other) for each in job.depends_on
        )

    def judge(self) -> None:
        waits = {
            job.id: Wait(job.mode, {other: self.jobs[other].state for other in job.depends_on})
            for job in self.of(JobState.BLOCKED)
        }
        counts = StepCounts(
            able=len(self.of(JobState.READY, JobState.RUNNING)),
            blocked=len(waits),
            blocked_for_good=len(blocked_for_good(waits)),
            dead=len(self.of(JobState.DEAD)),
            started=self.started,
        )
        self.status = next_status(self.status, counts)


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[DependencyMode, list[int], int]]:
    """A graph without circles: how each job waits, for which ones (forward too), and how often it is retried."""
    size = draw(st.integers(1, 8))
    ranks = draw(st.permutations(range(size)))
    jobs: list[tuple[DependencyMode, list[int], int]] = []
    for place in range(size):
        earlier = [other for other in range(size) if ranks[other] < ranks[place]]
        chosen = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        jobs.append((draw(st.sampled_from([ALL, ALL, ANY])), chosen, draw(st.sampled_from([0, 0, 0, 1]))))
    return jobs


class World:
    """One engine, and the workflow that is done things to."""

    def __init__(self, engine: Engine, principal: Principal, clock: SteeredClock) -> None:
        self.engine = engine
        self.principal = principal
        self.clock = clock
        self.leases: dict[UUID, Lease] = {}

    async def create(self, shape: list[tuple[DependencyMode, list[int], int]], queue: str) -> None:
        self.queue = queue
        self.leases = {}
        new = NewWorkflow(
            name="w",
            steps=tuple(
                NewStep(
                    key=f"k{place}",
                    job=NewJob(queue=queue, payload="{}", max_retries=retries),
                    depends_on=tuple(f"k{other}" for other in others),
                    mode=mode,
                )
                for place, (mode, others, retries) in enumerate(shape)
            ),
        )
        made = await self.engine.workflows.create(self.principal, new)
        self.id, self.total = made.id, len(shape)
        self.model = ModelWorkflow(
            {
                job_id: ModelJob(job_id, mode, {made.job_ids[other] for other in others}, retries)
                for job_id, (mode, others, retries) in zip(made.job_ids, shape, strict=True)
            }
        )
        for job in self.model.jobs.values():
            job.state = JobState.BLOCKED if job.depends_on else JobState.READY

    async def act(self, choice: int, pick: int, other: int) -> None:
        possible = [deed for deed, states in DEEDS if self.model.of(*states)]
        if not possible:
            return
        self.clock.advance(0.001)
        await getattr(self, possible[choice % len(possible)])(pick, other)
        self.model.judge()

    async def compare(self) -> None:
        detail = await self.engine.workflows.detail(self.principal, self.id)
        model = self.model
        assert {step.job.id: step.job.state for step in detail.steps} == {
            job.id: job.state for job in model.jobs.values()
        }
        workflow = detail.workflow
        assert workflow.status is model.status
        assert workflow.total_jobs == self.total
        assert workflow.completed_jobs == len(model.of(JobState.COMPLETED))
        assert workflow.failed_jobs == len(model.of(JobState.DEAD))
        assert (workflow.completed_at is None) == (workflow.status < WorkflowStatus.COMPLETED)
        assert (workflow.started_at is not None) == model.started
        assert {(edge.job_id, edge.depends_on) for edge in detail.edges} == {
            (job.id, each) for job in model.jobs.values() for each in job.depends_on
        }
        for step in detail.steps:
            # What is claimable is so for the claims too: nothing is counted below nothing, or above.
            assert (step.job.unmet > 0) == (step.job.state is JobState.BLOCKED) or (
                step.job.state is JobState.CANCELLED
            )

    # What can be done

    async def claim(self, pick: int, _: int) -> None:
        request = ClaimRequest(queue=self.queue, worker_id="w", limit=1 + pick % 3)
        ready = self.model.of(JobState.READY)
        claimed = await self.engine.jobs.claim(self.principal, request)
        assert len(claimed) == min(request.limit, len(ready))
        for job in claimed:
            self.model.jobs[job.id].state = JobState.RUNNING
            self.model.started = True
            self.leases[job.id] = Lease(job_id=job.id, worker_id="w", lease_id=job.lease_id)

    async def complete(self, pick: int, other: int) -> None:
        """Complete one, or all that run in one statement."""
        running = self.model.of(JobState.RUNNING)
        if other % 3:
            running = [running[pick % len(running)]]
        await self.engine.jobs.settle(
            self.principal, [Completion(lease=self.leases[job.id]) for job in running]
        )
        for job in running:
            job.state = JobState.COMPLETED
        self.model.release()

    async def fail(self, pick: int, _: int) -> None:
        running = self.model.of(JobState.RUNNING)
        job = running[pick % len(running)]
        await self.engine.jobs.fail(
            self.principal, Failure(lease=self.leases[job.id], error="e", retry_in_seconds=0)
        )
        again = job.retry_count < job.max_retries
        job.retry_count += again
        job.state = JobState.READY if again else JobState.DEAD

    async def cancel_job(self, pick: int, other: int) -> None:
        waiting = self.model.of(*WAITING)
        # Rarely: it ends what could still be done.
        if other % 2:
            job = waiting[pick % len(waiting)]
            await self.engine.jobs.cancel(self.principal, job.id)
            self.model.cancel([job])

    async def retry_job(self, pick: int, _: int) -> None:
        dead = self.model.of(JobState.DEAD)
        job = dead[pick % len(dead)]
        await self.engine.jobs.retry(self.principal, job.id)
        job.state = JobState.READY
        job.retry_count += 1

    async def retry_dead(self, _pick: int, _: int) -> None:
        dead = self.model.of(JobState.DEAD)
        revived = await self.engine.jobs.retry_dead(
            self.principal, DeadSelection(queue=self.queue, limit=100)
        )
        assert set(revived.job_ids) == {job.id for job in dead}
        self._restart(dead)

    async def purge(self, _pick: int, other: int) -> None:
        if other % 2:
            await self.engine.jobs.purge_dead(self.principal, DeadSelection(queue=self.queue, limit=100))
            self.model.purge()

    async def retry_workflow(self, _pick: int, _: int) -> None:
        dead = self.model.of(JobState.DEAD)
        if self.model.status is WorkflowStatus.FAILED and dead:
            workflow = await self.engine.workflows.retry(self.principal, self.id)
            assert (workflow.status, workflow.failed_jobs) == (WorkflowStatus.RUNNING, 0)
            self._restart(dead)
        else:
            with pytest.raises(BadRequest, match="failed"):
                await self.engine.workflows.retry(self.principal, self.id)

    async def cancel_workflow(self, _pick: int, other: int) -> None:
        if self.model.status in (WorkflowStatus.COMPLETED, WorkflowStatus.FAILED):
            with pytest.raises(Conflict):
                await self.engine.workflows.cancel(self.principal, self.id)
        elif other % 4 == 0 or self.model.status is WorkflowStatus.CANCELLED:
            active = self.model.status is not WorkflowStatus.CANCELLED
            workflow = await self.engine.workflows.cancel(self.principal, self.id)
            assert workflow.status is WorkflowStatus.CANCELLED
            if active:
                self.model.cancel(self.model.of(*WAITING))
                self.model.status = WorkflowStatus.CANCELLED

    async def add_dependency(self, pick: int, other: int) -> None:
        everything = list(self.model.jobs.values())
        waiting = self.model.of(*WAITING)
        job, target = waiting[pick % len(waiting)], everything[other % len(everything)]
        mode = ANY if pick % 2 else ALL
        wanted = set(job.depends_on)
        if target.id != job.id and not self.model.waits_for(target, job):
            wanted.add(target.id)
        before, job.depends_on = (job.mode, job.depends_on), wanted
        job.mode = mode
        adding = self.engine.dependencies.add(self.principal, job.id, [target.id], mode)
        if self.model.is_hopeless(job):
            with pytest.raises(Conflict):
                await adding
            job.mode, job.depends_on = before
            return
        added = await adding
        assert added.added == len(wanted) - len(before[1])
        job.state = JobState.READY if self.model.is_met(job) else JobState.BLOCKED
        assert added.is_met == (job.state is JobState.READY)

    def _restart(self, dead: list[ModelJob]) -> None:
        for job in dead:
            job.state = JobState.READY
            job.retry_count = 0


def test_workflows_stand_as_the_model_says_after_every_step(cluster: Cluster) -> None:
    _run(cluster, settings(max_examples=15, derandomize=True, database=None))


@pytest.mark.slow
def test_workflows_stand_as_the_model_says_for_thousands_of_steps(cluster: Cluster) -> None:
    _run(cluster, settings(max_examples=300))


def _run(cluster: Cluster, profile: settings) -> None:
    with _world(cluster) as (world, run):
        count = 0

        @settings(
            profile,
            deadline=timedelta(minutes=1),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            print_blob=True,
        )
        @given(
            shapes(),
            st.lists(
                st.tuples(st.integers(0, 100), st.integers(0, 20), st.integers(0, 20)),
                min_size=12,
                max_size=50,
            ),
        )
        def check(
            shape: list[tuple[DependencyMode, list[int], int]], deeds: list[tuple[int, int, int]]
        ) -> None:
            nonlocal count
            count += 1

            async def scenario() -> None:
                await world.create(shape, f"q{count}")
                await world.compare()
                for choice, pick, other in deeds:
                    await world.act(choice, pick, other)
                    await world.compare()

            run(scenario())

        check()


@contextmanager
def _world(cluster: Cluster) -> Generator[tuple[World, Any]]:
    name = "model_workflows"
    clock = SteeredClock(STARTED_AT)

    async def start() -> tuple[Database, Engine, Principal]:
        async with installation.direct_session(cluster.superuser_dsn) as session:
            await session.run(f"drop database if exists {name} with (force)")
            await session.run(f"create database {name} template {TEMPLATE}")
        dsn = cluster.dsn_of(name)
        database = await Database.open(dsn, min_size=1, max_size=5)
        engine = await open_engine(database, direct=lambda: installation.direct_session(dsn), clock=clock)
        return database, engine, await make_principal(engine)

    with asyncio.Runner() as runner:

        def run(operation: Coroutine[Any, Any, T]) -> T:
            return runner.run(operation)

        database, engine, principal = run(start())
        try:
            yield World(engine, principal, clock), run
        finally:
            run(engine.close())
            run(database.close())
