"""Workflows: made with their jobs, followed as those end, read, pruned."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.job import DeadSelection, DependencyMode, JobState
from millstream.domain.workflow import Edge, NewWorkflow, Step, Wait, Workflow, WorkflowStatus
from millstream.store import arrays
from millstream.store.database import Row, Session
from millstream.store.job_rows import job_from
from millstream.store.queries import load

_QUERIES = load("workflows")
_COUNT_ACTIVE = _QUERIES["count_active_workflows"].taking("tenant_id")
_CREATE = _QUERIES["create_workflow"].taking(
    "now", "tenant_id", "id", "name", "description", "metadata", "queues", "total_jobs", "job_ids", "keys", "modes",
    "unmets", "dependents", "dependencies",
)  # fmt: skip
_CHANGED = _QUERIES["list_changed_workflows"].taking("tenant_id", "workflow_id", "rows_max", "limit")
_LOCK = _QUERIES["lock_workflows"].taking("tenant_ids", "ids")
_TAKE = _QUERIES["take_workflow_changes"].taking("tenant_ids", "ids")
_COUNT_JOBS = _QUERIES["count_workflow_jobs"].taking("tenant_ids", "ids")
_WAITS = _QUERIES["list_workflow_waits"].taking("tenant_id", "id")
_UPDATE = _QUERIES["update_workflows"].taking(
    "now", "tenant_ids", "ids", "statuses", "completed", "failed", "started_ats"
)
_JOB_IDS = _QUERIES["list_workflow_job_ids"].taking("tenant_id", "id", "waiting", "dead")
_DEAD_STEPS = _QUERIES["list_dead_steps"].taking("tenant_id", "ids", "queue", "queues", "limit")
_FAILED = _QUERIES["list_failed_workflows"].taking("tenant_id", "ids")
_FIND = _QUERIES["find_workflow"].taking("tenant_id", "id", "queues")
_LIST = _QUERIES["list_workflows"].taking("tenant_id", "queues", "status", "limit", "offset")
_JOBS = _QUERIES["list_workflow_jobs"].taking("tenant_id", "id")
_EDGES = _QUERIES["list_workflow_edges"].taking("tenant_id", "id")
_PRUNE = _QUERIES["prune_workflows"].taking("tenant_ids", "completed_befores", "limit")

WorkflowKey = tuple[int, UUID]
"""A tenant and a workflow of it."""


async def count_active_workflows(session: Session, tenant_id: int) -> int:
    """Return how many of the tenant's workflows are pending or running."""
    row = await session.one(_COUNT_ACTIVE, tenant_id)
    return 0 if row is None else int(row["workflows"])


async def create_workflow(
    session: Session,
    tenant_id: int,
    workflow_id: UUID,
    new: NewWorkflow,
    job_ids: Sequence[UUID],
    now: datetime | None,
) -> None:
    """Make a workflow of the jobs `job_ids`, which this transaction has inserted, one for each step of `new`."""
    ids = {step.key: job_id for step, job_id in zip(new.steps, job_ids, strict=True)}
    depends_on = [[ids[key] for key in dict.fromkeys(step.depends_on)] for step in new.steps]
    edges = [(job_id, other) for job_id, others in zip(job_ids, depends_on, strict=True) for other in others]
    await session.one(
        _CREATE,
        now,
        tenant_id,
        workflow_id,
        new.name,
        new.description,
        new.metadata,
        sorted({step.job.queue for step in new.steps}),
        len(new.steps),
        arrays.uuids(job_ids),
        arrays.texts([step.key for step in new.steps]),
        arrays.ints([step.mode.value for step in new.steps]),
        arrays.ints(
            [
                min(len(others), 1) if step.mode is DependencyMode.ANY else len(others)
                for step, others in zip(new.steps, depends_on, strict=True)
            ]
        ),
        arrays.uuids([edge[0] for edge in edges]),
        arrays.uuids([edge[1] for edge in edges]),
    )


async def list_changed_workflows(
    session: Session, tenant_id: int | None = None, workflow_id: UUID | None = None
) -> list[WorkflowKey]:
    """Return some of the workflows that have changed since they were last looked at."""
    rows = await session.many(
        _CHANGED, tenant_id, workflow_id, limits.WORKFLOW_CHANGES_MAX, limits.WORKFLOWS_FOLLOWED_MAX
    )
    return [_key_of(row, "workflow_id") for row in rows]


async def lock_workflows(session: Session, keys: Sequence[WorkflowKey]) -> list[WorkflowKey]:
    """Hold workflows until the transaction ends, and return those that there are."""
    rows = await session.many(_LOCK, *_columns(keys))
    return [_key_of(row) for row in rows]


async def take_workflow_changes(session: Session, keys: Sequence[WorkflowKey]) -> list[WorkflowKey]:
    """Take what has changed of workflows that are held; returns those of which anything has."""
    rows = await session.many(_TAKE, *_columns(keys))
    return [_key_of(row) for row in rows]


class WorkflowCounts(Struct, frozen=True, kw_only=True):
    """A workflow as it was noted, and how its jobs stand by now."""

    tenant_id: int
    id: UUID
    name: str
    status: WorkflowStatus
    total: int
    able: int
    blocked: int
    dead: int
    completed: int
    started_at: datetime | None


async def count_workflow_jobs(session: Session, keys: Sequence[WorkflowKey]) -> list[WorkflowCounts]:
    """Count the jobs of workflows by how they stand."""
    rows = await session.many(_COUNT_JOBS, *_columns(keys))
    return [
        WorkflowCounts(
            tenant_id=row["tenant_id"],
            id=row["id"],
            name=row["name"],
            status=WorkflowStatus(row["status"]),
            total=row["total_jobs"],
            able=row["able"],
            blocked=row["blocked"],
            dead=row["dead"],
            completed=row["completed"],
            started_at=row["started_at"] or row["first_started_at"],
        )
        for row in rows
    ]


async def list_workflow_waits(
    session: Session, tenant_id: int, workflow_id: UUID
) -> tuple[dict[UUID, Wait], set[UUID]]:
    """Return what blocked jobs wait for, those of a workflow and those that they wait for; and which are of the workflow."""
    modes: dict[UUID, DependencyMode] = {}
    states: dict[UUID, dict[UUID, JobState]] = {}
    own: set[UUID] = set()
    for row in await session.many(_WAITS, tenant_id, workflow_id):
        job_id = row["job_id"]
        modes[job_id] = DependencyMode(row["dependency_mode"])
        states.setdefault(job_id, {})[row["depends_on"]] = JobState(row["state"])
        if row["workflow_id"] == workflow_id:
            own.add(job_id)
    return {job_id: Wait(modes[job_id], states[job_id]) for job_id in modes}, own


async def update_workflows(
    session: Session,
    standings: Sequence[tuple[WorkflowCounts, WorkflowStatus]],
    now: datetime | None,
) -> None:
    """Note how workflows that are held stand now."""
    counts = [standing[0] for standing in standings]
    await session.many(
        _UPDATE,
        now,
        *_columns([(each.tenant_id, each.id) for each in counts]),
        [standing[1].value for standing in standings],
        [each.completed for each in counts],
        [each.dead for each in counts],
        [each.started_at for each in counts],
    )


async def list_waiting_jobs(session: Session, tenant_id: int, workflow_id: UUID) -> list[UUID]:
    """Return the jobs of a workflow that nobody works on and that have not ended."""
    return [row["id"] for row in await session.many(_JOB_IDS, tenant_id, workflow_id, True, False)]


async def list_dead_jobs(session: Session, tenant_id: int, workflow_id: UUID) -> list[UUID]:
    """Return the jobs of a workflow that are dead letters."""
    return [row["id"] for row in await session.many(_JOB_IDS, tenant_id, workflow_id, False, True)]


async def list_dead_steps(
    session: Session, tenant_id: int, selection: DeadSelection
) -> list[tuple[UUID, UUID | None]]:
    """Return the dead letters that `retry_dead_jobs` would bring back, each with its workflow, if it has one."""
    ids = None if selection.job_ids is None else list(selection.job_ids)
    queue = selection.queue if ids is None else None
    rows = await session.many(_DEAD_STEPS, tenant_id, ids, queue, selection.queues, selection.limit)
    return [(row["id"], row["workflow_id"]) for row in rows]


async def list_failed_workflows(session: Session, tenant_id: int, workflow_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the workflows that are failed."""
    return {row["id"] for row in await session.many(_FAILED, tenant_id, list(workflow_ids))}


async def find_workflow(
    session: Session, tenant_id: int, workflow_id: UUID, queues: Sequence[str] | None
) -> Workflow | None:
    """Return a workflow, if it keeps to `queues`; None when there is none."""
    row = await session.one(_FIND, tenant_id, workflow_id, queues)
    return None if row is None else _workflow_from(row)


async def list_workflows(
    session: Session,
    tenant_id: int,
    *,
    queues: Sequence[str] | None,
    status: WorkflowStatus | None,
    limit: int,
    offset: int,
) -> list[Workflow]:
    """Return a page of workflows that keep to `queues`, the newest first."""
    rows = await session.many(_LIST, tenant_id, queues, status, limit, offset)
    return [_workflow_from(row) for row in rows]


async def list_workflow_jobs(session: Session, tenant_id: int, workflow_id: UUID) -> list[Step]:
    """Return the jobs of a workflow that still exist, in the order of its definition."""
    return [Step(row["key"], job_from(row)) for row in await session.many(_JOBS, tenant_id, workflow_id)]


async def list_workflow_edges(session: Session, tenant_id: int, workflow_id: UUID) -> list[Edge]:
    """Return what the jobs of a workflow were made to wait for."""
    rows = await session.many(_EDGES, tenant_id, workflow_id)
    return [Edge(row["job_id"], row["depends_on"]) for row in rows]


async def prune_workflows(session: Session, bounds: Sequence[tuple[int, datetime]], *, limit: int) -> int:
    """Delete up to `limit` workflows that ended before `bounds` (tenant, time) and whose jobs are gone; returns how many."""
    row = await session.one(_PRUNE, [bound[0] for bound in bounds], [bound[1] for bound in bounds], limit)
    return 0 if row is None else int(row["pruned"])


def _columns(keys: Sequence[WorkflowKey]) -> tuple[list[int], list[UUID]]:
    return [key[0] for key in keys], [key[1] for key in keys]


def _key_of(row: Row, column: str = "id") -> WorkflowKey:
    tenant_id: int = row["tenant_id"]
    workflow_id: UUID = row[column]
    return tenant_id, workflow_id


def _workflow_from(row: Row) -> Workflow:
    return Workflow(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        metadata=row["metadata"],
        status=WorkflowStatus(row["status"]),
        total_jobs=row["total_jobs"],
        completed_jobs=row["completed_jobs"],
        failed_jobs=row["failed_jobs"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )
