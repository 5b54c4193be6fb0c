"""Claiming jobs and settling them: what a worker does. `Worker` does it for you."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from millstream.client._async.transport import AsyncTransport
from millstream.client.errors import Conflict, LeaseLost
from millstream.client.requests import SETTLE_ITEMS_MAX, body_of, chunks, segment
from millstream.client.types import ClaimedJob, Settled, Settlement


class _Claimed(msgspec.Struct):
    jobs: list[ClaimedJob]


class _Renewed(msgspec.Struct):
    lease_expires_at: datetime


class _SettleBody(msgspec.Struct, omit_defaults=True):
    items: list[Settlement]
    worker_id: str | None = None


class _SettleAnswer(msgspec.Struct):
    results: list[Settled]


@dataclass(frozen=True, slots=True)
class AsyncLeasedJobs:
    """The calls that need a lease, or give one."""

    _transport: AsyncTransport

    async def claim(
        self,
        queue: str,
        *,
        worker_id: str,
        limit: int = 1,
        lease_seconds: int = 30,
        wait_seconds: int = 0,
    ) -> list[ClaimedJob]:
        """Take up to `limit` (1 to 100) jobs of `queue`, best first, under a lease of `lease_seconds`.

        `lease_seconds` is 5 to 3600. With `wait_seconds` (up to 25) the server holds the request until
        something is claimable; an empty list means that nothing was. Not repeated after a lost answer:
        the jobs it carried come back when their leases run out. Contract: spooled-jobs 3.11.
        """
        body = body_of(
            queue_name=queue,
            worker_id=worker_id,
            limit=limit,
            lease_duration_secs=lease_seconds,
            wait_seconds=wait_seconds or None,
        )
        answer = await self._transport.call(
            _Claimed, "POST", "/api/v1/jobs/claim", body=body, wait_seconds=wait_seconds
        )
        return answer.jobs

    async def complete(self, job_id: str, *, lease_id: str, worker_id: str, result: object = None) -> None:
        """Finish a job with any JSON as `result` (up to 1 MiB).

        Raises LeaseLost when the lease ran out or is another's, Conflict when the job is already
        finished, NotFound. Safe to repeat. Contract: spooled-jobs 3.12, 3.15.
        """
        body = body_of(worker_id=worker_id, lease_id=lease_id, result=result)
        try:
            await self._transport.send(
                "POST", f"/api/v1/jobs/{segment(job_id)}/complete", body=body, replay_safe=True
            )
        except Conflict as error:
            # On a second try this is the echo of the first one, whose answer was lost.
            if error.attempt == 1 or "already completed" not in error.message:
                raise

    async def fail(
        self,
        job_id: str,
        *,
        lease_id: str,
        worker_id: str,
        error: str,
        retry_in_seconds: int | None = None,
    ) -> None:
        """Report a failed attempt: the job is retried, or becomes a dead letter when no retry is left.

        `error` has 1 to 2048 characters. `retry_in_seconds` (0 to 86400) replaces the queue's back-off.
        Raises LeaseLost, Conflict, NotFound. Safe to repeat. Contract: spooled-jobs 3.13, 3.15.
        """
        body = body_of(worker_id=worker_id, lease_id=lease_id, error=error, retry_in_seconds=retry_in_seconds)
        try:
            await self._transport.send(
                "POST", f"/api/v1/jobs/{segment(job_id)}/fail", body=body, replay_safe=True
            )
        except (Conflict, LeaseLost) as refusal:
            # A failure that landed takes the lease away, so its second try is refused.
            if refusal.attempt == 1:
                raise

    async def renew(self, job_id: str, *, lease_id: str, worker_id: str, lease_seconds: int = 30) -> datetime:
        """Move the end of the lease to `lease_seconds` (5 to 3600) from now, earlier or later than before.

        Returns the new end (UTC). Raises LeaseLost when the lease ran out or the job was taken over,
        Conflict when it is finished, NotFound. Contract: spooled-jobs 3.14.
        """
        body = body_of(worker_id=worker_id, lease_id=lease_id, lease_duration_secs=lease_seconds)
        answer = await self._transport.call(
            _Renewed, "POST", f"/api/v1/jobs/{segment(job_id)}/heartbeat", body=body, replay_safe=True
        )
        return answer.lease_expires_at

    async def settle(self, items: Iterable[Settlement], *, worker_id: str | None = None) -> list[Settled]:
        """Complete, fail and release many jobs at once; each item is judged on its own.

        Returns one result per item, in order. Every item needs a worker id, its own or `worker_id`. More
        than 1,000 items go out as several requests. Safe to repeat: an item that had landed is answered
        with `CONFLICT` or `LEASE_EXPIRED`. An extension of the job contract.
        """
        results: list[Settled] = []
        for chunk in chunks(items, SETTLE_ITEMS_MAX):
            body = _SettleBody(chunk, worker_id)
            answer = await self._transport.call(
                _SettleAnswer, "POST", "/api/v1/jobs/settle", body=body, replay_safe=True
            )
            results.extend(answer.results)
        return results
