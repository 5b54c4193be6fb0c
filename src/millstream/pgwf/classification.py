"""What a driver's error means here. Contract: pgwf 1.7, 3."""

from typing import Final

from millstream import drivers
from millstream.pgwf.errors import (
    DependencyViolation,
    InvalidArgument,
    JobAlreadyCompleted,
    JobAlreadyExists,
    JobCancelled,
    JobNotAvailable,
    JobNotFound,
    LeaseExpired,
    LeaseMismatch,
    PayloadError,
    TransientError,
    WorkflowError,
)

_DUPLICATE: Final = ("23505", "jobs_pkey")
_RAISED: Final = "P0001"
_BY_CODE: Final[dict[str, type[WorkflowError]]] = {
    "ms_job_completed": JobAlreadyCompleted,
    "ms_unknown_dependency": DependencyViolation,
    "ms_singleton_immutable": DependencyViolation,
    "ms_payload_invalid": PayloadError,
    "ms_payload_too_large": PayloadError,
    "ms_invalid_argument": InvalidArgument,
    "ms_lease_mismatch": LeaseMismatch,
    "ms_job_cancelled": JobCancelled,
    "ms_job_unavailable": JobNotAvailable,
    "ms_job_missing": JobNotFound,
}
# Serialization failure, deadlock, lock timeout.
_REPEATABLE: Final = frozenset({"40001", "40P01", "55P03"})
# JSON that jsonb cannot hold: the escape of a NUL, half of a surrogate pair.
_UNFIT_JSON: Final = frozenset({"22P05", "22P02"})
# For scripts that raise without codes. The first seven are what the Go library looks for, in its order.
_BY_FRAGMENT: Final[tuple[tuple[str, type[WorkflowError]], ...]] = (
    ("references unknown jobs", DependencyViolation),
    ("singleton", DependencyViolation),
    ("not currently leased", LeaseMismatch),
    ("actively leased", LeaseMismatch),
    ("active lease not found", LeaseMismatch),
    ("has expired", LeaseExpired),
    ("not found", JobNotFound),
    ("does not exist", JobNotFound),
    ("is not available", JobNotAvailable),
    ("already completed", JobAlreadyCompleted),
    ("archived", JobAlreadyCompleted),
    ("payload must be a json object", PayloadError),
    ("payload exceeds", PayloadError),
    ("must be positive", InvalidArgument),
    ("cannot be empty", InvalidArgument),
    ("cannot be null", InvalidArgument),
    ("cancelled", JobCancelled),
)


def classified(error: Exception, job_id: str | None = None) -> WorkflowError | None:
    """Return what an error of a driver means here; None where it means nothing particular."""
    sqlstate, constraint = drivers.sqlstate_of(error), drivers.constraint_of(error)
    message = drivers.message_of(error)
    kind = _kind_of(error, sqlstate, constraint, message)
    if kind is None:
        return None
    return kind(
        message, job_id=job_id, sqlstate=sqlstate, code=constraint if constraint in _BY_CODE else None
    )


def _kind_of(
    error: Exception, sqlstate: str | None, constraint: str | None, message: str
) -> type[WorkflowError] | None:
    if (sqlstate, constraint) == _DUPLICATE:
        return JobAlreadyExists
    if sqlstate == _RAISED:
        return _BY_CODE.get(constraint or "") or _by_fragment(message)
    if sqlstate in _REPEATABLE or drivers.is_lost_connection(error):
        return TransientError
    if sqlstate in _UNFIT_JSON:
        return PayloadError
    return None


def _by_fragment(message: str) -> type[WorkflowError] | None:
    lowered = message.lower()
    return next((kind for fragment, kind in _BY_FRAGMENT if fragment in lowered), None)


def is_transient(error: Exception) -> bool:
    """Whether what failed may succeed when it is repeated."""
    return isinstance(error, TransientError) or isinstance(classified(error), TransientError)
