import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.chaos.load import Load
from tests.cli.server_process import ServerProcess, run_command


class ChaosServer(ServerProcess):
    """A server that is going to be treated badly."""

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def api_key(self) -> str:
        return self.credentials["api_key"]

    @property
    def dsn(self) -> str:
        said = run_command("db", "url", "--data-dir", str(self.data_dir), "--json")
        return json.loads(said.stdout)["url"]

    @property
    def postgres_pid(self) -> int:
        pid = self.postmaster_pid()
        assert pid is not None
        return pid

    def kill(self) -> None:
        """Kill every process of it at once: none lives on to answer what it was asked."""
        pids = [self.process.pid, *self.children()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def load(self, *, creators: int = 4, workers: int = 4) -> Load:
        """Clients of this server."""
        return Load([self.port], self.api_key, creators=creators, workers=workers)


@pytest.fixture
def start() -> Iterator[Callable[..., ChaosServer]]:
    """Starts servers on one data directory; those that still run in the end are stopped."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made, ExitStack() as stack:
        place = Path(made)
        # PostgreSQL's account must be able to enter.
        place.chmod(0o711)

        def start_one(*arguments: str, environment: Mapping[str, str] | None = None) -> ChaosServer:
            server = ChaosServer(place / "data", place / "log", arguments, environment)
            stack.callback(server.stop)
            server.wait_ready()
            return server

        yield start_one
