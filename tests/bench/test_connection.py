import asyncio
import contextlib
from collections.abc import AsyncGenerator
from time import perf_counter

from millstream.cli.bench.connection import Connection, Recorder
from millstream.cli.bench.conversation import (
    CreateJobs,
    CreateJobsInBulk,
    DrainJobs,
    JobLifecycle,
    start_conversation,
)
from millstream.cli.bench.http_request import Endpoint, RequestBuilder


class JobServer:
    """A loopback peer that answers like the job API and remembers what it was asked."""

    def __init__(self, *, ready: int = 0, hang_up_after: int | None = None, refuse: bool = False) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.ready = ready
        self.sockets = 0
        self._conversations: list[asyncio.Task[None]] = []
        self._hang_up_after = hang_up_after
        self._refuse = refuse

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncGenerator[Endpoint]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], "a-key")
        # Every client has hung up by now; its socket's end is on its way.
        await asyncio.gather(*self._conversations)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sockets += 1
        task = asyncio.current_task()
        assert task is not None
        self._conversations.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = await reader.readexactly(
                    int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                )
                assert "authorization: Bearer a-key" in head
                self.paths.append(head.split(" ")[1])
                self.bodies.append(body)
                if self._hang_up_after is not None and len(self.paths) == self._hang_up_after:
                    break
                status, answer = self._answer(self.paths[-1])
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(answer), answer))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def _answer(self, path: str) -> tuple[int, bytes]:
        if self._refuse:
            return 429, b'{"code":"QUOTA_EXCEEDED","message":"no"}'
        if path == "/api/v1/jobs":
            self.ready += 1
            return 201, b'{"id":"1","created":true}'
        if path == "/api/v1/jobs/bulk":
            return 200, b'{"success_count":100,"failure_count":0}'
        if path == "/api/v1/jobs/claim":
            taken = min(self.ready, 10)
            self.ready -= taken
            jobs = b",".join(b'{"id":"job-%d","lease_id":"lease","payload":{}}' % n for n in range(taken))
            return 200, b'{"jobs":[%b]}' % jobs
        return 200, b'{"success":true}'


async def talk(
    endpoint: Endpoint, plan: object, *, seconds: float = 30.0, until: int | None = None
) -> Recorder:
    """Run one connection until its conversation ends, or until it has recorded `until` items."""
    recorder = _StoppingRecorder(until)
    connection = Connection(
        start_conversation(plan, RequestBuilder(endpoint)),  # pyright: ignore[reportArgumentType]
        endpoint.host,
        endpoint.port,
    )
    recorder.connection = connection
    await connection.open()
    await connection.run(perf_counter() + seconds, recorder)
    connection.close()
    return recorder


class _StoppingRecorder(Recorder):
    """Ends an endless conversation by moving the connection's deadline into the past."""

    connection: Connection

    def __init__(self, until: int | None) -> None:
        self._items = 0
        self._until = until
        super().__init__()

    @property
    def items(self) -> int:
        return self._items

    @items.setter
    def items(self, count: int) -> None:
        self._items = count
        if self._until is not None and count >= self._until:
            self.connection._deadline = 0.0


async def test_a_lifecycle_creates_ten_claims_them_and_completes_each():
    server = JobServer()
    async with server.listen() as endpoint:
        recorder = await talk(endpoint, JobLifecycle("queue"), until=20)
    assert recorder.errors == 0
    completes = [f"/api/v1/jobs/job-{number}/complete" for number in range(10)]
    one_round = ["/api/v1/jobs/claim", *completes]
    assert server.paths[10:21] == one_round
    assert server.paths[:10] == server.paths[21:31] == ["/api/v1/jobs"] * 10
    assert server.paths[31:] == one_round
    assert {name: histogram.count for name, histogram in recorder.latencies.items()} == {
        "create": 20,
        "claim": 2,
        "complete": 20,
    }


async def test_draining_ends_when_a_claim_comes_back_empty():
    server = JobServer(ready=13)
    async with server.listen() as endpoint:
        recorder = await talk(endpoint, DrainJobs("queue"))
    assert recorder.items == 13
    assert server.paths.count("/api/v1/jobs/claim") == 3
    assert "/api/v1/jobs" not in server.paths


async def test_bulk_requests_count_their_jobs_and_end_after_as_many_as_asked():
    server = JobServer()
    async with server.listen() as endpoint:
        recorder = await talk(endpoint, CreateJobsInBulk("queue", per_request=100, requests=3))
    assert recorder.items == 300
    assert server.paths == ["/api/v1/jobs/bulk"] * 3
    assert server.bodies[0].count(b'"payload"') == 100


async def test_a_hang_up_is_an_error_and_the_connection_is_made_again():
    server = JobServer(hang_up_after=3)
    async with server.listen() as endpoint:
        recorder = await talk(endpoint, CreateJobs("queue"), until=5)
    assert recorder.items == 5
    assert recorder.errors == 1
    assert "closed the connection" in recorder.error_examples[0]
    assert server.sockets == 2


async def test_a_server_that_only_refuses_is_left_alone_after_a_hundred_answers():
    server = JobServer(refuse=True)
    async with server.listen() as endpoint:
        recorder = await talk(endpoint, CreateJobs("queue"))
    assert recorder.items == 0
    assert recorder.errors == len(server.paths) == 100
    assert "status 429 instead of 201" in recorder.error_examples[0]


async def test_a_vanished_server_ends_the_phase_with_an_error():
    server = JobServer(hang_up_after=1)
    async with server.listen() as endpoint:
        pass
    connection = Connection(
        start_conversation(CreateJobs("queue"), RequestBuilder(endpoint)), endpoint.host, endpoint.port
    )
    recorder = Recorder()
    await connection.run(perf_counter() + 30, recorder)
    assert recorder.errors == 1
    assert "cannot connect" in recorder.error_examples[0]
