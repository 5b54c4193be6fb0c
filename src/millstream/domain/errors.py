"""Everything that can be refused, and why. `domain/problems.py` maps each to its status and code."""

from collections.abc import Sequence

from msgspec import Struct


class MillstreamError(Exception):
    """Something was refused."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self.message)


class FieldProblem(Struct, frozen=True):
    """One rule that one field of a request broke."""

    field: str
    message: str
    code: str


class BadRequest(MillstreamError):
    """The request cannot be served as it stands"""


class InvalidField(MillstreamError):
    """Validation failed"""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))


class InvalidShape(InvalidField):
    """A required field is missing or a field has the wrong type"""


class InvalidJson(MillstreamError):
    """The body is not valid JSON"""


class UnsupportedMediaType(MillstreamError):
    """The body must be application/json"""


class Unauthenticated(MillstreamError):
    """A valid API key or access token is required"""


class AuthenticationFailed(MillstreamError):
    """The credential is not valid"""


class AdminNotConfigured(AuthenticationFailed):
    """This server has no admin key"""


class AdminKeyMissing(AuthenticationFailed):
    """The header X-Admin-Key is required"""


class AdminHeaderUnreadable(AuthenticationFailed):
    """The header X-Admin-Key must be visible ASCII"""


class AdminKeyWrong(AuthenticationFailed):
    """The admin key is not valid"""


class InvalidCredential(AuthenticationFailed):
    """The API key or token is not valid"""


class AccessDenied(MillstreamError):
    """This credential does not permit that"""


class NotFound(MillstreamError):
    """Resource not found"""


class MethodNotAllowed(MillstreamError):
    """This path does not know that method"""


class RequestTimeout(MillstreamError):
    """The request took too long"""


class Conflict(MillstreamError):
    """The resource is not in a state that permits this"""


class Gone(MillstreamError):
    """This was superseded by something newer"""


class LeaseExpired(MillstreamError):
    """The lease has run out or belongs to another claim of the job"""


class PayloadTooLarge(MillstreamError):
    """The request is larger than permitted"""

    def __init__(
        self,
        message: str | None = None,
        *,
        current: int | None = None,
        limit: int | None = None,
        plan: str | None = None,
    ) -> None:
        self.current = current
        self.limit = limit
        self.plan = plan
        super().__init__(message)


class QuotaExceeded(MillstreamError):
    """A limit of the plan is reached

    `resource` is the plan's name of what ran out, `current` what is used and `limit` what is allowed.
    """

    def __init__(self, resource: str, *, current: int, limit: int, plan: str) -> None:
        self.resource = resource
        self.current = current
        self.limit = limit
        self.plan = plan
        super().__init__(f"{resource.replace('_', ' ')} limit reached ({current}/{limit})")


class FeatureDisabled(MillstreamError):
    """The plan does not include this feature"""

    def __init__(self, feature: str, *, plan: str) -> None:
        self.feature = feature
        self.plan = plan
        super().__init__()


class RateLimited(MillstreamError):
    """Too many requests"""

    def __init__(self, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__()


class Unavailable(MillstreamError):
    """The service is temporarily unavailable, try again shortly"""


class DatabaseUnavailable(Unavailable):
    """The database is away, try again shortly"""


class CountersAway(Unavailable):
    """The shared counters are away, try again shortly"""


class Overloaded(Unavailable):
    """Too many requests are waiting already, try again shortly"""


class RowLocked(Unavailable):
    """Another open transaction holds this, try again shortly"""


class OutcomeUnknown(Unavailable):
    """The connection was lost before the outcome was known: look before trying again"""


class ShuttingDown(Unavailable):
    """The server is shutting down, try again shortly"""


class PoisonRow(MillstreamError):
    """The database refused a value"""


class InternalError(MillstreamError):
    """An internal error occurred"""
