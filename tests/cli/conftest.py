import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.server_process import ServerProcess


@pytest.fixture
def place() -> Iterator[Path]:
    """A fresh directory that PostgreSQL's account can enter."""
    with _fresh_place() as directory:
        yield directory


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers on one data directory; those that still run in the end are stopped."""
    with ExitStack() as stack:

        def start_one(
            *arguments: str, ready: bool = True, environment: dict[str, str] | None = None
        ) -> ServerProcess:
            server = ServerProcess(place / "data", place / "log", arguments, environment)
            stack.callback(server.stop)
            return server.wait_ready() if ready else server

        yield start_one


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server for the tests that do not stop it."""
    with _fresh_place() as directory:
        running = ServerProcess(directory / "data", directory / "log")
        try:
            yield running.wait_ready()
        finally:
            code = running.stop()
        assert code == 0, running.log.read_text()


@contextmanager
def _fresh_place() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        yield directory
