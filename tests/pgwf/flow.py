"""One installation of the schema under a name of its own, and sessions that call it."""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import psycopg

from millstream.pgwf.installer import Installer

DEADLINE_SECONDS = 20


def eventually(condition: Callable[[], Any]) -> Any:
    """Return the first true answer of `condition`; fail after `DEADLINE_SECONDS`."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.005)
    return answer


class Session:
    """A connection in autocommit. Statements are written for the default schema and run in that of the test."""

    def __init__(self, dsn: str, schema: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.schema = schema

    @property
    def pid(self) -> int:
        return self.connection.info.backend_pid

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        cursor = self.connection.execute(sql.replace("pgwf", self.schema).encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def row(self, sql: str, *parameters: object) -> tuple[Any, ...]:
        """Return the only row."""
        (only,) = self.rows(sql, *parameters)
        return only

    def value(self, sql: str, *parameters: object) -> Any:
        """Return the only value of the only row."""
        (only,) = self.row(sql, *parameters)
        return only

    def values(self, sql: str, *parameters: object) -> list[Any]:
        """Return the first column."""
        return [row[0] for row in self.rows(sql, *parameters)]

    # ------------------------------------------------------------------------------------------------ short cuts

    def submit(self, job_id: str, need: str = "cap", **named: object) -> None:
        """Submit by name: `wait_for`, `payload` (as text), `singleton_key`, `available_at`, `expires_at`."""
        casts = {
            "wait_for": "text[]",
            "payload": "jsonb",
            "available_at": "timestamptz",
            "expires_at": "timestamptz",
        }
        given = "".join(f", p_{name} => %s::{casts.get(name, 'text')}" for name in named)
        self.rows(f"select pgwf.submit_job(%s, 'submitter', %s{given})", job_id, need, *named.values())

    def lease(
        self, *needs: str, worker: str = "worker", limit: int = 1, seconds: int = 30
    ) -> list[tuple[str, str]]:
        """Lease up to `limit` jobs; returns pairs of job id and lease id."""
        found = self.rows(
            "select job_id, lease_id from pgwf.get_work(%s, %s::text[], %s, %s)",
            *(worker, list(needs or ("cap",)), seconds, limit),
        )
        return [(job_id, lease_id) for job_id, lease_id in found]

    def take(self, *needs: str) -> tuple[str, str]:
        """Lease one job that has to be there."""
        (only,) = self.lease(*needs)
        return only

    def complete(self, job_id: str, lease_id: str) -> None:
        """Complete under a lease."""
        assert self.value("select pgwf.complete_job(%s, %s, 'worker')", job_id, lease_id) is True

    def finish(self, job_id: str) -> None:
        """Complete without a lease."""
        assert self.value("select pgwf.complete_unheld_job(%s, 'worker')", job_id) is True

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be cancelled."""
        self.rows("select pgwf.cancel_job(%s, 'canceller')", job_id)

    def sweep(self, limit: int = 100) -> int:
        """Archive cancelled jobs."""
        return self.value("select pgwf.archive_cancelled_jobs('sweeper', %s)", limit)

    def lapse(self, job_id: str) -> None:
        """Let the lease of a job run out."""
        self.rows(
            "update pgwf.jobs set lease_expires_at = clock_timestamp() - interval '1 ms' where job_id = %s",
            job_id,
        )

    def status(self, job_id: str) -> str:
        """Return a live job's status."""
        return self.value("select status from pgwf.jobs_with_status where job_id = %s", job_id)

    def wait_for(self, job_id: str) -> list[str]:
        """Return what a live job waits for."""
        return self.value("select wait_for from pgwf.jobs where job_id = %s", job_id)

    def live(self) -> list[str]:
        """Return the ids of all live jobs."""
        return self.values("select job_id from pgwf.jobs order by job_id")

    def archived(self) -> list[str]:
        """Return the ids of all archived jobs."""
        return self.values("select job_id from pgwf.jobs_archive order by job_id")

    def events(self, job_id: str) -> list[str]:
        """Return the trace events of a job in order."""
        return self.values(
            "select event_type from pgwf.jobs_trace where job_id = %s order by trace_id", job_id
        )


class Flow(Session):
    """The first session of a test, which can open more of them."""

    def __init__(self, dsn: str, schema: str) -> None:
        super().__init__(dsn, schema)
        self.dsn = dsn
        self._others: list[Session] = []
        self._threads = ThreadPoolExecutor(8)

    @classmethod
    def installed(cls, dsn: str) -> "Flow":
        """Install under a fresh name."""
        schema = f"flow_{secrets.token_hex(6)}"
        Installer(dsn, schema=schema).apply()
        return cls(dsn, schema)

    @cached_property
    def _observer(self) -> Session:
        # Another session than the test's own, which may be in a transaction: that would see one state for all time.
        return self.other()

    def other(self) -> Session:
        """Open another session of the same installation."""
        session = Session(self.dsn, self.schema)
        self._others.append(session)
        return session

    def start(self, work: Callable[..., Any], *arguments: object, **named: object) -> "Future[Any]":
        """Run something in a thread."""
        return self._threads.submit(work, *arguments, **named)

    def is_blocked(self, session: Session) -> bool:
        """Whether a session waits for another one's lock."""
        waits = "select exists (select from pg_stat_activity where pid = %s and wait_event_type = 'Lock')"
        return self._observer.value(waits, session.pid)

    def wait_until_blocked(self, *sessions: Session) -> None:
        """Return once every one of `sessions` waits for a lock."""
        eventually(lambda: all(self.is_blocked(session) for session in sessions))

    def close(self) -> None:
        """Hang up everywhere."""
        for session in (*self._others, self):
            session.connection.close()
        self._threads.shutdown()
