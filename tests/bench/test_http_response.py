import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.cli.bench.http_response import Response, ResponseError, ResponseParser

WITH_LENGTH = b'HTTP/1.1 201 Created\r\nX-Request-Id: 1\r\nContent-Length: 11\r\n\r\n{"id":"\r\n"}'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b'5;name=value\r\n{"a":\r\n3\r\n[1]\r\n1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n'
)
CASES = [
    pytest.param(WITH_LENGTH, Response(201, b'{"id":"\r\n"}', True), id="content length"),
    pytest.param(CHUNKED, Response(200, b'{"a":[1]}', True), id="chunks"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Response(200, b"", True), id="empty body"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", Response(204, b"", True), id="no content"),
    pytest.param(
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        Response(503, b"{}", False),
        id="closing",
    ),
]


@pytest.mark.parametrize(("received", "expected"), CASES)
def test_a_response_is_read_whole(received: bytes, expected: Response):
    assert ResponseParser().feed(received) == expected


@pytest.mark.parametrize(("received", "expected"), CASES)
def test_a_response_is_read_byte_by_byte(received: bytes, expected: Response):
    parser = ResponseParser()
    answers = [parser.feed(received[at : at + 1]) for at in range(len(received))]
    assert answers[:-1] == [None] * (len(received) - 1)
    assert answers[-1] == expected


@given(cuts=st.lists(st.integers(0, len(CHUNKED) + len(WITH_LENGTH)), max_size=12))
def test_one_parser_reads_responses_in_a_row_however_they_are_cut(cuts: list[int]):
    stream = WITH_LENGTH + CHUNKED
    # A response never arrives together with the next one: that one has not been asked for yet.
    edges = sorted({0, len(WITH_LENGTH), len(stream), *cuts})
    parser = ResponseParser()
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    answers = [answer for answer in map(parser.feed, pieces) if answer is not None]
    assert answers == [Response(201, b'{"id":"\r\n"}', True), Response(200, b'{"a":[1]}', True)]


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="another version"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nbody", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n", id="length is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", id="bytes beyond the end"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", id="chunk size"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc", id="chunk end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, id="endless head"),
    ],
)
def test_what_is_no_response_is_refused(received: bytes):
    with pytest.raises(ResponseError):
        ResponseParser().feed(received)
