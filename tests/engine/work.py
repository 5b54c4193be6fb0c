"""One tenant at work: jobs brought into any state by what brings them there in life."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from millstream.domain.clock import SteeredClock
from millstream.domain.job import (
    ClaimedJob,
    ClaimRequest,
    Completion,
    DeadSelection,
    Failed,
    Failure,
    Job,
    JobEventKind,
    JobState,
    Lease,
    NewJob,
    Renewal,
)
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine


class Work:
    """What a tenant and its workers do; `queue` and `worker` are `q` and `w` unless said otherwise."""

    def __init__(self, engine: Engine, principal: Principal, clock: SteeredClock) -> None:
        self.engine = engine
        self.principal = principal
        self.clock = clock

    def in_seconds(self, seconds: float) -> datetime:
        """Return the steered time `seconds` from now."""
        return self.clock.now() + timedelta(seconds=seconds)

    async def enqueue(self, queue: str = "q", **options: Any) -> UUID:
        """Enqueue one job and return its id."""
        job = NewJob(queue=queue, payload=options.pop("payload", "{}"), **options)
        return (await self.engine.jobs.enqueue(self.principal, job)).id

    async def claim(self, queue: str = "q", worker: str = "w", **options: Any) -> list[ClaimedJob]:
        """Claim jobs."""
        request = ClaimRequest(queue=queue, worker_id=worker, **options)
        return await self.engine.jobs.claim(self.principal, request)

    async def run(self, queue: str = "q", worker: str = "w", **options: Any) -> Lease:
        """Enqueue a job, claim it, and return its lease."""
        lease_seconds = options.pop("lease_seconds", 30)
        job_id = await self.enqueue(queue, **options)
        [claimed] = await self.claim(queue, worker, lease_seconds=lease_seconds)
        assert claimed.id == job_id
        return lease_of(claimed, worker)

    async def complete(self, lease: Lease, result: str | None = None) -> None:
        await self.engine.jobs.complete(self.principal, Completion(lease=lease, result=result))

    async def fail(self, lease: Lease, error: str = "boom", **options: Any) -> Failed:
        return await self.engine.jobs.fail(self.principal, Failure(lease=lease, error=error, **options))

    async def renew(self, lease: Lease, seconds: int = 30) -> datetime:
        return await self.engine.jobs.renew(self.principal, Renewal(lease=lease, seconds=seconds))

    async def job(self, job_id: UUID) -> Job:
        return await self.engine.jobs.get(self.principal, job_id)

    async def state(self, job_id: UUID) -> JobState:
        return (await self.job(job_id)).state

    async def history(self, job_id: UUID) -> list[JobEventKind]:
        """Return the kinds of what happened to a job, oldest first."""
        page = await self.engine.jobs.history(self.principal, job_id, descending=False, limit=500, offset=0)
        return [event.kind for event in page.events]

    async def die(self, queue: str = "q", **options: Any) -> UUID:
        """Make a dead letter and return its id."""
        lease = await self.run(queue, max_retries=0, **options)
        await self.fail(lease)
        return lease.job_id

    async def retry_dead(self, **options: Any) -> list[UUID]:
        selection = DeadSelection(limit=options.pop("limit", 100), **options)
        return (await self.engine.jobs.retry_dead(self.principal, selection)).job_ids

    async def purge_dead(self, **options: Any) -> int:
        selection = DeadSelection(limit=options.pop("limit", 10_000), **options)
        return await self.engine.jobs.purge_dead(self.principal, selection)

    async def in_state(self, state: JobState) -> Lease:
        """Bring a job of queue `q` into `state`; returns the last lease that it had, or one that it never had."""
        match state:
            case JobState.READY:
                return never_leased(await self.enqueue())
            case JobState.SCHEDULED:
                return never_leased(await self.enqueue(run_at=self.in_seconds(600)))
            case JobState.RETRYING:
                lease = await self.run()
                await self.fail(lease, retry_in_seconds=600)
                return lease
            case JobState.BLOCKED:
                parent = await self.die("parents")
                child = await self.enqueue(parent_job_id=parent)
                assert await self.retry_dead(job_ids=(parent,)) == [parent]
                return never_leased(child)
            case JobState.RUNNING:
                return await self.run(lease_seconds=3_600)
            case JobState.DEAD:
                lease = await self.run(max_retries=0)
                await self.fail(lease)
                return lease
            case JobState.COMPLETED:
                lease = await self.run()
                await self.complete(lease)
                return lease
            case JobState.CANCELLED:
                job_id = await self.enqueue()
                await self.engine.jobs.cancel(self.principal, job_id)
                return never_leased(job_id)

    def restricted_to(self, *queues: str) -> "Work":
        """Return the same tenant seen through a key of some queues."""
        return Work(self.engine, replace(self.principal, queues=frozenset(queues)), self.clock)


def lease_of(claimed: ClaimedJob, worker: str = "w") -> Lease:
    """Return the lease under which `worker` holds a claimed job."""
    return Lease(job_id=claimed.id, worker_id=worker, lease_id=claimed.lease_id)


def never_leased(job_id: UUID) -> Lease:
    """Return a lease that a job never had."""
    return Lease(job_id=job_id, worker_id="w", lease_id=UUID(int=7))


def without_id(lease: Lease) -> Lease:
    """Return the lease as a caller presents it that knows no lease ids."""
    return replace(lease, lease_id=None)
