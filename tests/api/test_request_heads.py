"""No request line and no header is a 500. Contract: spooled-jobs 1.3; spooled-tenancy 12.1, 19.6."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.raw_connection import connect, exchange, read_answer
from tests.api.spooled.wire import Api, dumps, refused


@pytest.mark.parametrize(
    "lines",
    [
        (b"POST /api/v1/jobs HTTP/1.1", b"Content-Length: -1"),
        (b"POST /api/v1/jobs HTTP/1.1", b"Content-Length: abc"),
        (b"POST /api/v1/jobs HTTP/1.1", b"Content-Length: 1", b"Content-Length: 2"),
        (b"POST /api/v1/jobs HTTP/1.1", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"GET /api/v1/jobs HTTP/1.1", b"X-Bad: a\x00b"),
        (b"GET /api/v1/jobs HTTP/1.1", b"No-Colon"),
        (b"GET /api/v1/jobs HTTP/1.1", b": no name"),
        (b"GET /api/v1/jobs HTTP/1.1", b"X Bad: space"),
        (b"GET /api/v1/jobs HTTP/9.9",),
        (b"GET",),
        (b"\x16\x03\x01\x02\x00",),
        (b"GET http://other/api/v1/jobs HTTP/1.1",),
        (b"GET /api/v1/jobs\x00 HTTP/1.1",),
        (b"GET /api/v1/jobs/\xff\xfe HTTP/1.1",),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1",),
        (b"GET /api/v1/jobs HTTP/1.1", b"X-Long: " + b"a" * 200_000),
        (b"GET /api/v1/jobs HTTP/1.1", *(b"X-%d: y" % n for n in range(3000))),
        (b"GET /api/v1/jobs HTTP/1.1", b"X-Request-Id: \xff\xfe"),
        (b"GET /api/v1/jobs HTTP/1.1", b"X-Organization-ID: \xff"),
        (b"GET /api/v1/jobs HTTP/1.1", b"Accept-Encoding: \xff, gzip;q=x"),
        (b"GET /api/v1/jobs HTTP/1.1", b"Origin: \xff"),
        (b"POST /api/v1/jobs HTTP/1.1", b"Content-Type: \xff", b"Content-Length: 2\r\n\r\n{}"),
        (b"OPTIONS * HTTP/1.1",),
        (b"CONNECT example.com:443 HTTP/1.1",),
    ],
    ids=lambda lines: repr(b" ".join(lines)[:60]),
)
def test_no_request_head_is_a_500(api: Api, lines: tuple[bytes, ...]) -> None:
    status, received = exchange(api, *lines)
    assert status == 0 or 200 <= status < 500, received[:300]


@pytest.mark.parametrize(
    "value", [b"Bearer \xff\xfe", b"Bearer \xc3\xa9", b"\xff", b"Bearer a b c", b"Bearer \x7f"]
)
def test_a_credential_of_any_bytes_is_401(api: Api, value: bytes) -> None:
    with connect(api) as connection:
        connection.sendall(
            b"GET /api/v1/jobs HTTP/1.1\r\nHost: "
            + urlsplit(api.url).netloc.encode()
            + b"\r\nAuthorization: "
            + value
            + b"\r\n\r\n"
        )
        assert read_answer(connection)[0] in (401, 400)


def test_an_idempotency_key_header_is_judged_like_the_field(api: Api) -> None:
    body: dict[str, Any] = {"queue_name": "q", "payload": 1}
    refused(api.post("/jobs", body, **{"Idempotency-Key": "k" * 256}), 400)
    status, received = exchange(
        api,
        "POST /api/v1/jobs HTTP/1.1",
        "Content-Type: application/json",
        b"Idempotency-Key: \xff\xfe",
        f"Content-Length: {len(dumps(body))}",
        body=dumps(body),
    )
    assert status in (200, 201, 400), received[:300]
