"""What all statements have in common.

Named notation with a cast for every parameter, so that the first form of each function is the one that is reached
(contract: pgwf 1.5). Times go in and payloads go both ways as text: drivers differ in what they make of the types.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from millstream.drivers import Rows
from millstream.pgwf.arguments import require_aware, require_text
from millstream.pgwf.errors import JobNotFound
from millstream.pgwf.jobs import JobDependencies, RescheduledJob, require_dependencies
from millstream.pgwf.script import renamed

T = TypeVar("T")
Row = tuple[Any, ...]  # pyright: ignore[reportExplicitAny] - columns of any type
Json = Mapping[str, Any]  # pyright: ignore[reportExplicitAny] - any JSON

_FINITE = re.compile(r"\bfinite\(([a-z_.]+)\)")


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One call of the database: what is sent, what is made of the rows, and the job that it is about."""

    sql: str
    parameters: Mapping[str, object]
    decode: Callable[[Rows], T]
    job_id: str | None = None


def statement(
    schema: str,
    sql: str,
    parameters: Mapping[str, object],
    decode: Callable[[Rows], T],
    job_id: str | None = None,
) -> Statement[T]:
    """Return a statement, written for the default schema, for `schema`.

    `finite(column)` stands for a time, or null where no `datetime` can hold it: `infinity` above all.
    """
    return Statement(_expanded(renamed(sql, schema)), parameters, decode, job_id)


@lru_cache(maxsize=512)
def _expanded(sql: str) -> str:
    return _FINITE.sub(
        r"case when \1 > timestamptz '0001-01-03Z' and \1 < timestamptz '9999-12-29Z' then \1 end", sql
    )


def job_and_worker(job_id: str, worker_id: str) -> dict[str, object]:
    """Return the parameters of these names. Raises InvalidArgument."""
    return {"job_id": require_text(job_id, "job_id"), "worker_id": require_text(worker_id, "worker_id")}


def dependencies(deps: JobDependencies) -> dict[str, object]:
    """Return the parameters that submitting and rescheduling share. Raises InvalidArgument."""
    require_dependencies(deps).validate()
    return {
        "next_need": deps.next_need,
        "wait_for": deps.awaited(),
        "available_at": require_aware(deps.available_at, "available_at"),
        "payload": deps.encoded_payload(),
    }


def truth(rows: Rows) -> bool:
    """Return the only value."""
    return bool(rows[0][0])


def number(rows: Rows) -> int:
    """Return the only value."""
    return int(rows[0][0])


def require_done(rows: Rows, job_id: str) -> None:
    """Raise JobNotFound when the only value is false: our functions raise, a compatible one may answer so."""
    if not truth(rows):
        raise JobNotFound(job_id=job_id)


def utc(moment: datetime) -> datetime:
    """Return the moment in UTC: drivers give the session's zone."""
    return moment.astimezone(UTC)


def utc_or_none(moment: datetime | None) -> datetime | None:
    """Return the moment in UTC, if there is one."""
    return None if moment is None else utc(moment)


def rescheduled(row: Row) -> RescheduledJob:
    """Return a row of the functions that reschedule."""
    return RescheduledJob(row[0], row[1], tuple(row[2]), utc_or_none(row[3]))
