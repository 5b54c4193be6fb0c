"""Statements about jobs that are not held under a lease."""

import json
from typing import Final

from millstream.pgwf.arguments import require_aware, require_positive, require_text
from millstream.pgwf.jobs import (
    CancelResult,
    JobDependencies,
    RescheduledJob,
    SubmittedJob,
    require_dependencies,
)
from millstream.pgwf.statements.statement import (
    Row,
    Statement,
    dependencies,
    job_and_worker,
    number,
    require_done,
    rescheduled,
    statement,
    truth,
    utc,
    utc_or_none,
)

_SUBMIT: Final = """
select s.job_id, s.next_need, s.wait_for, cast(s.payload as text), finite(s.available_at)
from pgwf.submit_job(
    p_job_id => cast(:job_id as text),
    p_worker_id => cast(:worker_id as text),
    p_next_need => cast(:next_need as text),
    p_wait_for => cast(:wait_for as text[]),
    p_payload => cast(cast(:payload as text) as jsonb),
    p_singleton_key => cast(:singleton_key as text),
    p_available_at => cast(cast(:available_at as text) as timestamptz),
    p_expires_at => cast(cast(:expires_at as text) as timestamptz)
) as s
"""
_RESCHEDULE_UNHELD: Final = """
select r.job_id, r.next_need, r.wait_for, finite(r.available_at)
from pgwf.reschedule_unheld_job(
    p_job_id => cast(:job_id as text),
    p_worker_id => cast(:worker_id as text),
    p_next_need => cast(:next_need as text),
    p_wait_for => cast(:wait_for as text[]),
    p_available_at => cast(cast(:available_at as text) as timestamptz),
    p_payload => cast(cast(:payload as text) as jsonb)
) as r
"""
_SINGLETON_KEY: Final = "select j.singleton_key from pgwf.jobs as j where j.job_id = cast(:job_id as text)"
_COMPLETE_UNHELD: Final = """
select pgwf.complete_unheld_job(p_job_id => cast(:job_id as text), p_worker_id => cast(:worker_id as text))
"""
# The first request carries a time of this very statement; an earlier one carries an earlier time.
_CANCEL: Final = """
select
    c.job_id, c.cancel_requested_by, c.cancel_requested_at, c.lease_expires_at > clock_timestamp(),
    c.cancel_requested_at < statement_timestamp() or c.cancel_requested_by <> cast(:worker_id as text)
from pgwf.cancel_job(
    p_job_id => cast(:job_id as text),
    p_worker_id => cast(:worker_id as text),
    p_reason => cast(:reason as text)
) as c
"""
_ARCHIVE_CANCELLED: Final = """
select pgwf.archive_cancelled_jobs(
    p_worker_id => cast(:worker_id as text), p_limit => cast(:limit as integer)
)
"""
_CLEAR_CRASH_CONCERN: Final = """
select pgwf.clear_crash_concern(
    p_job_id => cast(:job_id as text),
    p_worker_id => cast(:worker_id as text),
    p_reason => cast(:reason as text)
)
"""


def submit_job(schema: str, job_id: str, deps: JobDependencies, worker_id: str) -> Statement[SubmittedJob]:
    """Submit a job. Raises InvalidArgument."""
    parameters = {
        "job_id": require_text(job_id, "job_id"),
        "worker_id": require_text(worker_id, "worker_id"),
        **dependencies(deps),
    }
    parameters |= {
        "singleton_key": deps.key(),
        "expires_at": require_aware(deps.expires_at, "expires_at"),
    }
    return statement(schema, _SUBMIT, parameters, lambda rows: _submitted(rows[0]), job_id)


def reschedule_unheld_job(
    schema: str, job_id: str, worker_id: str, deps: JobDependencies
) -> Statement[RescheduledJob]:
    """Change what a job that nobody has leased needs. Raises InvalidArgument."""
    parameters: dict[str, object] = {
        "job_id": require_text(job_id, "job_id"),
        "worker_id": require_text(worker_id, "worker_id"),
    }
    require_dependencies(deps).validate_reschedule()
    parameters |= dependencies(deps)
    return statement(schema, _RESCHEDULE_UNHELD, parameters, lambda rows: rescheduled(rows[0]), job_id)


def singleton_keys(schema: str, job_id: str) -> Statement[list[str | None]]:
    """Return the key of a live job in a list, which is empty for other jobs."""
    return statement(
        schema, _SINGLETON_KEY, {"job_id": job_id}, lambda rows: [row[0] for row in rows], job_id
    )


def complete_unheld_job(schema: str, job_id: str, worker_id: str) -> Statement[None]:
    """Complete a job that nobody has leased. Raises InvalidArgument."""
    parameters = job_and_worker(job_id, worker_id)
    return statement(schema, _COMPLETE_UNHELD, parameters, lambda rows: require_done(rows, job_id), job_id)


def cancel_job(schema: str, job_id: str, worker_id: str, reason: str | None) -> Statement[CancelResult]:
    """Ask for a job to be cancelled. Raises InvalidArgument."""
    parameters = {**job_and_worker(job_id, worker_id), "reason": _reason(reason)}
    return statement(schema, _CANCEL, parameters, lambda rows: _cancelled(rows[0]), job_id)


def archive_cancelled_jobs(schema: str, worker_id: str, limit: int) -> Statement[int]:
    """Archive cancelled jobs. Raises InvalidArgument."""
    parameters: dict[str, object] = {
        "worker_id": require_text(worker_id, "worker_id"),
        "limit": require_positive(limit, "limit"),
    }
    return statement(schema, _ARCHIVE_CANCELLED, parameters, number)


def clear_crash_concern(schema: str, job_id: str, worker_id: str, reason: str | None) -> Statement[bool]:
    """Let a job run again whose workers died. Raises InvalidArgument."""
    parameters = {**job_and_worker(job_id, worker_id), "reason": _reason(reason)}
    return statement(schema, _CLEAR_CRASH_CONCERN, parameters, truth, job_id)


def _submitted(row: Row) -> SubmittedJob:
    return SubmittedJob(row[0], row[1], tuple(row[2]), json.loads(row[3]), utc_or_none(row[4]))


def _cancelled(row: Row) -> CancelResult:
    return CancelResult(row[0], row[1], utc(row[2]), was_active=row[3], already_cancelled=row[4])


def _reason(reason: str | None) -> str | None:
    return None if not reason else require_text(reason, "reason")
