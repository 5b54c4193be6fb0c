"""Statements under a lease, and the one that gives it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from millstream.pgwf.arguments import require_capabilities, require_positive, require_text
from millstream.pgwf.jobs import JobDependencies, RescheduledJob, require_dependencies
from millstream.pgwf.statements.statement import (
    Json,
    Row,
    Statement,
    dependencies,
    require_done,
    rescheduled,
    statement,
    utc,
    utc_or_none,
)

_GET_WORK: Final = """
select
    w.job_id, w.lease_id, w.next_need, w.singleton_key, w.wait_for, cast(w.payload as text),
    finite(w.available_at), w.lease_expires_at,
    cast(extract(epoch from w.lease_expires_at - clock_timestamp()) as float8)
from pgwf.get_work(
    p_worker_id => cast(:worker_id as text),
    p_worker_caps => cast(:capabilities as text[]),
    p_lease_seconds => cast(:lease_seconds as integer),
    p_limit_jobs => cast(:limit as integer)
) as w
"""
_EXTEND: Final = """
select e.ends_at, cast(extract(epoch from e.ends_at - clock_timestamp()) as float8)
from pgwf.extend_lease(
    p_job_id => cast(:job_id as text),
    p_lease_id => cast(:lease_id as text),
    p_worker_id => cast(:worker_id as text),
    p_additional_seconds => cast(:seconds as integer)
) as e (ends_at)
"""
_RESCHEDULE: Final = """
select r.job_id, r.next_need, r.wait_for, finite(r.available_at)
from pgwf.reschedule_job(
    p_job_id => cast(:job_id as text),
    p_lease_id => cast(:lease_id as text),
    p_worker_id => cast(:worker_id as text),
    p_next_need => cast(:next_need as text),
    p_wait_for => cast(:wait_for as text[]),
    p_available_at => cast(cast(:available_at as text) as timestamptz),
    p_payload => cast(cast(:payload as text) as jsonb)
) as r
"""
_COMPLETE: Final = """
select pgwf.complete_job(
    p_job_id => cast(:job_id as text),
    p_lease_id => cast(:lease_id as text),
    p_worker_id => cast(:worker_id as text)
)
"""
_LIMIT_TIME: Final = """
select set_config('statement_timeout', cast(:limit as text), true), set_config('lock_timeout', cast(:limit as text), true)
"""


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A row of get_work. `lasts_seconds` is from the moment at which the database answered."""

    job_id: str
    lease_id: str
    next_need: str
    singleton_key: str | None
    wait_for: tuple[str, ...]
    payload: Json
    available_at: datetime | None
    lease_expires_at: datetime
    lasts_seconds: float


@dataclass(frozen=True, slots=True)
class Extension:
    """The new end of a lease. `lasts_seconds` is from the moment at which the database answered."""

    lease_expires_at: datetime
    lasts_seconds: float


def get_work(
    schema: str, worker_id: str, capabilities: Sequence[str], lease_seconds: int, limit: int
) -> Statement[list[LeasedJob]]:
    """Lease jobs, in the order of their creation. Raises InvalidArgument."""
    parameters: dict[str, object] = {
        "worker_id": require_text(worker_id, "worker_id"),
        "capabilities": require_capabilities(capabilities),
        "lease_seconds": require_positive(lease_seconds, "lease_seconds"),
        "limit": require_positive(limit, "limit"),
    }
    return statement(schema, _GET_WORK, parameters, lambda rows: [_leased(row) for row in rows])


def extend_lease(
    schema: str, job_id: str, lease_id: str, worker_id: str, seconds: int
) -> Statement[Extension]:
    """Move the end of a lease to that many seconds from now."""
    parameters = {"job_id": job_id, "lease_id": lease_id, "worker_id": worker_id, "seconds": seconds}
    return statement(schema, _EXTEND, parameters, lambda rows: Extension(utc(rows[0][0]), rows[0][1]), job_id)


def reschedule_job(
    schema: str, job_id: str, lease_id: str, worker_id: str, deps: JobDependencies
) -> Statement[RescheduledJob]:
    """Give a leased job back. Raises InvalidArgument."""
    require_dependencies(deps).validate_reschedule()
    parameters = {
        "job_id": job_id,
        "lease_id": lease_id,
        "worker_id": worker_id,
        **dependencies(deps),
    }
    return statement(schema, _RESCHEDULE, parameters, lambda rows: rescheduled(rows[0]), job_id)


def complete_job(schema: str, job_id: str, lease_id: str, worker_id: str) -> Statement[None]:
    """Complete a leased job."""
    parameters = {"job_id": job_id, "lease_id": lease_id, "worker_id": worker_id}
    return statement(schema, _COMPLETE, parameters, lambda rows: require_done(rows, job_id), job_id)


def limit_time(seconds: int) -> Statement[None]:
    """Let no statement of the present transaction run or wait for longer than that."""
    return Statement(_LIMIT_TIME, {"limit": f"{seconds}s"}, lambda _rows: None)


def _leased(row: Row) -> LeasedJob:
    return LeasedJob(
        job_id=row[0],
        lease_id=row[1],
        next_need=row[2],
        singleton_key=row[3],
        wait_for=tuple(row[4]),
        payload=json.loads(row[5]),
        available_at=utc_or_none(row[6]),
        lease_expires_at=utc(row[7]),
        lasts_seconds=row[8],
    )
