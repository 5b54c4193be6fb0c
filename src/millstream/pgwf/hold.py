"""What is known here of a lease, without asking the database. Contract: pgwf 3."""

import math
from datetime import datetime
from enum import StrEnum
from time import monotonic

from millstream.pgwf.errors import JobCancelled, LeaseExpired, WorkflowError
from millstream.pgwf.statements.leases import Extension, LeasedJob
from millstream.pgwf.statements.statement import Json


class LeaseState(StrEnum):
    """How a lease stands, as far as is known here."""

    ACTIVE = "ACTIVE"
    RELEASED = "RELEASED"
    LOST = "LOST"
    EXPIRED = "EXPIRED"


class Hold:
    """A leased job, and until when it is held by this process's own clock.

    The end is counted from the moment before the database was asked, and the database tells how long the lease lasts: clocks
    that differ do no harm.
    """

    def __init__(
        self, schema: str, worker_id: str, lease_seconds: int, leased: LeasedJob, *, asked_at: float
    ) -> None:
        self.schema = schema
        self.worker_id = worker_id
        self.lease_seconds = lease_seconds
        self.leased = leased
        self.is_released = False
        self.loss: WorkflowError | None = None
        # One assignment for both, because a thread of keep-alive makes it.
        self._end = (leased.lease_expires_at, asked_at + leased.lasts_seconds)

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends, by the database's clock."""
        return self._end[0]

    @property
    def remaining(self) -> float:
        """The seconds until then, 0 when it is over."""
        return max(0.0, self._end[1] - monotonic())

    @property
    def state(self) -> LeaseState:
        """How the lease stands."""
        if self.is_released:
            return LeaseState.RELEASED
        if self.loss is not None:
            return LeaseState.LOST
        return LeaseState.ACTIVE if self.remaining > 0 else LeaseState.EXPIRED

    def move_end(self, extension: Extension, *, asked_at: float) -> datetime:
        """Take over an end that the database has set; returns it."""
        self._end = (extension.lease_expires_at, asked_at + extension.lasts_seconds)
        return extension.lease_expires_at

    def raise_if_over(self) -> None:
        """Raise what the lease was lost to, or LeaseExpired when its time is over."""
        if self.loss is not None:
            lost = self.loss
            # Anew each time: one exception that is raised in several places collects their tracebacks.
            raise type(lost)(
                lost.message, job_id=lost.job_id, sqlstate=lost.sqlstate, code=lost.code
            ) from lost
        self._require_time()

    def reopen(self) -> None:
        """Undo a release; what the lease was lost to before stands. Raises LeaseExpired."""
        self._require_time()
        self.is_released = False

    def require_active(self) -> None:
        """Raise unless the lease is active: LeaseExpired, or what it was lost to."""
        if self.is_released:
            raise LeaseExpired(f"job {self.leased.job_id} was released", job_id=self.leased.job_id)
        self.raise_if_over()

    def require_completable(self) -> None:
        """Raise unless the job may be completed, as one may that was asked to be cancelled while it was leased."""
        if self.is_released or self.remaining <= 0 or not isinstance(self.loss, JobCancelled):
            self.require_active()

    def _require_time(self) -> None:
        if self.remaining <= 0:
            raise LeaseExpired(
                f"the lease of job {self.leased.job_id} has expired", job_id=self.leased.job_id
            )

    def beat_after(self) -> float:
        """Return in how many seconds the lease is to be extended: with half of it gone and 5 seconds to spare, and
        while there is time for two more tries.
        """
        remaining = self.remaining
        interval = remaining / 2 - 5
        if interval <= 0:
            interval = 5.0
        if remaining < 15:
            interval = min(interval, remaining / 3)
        # The last tries before the end do not follow each other ever faster.
        return max(interval, 0.05)

    def beat_seconds(self, lease_seconds: int) -> int:
        """Return how long the lease is to last from a beat on: as told, but never less than it would anyway."""
        return max(lease_seconds, math.ceil(self.remaining))


class HeldJob:
    """The job of a lease, as it was when it was leased."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    @property
    def job_id(self) -> str:
        """The job."""
        return self._hold.leased.job_id

    @property
    def lease_id(self) -> str:
        """The id that every call under this lease presents."""
        return self._hold.leased.lease_id

    @property
    def worker_id(self) -> str:
        """Who leased it."""
        return self._hold.worker_id

    @property
    def next_need(self) -> str:
        """The capability that the job needs."""
        return self._hold.leased.next_need

    @property
    def singleton_key(self) -> str | None:
        """The key of which at most one job is leased at a time."""
        return self._hold.leased.singleton_key

    @property
    def wait_for(self) -> tuple[str, ...]:
        """What the job waited for: nothing, or it would not be leased."""
        return self._hold.leased.wait_for

    @property
    def payload(self) -> Json:
        """What the job carries."""
        return self._hold.leased.payload

    @property
    def available_at(self) -> datetime | None:
        """Since when the job could be leased; None for the beginning of time."""
        return self._hold.leased.available_at

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends (UTC), by the database's clock."""
        return self._hold.lease_expires_at

    @property
    def remaining(self) -> float:
        """The seconds until the lease ends, 0 when it is over; by a clock that nobody sets."""
        return self._hold.remaining

    @property
    def state(self) -> LeaseState:
        """How the lease stands, as far as is known here."""
        return self._hold.state

    def raise_if_lost(self) -> None:
        """Return while the lease holds, and after the job was completed or rescheduled under it.

        Raises LeaseMismatch or JobCancelled when keep-alive was told so, LeaseExpired when the time is over.
        """
        if not self._hold.is_released:
            self._hold.raise_if_over()

    def __repr__(self) -> str:
        """Name the job and how the lease stands."""
        return f"<{type(self).__name__} of job {self.job_id!r}: {self.state}>"
