"""How connections to receivers are kept, and what streams do with what is large."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from millstream.domain import limits
from millstream.outbound import connections
from millstream.outbound.client import WebhookClient

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks"


class Receivers:
    """Receivers on this machine that count the connections made to them, and read bodies as late as they are told."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.made: list[int] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.bodies: list[bytes] = []
        self.hurry = asyncio.Event()
        self.hurry.set()
        self.asked = asyncio.Event()
        self.closed = asyncio.Event()

    async def listen(self) -> str:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self._stack.callback(server.close)
        return f"http://127.0.0.1:{port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made.append(writer.get_extra_info("sockname")[1])
        self.open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.asked.set()
                await self.hurry.wait()
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()
            self.closed.set()


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    async with AsyncExitStack() as stack:
        yield Receivers(stack)


async def test_a_connection_is_used_again(client: WebhookClient, receivers: Receivers) -> None:
    url = await receivers.listen()
    for _ in range(5):
        assert (await client.post(url, b"{}", [])).error is None
    assert len(receivers.made) == 1


async def test_requests_at_once_have_connections_of_their_own(
    client: WebhookClient, receivers: Receivers
) -> None:
    url = await receivers.listen()
    for _ in range(2):
        answers = await asyncio.gather(*(client.post(url, b"{}", []) for _ in range(8)))
        assert {answer.error for answer in answers} == {None}
    assert len(receivers.made) == 8


async def test_a_connection_that_the_receiver_closed_is_not_used_again(
    client: WebhookClient, receivers: Receivers
) -> None:
    url = await receivers.listen()
    assert (await client.post(url, b"{}", [])).error is None
    [connection] = receivers.open
    connection.close()
    await connection.wait_closed()
    assert (await client.post(url, b"{}", [])).error is None
    assert len(receivers.made) == 2


async def test_a_connection_that_was_kept_too_long_is_closed(
    client: WebhookClient, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEPT_SECONDS", -1.0)
    url = await receivers.listen()
    assert (await client.post(url, b"{}", [])).error is None
    await receivers.closed.wait()
    assert (await client.post(url, b"{}", [])).error is None
    assert len(receivers.made) == 2


async def test_the_oldest_is_closed_when_too_many_are_kept(
    client: WebhookClient, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEPT_CONNECTIONS", 1)
    first, second = await receivers.listen(), await receivers.listen()
    assert (await client.post(first, b"{}", [])).error is None
    assert (await client.post(second, b"{}", [])).error is None
    await receivers.closed.wait()
    assert (await client.post(second, b"{}", [])).error is None
    assert (await client.post(first, b"{}", [])).error is None
    assert [receivers.made.count(port) for port in dict.fromkeys(receivers.made)] == [2, 1]


async def test_an_attempt_that_is_cut_off_takes_its_connection_with_it(
    client: WebhookClient, receivers: Receivers
) -> None:
    url = await receivers.listen()
    receivers.hurry.clear()
    posting = asyncio.create_task(client.post(url, b"{}", []))
    await receivers.asked.wait()
    posting.cancel()
    await asyncio.wait([posting])
    receivers.hurry.set()
    await receivers.closed.wait()
    assert (await client.post(url, b'"next"', [])).body == "thanks"
    assert (receivers.bodies[-1], len(receivers.made)) == (b'"next"', 2)


async def test_a_large_body_comes_whole_to_a_receiver_that_reads_late(
    client: WebhookClient, receivers: Receivers
) -> None:
    url = await receivers.listen()
    receivers.hurry.clear()
    body = b'"' + b"x" * (4 * limits.PAYLOAD_BYTES_MAX) + b'"'
    posting = asyncio.create_task(client.post(url, body, []))
    await receivers.asked.wait()
    receivers.hurry.set()
    assert (await posting).error is None
    assert receivers.bodies == [body]


async def test_a_request_that_the_receiver_hangs_up_on_is_a_failure(client: WebhookClient) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for body in (b"{}", b"x" * (4 * limits.PAYLOAD_BYTES_MAX)):
            answer = await client.post(f"http://127.0.0.1:{port}/hook", body, [])
            assert answer.unanswered
