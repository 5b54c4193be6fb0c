"""A job's history, told from its row and from the few events that a row cannot tell."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from millstream.domain.ids import derived_id
from millstream.domain.job import Job, JobEvent, JobEventKind, JobState
from millstream.store.job_reads import EventRow


def history_of(job: Job, rows: Sequence[EventRow]) -> list[JobEvent]:
    """Return what happened to `job`, oldest first; the ids are the same whenever it is asked for."""
    events = [_derived(job, JobEventKind.CREATED, "created", job.created_at)]
    for row in rows:
        events += _stored(job.id, row)
    # A job without a lease was not claimed, or its attempt has ended: the event of the end tells of the claim.
    if job.started_at is not None and job.lease_id is not None:
        events.append(_claimed(job.id, job.lease_id, job.started_at, job.worker_id))
    if job.finished_at is not None:
        if job.state is JobState.COMPLETED:
            end = _derived(job, JobEventKind.COMPLETED, "completed", job.finished_at, job.worker_id)
        else:
            end = _derived(job, JobEventKind.CANCELLED, "cancelled", job.finished_at, error=job.last_error)
        events.append(end)
    return events


def _claimed(job_id: UUID, lease_id: UUID, at: datetime, worker_id: str | None) -> JobEvent:
    # Named by its lease, which the job's row and the event of the attempt's end both know.
    return JobEvent(
        id=derived_id(lease_id, "claimed"),
        job_id=job_id,
        kind=JobEventKind.CLAIMED,
        worker_id=worker_id,
        error=None,
        at=at,
    )


def _stored(job_id: UUID, row: EventRow) -> list[JobEvent]:
    kind = JobEventKind(row.kind)
    events: list[JobEvent] = []
    if row.claimed_at is not None and row.lease_id is not None:
        events.append(_claimed(job_id, row.lease_id, row.claimed_at, row.worker_id))
    events.append(
        JobEvent(id=row.id, job_id=job_id, kind=kind, worker_id=row.worker_id, error=row.error, at=row.at)
    )
    if row.buried:
        events.append(
            JobEvent(
                id=derived_id(row.id, "buried"),
                job_id=job_id,
                kind=JobEventKind.DEAD_LETTERED,
                worker_id=None,
                error=row.error,
                at=row.at,
            )
        )
    return events


def _derived(
    job: Job,
    kind: JobEventKind,
    name: str,
    at: datetime,
    worker_id: str | None = None,
    error: str | None = None,
) -> JobEvent:
    return JobEvent(
        id=derived_id(job.id, name), job_id=job.id, kind=kind, worker_id=worker_id, error=error, at=at
    )
