"""Dead letters brought back: one statement over a set of rows."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from millstream.domain.job import DeadSelection
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("dead_letters")

_RETRY_DEAD = _QUERIES["retry_dead_jobs"].taking(
    "now", "tenant_id", "ids", "queue", "queues", "limit", "restart"
)


class RevivedJob(Struct, frozen=True, gc=False):
    """A dead letter that was brought back."""

    id: UUID
    queue: str
    workflow_id: UUID | None


async def retry_dead_jobs(
    session: Session, tenant_id: int, selection: DeadSelection, *, restart: bool, now: datetime | None
) -> list[RevivedJob]:
    """Bring dead letters back, `restart` begins their retries anew; returns them, oldest first."""
    ids = None if selection.job_ids is None else list(selection.job_ids)
    queue = selection.queue if ids is None else None
    rows = await session.many(
        _RETRY_DEAD, now, tenant_id, ids, queue, selection.queues, selection.limit, restart
    )
    return [RevivedJob(row["id"], row["queue"], row["workflow_id"]) for row in rows]
