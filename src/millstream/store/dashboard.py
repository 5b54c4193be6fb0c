"""The dashboard's figures."""

from collections.abc import Sequence
from datetime import datetime

from millstream.domain.dashboard import DASHBOARD_QUEUES_MAX, Activity, QueueActivity
from millstream.store.database import Session
from millstream.store.queries import load

_QUERIES = load("dashboard")
_READ = _QUERIES["read_dashboard"].taking("now", "tenant_id", "queues")
_QUEUES = _QUERIES["list_dashboard_queues"].taking("tenant_id", "queues", "limit")


async def read_activity(
    session: Session, tenant_id: int, queues: Sequence[str] | None, now: datetime | None
) -> Activity:
    """Return what a tenant is doing, within `queues`."""
    row = await session.one(_READ, now, tenant_id, queues)
    if row is None:
        raise LookupError(tenant_id)
    rows = [
        QueueActivity(each["name"], each["pending"], each["processing"], each["is_paused"])
        for each in await session.many(_QUEUES, tenant_id, queues, DASHBOARD_QUEUES_MAX)
    ]
    return Activity(
        total=row["total"],
        pending=sum(queue.pending for queue in rows),
        processing=sum(queue.processing for queue in rows),
        dead=row["dead"],
        completed_24h=row["completed_24h"],
        failed_24h=row["failed_24h"],
        average_wait_ms=row["wait_ms"],
        average_processing_ms=row["processing_ms"],
        created_1h=row["created_1h"],
        completed_1h=row["completed_1h"],
        failed_1h=row["failed_1h"],
        workers=row["workers"],
        healthy_workers=row["healthy"],
        queues=tuple(rows[:DASHBOARD_QUEUES_MAX]),
    )
