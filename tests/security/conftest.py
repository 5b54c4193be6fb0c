"""Callers of the shared server, a caller from an address of its own, and a server with the settings of production."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.api.spooled.conftest import admin, anonymous, api, free, http, make, own
from tests.api.spooled.wire import Api, LiveServer
from tests.cli.server_process import ServerProcess
from tests.receiver import Receiver, listening

__all__ = ["admin", "anonymous", "api", "free", "http", "make", "own"]

JWT_SECRET = "9vX2-kQ7r_Lm4Zt8Wc1Yb6Nf3Hj5Gs0Pd"

# Every loopback address is a machine of its own to the server, and has its own number of wrong guesses.
_ADDRESSES = itertools.count(2)


@pytest.fixture
def stranger(server: LiveServer) -> Iterator[Api]:
    """A caller without a credential, at an address that nobody else calls from."""
    transport = httpx2.HTTPTransport(local_address=f"127.19.83.{next(_ADDRESSES)}")
    with httpx2.Client(transport=transport, timeout=40) as client:
        yield Api(client, server.url, None)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as opened:
        yield opened


@pytest.fixture(scope="session")
def production() -> Iterator[ServerProcess]:
    """A server in production that nobody gave an admin key to."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        environment = {"RUST_ENV": "production", "JWT_SECRET": JWT_SECRET, "HOST": "127.0.0.1"}
        running = ServerProcess(directory / "data", directory / "log", environment=environment)
        try:
            yield running.wait_ready()
        finally:
            code = running.stop()
        assert code == 0, running.log.read_text()


@pytest.fixture
def in_production(production: ServerProcess, http: httpx2.Client) -> Api:
    """A caller of the production server with its first key."""
    return Api(http, production.url, production.credentials["api_key"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what is in this directory run in `make ci`: it starts servers of its own."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name != "test_cases.py":
            item.add_marker(pytest.mark.slow)
