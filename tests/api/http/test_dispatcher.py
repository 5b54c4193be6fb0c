import asyncio
import gzip
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import uvicorn
from msgspec import Struct

from millstream.api.http.body import Body
from millstream.api.http.disconnect import unless_disconnected
from millstream.api.http.dispatcher import Dialect, Dispatcher
from millstream.api.http.endpoint import NO_CONTENT, Auth, Endpoint, Request, Response
from millstream.api.http.router import Router
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.problems import problem_response
from millstream.domain.errors import AuthenticationFailed, Unauthenticated
from millstream.domain.plan import PLANS
from millstream.domain.tenant import Principal

LIMIT = 2000


class Note(Struct):
    text: str


NOTE = Body(Note)


class Doorman:
    """Knows one caller at once and another only after a look."""

    def known(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        return _principal("known") if headers.get(b"authorization") == b"Bearer known" else None

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        if b"authorization" not in headers:
            raise Unauthenticated
        if headers[b"authorization"] != b"Bearer late":
            raise AuthenticationFailed
        return _principal("late")


def _principal(name: str) -> Principal:
    return Principal(tenant_id=1, organization_id=name, api_key_id=uuid4(), plan=PLANS["free"])


class Notes:
    """Endpoints that show what the edge does around a handler."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.given_up = asyncio.Event()
        self.answers: list[tuple[str, str, int]] = []

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.answers.append((method, path, status))

    def endpoints(self) -> list[Endpoint]:
        def endpoint(
            method: str, path: str, handler: Callable[[Request], Awaitable[Response]], auth: Auth = Auth.OPEN
        ) -> Endpoint:
            body = NOTE if method == "POST" else None
            return Endpoint(
                method=method,
                path=path,
                handler=handler,
                summary="",
                tag="",
                body=body,
                answers={},
                auth=auth,
            )

        return [
            endpoint("GET", "/api/v1/notes/{name}", self.read),
            endpoint("DELETE", "/api/v1/notes/{name}", self.delete),
            endpoint("POST", "/api/v1/notes", self.write),
            endpoint("POST", "/api/v1/waiting", self.wait),
            endpoint("GET", "/api/v1/endless", self.never_end),
            endpoint("GET", "/api/v1/broken", self.break_down),
            endpoint("GET", "/api/v1/large", self.send_much),
            endpoint("GET", "/api/v1/mine", self.name_caller, Auth.BEARER),
            endpoint("POST", "/api/v1/mine", self.name_caller, Auth.BEARER),
        ]

    async def read(self, request: Request) -> Response:
        return Response(200, json.dumps(request.parameters[0]).encode())

    async def delete(self, request: Request) -> Response:
        return NO_CONTENT

    async def write(self, request: Request) -> Response:
        return Response(201, json.dumps(NOTE.read(request.body).text).encode())

    async def wait(self, request: Request) -> Response:
        async def hold() -> None:
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.set()

        await unless_disconnected(request.receive, hold())
        return NO_CONTENT

    async def never_end(self, request: Request) -> Response:
        await asyncio.Event().wait()
        return NO_CONTENT

    async def break_down(self, request: Request) -> Response:
        raise ZeroDivisionError("a detail that is nobody's business")

    async def send_much(self, request: Request) -> Response:
        return Response(200, json.dumps("x" * 5000).encode())

    async def name_caller(self, request: Request) -> Response:
        return Response(200, json.dumps(request.principal.organization_id).encode())


class Answer(Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Server:
    def __init__(self, port: int, notes: Notes) -> None:
        self.port = port
        self.notes = notes

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, line: str, *headers: str, body: bytes = b"") -> Answer:
        """Send one request on a connection of its own and read its answer."""
        reader, writer = await self.connect()
        lines = [f"{line} HTTP/1.1", "Host: test", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = await read_answer(reader, has_body=not line.startswith("HEAD"))
        writer.close()
        await writer.wait_closed()
        return answer


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in head[1:] if line]
    names = [name for name, _ in pairs]
    assert len(set(names) - {"vary"}) == len([name for name in names if name != "vary"]), names
    headers = dict(pairs)
    length = int(headers.get("content-length", 0)) if has_body else 0
    return Answer(int(head[0].split(" ")[1]), headers, await reader.readexactly(length))


@asynccontextmanager
async def serving(settings: HttpSettings) -> AsyncGenerator[Server]:
    notes = Notes()
    dialects = [
        Dialect(
            prefix=prefix,
            router=Router(endpoints),
            problem=problem_response,
            authenticator=Doorman(),
            body_bytes_max=settings.body_bytes_max,
            is_versioned=prefix != b"/",
        )
        for prefix, endpoints in ((b"/api/v1/", notes.endpoints()), (b"/", []))
    ]
    # It listens from here on: whoever connects before the server has started waits in the backlog.
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        Dispatcher(dialects, settings, notes.observe), server_header=False, log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Server(listener.getsockname()[1], notes)
    finally:
        server.should_exit = True
        await running
        listener.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(HttpSettings(body_bytes_max=LIMIT)) as running:
        yield running


# ------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /api/v1/notes/a", 200),
        ("DELETE /api/v1/notes/a", 204),
        ("GET /api/v1/nothing", 404),
        ("PATCH /api/v1/notes", 405),
        ("GET /api/v1/broken", 500),
        ("GET /api/v1/mine", 401),
        ("GET /elsewhere", 404),
    ],
)
async def test_every_answer_carries_the_common_headers(server, line, status):
    answer = await server.ask(line)

    assert answer.status == status
    assert UUID(answer.headers["x-request-id"])
    assert answer.headers["x-api-version"] == "1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-ratelimit-remaining"] == "1000000"
    assert int(answer.headers["x-ratelimit-reset"]) > 1_700_000_000
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers
    assert ("content-type" in answer.headers) == (status != 204)


async def test_strict_transport_security_is_sent_when_it_is_asked_for():
    async with serving(HttpSettings(hsts=True)) as server:
        answer = await server.ask("GET /api/v1/notes/a")

    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


@pytest.mark.parametrize(
    ("given", "echoed"), [("abc-1", True), ("~" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
async def test_a_request_id_of_visible_ascii_is_echoed(server, given, echoed):
    answer = await server.ask("GET /api/v1/notes/a", f"X-Request-Id: {given}")

    assert (answer.headers["x-request-id"] == given) == echoed
    assert echoed or UUID(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("given", "status"), [("1", 200), ("2", 400), ("1.0", 400), ("v" * 17, 200), ("1; x", 200), ("", 200)]
)
async def test_a_version_that_is_well_formed_must_be_1(server, given, status):
    answer = await server.ask("GET /api/v1/notes/a", f"X-API-Version: {given}")

    assert answer.status == status


async def test_a_large_answer_is_compressed_for_whoever_accepts_it(server):
    packed = await server.ask("GET /api/v1/large", "Accept-Encoding: br, gzip;q=0.5")
    plain = await server.ask("GET /api/v1/large", "Accept-Encoding: gzip;q=0, br")
    small = await server.ask("GET /api/v1/notes/a", "Accept-Encoding: gzip")

    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in small.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


# ------------------------------------------------------------------------------------------------------- methods


async def test_head_is_get_without_the_body(server):
    answer = await server.ask("HEAD /api/v1/notes/abc")

    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "POST"])
async def test_another_method_is_refused_with_those_that_are_allowed(server, method):
    answer = await server.ask(f"{method} /api/v1/notes/a")

    assert answer.status == 405
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert answer.json["code"] == "METHOD_NOT_ALLOWED"


async def test_options_says_what_is_allowed(server):
    answer = await server.ask("OPTIONS /api/v1/notes/a")

    assert (answer.status, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")
    assert (await server.ask("OPTIONS /api/v1/nothing")).status == 404


async def test_an_unknown_path_answers_what_every_dialect_reads(server):
    answer = await server.ask("GET /api/v1/notes%2Fa")

    assert answer.json == {
        "code": "NOT_FOUND",
        "message": "Resource not found",
        "error": "not_found",
        "status": 404,
    }


# ---------------------------------------------------------------------------------------------------------- cors

PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: PATCH")


async def test_a_preflight_needs_no_credential_and_no_route(server):
    for path in ("/api/v1/mine", "/api/v1/nothing"):
        answer = await server.ask(f"OPTIONS {path}", *PREFLIGHT)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert "X-Admin-Key" in answer.headers["access-control-allow-headers"]


async def test_production_lets_only_listed_origins_read():
    async with serving(HttpSettings(production=True, cors_origins=("https://a.example",))) as server:
        listed = await server.ask("GET /api/v1/notes/a", "Origin: https://a.example")
        other = await server.ask("GET /api/v1/notes/a", "Origin: https://b.example")
        without = await server.ask("GET /api/v1/notes/a")

    assert listed.headers["access-control-allow-origin"] == "https://a.example"
    assert "X-Has-More" in listed.headers["access-control-expose-headers"]
    assert listed.headers["vary"] == other.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in other.headers
    assert "vary" not in without.headers


# -------------------------------------------------------------------------------------------------------- bodies


async def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(server):
    for length in (LIMIT + 1, 10**18):
        answer = await server.ask("POST /api/v1/notes", f"Content-Length: {length}")
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        assert answer.json["code"] == "PAYLOAD_TOO_LARGE"


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(server):
    reader, writer = await server.connect()
    writer.write(b"POST /api/v1/notes HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    answer = await read_answer(reader)

    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert await reader.read() == b""
    writer.close()


async def test_a_body_at_the_limit_is_read_however_it_is_cut(server):
    body = json.dumps({"text": "x" * (LIMIT - 12)}).encode()
    assert len(body) == LIMIT
    reader, writer = await server.connect()
    writer.write(b"POST /api/v1/notes HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, LIMIT, 7):
        piece = body[start : start + 7]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")

    answer = await read_answer(reader)

    assert answer.status == 201
    writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 201),
        (("Content-Type: application/json; charset=utf-8",), 201),
        (("Content-Type: Application/Problem+JSON",), 201),
        (("Content-Type: text/plain",), 415),
        (("Content-Type: ",), 415),
        (("Content-Type: application/json", "Content-Encoding: gzip"), 415),
        (("Content-Type: application/json", "Content-Encoding: identity"), 201),
    ],
)
async def test_a_body_may_name_json_or_nothing(server, headers, status):
    answer = await server.ask("POST /api/v1/notes", *headers, body=b'{"text":"hello"}')

    assert answer.status == status


async def test_an_empty_body_has_no_type_to_be_wrong(server):
    answer = await server.ask("POST /api/v1/notes", "Content-Type: text/plain", "Content-Length: 0")

    assert (answer.status, answer.json["code"]) == (400, "INVALID_JSON")


async def test_a_body_that_nobody_reads_does_not_disturb_the_next_request(server):
    reader, writer = await server.connect()
    writer.write(
        b"DELETE /api/v1/notes/a HTTP/1.1\r\nHost: test\r\nContent-Length: 7\r\n\r\nGET / x"
        b"GET /api/v1/notes/b HTTP/1.1\r\nHost: test\r\n\r\n"
    )

    assert (await read_answer(reader)).status == 204
    assert (await read_answer(reader)).json == "b"
    writer.close()


# -------------------------------------------------------------------------------------------------- credentials


async def test_a_caller_is_known_at_once_or_after_a_look(server):
    for name in ("known", "late"):
        assert (await server.ask("GET /api/v1/mine", f"Authorization: Bearer {name}")).json == name


async def test_the_credential_is_looked_at_before_the_body(server):
    for headers, code in (((), "UNAUTHORIZED"), (("Authorization: Bearer other",), "AUTHENTICATION_FAILED")):
        answer = await server.ask("POST /api/v1/mine", *headers, "Content-Type: text/plain", body=b"{")
        assert (answer.status, answer.json["code"], answer.json["error"]) == (401, code, "unauthorized")


# ------------------------------------------------------------------------------------------------- time and end


async def test_a_handler_that_takes_too_long_is_ended():
    async with serving(HttpSettings(handler_seconds_max=0.05)) as server:
        answer = await server.ask("GET /api/v1/endless")

    assert (answer.status, answer.json["code"]) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"


async def test_a_body_that_does_not_arrive_is_given_up():
    async with serving(HttpSettings(handler_seconds_max=0.05)) as server:
        answer = await server.ask("POST /api/v1/notes", "Content-Length: 100")

    assert answer.status == 408


async def test_waiting_ends_when_the_client_goes_away(server):
    _, writer = await server.connect()
    writer.write(b"POST /api/v1/waiting HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}")
    async with asyncio.timeout(5):
        await server.notes.started.wait()
        assert not server.notes.given_up.is_set()
        writer.close()
        await server.notes.given_up.wait()


async def test_waiting_ends_with_the_time_limit():
    async with serving(HttpSettings(handler_seconds_max=0.05)) as server:
        answer = await server.ask("POST /api/v1/waiting", body=b"{}")
        assert server.notes.given_up.is_set()

    assert answer.status == 408


async def test_a_mistake_of_the_server_is_a_500_without_details(server):
    answer = await server.ask("GET /api/v1/broken")

    assert (answer.status, answer.json["code"]) == (500, "INTERNAL_ERROR")
    assert "business" not in answer.body.decode()


async def test_every_answer_is_observed_with_its_path_template(server):
    await server.ask("GET /api/v1/notes/a")
    await server.ask("GET /api/v1/notes")
    await server.ask("GET /api/v1/broken")

    assert server.notes.answers == [
        ("GET", "/api/v1/notes/{name}", 200),
        ("GET", "", 405),
        ("GET", "/api/v1/broken", 500),
    ]
