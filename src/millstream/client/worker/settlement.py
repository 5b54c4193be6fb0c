"""Sends results and failures to the server in batches."""

import asyncio
import logging
from collections.abc import Callable
from typing import assert_never

import msgspec

from millstream.client._async.client import AsyncClient
from millstream.client.errors import (
    AccessDenied,
    ApiError,
    ConnectionFailed,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from millstream.client.types import Complete, Fail, Release, Settled, Settlement

logger = logging.getLogger("millstream.worker")

# Below the 5 MiB that the server takes in one body.
BATCH_BYTES_MAX = 4 * 1024 * 1024
BATCH_ITEMS_MAX = 1000

# Rough size of a settlement without its result or error text.
ITEM_BYTES = 150

RETRY_SECONDS = 0.5

# Contract: spooled-jobs 3.13.
ERROR_CHARS_MAX = 2048

_GONE = {"LEASE_EXPIRED", "CONFLICT", "NOT_FOUND"}


class Settler:
    """Collects settlements while the previous batch is on its way, then sends all of them as the next.

    No timer: a worker with little to do settles at once, a busy one grows its batches by itself.
    """

    def __init__(self, client: AsyncClient, worker_id: str, lease_seconds: int) -> None:
        self._client = client
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._waiting: list[Settlement] = []
        self._in_flight = 0
        self._filled = asyncio.Event()
        self._delivered: Callable[[], None] | None = None
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def backlog(self) -> int:
        """How many settlements the server has not confirmed yet."""
        return len(self._waiting) + self._in_flight

    def when_delivered(self, delivered: Callable[[], None]) -> None:
        """Call `delivered` after each batch."""
        self._delivered = delivered

    def add(self, item: Settlement) -> None:
        """Send `item` with the next batch."""
        if not self._waiting:
            self._filled.set()
            self.idle.clear()
        self._waiting.append(item)

    async def run(self) -> None:
        """Send batches until cancelled. Raises Unauthorized or AccessDenied when the credential no longer is good for it."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                batch = self._take()
                self._in_flight = len(batch)
                await self._deliver(batch)
                self._in_flight = 0
                if self._delivered is not None:
                    self._delivered()
            self.idle.set()

    def _take(self) -> list[Settlement]:
        count = size = 0
        for item in self._waiting:
            size += ITEM_BYTES + _weight(item)
            if count == BATCH_ITEMS_MAX or (count and size > BATCH_BYTES_MAX):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _deliver(self, batch: list[Settlement]) -> None:
        try:
            results = await self._send(batch)
        except (Unauthorized, AccessDenied, TimeoutError) as error:
            logger.error("%d settlements are lost, their leases will run out: %s", len(batch), error)
            if not isinstance(error, TimeoutError):
                raise
        except ApiError as error:
            # One item must not take its neighbours along: halve until the culprit is alone.
            if len(batch) == 1:
                refusal = Settled(batch[0].job_id, False, error.code, error.message)
                self._judge(batch[0], refusal)
            else:
                await self._deliver(batch[: len(batch) // 2])
                await self._deliver(batch[len(batch) // 2 :])
        else:
            for item, result in zip(batch, results, strict=True):
                if not result.success:
                    self._judge(item, result)

    async def _send(self, batch: list[Settlement]) -> list[Settled]:
        # After the length of a lease every one of these leases is over, and nobody waits for them.
        async with asyncio.timeout(self._lease_seconds):
            while True:
                try:
                    return await self._client.jobs.settle(batch, worker_id=self._worker_id)
                except (ConnectionFailed, RateLimited, Unavailable) as error:
                    logger.warning("cannot settle %d jobs yet: %s", len(batch), error)
                    await asyncio.sleep(RETRY_SECONDS)

    def _judge(self, item: Settlement, result: Settled) -> None:
        message = result.message or ""
        if result.code in _GONE:
            # "Already completed" is the echo of a batch whose first answer was lost.
            if "already completed" not in message:
                logger.warning(
                    "job %s is not ours any more, its outcome is dropped: %s", item.job_id, message
                )
        elif result.code == "SERVICE_UNAVAILABLE":
            self.add(item)
        else:
            match item:
                case Complete():
                    refusal = f"the server refused the result: {message}"
                    self.add(Fail(item.job_id, item.lease_id, error_text(refusal)))
                case Release():
                    # A server that does not know the action.
                    reason = "the worker stopped before it began this job"
                    self.add(Fail(item.job_id, item.lease_id, reason, 0))
                case Fail():
                    logger.error("the server refused the failure of job %s: %s", item.job_id, message)
                case _:
                    assert_never(item)


def error_text(text: str) -> str:
    """`text` as the server accepts it: some text, not too much, and nothing that is not Unicode text."""
    clean = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return clean[:ERROR_CHARS_MAX] or "unknown error"


def _weight(item: Settlement) -> int:
    match item:
        case Complete(result=msgspec.Raw() as result):
            return memoryview(result).nbytes
        case Fail(error=error):
            return len(error)
        case _:
            return 0
