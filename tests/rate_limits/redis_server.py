"""A real Redis, which a test stops, freezes and starts again."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.deadline import wait_until

PASSWORD = "hunter2-of-redis"


class RedisServer:
    """`redis-server` on one port, in memory only."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it; returns when it answers."""
        self._process = subprocess.Popen(
            [
                *(self._binary, "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--dir", str(self._directory), "--save", "", "--appendonly", "no"),
                *("--requirepass", PASSWORD),
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def stop(self) -> None:
        """End it at once, as a crash does; everything it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Make it silent, with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def ask(self, *words: str) -> bytes:
        """The raw answer to one command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for command in (("AUTH", PASSWORD), words):
                parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in command)
                connection.sendall(b"*%d\r\n%b" % (len(command), parts))
                answer = connection.recv(65_536)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == b"+PONG\r\n"
        except OSError:
            return False


@contextmanager
def running_redis() -> Generator[RedisServer]:
    """A started Redis; fails when the program is not there."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("redis-server is needed: make debian-redis, or apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        redis = RedisServer(binary, Path(made))
        redis.start()
        try:
            yield redis
        finally:
            redis.stop()
