"""What leaves the server, and what it makes of answers. Contract: spooled-tenancy 10.7, 10.8, 19.8 (H4 to H9)."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from millstream.domain import limits
from millstream.outbound import client as clients
from millstream.outbound.client import Answer, WebhookClient, cleaned
from tests.outbound.conftest import Identity, Internet
from tests.receiver import Receiver, listening

REFUSED = (None, None, "Invalid webhook URL")
FAILED = (None, None, "Request failed")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as opened:
        yield opened


def said(answer: Answer) -> tuple[int | None, str | None, str | None]:
    return answer.status_code, answer.body, answer.error


async def test_a_post_is_plain_and_says_its_length(client: WebhookClient, receiver: Receiver) -> None:
    answer = await client.post(receiver.url, b'{"a": 1}', [(b"X-Spooled-Event", b"e")])
    assert said(answer) == (200, "thanks", None)
    [request] = receiver.received
    assert request.body == b'{"a": 1}'
    wanted = {
        "content-type": "application/json",
        "content-length": "8",
        "user-agent": "Spooled-Webhook/1.0",
        "host": f"127.0.0.1:{receiver.port}",
        "x-spooled-event": "e",
    }
    assert {name: request.headers.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_any_2xx_is_a_success(client: WebhookClient, receiver: Receiver, status: int) -> None:
    receiver.status, receiver.answer = status, b""
    assert said(await client.post(receiver.url, b"{}", [])) == (status, "", None)


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308, 400, 404, 410, 429, 500, 503])
async def test_any_other_status_is_a_failure_and_no_redirect_is_followed(
    client: WebhookClient, receiver: Receiver, status: int
) -> None:
    with listening() as inside:
        receiver.status, receiver.answer, receiver.headers = status, b"", {"Location": inside.url}
        assert said(await client.post(receiver.url, b"{}", [])) == (status, "", f"HTTP {status}")
        assert inside.received == []
    assert len(receiver.received) == 1


async def test_localhost_reaches_receivers_of_either_family(internet: Internet, receiver: Receiver) -> None:
    client = internet.client()
    internet.names["localhost"] = [["::1", "127.0.0.1"]]
    internet.ports = {"::1": receiver.port}
    assert (await client.post("http://localhost:81/x", b"{}", [])).error is None
    # The older family first, the other one when nobody is there.
    assert internet.dialled == ["127.0.0.1", "::1"]
    await client.close()


async def test_localhost_is_resolved_by_the_system(client: WebhookClient, receiver: Receiver) -> None:
    assert (await client.post(f"http://localhost:{receiver.port}/x", b"{}", [])).error is None


async def test_localhost_is_nothing_but_this_machine(internet: Internet) -> None:
    client = internet.client()
    internet.names["localhost"] = [["127.0.0.1", "10.0.0.1"]]
    internet.ports["127.0.0.1"] = 9
    assert said(await client.post("http://localhost:9/", b"{}", [])) == REFUSED
    assert internet.dialled == []
    await client.close()


async def test_in_production_this_machine_is_not_called(receiver: Receiver) -> None:
    client = WebhookClient(local_http=False)
    for host in ("localhost", "127.0.0.1"):
        assert said(await client.post(f"http://{host}:{receiver.port}/", b"{}", [])) == REFUSED
    assert receiver.received == []
    await client.close()


@pytest.mark.parametrize(
    "addresses",
    [
        *(
            ["127.0.0.1"],
            ["10.1.2.3"],
            ["169.254.169.254"],
            ["::1"],
            ["fe80::1"],
            ["fd00::1"],
            ["::ffff:10.0.0.1"],
        ),
        *(["64:ff9b::a00:1"], ["2002:a00:1::1"], ["0.0.0.0"], ["fe80::1%lo"], ["100.64.0.1"]),
        # One address inside is enough, wherever it stands.
        *(["93.184.216.34", "10.0.0.1"], ["10.0.0.1", "93.184.216.34"]),
    ],
)
async def test_a_public_name_that_points_inside_is_not_called(
    internet: Internet, addresses: list[str]
) -> None:
    client = internet.client()
    internet.names["hooks.example"] = [addresses]
    answer = await client.post("https://hooks.example/x", b"{}", [])
    assert said(answer) == REFUSED
    assert not answer.unanswered
    assert internet.dialled == []
    await client.close()


@pytest.mark.parametrize(
    "url", ["https://[::1]/", "https://2130706433/", "https://a@example.com/", "ftp://a.example/"]
)
async def test_a_forbidden_text_is_not_even_looked_up(internet: Internet, url: str) -> None:
    client = internet.client()
    assert said(await client.post(url, b"{}", [])) == REFUSED
    assert internet.looked_up == []
    await client.close()


@asynccontextmanager
async def secure_receiver(context: ssl.SSLContext) -> AsyncGenerator[tuple[int, list[str]]]:
    """A receiver over TLS: its port, and the names that callers asked for."""
    asked: list[str] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.extend(line.decode() for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1], asked


async def test_the_checked_address_is_called_under_the_name(internet: Internet, identity: Identity) -> None:
    client = internet.client(identity.trust)
    # A second look-up would lead inside: there is none between the check and the connection.
    internet.names["hooks.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    async with secure_receiver(identity.server) as (port, asked):
        internet.ports["93.184.216.34"] = port
        answer = await client.post("https://hooks.example/x", b"", [])
        assert said(answer) == (200, "ok", None)
        assert asked == ["hooks.example", "Host: hooks.example"]
        assert internet.looked_up == ["hooks.example"]
        assert internet.dialled == ["93.184.216.34"]
        # The next attempt looks again, and sees that the name has moved.
        assert said(await client.post("https://hooks.example/x", b"", [])) == REFUSED
        assert internet.dialled == ["93.184.216.34"]
    await client.close()


async def test_a_certificate_of_another_name_is_not_trusted(internet: Internet, identity: Identity) -> None:
    client = internet.client(identity.trust)
    internet.names["other.example"] = [["93.184.216.34"]]
    async with secure_receiver(identity.server) as (port, _):
        internet.ports["93.184.216.34"] = port
        assert said(await client.post("https://other.example/x", b"", [])) == FAILED
    await client.close()


async def test_the_next_address_is_tried_when_one_refuses(internet: Internet, identity: Identity) -> None:
    client = internet.client(identity.trust)
    internet.names["hooks.example"] = [["93.184.216.34", "93.184.216.35"]]
    async with secure_receiver(identity.server) as (port, _):
        internet.ports["93.184.216.35"] = port
        assert (await client.post("https://hooks.example/x", b"", [])).error is None
    assert internet.dialled == ["93.184.216.34", "93.184.216.35"]
    await client.close()


async def test_what_nobody_answers_says_nothing_of_where_it_was(
    client: WebhookClient, internet: Internet
) -> None:
    with listening() as gone:
        port = gone.port
    answer = await client.post(f"http://127.0.0.1:{port}/", b"{}", [])
    assert said(answer) == FAILED
    assert answer.unanswered
    assert said(await client.post("https://no-such-name.invalid/", b"{}", [])) == FAILED


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10 * 1024**3))
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 65_536)
    except OSError:
        handler.close_connection = True


async def test_an_endless_answer_is_read_to_a_limit(client: WebhookClient, receiver: Receiver) -> None:
    receiver.respond = endless
    answer = await client.post(receiver.url, b"{}", [])
    assert said(answer) == (200, "x" * limits.WEBHOOK_RESPONSE_CHARS_MAX, None)


def silent(release: Callable[[], object]) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        release()

    return respond


async def test_a_receiver_that_never_answers_is_left_after_a_while(
    client: WebhookClient, receiver: Receiver
) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    waiting = asyncio.run_coroutine_threadsafe(done.wait(), loop)
    receiver.respond = silent(waiting.result)
    answer = await client.post(receiver.url, b"{}", [], seconds=0.2)
    assert said(answer) == FAILED
    assert answer.unanswered
    done.set()


async def test_an_answer_that_stops_in_the_middle_keeps_its_status(
    client: WebhookClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "BODY_SECONDS", 0.2)
    done = asyncio.Event()
    waiting = asyncio.run_coroutine_threadsafe(done.wait(), asyncio.get_running_loop())

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(500)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.wfile.flush()
        waiting.result()

    receiver.respond = respond
    assert said(await client.post(receiver.url, b"{}", [])) == (500, "half", "HTTP 500")
    done.set()


async def test_something_that_is_no_http_is_a_failure(client: WebhookClient) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert said(await client.post(f"http://127.0.0.1:{port}/", b"{}", [])) == FAILED


def test_control_characters_of_an_answer_are_not_kept() -> None:
    assert cleaned(b"\x1b[31mred\x00\r\n\tok\x9f\xff") == "[31mred\r\n\tok\ufffd\ufffd"
    assert len(cleaned("é".encode() * 40_000)) == limits.WEBHOOK_RESPONSE_CHARS_MAX
    assert json.dumps(cleaned(bytes(range(256))))
