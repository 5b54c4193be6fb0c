"""The client: one server, one credential, and the parts of its API."""

from pathlib import Path
from types import TracebackType
from typing import Self

from millstream.client._async.dead_letters import AsyncDeadLetters
from millstream.client._async.jobs import AsyncJobs
from millstream.client._async.queues import AsyncQueues
from millstream.client._async.schedules import AsyncSchedules
from millstream.client._async.transport import AsyncTransport
from millstream.client._async.workers import AsyncWorkers
from millstream.client._async.workflows import AsyncWorkflows
from millstream.client.credentials import Credentials
from millstream.client.retries import Retries
from millstream.client.types import Health

DEFAULT_URL = "http://127.0.0.1:8080"


class AsyncClient:
    """A connection to a millstream server.

    ```python
    from millstream import AsyncClient

    async with AsyncClient("http://127.0.0.1:8080", "sk_live_...") as client:
        job = await client.jobs.enqueue("emails", {"to": "ada@example.org"}, idempotency_key="welcome-1")
        stored = await client.jobs.get(job.id)
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
        self._transport = AsyncTransport(
            (url or DEFAULT_URL).rstrip("/"),
            api_key,
            timeout_seconds=timeout_seconds,
            retries=retries or Retries(),
        )
        self.jobs = AsyncJobs(self._transport)
        self.dead_letters = AsyncDeadLetters(self._transport)
        self.queues = AsyncQueues(self._transport)
        self.schedules = AsyncSchedules(self._transport)
        self.workers = AsyncWorkers(self._transport)
        self.workflows = AsyncWorkflows(self._transport)

    @classmethod
    def from_credentials(
        cls, path: str | Path, *, timeout_seconds: float = 30.0, retries: Retries | None = None
    ) -> Self:
        """Connect with the `url` and `api_key` of a credentials file, or of a server's data directory.

        Raises FileNotFoundError, PermissionError, or MillstreamError when it is no credentials file.
        """
        found = Credentials.load(path)
        return cls(found.url, found.api_key, timeout_seconds=timeout_seconds, retries=retries)

    async def health(self) -> Health:
        """Ask how the server is; needs no credential. Contract: spooled-jobs 9.1."""
        return await self._transport.call(Health, "GET", "/health")

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
