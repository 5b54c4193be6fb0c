"""Statements about what happened to jobs."""

import json
from datetime import datetime
from typing import Final

from millstream.pgwf.arguments import require_moment, require_positive, require_text
from millstream.pgwf.statements.statement import Row, Statement, number, statement, utc
from millstream.pgwf.trace import TraceRow, event_type_of

_JOB_TRACE: Final = """
select
    t.trace_id, t.job_id, t.event_type, t.worker_id, t.event_at,
    cast(t.input_data as text), cast(t.output_data as text)
from pgwf.jobs_trace as t
where t.job_id = cast(:job_id as text)
order by t.trace_id
limit cast(:limit as integer)
"""
_PURGE_TRACE: Final = """
with purged as (
    delete from pgwf.jobs_trace as t
    where t.trace_id = any(array(
        select old.trace_id
        from pgwf.jobs_trace as old
        where old.event_at < cast(cast(:before as text) as timestamptz)
        limit cast(:limit as integer)
        for update skip locked
    ))
    returning t.trace_id
)
select count(*) from purged
"""


def job_trace(schema: str, job_id: str, limit: int) -> Statement[list[TraceRow]]:
    """Return what happened to a job. Raises InvalidArgument."""
    parameters = {"job_id": require_text(job_id, "job_id"), "limit": require_positive(limit, "limit")}
    return statement(schema, _JOB_TRACE, parameters, lambda rows: [_traced(row) for row in rows], job_id)


def purge_trace(schema: str, before: datetime, limit: int) -> Statement[int]:
    """Delete old events. Raises InvalidArgument."""
    parameters: dict[str, object] = {
        "before": require_moment(before, "before"),
        "limit": require_positive(limit, "limit"),
    }
    return statement(schema, _PURGE_TRACE, parameters, number)


def _traced(row: Row) -> TraceRow:
    return TraceRow(
        trace_id=row[0],
        job_id=row[1],
        event_type=event_type_of(row[2]),
        worker_id=row[3],
        event_at=utc(row[4]),
        input_data=json.loads(row[5]),
        output_data=None if row[6] is None else json.loads(row[6]),
    )
