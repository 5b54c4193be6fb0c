"""Dependencies between jobs: read, and added to jobs that have not begun."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import DependencyMode, JobState
from millstream.domain.workflow import Neighbour
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("dependencies")
_EDGES = _QUERIES["list_dependency_edges"].taking("tenant_id", "id", "queues")
_LOCK = _QUERIES["lock_living_jobs"].taking("tenant_id", "ids")
_BELOW = _QUERIES["list_waiting_below"].taking("tenant_id", "id")
_ADD = _QUERIES["add_dependencies"].taking("tenant_id", "id", "mode", "depends_on", "workflow_id")
_COUNT = _QUERIES["count_dependencies"].taking("tenant_id", "id")
_RECOUNT = _QUERIES["recount_dependencies"].taking("now", "tenant_id", "id")


async def list_neighbours(
    session: Session, tenant_id: int, job_id: UUID, queues: Sequence[str] | None
) -> tuple[list[Neighbour], list[Neighbour]]:
    """Return what a job waits for and what waits for it, within `queues`."""
    depends_on: list[Neighbour] = []
    dependents: list[Neighbour] = []
    for row in await session.many(_EDGES, tenant_id, job_id, queues):
        side = depends_on if row["upward"] else dependents
        side.append(Neighbour(row["id"], row["queue"], JobState(row["state"])))
    return depends_on, dependents


async def lock_living_jobs(session: Session, tenant_id: int, job_ids: Sequence[UUID]) -> None:
    """Hold those of the jobs that live, in their order, until the transaction ends."""
    await session.run(_LOCK, tenant_id, list(job_ids))


async def list_waiting_below(session: Session, tenant_id: int, job_id: UUID) -> set[UUID]:
    """Return all that waits for a job, directly or not."""
    return {row["id"] for row in await session.many(_BELOW, tenant_id, job_id)}


async def add_dependencies(
    session: Session,
    tenant_id: int,
    job_id: UUID,
    depends_on: Sequence[UUID],
    mode: DependencyMode,
    workflow_id: UUID | None,
) -> int:
    """Make a job of `workflow_id` wait for others too; returns how many of them are new. The jobs are held."""
    return len(await session.many(_ADD, tenant_id, job_id, mode, list(depends_on), workflow_id))


async def count_dependencies(session: Session, tenant_id: int, job_id: UUID) -> int:
    """Return how many jobs a job waits, or has waited, for."""
    row = await session.one(_COUNT, tenant_id, job_id)
    return 0 if row is None else int(row["dependencies"])


class Recounted(Struct, frozen=True):
    """How a job stands after its dependencies were counted anew."""

    queue: str
    state: JobState


async def recount_dependencies(
    session: Session, tenant_id: int, job_id: UUID, now: datetime | None
) -> Recounted | None:
    """Let a job go or hold it back, as its dependencies are; None for one that has begun or ended."""
    row = await session.one(_RECOUNT, now, tenant_id, job_id)
    return None if row is None else Recounted(row["queue"], JobState(row["state"]))
