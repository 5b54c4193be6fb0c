"""Jobs as callers describe them and as calls return them. Contract: pgwf 3."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from millstream.pgwf.arguments import require_aware, require_text, require_texts
from millstream.pgwf.errors import DependencyViolation, InvalidArgument

Payload = Mapping[str, Any]  # pyright: ignore[reportExplicitAny] - any JSON


class JobStatus(StrEnum):
    """What a live job is waiting for. Contract: pgwf 1.3."""

    READY = "READY"
    EXPIRED = "EXPIRED"
    PENDING_JOBS = "PENDING_JOBS"
    AWAITING_FUTURE = "AWAITING_FUTURE"
    ACTIVE = "ACTIVE"
    CRASH_CONCERN = "CRASH_CONCERN"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class JobDependencies:
    """What a job needs before it runs, and what it carries.

    `next_need` is the capability of the worker that may have it; `wait_for` names jobs that must be done first (empty ids are
    left out); of the jobs with one `singleton_key` at most one is leased at a time; it runs not before `available_at`,
    is not leased any more after `expires_at`, and `payload` is a JSON object of up to 512 bytes as PostgreSQL stores it.
    """

    next_need: str
    wait_for: Sequence[str] = ()
    singleton_key: str | None = None
    available_at: datetime | None = None
    payload: Payload | None = None
    expires_at: datetime | None = None

    def validate(self) -> None:
        """Raise InvalidArgument unless this describes a job."""
        require_text(self.next_need, "next_need")
        require_texts(self.wait_for, "wait_for")
        if self.key() is not None:
            require_text(self.singleton_key, "singleton_key")
        require_aware(self.available_at, "available_at")
        require_aware(self.expires_at, "expires_at")
        self.encoded_payload()

    def validate_reschedule(self) -> None:
        """Raise InvalidArgument unless this describes what may change of a job: `expires_at` is fixed at submission."""
        self.validate()
        if self.expires_at is not None:
            raise InvalidArgument("expires_at cannot be changed")

    def require_key(self, present: str | None, job_id: str) -> None:
        """Raise DependencyViolation where this would change the key of a job."""
        if self.key() not in (None, present):
            raise DependencyViolation(
                f"the singleton key of job {job_id} cannot be changed",
                job_id=job_id,
                code="ms_singleton_immutable",
            )

    def awaited(self) -> list[str]:
        """Return the ids of `wait_for` that are not empty."""
        return [job_id for job_id in self.wait_for if job_id]

    def key(self) -> str | None:
        """Return the singleton key, None for an empty one."""
        return self.singleton_key or None

    def encoded_payload(self) -> str | None:
        """Return the payload as JSON. Raises InvalidArgument."""
        if self.payload is None:
            return None
        # Callers without a type checker pass anything.
        if not isinstance(self.payload, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument("payload is a mapping")
        try:
            return json.dumps(dict(self.payload), allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"payload: {error}") from error


def require_dependencies(value: object) -> JobDependencies:
    """Return what describes a job. Raises InvalidArgument for anything else."""
    if not isinstance(value, JobDependencies):
        raise InvalidArgument("deps is a JobDependencies")
    return value


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that was submitted. `available_at` is None for the ends of time."""

    job_id: str
    next_need: str
    wait_for: tuple[str, ...]
    payload: Payload
    available_at: datetime | None


@dataclass(frozen=True, slots=True)
class RescheduledJob:
    """A job that was given back. `available_at` is None for the ends of time."""

    job_id: str
    next_need: str
    wait_for: tuple[str, ...]
    available_at: datetime | None


@dataclass(frozen=True, slots=True)
class CancelResult:
    """A job that was asked to be cancelled: by whom and when first, and whether somebody works on it now."""

    job_id: str
    cancelled_by: str
    cancelled_at: datetime
    was_active: bool
    already_cancelled: bool


@dataclass(frozen=True, slots=True)
class JobView:
    """A live job. Times that are infinite, or beyond what `datetime` holds, are None."""

    job_id: str
    next_need: str
    wait_for: tuple[str, ...]
    payload: Payload
    singleton_key: str | None
    available_at: datetime | None
    expires_at: datetime | None
    lease_id: str | None
    lease_expires_at: datetime | None
    lease_expiration_count: int
    consecutive_expirations: int
    created_at: datetime
    cancel_requested: bool
    cancel_requested_by: str | None
    cancel_requested_at: datetime | None
    status: JobStatus
