"""Keeps the dispatcher supplied with jobs."""

import asyncio
import logging

from millstream.client._async.client import AsyncClient
from millstream.client.errors import ApiError, ConnectionFailed, QuotaExceeded, RateLimited, Unavailable
from millstream.client.types import ClaimedJob
from millstream.client.worker.dispatcher import Dispatcher
from millstream.client.worker.settlement import Settler

logger = logging.getLogger("millstream.worker")

# Further claims under way while the queue is known to be full.
FOLLOWERS_MAX = 3

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0

# How often an otherwise busy worker looks again at a queue that it is to drain.
DRAIN_SECONDS = 1.0


class Claims:
    """One claim waits for work; while claims come back full, a few more keep the pipe filled."""

    def __init__(
        self,
        client: AsyncClient,
        dispatcher: Dispatcher,
        settler: Settler,
        queue: str,
        worker_id: str,
        *,
        lease_seconds: int,
        wait_seconds: int,
    ) -> None:
        self._client = client
        self._dispatcher = dispatcher
        self._settler = settler
        self._queue = queue
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds
        self._plenty = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.last_sent_at = 0.0

    async def lead(self) -> None:
        """Claim, waiting at the server when there is nothing, until the dispatcher stops."""
        while await self._room():
            await self._claim(self._wait_seconds)

    async def drain(self) -> None:
        """Claim until the queue has nothing to give and everything taken from it is settled."""
        while await self._room():
            quiet = self._is_quiet()
            if await self._claim(0):
                continue
            if quiet:
                return
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._dispatcher.idle.wait()
                    await self._settler.idle.wait()
            except TimeoutError:
                continue

    async def follow(self) -> None:
        """Claim beside the leader while there is plenty, until the dispatcher stops."""
        while True:
            await self._plenty.wait()
            if not await self._room():
                return
            await self._claim(0)

    def release(self) -> None:
        """Let the followers see that the dispatcher stops."""
        self._plenty.set()

    def _is_quiet(self) -> bool:
        return self._dispatcher.idle.is_set() and self._settler.idle.is_set() and not self._dispatcher.asked

    async def _room(self) -> bool:
        """Wait until a claim pays; False when the dispatcher wants no more at all."""
        dispatcher = self._dispatcher
        while not dispatcher.stopping:
            if dispatcher.wanted():
                return True
            dispatcher.room.clear()
            await dispatcher.room.wait()
        return False

    async def _claim(self, wait_seconds: int) -> bool:
        limit = self._dispatcher.wanted()
        if not limit:
            return False
        self._dispatcher.reserve(limit)
        try:
            jobs, sent_at = await self._ask(limit, wait_seconds)
        finally:
            self._dispatcher.release(limit)
        if len(jobs) == limit:
            self._plenty.set()
        elif not self._dispatcher.stopping:
            self._plenty.clear()
        self._dispatcher.accept(jobs, sent_at)
        return bool(jobs)

    async def _ask(self, limit: int, wait_seconds: int) -> tuple[list[ClaimedJob], float]:
        pause = RETRY_SECONDS_MIN
        while not self._dispatcher.stopping:
            self.last_sent_at = self._loop.time()
            try:
                jobs = await self._client.jobs.claim(
                    self._queue,
                    worker_id=self._worker_id,
                    limit=limit,
                    lease_seconds=self._lease_seconds,
                    wait_seconds=wait_seconds,
                )
            except ApiError as error:
                passing = isinstance(error, (Unavailable, RateLimited, QuotaExceeded)) or error.status >= 500
                if not passing:
                    raise
                logger.warning("cannot claim from %s: %s", self._queue, error)
            except ConnectionFailed as error:
                logger.warning("cannot claim from %s: %s", self._queue, error)
            else:
                return jobs, self.last_sent_at
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS_MAX)
        return [], self.last_sent_at
