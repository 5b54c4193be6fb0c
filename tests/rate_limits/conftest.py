from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.server_process import ServerProcess
from tests.rate_limits.servers import running


@pytest.fixture(scope="session")
def limited() -> Iterator[ServerProcess]:
    """A server that limits requests, shared by the tests of one process: use tenants and addresses of your own."""
    with running() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what is in this directory run in `make ci`: it starts servers of its own."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)
