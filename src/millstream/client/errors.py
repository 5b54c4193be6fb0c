"""Everything the SDK raises, and the one place that turns an answer of the server into an exception."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from millstream.client.json_value import JsonValue


class MillstreamError(Exception):
    """The root of every exception this package raises on purpose."""


class ConnectionFailed(MillstreamError):
    """No answer came: the server could not be reached, or the connection broke or timed out.

    `sent` tells whether the request may have reached the server. When it is true and the call changes
    something, the outcome is unknown.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class InvalidResponse(MillstreamError):
    """The server answered with success, but its body is not what this version of the SDK understands."""


class ApiError(MillstreamError):
    """The server answered with an error. Contract: spooled-jobs 1.9.

    `status` is the HTTP status, `code` the stable upper-case word, `message` the server's text,
    `details` what it added, `request_id` the id to quote in a report. `attempt` counts from 1 and tells
    which try of a retried call got this answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: JsonValue = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id
        self.attempt = 1

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message}"


class ValidationFailed(ApiError):
    """400 or 422: the request breaks a rule; `details` lists the fields where the server names them."""


class Unauthorized(ApiError):
    """401: no credential, or one that is unknown, expired or revoked."""


class AccessDenied(ApiError):
    """403: the credential does not cover this queue or feature."""


class NotFound(ApiError):
    """404: there is no such object in this tenant."""


class Conflict(ApiError):
    """409: the object is in a state that forbids the operation."""


class LeaseLost(ApiError):
    """409 `LEASE_EXPIRED`: the lease ran out, or the job belongs to another worker by now."""


class PayloadTooLarge(ApiError):
    """413: the body, payload or result exceeds what the server or the plan allows."""


class RateLimited(ApiError):
    """429: too many requests; `retry_after_seconds` says when to come back."""

    retry_after_seconds: float = 1.0


class QuotaExceeded(ApiError):
    """429 `QUOTA_EXCEEDED`: a limit of the plan is reached; retrying does not help.

    `resource`, `current`, `limit` and `plan` are what the server tells of it. Contract: spooled-jobs 1.10.
    """

    resource: str | None = None
    current: int | None = None
    limit: int | None = None
    plan: str | None = None


class Unavailable(ApiError):
    """408, 502, 503 or 504: the server cannot answer now; a change may or may not have happened.

    `retry_after_seconds` is the server's own advice, None where it gave none.
    """

    retry_after_seconds: float | None = None


class _ErrorBody(msgspec.Struct):
    code: str | None = None
    message: str | None = None
    error: str | None = None
    details: JsonValue = None
    resource: str | None = None
    current: int | None = None
    limit: int | None = None
    plan: str | None = None


_BY_STATUS: dict[int, type[ApiError]] = {
    400: ValidationFailed,
    401: Unauthorized,
    403: AccessDenied,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    413: PayloadTooLarge,
    422: ValidationFailed,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_from_answer(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """Make the exception for an error answer; bodies that are not the envelope are quoted as text."""
    try:
        body = msgspec.json.decode(content, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = _ErrorBody(message=content[:500].decode("utf-8", "replace").strip() or None)
    code = (body.code or _phrase(status)).upper()
    message = body.message or body.error or "the server gave no reason"
    request_id = headers.get("x-request-id")
    retry_after = _seconds(headers.get("retry-after"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        # A quota answer never carries Retry-After; that is how older servers tell the two apart.
        if code == "QUOTA_EXCEEDED" or retry_after is None:
            quota = QuotaExceeded(status, code, message, details=body.details, request_id=request_id)
            quota.resource, quota.current = body.resource, body.current
            quota.limit, quota.plan = body.limit, body.plan
            return quota
        limited = RateLimited(status, code, message, details=body.details, request_id=request_id)
        limited.retry_after_seconds = retry_after
        return limited
    kind = LeaseLost if code == "LEASE_EXPIRED" else _BY_STATUS.get(status, ApiError)
    error = kind(status, code, message, details=body.details, request_id=request_id)
    if isinstance(error, Unavailable):
        error.retry_after_seconds = retry_after
    return error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.replace(" ", "_")
    except ValueError:
        return "UNKNOWN"


def _seconds(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        # The header may also carry a date; a second is what this server means when it says "soon".
        return 1.0
