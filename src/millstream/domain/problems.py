"""The error registry: each refusal's status, code and text in every protocol. The docs table is made from it."""

from msgspec import Struct

from millstream.domain.errors import (
    AccessDenied,
    AdminHeaderUnreadable,
    AdminKeyMissing,
    AdminKeyWrong,
    AdminNotConfigured,
    AuthenticationFailed,
    BadRequest,
    Conflict,
    FeatureDisabled,
    Gone,
    InternalError,
    InvalidCredential,
    InvalidField,
    InvalidJson,
    InvalidShape,
    LeaseExpired,
    MethodNotAllowed,
    MillstreamError,
    NotFound,
    PayloadTooLarge,
    PoisonRow,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from millstream.domain.plan import plan_of


class Problem(Struct, frozen=True, kw_only=True):
    """How one class of errors looks on the wire.

    `error` is the short text that older clients read. `fixed_text` hides what the error says of itself:
    its class's first docstring line is sent instead, the cause goes to the log only.
    """

    http_status: int
    code: str
    error: str
    grpc_status: str
    fixed_text: bool = False


def _problem(
    http_status: int, code: str, grpc_status: str, error: str = "", fixed_text: bool = False
) -> Problem:
    return Problem(
        http_status=http_status,
        code=code,
        error=error or code.lower(),
        grpc_status=grpc_status,
        fixed_text=fixed_text,
    )


# A class that is not listed is answered as the nearest of its ancestors that is.
PROBLEMS: dict[type[MillstreamError], Problem] = {
    BadRequest: _problem(400, "BAD_REQUEST", "INVALID_ARGUMENT"),
    InvalidJson: _problem(400, "INVALID_JSON", "INVALID_ARGUMENT", "Invalid JSON"),
    InvalidField: _problem(400, "VALIDATION_ERROR", "INVALID_ARGUMENT", "Validation failed"),
    PoisonRow: _problem(400, "VALIDATION_ERROR", "INVALID_ARGUMENT", "Validation failed", fixed_text=True),
    Unauthenticated: _problem(401, "UNAUTHORIZED", "UNAUTHENTICATED"),
    AuthenticationFailed: _problem(401, "AUTHENTICATION_FAILED", "UNAUTHENTICATED", "unauthorized"),
    AdminNotConfigured: _problem(401, "ADMIN_NOT_CONFIGURED", "UNAUTHENTICATED"),
    AdminKeyMissing: _problem(401, "MISSING_ADMIN_KEY", "UNAUTHENTICATED"),
    AdminHeaderUnreadable: _problem(401, "INVALID_HEADER", "UNAUTHENTICATED"),
    AdminKeyWrong: _problem(401, "INVALID_ADMIN_KEY", "UNAUTHENTICATED"),
    InvalidCredential: _problem(401, "UNAUTHORIZED", "UNAUTHENTICATED"),
    AccessDenied: _problem(403, "ACCESS_DENIED", "PERMISSION_DENIED"),
    FeatureDisabled: _problem(403, "FEATURE_DISABLED", "PERMISSION_DENIED"),
    NotFound: _problem(404, "NOT_FOUND", "NOT_FOUND"),
    MethodNotAllowed: _problem(405, "METHOD_NOT_ALLOWED", "UNIMPLEMENTED"),
    RequestTimeout: _problem(408, "REQUEST_TIMEOUT", "DEADLINE_EXCEEDED"),
    Conflict: _problem(409, "CONFLICT", "FAILED_PRECONDITION"),
    LeaseExpired: _problem(409, "LEASE_EXPIRED", "FAILED_PRECONDITION"),
    Gone: _problem(410, "GONE", "FAILED_PRECONDITION"),
    PayloadTooLarge: _problem(413, "PAYLOAD_TOO_LARGE", "RESOURCE_EXHAUSTED"),
    UnsupportedMediaType: _problem(415, "UNSUPPORTED_MEDIA_TYPE", "INVALID_ARGUMENT"),
    InvalidShape: _problem(422, "VALIDATION_ERROR", "INVALID_ARGUMENT", "Validation failed"),
    RateLimited: _problem(429, "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
    QuotaExceeded: _problem(429, "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", "limit_exceeded"),
    InternalError: _problem(500, "INTERNAL_ERROR", "INTERNAL", fixed_text=True),
    Unavailable: _problem(503, "SERVICE_UNAVAILABLE", "UNAVAILABLE", fixed_text=True),
}


def problem_of(kind: type[MillstreamError]) -> Problem:
    """Return the problem of the nearest listed ancestor of `kind`; what nobody listed is internal."""
    for ancestor in kind.__mro__:
        if issubclass(ancestor, MillstreamError) and (problem := PROBLEMS.get(ancestor)):
            return problem
    return PROBLEMS[InternalError]


def message_of(error: MillstreamError) -> str:
    """Return the text that a client may read about `error`.

    Clients recognise a quota by the words "limit reached". Contract: spooled-jobs 1.10, spooled-tenancy 7.3.
    """
    if problem_of(type(error)).fixed_text:
        return (type(error).__doc__ or "").splitlines()[0]
    if isinstance(error, QuotaExceeded):
        return _quota_message(error)
    return error.message


def _quota_message(error: QuotaExceeded) -> str:
    message = error.message
    if error.resource == "jobs_per_day":
        message = f"Daily job limit reached ({error.current}/{error.limit})"
    upgrade_to = plan_of(error.plan).upgrade_to
    return message if upgrade_to is None else f"{message}. Upgrade to {upgrade_to} for higher limits."


def problems_table() -> str:
    """Return the registry as a Markdown table, ordered by status and code."""
    rows = ["| HTTP | Code | gRPC | Meaning |", "|---|---|---|---|"]
    for kind, problem in sorted(PROBLEMS.items(), key=lambda entry: (entry[1].http_status, entry[1].code)):
        meaning = (kind.__doc__ or "").splitlines()[0]
        rows.append(f"| {problem.http_status} | `{problem.code}` | `{problem.grpc_status}` | {meaning} |")
    return "\n".join(rows) + "\n"
