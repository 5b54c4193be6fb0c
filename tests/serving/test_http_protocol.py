"""Connections of the HTTP listener: how long they wait, in which order they answer, and in what form."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from millstream.domain import limits
from millstream.serving.http import HttpListener
from millstream.serving.http_protocol import HEAD_SECONDS_MAX, WHOLE_ANSWER
from millstream.serving.sockets import bind, port_of

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow

# The listener keeps idle connections for longer than it waits for a head, and for less than this.
IDLE_SECONDS = 200.0
MANY_BYTES = 64 * 1024


class Answer(Struct):
    head: str
    body: bytes


class Application:
    """Answers with the path, through one piece of bytes below `/whole`, else the way of ASGI.

    Paths that end with `held` wait for `release`.
    """

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.has_entered = asyncio.Event()
        self.release = asyncio.Event()
        self.answered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        self.entered.append(path)
        self.has_entered.set()
        if path.endswith("held"):
            await self.release.wait()
        body = path.encode()
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        if path.endswith("many"):
            body = bytes(MANY_BYTES)
        self.answered_bytes += len(body)
        if path.startswith("/whole"):
            whole: Callable[[bytes, bytes], None] = scope["extensions"][WHOLE_ANSWER]
            whole(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % len(body), body)
            return
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Connection:
    """A client's end, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, text: str) -> None:
        self._writer.write(text.encode())

    def ask(self, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> None:
        self.send("\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *lines, "", ""]))

    async def answer(self, *, has_body: bool = True) -> Answer:
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("http/1.1 200 "), head
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            return Answer(head, await self._reader.readexactly(length if has_body else 0))

    async def is_ended(self) -> bool:
        """Whether the server closes without another byte."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read() == b""
            return True

    async def ends_after(self, look: Callable[[], None]) -> bool:
        """Whether the server closes while it `look`s again and again; raises TimeoutError when it does not."""
        ended = asyncio.ensure_future(self.is_ended())
        while not ended.done():
            look()
            await asyncio.sleep(0)
        return await ended


class Server:
    """A listener on a free port."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.sockets = bind("127.0.0.1", 0)
        # So that it is soon seen when nobody reads; accepted sockets take it over.
        self.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MANY_BYTES)
        self.port = port_of(self.sockets)
        self.listener = HttpListener(application, self.sockets, shutdown_seconds=1)

    def look(self, seconds: float) -> None:
        """Close what is overdue, as if `seconds` had passed."""
        self.listener.close_overdue(asyncio.get_running_loop().time() + seconds)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(Application())
    await made.listener.start()
    yield made
    await made.listener.stop()


# ------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize("begun", ["G", "GET /", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_arrive_closes_its_connection(server: Server, begun: str) -> None:
    async with server.connect() as connection:
        connection.send(begun)
        assert await connection.ends_after(lambda: server.look(HEAD_SECONDS_MAX + 1))


async def test_a_later_head_has_no_more_time_than_the_first(server: Server) -> None:
    async with server.connect() as connection:
        connection.ask("/whole")
        await connection.answer()
        connection.send("GET /who")
        assert await connection.ends_after(lambda: server.look(HEAD_SECONDS_MAX + 1))


async def test_a_head_that_began_behind_a_running_request_is_closed_too(server: Server) -> None:
    async with server.connect() as connection:
        connection.send("GET /whole HTTP/1.1\r\n\r\nGET /who")
        assert (await connection.answer()).body == b"/whole"
        assert await connection.ends_after(lambda: server.look(HEAD_SECONDS_MAX + 1))


async def test_an_idle_connection_outlives_the_time_of_a_head(server: Server) -> None:
    async with server.connect() as connection:
        for path in ("/whole", "/plain"):
            connection.ask(path)
            assert (await connection.answer()).body == path.encode()
            server.look(HEAD_SECONDS_MAX + 1)
        connection.ask("/whole/again")
        assert (await connection.answer()).body == b"/whole/again"


@pytest.mark.parametrize("path", ["/whole", "/plain"])
async def test_an_idle_connection_is_closed_in_the_end(server: Server, path: str) -> None:
    async with server.connect() as connection:
        connection.ask(path)
        await connection.answer()
        server.look(IDLE_SECONDS)
        assert await connection.is_ended()


async def test_a_connection_that_never_asks_is_closed_soon(server: Server) -> None:
    async with server.connect() as connection:
        assert await connection.ends_after(lambda: server.look(limits.SILENT_CONNECTION_SECONDS_MAX + 1))


async def test_a_connection_that_is_about_to_ask_is_given_time(server: Server) -> None:
    async with server.connect() as connection, server.connect() as other:
        # Accepted in their order: when the second one is answered, the first one is known.
        other.ask("/whole")
        await other.answer()
        server.look(limits.SILENT_CONNECTION_SECONDS_MAX - 1)
        connection.ask("/whole")
        assert (await connection.answer()).body == b"/whole"


@asynccontextmanager
async def unread_answers(server: Server, count: int) -> AsyncGenerator[socket.socket]:
    """A client that asks for more than fits into the buffers, and reads nothing."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MANY_BYTES)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, b"GET /whole/many HTTP/1.1\r\n\r\n" * count)
        async with asyncio.timeout(20):
            # Nobody is served ahead of their reading: then all buffers are full.
            entered = -1
            while entered != len(server.application.entered):
                entered = len(server.application.entered)
                async with server.connect() as other:
                    other.ask("/plain")
                    await other.answer()
                entered += 1
        yield client


async def read_until_the_end(client: socket.socket) -> int:
    """Return how many bytes come before the connection ends, in whatever way."""
    loop = asyncio.get_running_loop()
    received = 0
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while chunk := await loop.sock_recv(client, MANY_BYTES):
                received += len(chunk)
    return received


async def test_a_client_that_reads_no_answer_is_hung_up_on(server: Server) -> None:
    async with unread_answers(server, 200) as client:
        server.look(0)
        server.look(limits.UNREAD_ANSWER_SECONDS_MAX + 1)
        assert await read_until_the_end(client) < 200 * MANY_BYTES
    assert server.application.entered.count("/whole/many") < 200


async def test_a_client_that_reads_slowly_is_served_to_the_end(server: Server) -> None:
    async with unread_answers(server, 50) as client:
        loop = asyncio.get_running_loop()
        received = 0
        seconds = 0.0
        async with asyncio.timeout(20):
            while received < 50 * MANY_BYTES:
                server.look(seconds)
                seconds += limits.UNREAD_ANSWER_SECONDS_MAX - 1
                for _ in range(100):
                    received += len(await loop.sock_recv(client, 8192))
                    await asyncio.sleep(0)
                    if received >= 50 * MANY_BYTES:
                        break
    assert server.application.entered.count("/whole/many") == 50


@pytest.mark.parametrize("path", ["/whole/held", "/plain/held"])
async def test_a_connection_that_waits_for_its_answer_is_not_closed(server: Server, path: str) -> None:
    async with server.connect() as connection:
        connection.ask(path)
        await server.application.has_entered.wait()
        server.look(3600)
        server.application.release.set()
        assert (await connection.answer()).body == path.encode()
        connection.ask("/whole")
        assert (await connection.answer()).body == b"/whole"


async def test_the_time_of_a_body_is_not_that_of_a_head(server: Server) -> None:
    async with server.connect() as connection:
        connection.ask("/whole", "Content-Length: 4", method="POST")
        await server.application.has_entered.wait()
        server.look(3600)
        connection.send("body")
        assert (await connection.answer()).body == b"/wholebody"


# ----------------------------------------------------------------------------------------------------- pipelining


async def test_pipelined_requests_are_answered_one_after_the_other(server: Server) -> None:
    paths = ["/whole/held", "/plain/1", "/whole/2", "/whole/3", "/plain/4", "/whole/5"]
    async with server.connect() as connection:
        connection.send("".join(f"GET {path} HTTP/1.1\r\n\r\n" for path in paths))
        await server.application.has_entered.wait()
        # Nothing passes the first one while it runs, and it is not taken for idle.
        server.look(3600)
        async with server.connect() as other:
            other.ask("/whole/other")
            await other.answer()
        assert server.application.entered == ["/whole/held", "/whole/other"]
        server.application.release.set()
        assert [(await connection.answer()).body.decode() for _ in paths] == paths


async def test_who_sends_requests_without_reading_the_answers_is_not_served_ahead(server: Server) -> None:
    application = server.application
    loop = asyncio.get_running_loop()
    count = 200
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MANY_BYTES)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, b"GET /whole/many HTTP/1.1\r\n\r\n" * count)
        received = 0
        ahead = 0
        while received < count * MANY_BYTES:
            # A read that finds something does not let anybody else run.
            await asyncio.sleep(0)
            chunk = await loop.sock_recv(client, 8192)
            assert chunk
            received += len(chunk)
            ahead = max(ahead, application.answered_bytes - received)
    assert len(application.entered) == count
    # Both sockets' buffers (the kernel doubles what it is told), the listener's, and the answer that filled it.
    assert ahead < 10 * MANY_BYTES


# ------------------------------------------------------------------------------------------------ forms of answers


@pytest.mark.parametrize("path", ["/whole", "/plain"])
async def test_an_answer_to_head_has_no_body(server: Server, path: str) -> None:
    async with server.connect() as connection:
        connection.ask(path, method="HEAD")
        connection.ask("/whole/next")
        answer = await connection.answer(has_body=False)
        assert f"content-length: {len(path)}\r\n" in answer.head
        assert (await connection.answer()).body == b"/whole/next"


@pytest.mark.parametrize("path", ["/whole", "/plain"])
@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("1.1", ("Connection: close",)),
        ("1.1", ("Connection: CLOSE",)),
        ("1.0", ()),
        ("1.0", ("Connection: keep-alive",)),
    ],
)
async def test_a_connection_that_is_not_kept_says_so_and_ends(
    server: Server, path: str, version: str, lines: tuple[str, ...]
) -> None:
    async with server.connect() as connection:
        connection.ask(path, *lines, version=version)
        answer = await connection.answer()
        assert answer.body == path.encode()
        assert "\r\nconnection: close\r\n" in answer.head
        assert await connection.is_ended()


@pytest.mark.parametrize("path", ["/whole", "/plain"])
async def test_a_kept_connection_does_not_say_that_it_closes(server: Server, path: str) -> None:
    async with server.connect() as connection:
        connection.ask(path)
        assert "connection:" not in (await connection.answer()).head


async def test_a_client_that_left_harms_nobody(server: Server) -> None:
    async with server.connect() as connection:
        connection.ask("/whole/held")
        await server.application.has_entered.wait()
    server.application.release.set()
    async with server.connect() as connection:
        connection.ask("/whole")
        assert (await connection.answer()).body == b"/whole"
