"""Data directories that PostgreSQL can reach, and proof that no server outlives its test."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from millstream.embedded import Binaries, EmbeddedServer, find_binaries
from millstream.embedded.process import list_server_processes
from tests.embedded.holders import Holder

# What PostgreSQL does under root can only be seen by root; as any other user these files are not part of the suite.
collect_ignore = [] if os.geteuid() == 0 else ["test_as_root.py"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A fresh directory that the server's account can enter, which pytest's own under root are not."""
    directory = Path(tempfile.mkdtemp(prefix="millstream-embedded-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def data_dir(place: Path) -> Iterator[Path]:
    """A data directory not made yet; the test fails if a server still runs on it in the end."""
    directory = place / "data"
    yield directory
    left = list_server_processes(directory / "postgres") if directory.exists() else []
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


@pytest.fixture
def binaries() -> Binaries:
    return find_binaries()


@pytest.fixture
async def open_server(
    data_dir: Path, binaries: Binaries
) -> AsyncIterator[Callable[[], Awaitable[EmbeddedServer]]]:
    """Opens the data directory, as often as it is called; what is still open in the end is closed."""
    async with AsyncExitStack() as stack:

        async def open_one() -> EmbeddedServer:
            server = await EmbeddedServer.open(data_dir, binaries=binaries)
            stack.push_async_callback(server.close)
            return server

        yield open_one


@pytest.fixture
async def hold(data_dir: Path) -> AsyncIterator[Callable[..., Awaitable[Holder]]]:
    """Starts other programs that open the data directory; what still runs in the end is made to close it."""
    async with AsyncExitStack() as stack:

        async def hold_one(**options: str | int) -> Holder:
            holder = await Holder.start(data_dir, **options)
            stack.push_async_callback(holder.let_go)
            return holder

        yield hold_one
