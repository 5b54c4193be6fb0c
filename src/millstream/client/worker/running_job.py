"""A claimed job inside a worker, as its handler sees it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum, auto
from math import inf
from typing import TypeVar

from millstream.client._async.client import AsyncClient
from millstream.client.errors import MillstreamError
from millstream.client.json_value import JsonValue
from millstream.client.types import ClaimedJob

Shape = TypeVar("Shape")


class RetryLater(MillstreamError):
    """Raised by a handler: this attempt failed, the next one may start `seconds` (0 to 86400) from now.

    It counts as a failed attempt, so a job without retries left becomes a dead letter all the same.
    """

    def __init__(self, seconds: float, reason: str = "the handler asked for a later retry") -> None:
        super().__init__(reason)
        self.seconds = seconds


class Interruption(Enum):
    """Why a worker cancelled a handler."""

    TIMEOUT = auto()
    LEASE_LOST = auto()
    SHUTDOWN = auto()


class RunningJob:
    """What a handler receives.

    The worker renews the lease by itself; `renew` is for a handler that wants a longer one at once.
    """

    __slots__ = (
        "_client",
        "_worker_id",
        "begun",
        "claimed",
        "deadline",
        "interruption",
        "lease_ends_at",
        "renew_at",
        "task",
    )

    def __init__(
        self, claimed: ClaimedJob, client: AsyncClient, worker_id: str, lease_ends_at: float, renew_at: float
    ) -> None:
        self.claimed = claimed
        self._client = client
        self._worker_id = worker_id
        # Times of the event loop's clock, which no correction of the wall clock can move.
        self.lease_ends_at = lease_ends_at
        self.renew_at = renew_at
        self.deadline = inf
        self.begun = False
        self.task: asyncio.Task[None] | None = None
        self.interruption: Interruption | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.claimed.id

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.claimed.queue

    @property
    def payload(self) -> JsonValue:
        """The payload as plain Python values, decoded on first use."""
        return self.claimed.payload

    def payload_as(self, shape: type[Shape]) -> Shape:
        """Decode the payload into `shape`; raises msgspec.ValidationError when it does not fit."""
        return self.claimed.payload_as(shape)

    @property
    def attempt(self) -> int:
        """Which run of the job this is, from 1."""
        return self.claimed.retry_count + 1

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure now makes the job a dead letter."""
        return self.claimed.retry_count >= self.claimed.max_retries

    @property
    def timeout_seconds(self) -> int:
        """How long the handler may take before the worker cancels it and reports a failure."""
        return self.claimed.timeout_seconds

    @property
    def worker_id(self) -> str:
        """The worker that runs it."""
        return self._worker_id

    async def renew(self, lease_seconds: int = 30) -> datetime:
        """Make the lease end `lease_seconds` (5 to 3600) from now; returns that time (UTC).

        Raises LeaseLost when it is too late. Contract: spooled-jobs 3.14.
        """
        asked_at = asyncio.get_running_loop().time()
        lease_expires_at = await self._client.jobs.renew(
            self.claimed.id,
            lease_id=self.claimed.lease_id,
            worker_id=self._worker_id,
            lease_seconds=lease_seconds,
        )
        self.lease_ends_at = asked_at + lease_seconds
        return lease_expires_at

    def interrupt(self, reason: Interruption) -> None:
        """Cancel the handler; the first reason given is the one that counts."""
        if self.interruption is None:
            self.interruption = reason
            # A task cancelled before its first step would never run, so neither would its clean-up.
            if self.task is not None and self.begun:
                self.task.cancel()

    def __repr__(self) -> str:
        return f"RunningJob(id={self.id!r}, queue={self.queue!r}, attempt={self.attempt})"


Handler = Callable[[RunningJob], Awaitable[object]]
