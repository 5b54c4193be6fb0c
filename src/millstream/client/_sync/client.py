"""The client: one server, one credential, and the parts of its API."""

from pathlib import Path
from types import TracebackType
from typing import Self

from millstream.client._sync.dead_letters import DeadLetters
from millstream.client._sync.jobs import Jobs
from millstream.client._sync.queues import Queues
from millstream.client._sync.schedules import Schedules
from millstream.client._sync.transport import Transport
from millstream.client._sync.workers import Workers
from millstream.client._sync.workflows import Workflows
from millstream.client.credentials import Credentials
from millstream.client.retries import Retries
from millstream.client.types import Health

DEFAULT_URL = "http://127.0.0.1:8080"


class Client:
    """A connection to a millstream server.

    ```python
    from millstream import Client

    with Client("http://127.0.0.1:8080", "sk_live_...") as client:
        job = client.jobs.enqueue("emails", {"to": "ada@example.org"}, idempotency_key="welcome-1")
        stored = client.jobs.get(job.id)
        print(stored.status)
    ```

    `timeout_seconds` bounds each request (connecting, sending and waiting for the answer, each); `retries`
    says how passing failures are repeated. Share one client: it pools its connections. Every call may
    raise the ApiError classes and ConnectionFailed.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        self._transport = Transport(
            (url or DEFAULT_URL).rstrip("/"),
            api_key,
            timeout_seconds=timeout_seconds,
            retries=retries or Retries(),
        )
        self.jobs = Jobs(self._transport)
        self.dead_letters = DeadLetters(self._transport)
        self.queues = Queues(self._transport)
        self.schedules = Schedules(self._transport)
        self.workers = Workers(self._transport)
        self.workflows = Workflows(self._transport)

    @classmethod
    def from_credentials(
        cls, path: str | Path, *, timeout_seconds: float = 30.0, retries: Retries | None = None
    ) -> Self:
        """Connect with the `url` and `api_key` of a credentials file, or of a server's data directory.

        Raises FileNotFoundError, PermissionError, or MillstreamError when it is no credentials file.
        """
        found = Credentials.load(path)
        return cls(found.url, found.api_key, timeout_seconds=timeout_seconds, retries=retries)

    def health(self) -> Health:
        """Ask how the server is; needs no credential. Contract: spooled-jobs 9.1."""
        return self._transport.call(Health, "GET", "/health")

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
