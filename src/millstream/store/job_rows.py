"""Turns rows of the job tables into domain values."""

from millstream.domain.job import ClaimedJob, DependencyMode, Job, JobState, JobStatus
from millstream.store.database import Row


def job_from(row: Row) -> Job:
    """Return the job that a row of `all_jobs` holds."""
    return Job(
        id=row["id"],
        queue=row["queue"],
        state=JobState(row["state"]),
        job_type=row["job_type"],
        payload=row["payload"],
        result=row["result"],
        retry_count=row["retry_count"],
        max_retries=row["max_retries"],
        last_error=row["last_error"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        run_at=row["run_at"],
        started_at=row["started_at"],
        # A cancelled job has ended, but never completed.
        completed_at=row["finished_at"] if row["state"] == JobState.COMPLETED else None,
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
        priority=row["priority"],
        tags=row["tags"],
        timeout_seconds=row["timeout_seconds"],
        parent_job_id=row["parent_job_id"],
        completion_webhook=row["completion_webhook"],
        idempotency_key=row["idempotency_key"],
        workflow_id=row["workflow_id"],
        worker_id=row["worker_id"],
        lease_id=row["lease_id"],
        lease_expires_at=row["lease_expires_at"],
        dependency_mode=DependencyMode(row["dependency_mode"]),
        unmet=row["unmet"],
    )


def claimed_from(row: Row) -> ClaimedJob:
    """Return the job that a row of `claim_jobs` hands out."""
    return ClaimedJob(
        id=row["id"],
        queue=row["queue"],
        payload=row["payload"],
        priority=row["priority"],
        retry_count=row["retry_count"],
        max_retries=row["max_retries"],
        timeout_seconds=row["timeout_seconds"],
        created_at=row["created_at"],
        lease_id=row["lease_id"],
        lease_expires_at=row["lease_expires_at"],
    )


def status_from(row: Row) -> JobStatus:
    """Return the facts that a row of `list_job_statuses` holds."""
    state = JobState(row["state"])
    return JobStatus(
        row["id"],
        row["queue"],
        state,
        row["retry_count"],
        row["created_at"],
        row["finished_at"] if state is JobState.COMPLETED else None,
    )
