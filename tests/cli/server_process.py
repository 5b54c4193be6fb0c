"""`millstream serve` as its users run it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2

from millstream.embedded.postmaster import find_postmaster


class ServerProcess:
    """A server on free ports; `log` is where its standard error goes."""

    def __init__(
        self,
        data_dir: Path,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it on flags alone, or with the settings of `environment` too."""
        self.data_dir = data_dir
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "millstream", "serve", "--json"),
                    *("--data-dir", str(data_dir), "--port", "0", "--grpc-port", "0", "--metrics-port", "0"),
                    *(["--isolated"] if environment is None else []),
                    *arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                # A settings file of the checkout is none of a test's.
                cwd=log.parent,
                # A server that a test kills leaves its temporary files; they go with the test's directory.
                env={**inherited, "TMPDIR": str(log.parent), **(environment or {})},
            )
        self.ready: dict = {}

    def wait_ready(self) -> "ServerProcess":
        """Wait until the server says that it answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server ended: {self.log.read_text()}"
        self.ready = json.loads(line)
        return self

    @property
    def url(self) -> str:
        return self.ready["url"]

    @property
    def metrics_url(self) -> str:
        return self.ready["metrics_url"]

    @property
    def credentials(self) -> dict:
        return json.loads((self.data_dir / "credentials.json").read_text())

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.credentials['api_key']}"}

    def postmaster_pid(self) -> int | None:
        found = find_postmaster(self.data_dir / "postgres")
        return None if found is None else found.pid

    def children(self) -> list[int]:
        """Pids of the server processes below the parent."""
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [
            int(pid)
            for pid in listing.split()
            if b"millstream.serving.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def is_healthy(self) -> bool:
        """Whether the server answers that its database does."""
        try:
            return httpx2.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ask it to end, as a service manager does; returns its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def is_alive(pid: int) -> bool:
    """Whether the process exists, and not as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_command(
    *arguments: str, environment: dict[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `millstream` with `arguments` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "millstream", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
        timeout=100,
    )
