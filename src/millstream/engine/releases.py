"""Releases: leases given back by workers that did not begin their jobs; the attempt does not count."""

from collections.abc import Sequence
from uuid import UUID

from millstream.domain.errors import Conflict, LeaseExpired, MillstreamError, Unavailable
from millstream.domain.job import Lease, Released, refusal
from millstream.engine.context import Context
from millstream.engine.events import EventKind
from millstream.engine.fencing import CHANGING_HANDS
from millstream.store import claims, settlements
from millstream.store.claims import ReleasedJob
from millstream.store.database import Session


class Releasing:
    """Gives leases back. It is rare, so the releases of a request are a transaction of their own."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def release(self, tenant_id: int, leases: Sequence[Lease]) -> list[Released | MillstreamError]:
        """Make jobs claimable again at once, with the retries they had; each is judged like a settlement.

        Contract: spooled-jobs 3.15, and the settle extension.
        """
        if not leases:
            return []
        try:
            async with self._context.database.transaction() as session:
                answers, released = await self._release(session, tenant_id, leases)
        except Unavailable as error:
            # What was settled beside them is recorded and must be told so.
            return [error] * len(leases)
        for job in released:
            self._context.wakeups.wake(tenant_id, job.queue)
            self._context.tell(EventKind.JOB_READY, tenant_id, job.queue, job.id)
        return answers

    async def _release(
        self, session: Session, tenant_id: int, leases: Sequence[Lease]
    ) -> tuple[list[Released | MillstreamError], list[ReleasedJob]]:
        keys = [(tenant_id, lease.job_id) for lease in leases]
        holders = await settlements.judge_jobs(session, keys, self._context.now())
        held: dict[UUID, tuple[int, UUID]] = {}
        answers: list[Released | MillstreamError] = []
        for place, (lease, holder) in enumerate(zip(leases, holders, strict=True)):
            reason = refusal(lease, holder)
            if reason is None and lease.job_id in held:
                # The same job twice: its lease is gone when the second one's turn comes.
                reason = LeaseExpired()
            if reason is None and holder is not None and holder.lease_id is not None:
                held[lease.job_id] = (place, holder.lease_id)
            # Until the statement says otherwise.
            answers.append(reason or Conflict(CHANGING_HANDS))
        released = await claims.release_jobs(
            session,
            [(tenant_id, job_id, held[job_id][1]) for job_id in sorted(held)],
            self._context.now(),
        )
        for job in released:
            answers[held[job.id][0]] = Released(job.id)
        return answers, released
