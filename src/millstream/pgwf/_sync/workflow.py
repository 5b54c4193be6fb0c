"""Jobs of one schema: submitting, leasing, watching them. Contract: pgwf 3."""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import TypeVar

from millstream.drivers import require_connection
from millstream.pgwf._sync.awaiting import Awaiting
from millstream.pgwf._sync.calls import run
from millstream.pgwf._sync.lease import Lease
from millstream.pgwf.arguments import require_timeout
from millstream.pgwf.background import Stop
from millstream.pgwf.backoff import Backoff
from millstream.pgwf.channels import need_channel
from millstream.pgwf.hold import Hold
from millstream.pgwf.jobs import (
    CancelResult,
    JobDependencies,
    JobStatus,
    JobView,
    RescheduledJob,
    SubmittedJob,
)
from millstream.pgwf.script import DEFAULT_SCHEMA, require_schema_name
from millstream.pgwf.sources import opener_of
from millstream.pgwf.statements import events, jobs, leases, switches, views
from millstream.pgwf.statements.statement import Statement
from millstream.pgwf.trace import TraceRow

T = TypeVar("T")
_USUAL_BACKOFF = Backoff()


class Workflow:
    """The calls of an installed schema. It has no state: share it.

    `conn` is the caller's connection: the driver's own, or one or a session of SQLAlchemy's. What is called here is part of
    its transaction, and nothing here commits, rolls back or begins one. Every call raises TypeError for anything else, InvalidArgument
    before the database is asked, TransientError where repeating the transaction may help, and what the driver raises for
    anything that is not about workflows.
    """

    def __init__(self, *, schema: str = DEFAULT_SCHEMA) -> None:
        """Raise InvalidArgument for a name that a schema may not have here."""
        self.schema = require_schema_name(schema)

    def submit_job(
        self, conn: object, job_id: str, deps: JobDependencies, worker_id: str, *, savepoint: bool = False
    ) -> SubmittedJob:
        """Submit a job under an id of the caller's, which no other job has or had.

        With `savepoint` the caller's transaction can go on after a refusal. Raises JobAlreadyExists,
        JobAlreadyCompleted, DependencyViolation, PayloadError.
        """
        require_connection(conn)
        statement = jobs.submit_job(self.schema, job_id, deps, worker_id)
        return run(conn, statement, savepoint=savepoint)

    def get_work(
        self, conn: object, worker_id: str, capabilities: Sequence[str], *, lease_seconds: int = 60
    ) -> Lease | None:
        """Lease the oldest job that is ready and needs one of the capabilities; None when there is none. Never waits.

        Commit before working on it: until then nobody else sees the lease, and its time runs. While notifying is on, a call
        that finds nothing leaves `conn` listening for the capabilities.
        """
        found = self.get_work_batch(conn, worker_id, capabilities, limit=1, lease_seconds=lease_seconds)
        return found[0] if found else None

    def get_work_batch(
        self,
        conn: object,
        worker_id: str,
        capabilities: Sequence[str],
        *,
        limit: int,
        lease_seconds: int = 60,
    ) -> list[Lease]:
        """Lease up to `limit` jobs, the oldest first. See `get_work`."""
        require_connection(conn)
        statement = leases.get_work(self.schema, worker_id, capabilities, lease_seconds, limit)
        asked_at = monotonic()
        return [
            Lease(Hold(self.schema, worker_id, lease_seconds, leased, asked_at=asked_at))
            for leased in run(conn, statement)
        ]

    def await_work(
        self,
        source: object,
        worker_id: str,
        capabilities: Sequence[str],
        *,
        lease_seconds: int = 60,
        backoff: Backoff = _USUAL_BACKOFF,
        timeout: float | None = None,
        stop: Stop | None = None,
        listen: bool = False,
    ) -> Lease | None:
        """Lease a job as `get_work` does, on connections of `source`, waiting until there is one.

        `source` is a DSN, a pool, an engine, or a callable that returns a context manager of a connection. Polls at once, and
        then after the waits of `backoff`; lost connections count as polls that found nothing. With `listen` one connection stays
        open, announcements (`set_notify`) wake it, and it polls after the longest wait anyway, because nothing is announced when
        a time comes or a lease ends. Returns None after `timeout` seconds or when `stop` is set.
        """
        opener = opener_of(source)
        statement = leases.get_work(self.schema, worker_id, capabilities, lease_seconds, 1)
        awaiting = Awaiting(
            open=opener,
            statement=statement,
            schema=self.schema,
            worker_id=worker_id,
            lease_seconds=lease_seconds,
            channels=[need_channel(self.schema, capability) for capability in capabilities if capability],
            backoff=backoff,
            deadline=monotonic() + require_timeout(timeout),
            stop=stop,
        )
        return awaiting.listen_until_found() if listen else awaiting.poll_until_found()

    def complete_unheld_job(self, conn: object, job_id: str, worker_id: str) -> None:
        """Complete a job that nobody has leased. Raises JobNotAvailable, JobNotFound."""
        require_connection(conn)
        run(conn, jobs.complete_unheld_job(self.schema, job_id, worker_id))

    def reschedule_unheld_job(
        self, conn: object, job_id: str, worker_id: str, deps: JobDependencies
    ) -> RescheduledJob:
        """Change what a job that nobody has leased needs. `expires_at` and the singleton key cannot change.

        Raises JobNotAvailable, JobNotFound, DependencyViolation, PayloadError.
        """
        require_connection(conn)
        statement = jobs.reschedule_unheld_job(self.schema, job_id, worker_id, deps)
        if deps.key() is not None:
            for present in run(conn, jobs.singleton_keys(self.schema, job_id)):
                deps.require_key(present, job_id)
        return run(conn, statement)

    def cancel_job(
        self, conn: object, job_id: str, worker_id: str, reason: str | None = None
    ) -> CancelResult:
        """Ask for a job to be cancelled: at once when nobody has leased it, otherwise when the lease ends.

        Asking again changes nothing. Raises JobNotFound, JobAlreadyCompleted.
        """
        return self._run(conn, jobs.cancel_job(self.schema, job_id, worker_id, reason))

    def archive_cancelled_jobs(self, conn: object, worker_id: str, limit: int = 100) -> int:
        """Archive up to `limit` cancelled jobs and release what waits for them; returns how many."""
        return self._run(conn, jobs.archive_cancelled_jobs(self.schema, worker_id, limit))

    def clear_crash_concern(
        self, conn: object, job_id: str, worker_id: str, reason: str | None = None
    ) -> None:
        """Let a job run again whose leases ran out too often in a row.

        Raises JobNotFound, JobAlreadyCompleted, JobCancelled.
        """
        self._run(conn, jobs.clear_crash_concern(self.schema, job_id, worker_id, reason))

    def set_trace(self, conn: object, enabled: bool) -> bool:
        """Switch tracing on or off, for everybody. Needs the owner of the schema."""
        return self._run(conn, switches.set_trace(self.schema, enabled=enabled))

    def set_notify(self, conn: object, enabled: bool) -> bool:
        """Switch announcing jobs on or off, for everybody. Needs the owner of the schema."""
        return self._run(conn, switches.set_notify(self.schema, enabled=enabled))

    def is_trace_enabled(self, conn: object) -> bool:
        """Whether what happens to jobs is traced."""
        return self._run(conn, switches.is_trace_enabled(self.schema))

    def is_notify_enabled(self, conn: object) -> bool:
        """Whether jobs are announced."""
        return self._run(conn, switches.is_notify_enabled(self.schema))

    def set_crash_concern_threshold(self, conn: object, threshold: int) -> int:
        """Set after how many leases in a row that ran out a job is set aside. Needs the owner of the schema."""
        return self._run(conn, switches.set_crash_concern_threshold(self.schema, threshold))

    def crash_concern_threshold(self, conn: object) -> int:
        """Return after how many leases in a row that ran out a job is set aside."""
        return self._run(conn, switches.crash_concern_threshold(self.schema))

    def get_job(self, conn: object, job_id: str) -> JobView | None:
        """Return a live job, None for one that is archived or unknown."""
        return self._run(conn, views.get_job(self.schema, job_id))

    def list_jobs(
        self,
        conn: object,
        *,
        status: JobStatus | None = None,
        next_need: str | None = None,
        limit: int = 100,
        after: tuple[datetime, str] | None = None,
    ) -> list[JobView]:
        """Return up to `limit` live jobs, the oldest first; `after` is `(created_at, job_id)` of the last one seen."""
        return self._run(conn, views.list_jobs(self.schema, status, next_need, limit, after))

    def job_trace(self, conn: object, job_id: str, *, limit: int = 100) -> list[TraceRow]:
        """Return the first `limit` events of a job in their order."""
        return self._run(conn, events.job_trace(self.schema, job_id, limit))

    def purge_trace(self, conn: object, *, before: datetime, limit: int = 10_000) -> int:
        """Delete up to `limit` events that are older than `before`; returns how many."""
        return self._run(conn, events.purge_trace(self.schema, before, limit))

    def _run(self, conn: object, statement: Statement[T]) -> T:
        require_connection(conn)
        return run(conn, statement)
