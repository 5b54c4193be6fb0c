"""Bodies that are too large, chunked, cut short or late. Contract: spooled-tenancy 12.1, 19.6."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.api.raw_connection import connect, exchange, read_answer
from tests.api.spooled.wire import Api, a_queue, answered, dumps

BODY_LIMIT = 5 * 1024 * 1024


def test_a_body_announced_as_too_large_is_413_before_it_is_sent(api: Api) -> None:
    status, received = exchange(
        api,
        "POST /api/v1/jobs HTTP/1.1",
        "Content-Type: application/json",
        f"Content-Length: {BODY_LIMIT + 1}",
    )
    assert status == 413
    assert b"PAYLOAD_TOO_LARGE" in received


def test_an_enormous_announcement_is_413(api: Api) -> None:
    for length in (10**12, 2**63, 2**64 + 1, 10**30):
        status, _ = exchange(
            api, "POST /api/v1/jobs HTTP/1.1", "Content-Type: application/json", f"Content-Length: {length}"
        )
        assert status in (413, 400), length


def test_a_chunked_body_is_413_as_soon_as_it_is_too_large(api: Api) -> None:
    head = (
        f"POST /api/v1/jobs HTTP/1.1\r\nHost: {urlsplit(api.url).netloc}\r\nAuthorization: Bearer {api.api_key}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"x" * 65_536
    with connect(api) as connection:
        connection.sendall(head.encode())
        # The end of the body never comes: an answer shows that the server did not wait for it.
        try:
            for _ in range(BODY_LIMIT // len(chunk) + 2):
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        except ConnectionError:
            pass
        status, received = read_answer(connection)
    assert status == 413
    assert b"PAYLOAD_TOO_LARGE" in received


def test_an_announcement_too_large_needs_no_credential_to_be_413(api: Api) -> None:
    with connect(api) as connection:
        head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert read_answer(connection)[0] in (413, 401)


def test_a_body_at_the_limit_is_read(api: Api) -> None:
    body = dumps({"queue_name": "q", "payload": 1, "filler": ""})
    body = body.replace(b'""', b'"' + b"x" * (BODY_LIMIT - len(body)) + b'"')
    assert len(body) == BODY_LIMIT
    answered(api.call("POST", "/jobs", content=body), 201)


def test_a_chunked_body_is_read(api: Api) -> None:
    queue = a_queue()
    body = dumps({"queue_name": queue, "payload": "chunked"})
    chunks = (
        b"".join(f"{1:x}\r\n".encode() + body[n : n + 1] + b"\r\n" for n in range(len(body))) + b"0\r\n\r\n"
    )
    status, _ = exchange(
        api,
        "POST /api/v1/jobs HTTP/1.1",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        body=chunks,
    )
    assert status == 201
    assert api.claim_one(queue)["payload"] == "chunked"


def test_a_client_that_hangs_up_in_the_middle_harms_nobody(api: Api) -> None:
    for sent in (
        b"POST /api/v1/jobs HTTP/1.1\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
    ):
        with connect(api) as connection:
            connection.sendall(sent)
    answered(api.get("/jobs/stats"))


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_body_that_does_not_arrive_is_given_up(api: Api) -> None:
    head = (
        f"POST /api/v1/jobs HTTP/1.1\r\nHost: {urlsplit(api.url).netloc}\r\nAuthorization: Bearer {api.api_key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with connect(api) as connection:
        connection.sendall(head.encode())
        # The server's own limit is 30 s; the socket's is 60 s, and reaching it is an error.
        assert read_answer(connection)[0] in (0, 408)
