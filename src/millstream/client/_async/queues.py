"""Queues: configuration, statistics, pause and resume."""

from dataclasses import dataclass

from millstream.client._async.transport import AsyncTransport
from millstream.client.errors import NotFound
from millstream.client.requests import body_of, query_of, segment
from millstream.client.types import Queue, QueuePaused, QueueResumed, QueueStats, QueueSummary


@dataclass(frozen=True, slots=True)
class AsyncQueues:
    """`client.queues`."""

    _transport: AsyncTransport

    async def list(self) -> list[QueueSummary]:
        """Return the first 100 configured queues by name. Contract: spooled-jobs 4."""
        return await self._transport.call(list[QueueSummary], "GET", "/api/v1/queues")

    async def get(self, name: str) -> Queue:
        """Return a queue's configuration; raises NotFound when it has none, even if jobs use the name."""
        return await self._transport.call(Queue, "GET", f"/api/v1/queues/{segment(name)}")

    async def configure(
        self,
        name: str,
        *,
        max_retries: int | None = None,
        timeout_seconds: int | None = None,
        rate_limit: int | None = None,
        enabled: bool | None = None,
        settings: object = None,
        retry_initial_seconds: int | None = None,
        retry_factor: float | None = None,
        retry_max_seconds: int | None = None,
    ) -> Queue:
        """Create a queue's configuration or change what is given of it; the rest is kept.

        `max_retries` is 0 to 100, `timeout_seconds` 1 to 86400, `rate_limit` 1 to 100,000 jobs a second; the
        server stores and returns it, and does not hold claims to it. The three `retry_` values shape the
        back-off between attempts. Contract: spooled-jobs 4.1.
        """
        body = body_of(
            max_retries=max_retries,
            default_timeout=timeout_seconds,
            rate_limit=rate_limit,
            enabled=enabled,
            settings=settings,
            retry_initial_seconds=retry_initial_seconds,
            retry_factor=retry_factor,
            retry_max_seconds=retry_max_seconds,
        )
        path = f"/api/v1/queues/{segment(name)}/config"
        return await self._transport.call(Queue, "PUT", path, body=body, replay_safe=True)

    async def stats(self, name: str) -> QueueStats:
        """Return what a queue holds; zeros for a name nobody used. Contract: spooled-jobs 2.6."""
        return await self._transport.call(QueueStats, "GET", f"/api/v1/queues/{segment(name)}/stats")

    async def pause(self, name: str, *, reason: str | None = None) -> QueuePaused:
        """Stop handing out jobs of a queue; `reason` has up to 500 characters. Contract: spooled-jobs 4.2."""
        path = f"/api/v1/queues/{segment(name)}/pause"
        return await self._transport.call(
            QueuePaused, "POST", path, body=body_of(reason=reason), replay_safe=True
        )

    async def resume(self, name: str) -> QueueResumed:
        """Hand out jobs again. Raises NotFound when the queue has no configuration."""
        return await self._transport.call(QueueResumed, "POST", f"/api/v1/queues/{segment(name)}/resume")

    async def delete(self, name: str, *, delete_jobs: bool = False) -> None:
        """Delete a queue's configuration, with `delete_jobs` also every job in it whatever its status.

        Raises Conflict when jobs are pending or processing and `delete_jobs` is false, NotFound.
        Contract: spooled-jobs 4.3.
        """
        params = query_of(delete_jobs=True if delete_jobs else None)
        try:
            await self._transport.send(
                "DELETE", f"/api/v1/queues/{segment(name)}", params=params, replay_safe=True
            )
        except NotFound as error:
            # On a second try it is gone because of the first one, whose answer was lost.
            if error.attempt == 1:
                raise
