import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from millstream.embedded import EmbeddedServer, StartFailed
from millstream.embedded.process import is_alive, list_server_processes
from tests.embedded.database import read_numbers, read_value, write_number
from tests.embedded.holders import Holder

# Many starts and kills: longer than `make test` may take.
pytestmark = pytest.mark.slow

Open = Callable[[], Awaitable[EmbeddedServer]]
Hold = Callable[..., Awaitable[Holder]]


async def test_a_killed_server_is_started_again_with_all_that_was_committed(open_server: Open) -> None:
    server = await open_server()
    await write_number(server.dsn(), 1)
    before = (server.pid, server.dsn())
    os.kill(server.pid, signal.SIGKILL)

    assert await server.ensure_running() is True

    assert server.pid != before[0]
    # Connection pools keep the address that they were given.
    assert server.dsn() == before[1]
    assert await read_numbers(server) == [1]
    assert await server.ensure_running() is False


async def test_every_user_learns_that_the_server_is_another_one_and_one_of_them_starts_it(
    open_server: Open,
) -> None:
    first, second = await open_server(), await open_server()
    os.kill(first.pid, signal.SIGKILL)

    assert await asyncio.gather(first.ensure_running(), second.ensure_running()) == [True, True]

    assert first.pid == second.pid
    await first.close()
    assert await read_value(second, "select 1") == 1


async def test_a_session_that_computes_on_after_the_server_was_killed_is_ended_first(
    open_server: Open,
) -> None:
    server = await open_server()
    await write_number(server.dsn(), 1)
    connection = await asyncpg.connect(server.dsn())
    session_pid = await connection.fetchval("select pg_backend_pid()")
    # Generates rows without ever waiting, which is when a session would notice.
    computing = asyncio.ensure_future(
        connection.execute("do $$ declare n bigint := 0; begin loop n := n + 1; end loop; end $$")
    )
    watch = "select count(*) from pg_stat_activity where state = 'active' and query like 'do $$%'"
    while await read_value(server, watch) != 1:
        assert not computing.done()
    os.kill(server.pid, signal.SIGKILL)

    assert await server.ensure_running() is True

    assert not is_alive(session_pid)
    with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
        await computing
    assert await read_numbers(server) == [1]


async def test_a_server_survives_the_kill_of_the_program_that_started_it(
    open_server: Open, hold: Hold
) -> None:
    holder = await hold()
    await write_number(holder.dsn, 1)
    await holder.kill()

    server = await open_server()

    assert (server.pid, server.started_by_us) == (holder.pid, False)
    assert await read_numbers(server) == [1]
    await server.close()
    # The dead one no longer counts as a user, nor does the server itself.
    assert not is_alive(holder.pid)


async def test_the_other_user_goes_on_when_the_program_that_started_the_server_is_killed(
    open_server: Open, hold: Hold
) -> None:
    holder = await hold()
    server = await open_server()
    connection = await asyncpg.connect(server.dsn())

    await holder.kill()

    assert await connection.fetchval("select 1") == 1
    await connection.close()
    assert await server.ensure_running() is False


async def test_everything_killed_at_once_is_recovered_by_the_next_to_open(
    open_server: Open, hold: Hold
) -> None:
    holder = await hold()
    await write_number(holder.dsn, 1)
    os.kill(holder.pid, signal.SIGKILL)
    await holder.kill()

    server = await open_server()

    assert server.started_by_us
    assert server.socket_dir == holder.socket_dir
    assert await read_numbers(server) == [1]


async def test_a_vanished_socket_is_made_again_at_the_same_place(open_server: Open) -> None:
    server = await open_server()
    await write_number(server.dsn(), 1)
    before = (server.pid, server.dsn())
    shutil.rmtree(server.socket_dir)

    assert await server.ensure_running() is True

    assert server.pid != before[0]
    assert server.dsn() == before[1]
    assert await read_numbers(server) == [1]


async def test_opening_a_server_without_a_socket_starts_it_again(open_server: Open, hold: Hold) -> None:
    holder = await hold()
    shutil.rmtree(holder.socket_dir)

    server = await open_server()

    assert server.pid != holder.pid
    assert await read_value(server, "select 1") == 1


async def test_a_socket_directory_that_others_can_enter_is_not_used(open_server: Open) -> None:
    server = await open_server()
    taken = server.socket_dir
    await server.close()
    taken.mkdir()
    taken.chmod(0o777)
    try:
        server = await open_server()
        assert server.socket_dir != taken
        assert await read_value(server, "select 1") == 1
    finally:
        taken.rmdir()


async def test_the_death_of_one_session_is_recovered_from_without_another_server(open_server: Open) -> None:
    server = await open_server()
    pid = server.pid
    await write_number(server.dsn(), 1)
    connection = await asyncpg.connect(server.dsn())
    session_pid = await connection.fetchval("select pg_backend_pid()")
    os.kill(session_pid, signal.SIGKILL)
    with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
        await connection.execute("select pg_sleep(3600)")

    await server.ensure_running()

    assert server.pid == pid
    assert await read_numbers(server) == [1]


@pytest.mark.parametrize("whose", ["nobody's", "this program's", "another cluster's"])
async def test_a_stale_pid_file_does_not_stop_the_start(
    place: Path, data_dir: Path, open_server: Open, whose: str
) -> None:
    server = await open_server()
    await write_number(server.dsn(), 1)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    await server.close()
    other = await EmbeddedServer.open(place / "other")
    try:
        ended = await asyncio.create_subprocess_exec("/bin/true")
        await ended.wait()
        pid = {"nobody's": ended.pid, "this program's": os.getpid(), "another cluster's": other.pid}[whose]
        pid_file.write_text("\n".join([str(pid), *content[1:]]) + "\n")

        server = await open_server()

        assert server.started_by_us
        assert await read_numbers(server) == [1]
        assert await other.ensure_running() is False
        await server.close()
        assert is_alive(other.pid)
    finally:
        await other.close()


async def test_a_lock_record_cut_short_by_a_crash_is_ignored(data_dir: Path, open_server: Open) -> None:
    await (await open_server()).close()
    (data_dir / "server.lock").write_text("123")

    server = await open_server()

    assert await read_value(server, "select 1") == 1
    await server.close()
    assert list_server_processes(data_dir / "postgres") == []


async def test_a_server_that_cannot_start_says_why_and_leaves_no_socket(
    data_dir: Path, open_server: Open
) -> None:
    server = await open_server()
    recorded = server.socket_dir
    await server.close()
    with (data_dir / "postgres" / "postgresql.conf").open("a") as stream:
        stream.write("work_mem = 'plenty'\n")

    with pytest.raises(StartFailed, match='invalid value for parameter "work_mem": "plenty"'):
        await open_server()
    assert not recorded.exists()
