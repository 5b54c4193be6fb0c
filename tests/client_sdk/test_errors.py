import msgspec
import pytest

from millstream import (
    AccessDenied,
    ApiError,
    Conflict,
    LeaseLost,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    RateLimited,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from millstream.client.errors import error_from_answer


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "INVALID_JSON", ValidationFailed),
        (400, "BAD_REQUEST", ValidationFailed),
        (422, "VALIDATION_ERROR", ValidationFailed),
        (401, "AUTHENTICATION_FAILED", Unauthorized),
        (403, "ACCESS_DENIED", AccessDenied),
        (404, "NOT_FOUND", NotFound),
        (408, "REQUEST_TIMEOUT", Unavailable),
        (409, "CONFLICT", Conflict),
        (409, "LEASE_EXPIRED", LeaseLost),
        (409, "lease_expired", LeaseLost),
        (413, "PAYLOAD_TOO_LARGE", PayloadTooLarge),
        (415, "UNSUPPORTED_MEDIA_TYPE", ApiError),
        (429, "QUOTA_EXCEEDED", QuotaExceeded),
        (500, "INTERNAL_ERROR", ApiError),
        (503, "SERVICE_UNAVAILABLE", Unavailable),
        (504, "GATEWAY_TIMEOUT", Unavailable),
    ],
)
def test_each_answer_has_its_exception(status: int, code: str, kind: type[ApiError]) -> None:
    body = msgspec.json.encode({"code": code, "message": "why", "details": {"a": 1}})

    error = error_from_answer(status, {"x-request-id": "r-1"}, body)

    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, code.upper(), "why")
    assert (error.details, error.request_id, error.attempt) == ({"a": 1}, "r-1", 1)
    assert str(error) == f"{code.upper()} ({status}): why"


def test_a_rate_limit_says_when_to_come_back() -> None:
    body = b'{"code":"RATE_LIMIT_EXCEEDED","message":"slow down"}'

    error = error_from_answer(429, {"retry-after": "7"}, body)

    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == 7


def test_a_429_without_retry_after_is_a_quota() -> None:
    body = (
        b'{"error":"limit_exceeded","message":"queues limit reached (2/2)",'
        b'"resource":"queues","current":2,"limit":2,"plan":"free","upgrade_to":"pro"}'
    )

    error = error_from_answer(429, {}, body)

    assert isinstance(error, QuotaExceeded)
    assert (error.resource, error.current, error.limit, error.plan) == ("queues", 2, 2, "free")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the server gave no reason"),
        (b"<h1>Bad gateway</h1>", "<h1>Bad gateway</h1>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"error":"short text"}', "short text"),
        (b'["not","an","object"]', '["not","an","object"]'),
    ],
)
def test_a_body_that_is_no_envelope_is_quoted(content: bytes, message: str) -> None:
    error = error_from_answer(502, {}, content)

    assert isinstance(error, Unavailable)
    assert (error.code, error.message) == ("BAD_GATEWAY", message)


def test_an_unknown_status_is_still_an_api_error() -> None:
    error = error_from_answer(599, {}, b"")

    assert type(error) is ApiError
    assert error.code == "UNKNOWN"
