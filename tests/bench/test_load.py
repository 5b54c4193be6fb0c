"""Generator processes and PostgreSQL's own programs, each against the real thing."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from millstream.cli.bench.conversation import CreateJobs, CreateJobsInBulk
from millstream.cli.bench.load import GeneratorFailed, start_generators
from millstream.cli.bench.plan import HttpLoad
from millstream.cli.bench.postgres import Postgres, PostgresToolFailed
from millstream.cli.bench.process_cpu import resident_bytes, tree_cpu_seconds
from millstream.cli.bench.yardstick import measure_yardstick
from millstream.embedded import EmbeddedServer

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 39\r\n\r\n{"success_count":100,"failure_count":0}'


class BulkPeer(asyncio.Protocol):
    """Answers each request, whatever it is, like a bulk create."""

    def __init__(self, served: list[int]) -> None:
        self._served = served
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"]}"):
            self._received = b""
            self._served[0] += 1
            self._transport.write(ANSWER)


@contextlib.asynccontextmanager
async def bulk_peer() -> AsyncGenerator[tuple[int, list[int]]]:
    served = [0]
    server = await asyncio.get_running_loop().create_server(lambda: BulkPeer(served), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], served


def new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="millstream-test-"))
    if os.geteuid() == 0:
        # PostgreSQL runs as another user, who must be able to pass through.
        directory.chmod(0o701)
    return directory


@pytest.fixture
async def postgres() -> AsyncGenerator[Postgres]:
    directory = new_directory()
    try:
        server = await EmbeddedServer.open(directory / "data")
        try:
            yield Postgres(server.dsn())
        finally:
            await server.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def test_processes_share_the_work_and_their_counts_are_added_up():
    async with bulk_peer() as (port, served):
        plan = HttpLoad("127.0.0.1", port, "key", 3, CreateJobsInBulk("queue", requests=5))
        async with start_generators([plan, plan]) as generators:
            outcome = await generators.run(60)
    assert served == [30]
    assert outcome.items == 3_000
    assert outcome.errors == 0
    assert sum(outcome.latencies["bulk"].buckets.values()) == 30
    assert outcome.cpu_seconds > 0


async def test_a_phase_can_be_run_again_on_the_same_connections():
    async with bulk_peer() as (port, served):
        plan = HttpLoad("127.0.0.1", port, "key", 2, CreateJobsInBulk("queue"))
        async with start_generators([plan]) as generators:
            first = await generators.run(0.05)
            second = await generators.run(0.05)
    assert first.items > 0
    assert second.items > 0
    assert first.items + second.items == served[0] * 100


async def test_a_generator_that_cannot_connect_is_reported():
    async with bulk_peer() as (port, _):
        pass
    with pytest.raises(GeneratorFailed):
        async with start_generators([HttpLoad("127.0.0.1", port, "key", 1, CreateJobs("queue"))]):
            pass


async def test_the_yardstick_is_measured_and_leaves_nothing_behind(postgres: Postgres):
    wal_before = await postgres.wal_bytes()
    assert await measure_yardstick(postgres, seconds=1) > 0
    assert await postgres.wal_bytes() > wal_before
    assert await postgres.query("select count(*) from pg_namespace where nspname = 'millstream_bench'") == "0"


async def test_the_postmaster_is_found_and_its_backends_cpu_is_counted(postgres: Postgres):
    pid = await postgres.find_postmaster()
    assert pid is not None
    before = tree_cpu_seconds(pid)
    # The backend has ended by the time of the second reading: what it used is in its parent's account.
    await postgres.query(
        "select count(sha256(number::text::bytea)) from generate_series(1, 2000000) as number"
    )
    after = tree_cpu_seconds(pid)
    assert before is not None
    assert after is not None
    assert after > before
    assert tree_cpu_seconds(os.getpid(), without=os.getpid()) == 0
    assert (resident_bytes(pid) or 0) > 2**20


async def test_a_session_holds_its_transaction_until_it_is_closed(postgres: Postgres):
    held = "select count(*) from pg_stat_activity where backend_xmin is not null and state = 'idle in transaction'"
    async with postgres.open_session() as session:
        await session.execute("begin isolation level repeatable read")
        await session.execute("select count(*) from pg_class")
        assert await postgres.query(held) == "1"
    assert await postgres.query(held) == "0"


async def test_a_failing_statement_says_what_was_wrong(postgres: Postgres):
    with pytest.raises(PostgresToolFailed, match='relation "nowhere" does not exist'):
        await postgres.query("select * from nowhere")
