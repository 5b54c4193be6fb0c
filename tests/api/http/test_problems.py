import inspect

import msgspec
import pytest

from millstream.api.spooled.problems import problem_response
from millstream.domain import errors
from millstream.domain.errors import (
    DatabaseUnavailable,
    FieldProblem,
    InternalError,
    InvalidField,
    InvalidJson,
    InvalidShape,
    MillstreamError,
    NotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    PoisonRow,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from millstream.domain.problems import PROBLEMS, message_of, problem_of, problems_table

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, MillstreamError) and kind is not MillstreamError
]


def body_of(error: MillstreamError) -> dict:
    return msgspec.json.decode(problem_response(error).body)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_listed_or_has_an_ancestor_that_is(kind):
    assert any(ancestor in PROBLEMS for ancestor in kind.__mro__)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("BAD_REQUEST", 400),
        ("INVALID_JSON", 400),
        ("UNAUTHORIZED", 401),
        ("AUTHENTICATION_FAILED", 401),
        ("ACCESS_DENIED", 403),
        ("FEATURE_DISABLED", 403),
        ("NOT_FOUND", 404),
        ("METHOD_NOT_ALLOWED", 405),
        ("REQUEST_TIMEOUT", 408),
        ("CONFLICT", 409),
        ("LEASE_EXPIRED", 409),
        ("PAYLOAD_TOO_LARGE", 413),
        ("UNSUPPORTED_MEDIA_TYPE", 415),
        ("RATE_LIMIT_EXCEEDED", 429),
        ("QUOTA_EXCEEDED", 429),
        ("INTERNAL_ERROR", 500),
        ("SERVICE_UNAVAILABLE", 503),
    ],
)
def test_each_code_has_the_status_that_the_contract_gives_it(code, status):
    assert {problem.http_status for problem in PROBLEMS.values() if problem.code == code} == {status}


def test_the_table_has_one_line_for_each_listed_error():
    lines = problems_table().splitlines()

    assert len(lines) == len(PROBLEMS) + 2
    assert all(line.count("|") == 5 for line in lines)


def test_an_error_that_nobody_listed_is_internal():
    assert problem_of(MillstreamError) is PROBLEMS[InternalError]


@pytest.mark.parametrize("error", [DatabaseUnavailable("host 10.0.0.1 refused"), PoisonRow("jobs_pkey")])
def test_what_an_infrastructure_error_knows_is_not_told(error):
    assert message_of(error) == (type(error).__doc__ or "").splitlines()[0]


def test_an_unknown_outcome_says_so_and_when_to_come_back():
    response = problem_response(OutcomeUnknown())

    assert (response.status, response.headers) == (503, ((b"retry-after", b"1"),))
    assert "outcome was known" in body_of(OutcomeUnknown())["message"]
    assert body_of(Unavailable())["code"] == "SERVICE_UNAVAILABLE"


def test_a_quota_names_its_numbers_at_the_top_and_carries_no_retry_after():
    response = problem_response(QuotaExceeded("active_jobs", current=10, limit=10, plan="free"))

    assert (response.status, response.headers) == (429, ())
    assert msgspec.json.decode(response.body) == {
        "code": "QUOTA_EXCEEDED",
        "message": "active jobs limit reached (10/10). Upgrade to starter for higher limits.",
        "error": "limit_exceeded",
        "resource": "active_jobs",
        "current": 10,
        "limit": 10,
        "plan": "free",
        "upgrade_to": "starter",
        "details": {"resource": "active_jobs", "current": 10, "limit": 10, "plan": "free"},
    }


def test_the_daily_cap_has_words_of_its_own():
    error = QuotaExceeded("jobs_per_day", current=1000, limit=1000, plan="free")

    assert message_of(error) == "Daily job limit reached (1000/1000). Upgrade to starter for higher limits."


def test_the_top_plan_has_nothing_to_upgrade_to():
    assert "upgrade_to" not in body_of(QuotaExceeded("queues", current=2, limit=2, plan="enterprise"))


def test_a_rate_limit_says_when_to_come_back_and_looks_like_no_quota():
    response = problem_response(RateLimited(7))
    body = msgspec.json.decode(response.body)

    assert response.headers == ((b"retry-after", b"7"),)
    assert body["details"] == {"retry_after_seconds": 7}
    assert not {"resource", "limit", "plan"} & set(body)


def test_broken_fields_are_listed():
    problems = [FieldProblem("priority", "must be between -100 and 100", "OUT_OF_RANGE")]

    for kind, status in ((InvalidField, 400), (InvalidShape, 422)):
        response = problem_response(kind(problems))
        body = msgspec.json.decode(response.body)
        assert (response.status, body["code"], body["error"]) == (
            status,
            "VALIDATION_ERROR",
            "Validation failed",
        )
        assert body["message"] == "priority: must be between -100 and 100"
        assert body["details"] == [
            {"field": "priority", "message": "must be between -100 and 100", "code": "OUT_OF_RANGE"}
        ]


def test_broken_json_is_a_problem_of_the_body():
    assert body_of(InvalidJson())["details"] == [
        {"field": "body", "message": "The body is not valid JSON", "code": "PARSE_ERROR"}
    ]


def test_a_payload_above_the_plan_names_the_plan():
    body = body_of(PayloadTooLarge("too large", current=70_000, limit=65_536, plan="free"))

    assert (body["current"], body["limit"], body["plan"], body["upgrade_to"]) == (
        70_000,
        65_536,
        "free",
        "starter",
    )


def test_an_unknown_path_carries_what_every_dialect_reads():
    body = msgspec.json.decode(problem_response(NotFound(), True).body)

    assert body == {"code": "NOT_FOUND", "message": "Resource not found", "error": "not_found", "status": 404}
