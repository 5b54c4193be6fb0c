import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from millstream.embedded import Binaries, DataDirectoryUnusable, EmbeddedServer, ServerClosed, find_binaries
from millstream.embedded.process import list_server_processes
from tests.embedded.database import read, read_numbers, read_value, write_number
from tests.embedded.files import make_directory, mode_of
from tests.embedded.holders import Holder

# Servers of its own, started again and again: longer than the quick suite has time for.
pytestmark = pytest.mark.slow

Open = Callable[[], Awaitable[EmbeddedServer]]
Hold = Callable[..., Awaitable[Holder]]

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
SETTINGS = {
    "autovacuum_naptime": "5s",
    "client_connection_check_interval": "2s",
    "fsync": "on",
    "jit": "off",
    "listen_addresses": "",
    "lc_collate": "C",
    "max_connections": "100",
    "max_prepared_transactions": "0",
    "server_encoding": "UTF8",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
}


@pytest.mark.parametrize(
    "bin_dir", [None, pytest.param(DEBIAN_15, marks=pytest.mark.slow)], ids=["wheel", "debian-15"]
)
async def test_a_new_data_directory_becomes_a_running_server_and_is_found_again(
    data_dir: Path, bin_dir: Path | None
) -> None:
    binaries = find_binaries(bin_dir)
    server = await EmbeddedServer.open(data_dir, binaries=binaries)
    try:
        assert server.started_by_us
        assert server.data_dir == data_dir
        assert (data_dir / "postgres" / "PG_VERSION").read_text().strip() == str(binaries.major)
        assert int(str(await read_value(server, "show server_version_num"))) // 10000 == binaries.major
        # A database's own settings are not all among the parameters of every version.
        collation = "select datcollate from pg_database where datname = 'postgres'"
        seen = {
            name: await read_value(server, collation if name == "lc_collate" else f"show {name}")
            for name in SETTINGS
        }
        assert seen == SETTINGS
        invalid = "select name, error from pg_file_settings where error is not null"
        assert await read(server, invalid) == []
        await write_number(server.dsn(), 1)
    finally:
        await server.close()
    assert list_server_processes(data_dir / "postgres") == []

    again = await EmbeddedServer.open(data_dir, binaries=binaries)
    try:
        assert await read_numbers(again) == [1]
    finally:
        await again.close()


async def test_the_binaries_are_found_when_none_are_given(data_dir: Path, binaries: Binaries) -> None:
    server = await EmbeddedServer.open(data_dir)
    try:
        assert server.binaries.version == binaries.version
    finally:
        await server.close()


async def test_the_second_to_open_attaches_and_only_the_last_one_out_stops_it(open_server: Open) -> None:
    first, second = await open_server(), await open_server()
    assert (first.started_by_us, second.started_by_us) == (True, False)
    assert (second.pid, second.socket_dir) == (first.pid, first.socket_dir)

    pid = first.pid
    await first.close()
    assert await read_value(second, "select 1") == 1
    assert list_server_processes(second.data_dir / "postgres").count(pid) == 1

    socket_dir = second.socket_dir
    await second.close()
    assert list_server_processes(second.data_dir / "postgres") == []
    assert not socket_dir.exists()


async def test_programs_share_a_server_whichever_of_them_started_it(open_server: Open, hold: Hold) -> None:
    holder = await hold()
    server = await open_server()
    assert (holder.started_by_us, server.started_by_us, server.pid) == (True, False, holder.pid)

    await holder.let_go()

    assert await server.ensure_running() is False
    assert await read_value(server, "select 1") == 1


async def test_of_many_that_open_at_once_one_starts_the_server(open_server: Open, hold: Hold) -> None:
    *servers, first, second = await asyncio.gather(
        open_server(), open_server(), open_server(), hold(), hold()
    )
    opened = [*servers, first, second]
    assert len({one.pid for one in opened}) == 1
    assert [one.started_by_us for one in opened].count(True) == 1


async def test_a_closed_handle_says_so_and_can_be_closed_again(open_server: Open) -> None:
    server = await open_server()
    await server.close()
    await server.close()

    with pytest.raises(ServerClosed, match="open it again"):
        server.dsn()
    with pytest.raises(ServerClosed, match="open it again"):
        await server.ensure_running()


async def test_the_server_has_a_session_of_its_own_and_a_private_socket_only(open_server: Open) -> None:
    server = await open_server()

    assert os.getsid(server.pid) != os.getsid(0)
    assert mode_of(server.socket_dir) == 0o700
    assert mode_of(server.data_dir / "postgres") == 0o700
    assert await read_value(server, "show listen_addresses") == ""
    rules = await read(server, "select distinct type, auth_method from pg_hba_file_rules order by type")
    assert {tuple(rule) for rule in rules} == {("local", "trust"), ("host", "reject")}


async def test_psql_and_asyncpg_take_the_same_url(open_server: Open, binaries: Binaries) -> None:
    server = await open_server()
    await read(server, 'create database "odd name/1"')
    await read(server, 'create role "odd@user" login')
    url = server.dsn(user="odd@user", database="odd name/1")

    connection = await asyncpg.connect(url)
    by_asyncpg = await connection.fetchval("select current_user || ' in ' || current_database()")
    await connection.close()
    done = await asyncio.to_thread(
        subprocess.run,
        [
            binaries.path("psql"),
            "-X",
            "-A",
            "-t",
            "-c",
            "select current_user || ' in ' || current_database()",
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert by_asyncpg == done.stdout.strip() == "odd@user in odd name/1"


async def test_the_socket_path_is_short_however_long_that_of_the_data_is(
    place: Path, binaries: Binaries
) -> None:
    server = await EmbeddedServer.open(place / ("long" * 40) / ("longer" * 30) / "data", binaries=binaries)
    try:
        assert len(bytes(server.socket_dir / ".s.PGSQL.5432")) <= 107
        assert await read_value(server, "select 1") == 1
    finally:
        await server.close()


async def test_a_server_started_by_other_means_is_used_and_left_running(
    open_server: Open, binaries: Binaries, place: Path
) -> None:
    # Made by millstream, closed, then started by hand with a socket and a port of its own.
    server = await open_server()
    account, pgdata, socket_dir = server._cluster.account, server.data_dir / "postgres", place / "socket"
    await server.close()
    socket_dir.mkdir(mode=0o700)
    account.own(socket_dir)
    options = f"-c unix_socket_directories={socket_dir} -c port=5499 -c listen_addresses=''"
    pg_ctl = [binaries.path("pg_ctl"), "-D", pgdata, "-w", "-s"]
    log = socket_dir / "log"
    assert account.run([*pg_ctl, "-o", options, "-l", log, "start"]).returncode == 0
    try:
        attached = await open_server()
        assert (attached.started_by_us, attached.socket_dir) == (False, socket_dir)
        assert await read_value(attached, "show port") == "5499"
        assert await attached.ensure_running() is False
        pid = attached.pid
        await attached.close()
        assert pid in list_server_processes(pgdata)
    finally:
        assert account.run([*pg_ctl, "-m", "fast", "stop"]).returncode == 0


async def test_an_opening_that_is_cancelled_leaves_nothing_behind(data_dir: Path, open_server: Open) -> None:
    opening = asyncio.ensure_future(open_server())
    while not (data_dir / "postgres.unfinished").exists():
        assert not opening.done()
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert list_server_processes(data_dir / "postgres") == []

    assert (await open_server()).started_by_us


async def test_a_crash_in_the_middle_of_initdb_is_made_good(data_dir: Path, open_server: Open) -> None:
    make_directory(data_dir)
    make_directory(data_dir / "postgres.unfinished" / "base")

    server = await open_server()

    assert await read_value(server, "select 1") == 1
    assert not (data_dir / "postgres.unfinished").exists()


async def test_settings_of_millstream_are_renewed_and_those_of_the_user_kept(
    data_dir: Path, open_server: Open
) -> None:
    server = await open_server()
    await server.close()
    settings, main = data_dir / "postgres" / "millstream.conf", data_dir / "postgres" / "postgresql.conf"
    settings.write_text("max_connections = 7\n")
    with main.open("a") as stream:
        stream.write("work_mem = '11MB'\n")

    server = await open_server()

    assert await read_value(server, "show max_connections") == "100"
    assert await read_value(server, "show work_mem") == "11MB"
    assert main.read_text().count("include 'millstream.conf'") == 1


async def test_a_directory_that_is_no_cluster_is_left_alone(data_dir: Path, open_server: Open) -> None:
    make_directory(data_dir)
    make_directory(data_dir / "postgres")
    (data_dir / "postgres" / "novel.txt").write_text("It was a dark and stormy night")

    with pytest.raises(DataDirectoryUnusable, match="Move it away and start again:\n    mv "):
        await open_server()

    assert [path.name for path in (data_dir / "postgres").iterdir()] == ["novel.txt"]


async def test_a_data_directory_that_is_a_file_is_refused(place: Path, binaries: Binaries) -> None:
    (place / "file").write_text("a file")

    with pytest.raises(DataDirectoryUnusable, match="Choose another data directory"):
        await EmbeddedServer.open(place / "file", binaries=binaries)
