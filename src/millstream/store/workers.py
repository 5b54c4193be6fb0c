"""Workers: registration and liveness."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.worker import NewWorker, Worker, WorkerStatus
from millstream.store.database import Row, Session
from millstream.store.queries import load

_QUERIES = load("workers")
_REGISTER = _QUERIES["register_worker"].taking(
    "now", "tenant_id", "id", "queue", "hostname", "worker_type", "max_concurrency", "default_max_concurrency",
    "metadata", "version", "workers_max",
)  # fmt: skip
_LIST = _QUERIES["list_workers"].taking("tenant_id", "id", "queues", "limit")
_BEAT = _QUERIES["beat_worker"].taking(
    "now", "tenant_id", "id", "queues", "status", "current_jobs", "metadata"
)
_DEREGISTER = _QUERIES["deregister_worker"].taking("now", "tenant_id", "id", "queues")
_RETIRE = _QUERIES["retire_stale_workers"].taking("now", "silence_seconds")
_GAUGES = _QUERIES["count_worker_gauges"].taking("now")


class Registration(Struct, frozen=True):
    """What became of a registration: whose the id is, whether there was room, how many places are taken."""

    owned: bool
    registered: bool
    taken: int


async def register_worker(
    session: Session,
    tenant_id: int,
    worker: NewWorker,
    *,
    default_max_concurrency: int,
    workers_max: int | None,
    now: datetime | None,
) -> Registration:
    """Register a worker, or a known one anew."""
    row = await session.one(
        _REGISTER,
        now,
        tenant_id,
        worker.id,
        worker.queue,
        worker.hostname,
        worker.worker_type,
        worker.max_concurrency,
        default_max_concurrency,
        worker.metadata,
        worker.version,
        workers_max,
    )
    if row is None:
        return Registration(owned=False, registered=False, taken=0)
    return Registration(owned=row["owned"], registered=row["registered"], taken=row["taken"])


async def list_workers(
    session: Session,
    tenant_id: int,
    *,
    worker_id: str | None = None,
    queues: Sequence[str] | None,
    limit: int,
) -> list[Worker]:
    """Return workers, the most recent heartbeat first, or the one with `worker_id`."""
    rows = await session.many(_LIST, tenant_id, worker_id, _listed(queues), limit)
    return [_worker_from(row) for row in rows]


async def beat_worker(
    session: Session,
    tenant_id: int,
    worker_id: str,
    *,
    status: WorkerStatus,
    current_jobs: int,
    metadata: str | None,
    queues: Sequence[str] | None,
    now: datetime | None,
) -> bool:
    """Note a heartbeat; returns whether the worker is known."""
    row = await session.one(
        _BEAT, now, tenant_id, worker_id, _listed(queues), int(status), current_jobs, metadata
    )
    return row is not None


async def deregister_worker(
    session: Session, tenant_id: int, worker_id: str, *, queues: Sequence[str] | None, now: datetime | None
) -> bool:
    """Mark a worker offline; returns whether it is known."""
    return await session.one(_DEREGISTER, now, tenant_id, worker_id, _listed(queues)) is not None


async def retire_stale_workers(session: Session, *, silence_seconds: int, now: datetime | None) -> int:
    """Mark workers offline that were silent for longer; returns how many."""
    return len(await session.many(_RETIRE, now, silence_seconds))


class WorkerGauges(Struct, frozen=True):
    """Workers heard of lately, over all tenants."""

    active: int
    healthy: int


async def count_worker_gauges(session: Session, now: datetime | None) -> WorkerGauges:
    """Return how many workers were heard of in the last two minutes."""
    row = await session.one(_GAUGES, now)
    return WorkerGauges(0, 0) if row is None else WorkerGauges(row["active"], row["healthy"])


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _worker_from(row: Row) -> Worker:
    return Worker(
        id=row["id"],
        queue=row["queue"],
        hostname=row["hostname"],
        worker_type=row["worker_type"],
        max_concurrency=row["max_concurrency"],
        current_jobs=row["current_jobs"],
        status=WorkerStatus(row["status"]),
        metadata=row["metadata"],
        version=row["version"],
        last_heartbeat_at=row["last_heartbeat_at"],
        registered_at=row["registered_at"],
        updated_at=row["updated_at"],
        jobs_processed=row["jobs_processed"],
        jobs_failed=row["jobs_failed"],
    )
