"""Statements that read live jobs."""

import json
from datetime import datetime
from typing import Final, cast

from millstream.pgwf.arguments import require_moment, require_positive, require_text
from millstream.pgwf.errors import InvalidArgument
from millstream.pgwf.jobs import JobStatus, JobView
from millstream.pgwf.statements.statement import Row, Statement, statement, utc, utc_or_none

_GET_JOB: Final = """
select
    j.job_id, j.next_need, j.wait_for, cast(j.payload as text), j.singleton_key,
    finite(j.available_at), finite(j.expires_at), j.lease_id, finite(j.lease_expires_at),
    j.lease_expiration_count, j.consecutive_expirations, j.created_at,
    j.cancel_requested, j.cancel_requested_by, j.cancel_requested_at, j.status
from pgwf.jobs_with_status as j
where j.job_id = cast(:job_id as text)
"""
_LIST_JOBS: Final = """
select
    j.job_id, j.next_need, j.wait_for, cast(j.payload as text), j.singleton_key,
    finite(j.available_at), finite(j.expires_at), j.lease_id, finite(j.lease_expires_at),
    j.lease_expiration_count, j.consecutive_expirations, j.created_at,
    j.cancel_requested, j.cancel_requested_by, j.cancel_requested_at, j.status
from pgwf.jobs_with_status as j
where (cast(:status as text) is null or j.status = cast(:status as text))
    and (cast(:next_need as text) is null or j.next_need = cast(:next_need as text))
    and (
        cast(:after_id as text) is null
        or (j.created_at, j.job_id) > (cast(cast(:after_at as text) as timestamptz), cast(:after_id as text))
    )
order by j.created_at, j.job_id
limit cast(:limit as integer)
"""


def get_job(schema: str, job_id: str) -> Statement[JobView | None]:
    """Return a live job. Raises InvalidArgument."""
    return statement(
        schema,
        _GET_JOB,
        {"job_id": require_text(job_id, "job_id")},
        lambda rows: _view(rows[0]) if rows else None,
        job_id,
    )


def list_jobs(
    schema: str,
    status: JobStatus | str | None,
    next_need: str | None,
    limit: int,
    after: tuple[datetime, str] | None,
) -> Statement[list[JobView]]:
    """Return a page of live jobs. Raises InvalidArgument."""
    after_at, after_id = (None, None) if after is None else _place(after)
    parameters = {
        "status": None if status is None else _status(status),
        "next_need": None if next_need is None else require_text(next_need, "next_need"),
        "limit": require_positive(limit, "limit"),
        "after_at": after_at,
        "after_id": after_id,
    }
    return statement(schema, _LIST_JOBS, parameters, lambda rows: [_view(row) for row in rows])


def _place(after: object) -> tuple[str, str]:
    if not isinstance(after, tuple) or len(cast("tuple[object, ...]", after)) != 2:
        raise InvalidArgument("after is a pair: created_at and job_id")
    created_at, job_id = cast("tuple[object, object]", after)
    return require_moment(created_at, "after"), require_text(job_id, "after")


def _status(status: JobStatus | str) -> str:
    try:
        return JobStatus(status).value
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _view(row: Row) -> JobView:
    return JobView(
        job_id=row[0],
        next_need=row[1],
        wait_for=tuple(row[2]),
        payload=json.loads(row[3]),
        singleton_key=row[4],
        available_at=utc_or_none(row[5]),
        expires_at=utc_or_none(row[6]),
        lease_id=row[7],
        lease_expires_at=utc_or_none(row[8]),
        lease_expiration_count=row[9],
        consecutive_expirations=row[10],
        created_at=utc(row[11]),
        cancel_requested=row[12],
        cancel_requested_by=row[13],
        cancel_requested_at=utc_or_none(row[14]),
        status=JobStatus(row[15]),
    )
