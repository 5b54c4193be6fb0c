"""Refusals as this dialect words them. Contract: spooled-jobs 1.9, spooled-tenancy 1.3, 7.3."""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from millstream.api.http.endpoint import Response
from millstream.domain.errors import (
    FeatureDisabled,
    FieldProblem,
    InvalidField,
    InvalidJson,
    MillstreamError,
    PayloadTooLarge,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from millstream.domain.plan import plan_of
from millstream.domain.problems import message_of, problem_of

_RETRY_UNAVAILABLE = (b"retry-after", b"1")
_FEATURES_FROM_TIER = "starter"


class ProblemDetails(Struct, kw_only=True):
    """The limit that was hit, once more, since some clients show `details` only; or when to come back."""

    resource: str | UnsetType = UNSET
    current: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    retry_after_seconds: int | UnsetType = UNSET


class ProblemBody(Struct, kw_only=True):
    """The body of every refusal. `message` is always there: some clients read nothing else."""

    code: str
    message: str
    error: str
    details: list[FieldProblem] | ProblemDetails | UnsetType = UNSET
    status: int | UnsetType = UNSET
    resource: str | UnsetType = UNSET
    feature: str | UnsetType = UNSET
    current: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    upgrade_to: str | UnsetType = UNSET


def problem_response(error: MillstreamError, unrouted: bool = False) -> Response:
    """Return the answer that refuses a request because of `error`.

    `unrouted` adds the status that clients of other dialects read when a path is unknown to all.
    """
    problem = problem_of(type(error))
    body = ProblemBody(code=problem.code, message=message_of(error), error=problem.error)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if unrouted:
        body.status = problem.http_status
    if isinstance(error, InvalidField):
        body.details = list(error.problems)
    elif isinstance(error, InvalidJson):
        body.details = [FieldProblem("body", error.message, "PARSE_ERROR")]
    elif isinstance(error, QuotaExceeded):
        _describe_quota(body, error)
    elif isinstance(error, FeatureDisabled):
        body.feature = error.feature
        body.plan = error.plan
        body.upgrade_to = _FEATURES_FROM_TIER
    elif isinstance(error, PayloadTooLarge):
        _describe_size(body, error)
    elif isinstance(error, RateLimited):
        body.details = ProblemDetails(retry_after_seconds=error.retry_after_seconds)
        headers = ((b"retry-after", b"%d" % error.retry_after_seconds),)
    elif isinstance(error, Unavailable):
        headers = (_RETRY_UNAVAILABLE,)
    return Response(problem.http_status, msgspec.json.encode(body), headers)


def _describe_quota(body: ProblemBody, error: QuotaExceeded) -> None:
    body.resource = error.resource
    body.current = error.current
    body.limit = error.limit
    body.plan = error.plan
    body.details = ProblemDetails(
        resource=error.resource, current=error.current, limit=error.limit, plan=error.plan
    )
    body.upgrade_to = plan_of(error.plan).upgrade_to or UNSET


def _describe_size(body: ProblemBody, error: PayloadTooLarge) -> None:
    if error.current is not None:
        body.current = error.current
    if error.limit is not None:
        body.limit = error.limit
    if error.plan is not None:
        body.plan = error.plan
        body.upgrade_to = plan_of(error.plan).upgrade_to or UNSET
