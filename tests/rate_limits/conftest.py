from collections.abc import Iterator

import pytest

from tests.cli.server_process import ServerProcess
from tests.rate_limits.servers import running


@pytest.fixture(scope="session")
def limited() -> Iterator[ServerProcess]:
    """A server that limits requests, shared by the tests of one process: use tenants and addresses of your own."""
    with running() as server:
        yield server
