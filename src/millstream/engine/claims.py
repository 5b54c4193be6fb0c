"""Claiming: ready jobs into the hands of workers, waiting for some if asked to."""

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from uuid import UUID

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import MillstreamError, OutcomeUnknown
from millstream.domain.job import ClaimedJob, ClaimRequest, JobState
from millstream.domain.tenant import Principal
from millstream.domain.webhook import JobNote, WebhookEvent
from millstream.engine import outbox
from millstream.engine.batcher import Batcher
from millstream.engine.claim_positions import SLOW_SECONDS, ClaimPositions, QueueKey
from millstream.engine.context import Context, check_queue
from millstream.engine.events import EventKind
from millstream.engine.lookback import RECENT_SECONDS, WHOLE_SECONDS, Lookback
from millstream.store import batches, claims
from millstream.store.claims import Promoted, Seat, Want

# How often a waiting claim looks for itself: hints of what another process enqueued may be lost.
LOOK_AGAIN_SECONDS = 0.5
# A claim does not wait for a large backlog of due jobs to be promoted: the timer goes on with it.
PROMOTIONS_PER_CLAIM_MAX = 5
# The timer looks at least this often, whatever it knows of.
TIMER_SECONDS_MAX = 5.0

_log = structlog.get_logger(__name__)


class ClaimRow(Struct, frozen=True, gc=False):
    """A claim of one tenant's worker, and the lease ids its jobs would get."""

    tenant_id: int
    request: ClaimRequest


class Claiming:
    """Hands out ready jobs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._closing = False
        self._secret = os.urandom(32)
        self.positions = ClaimPositions()
        self._lookback = Lookback(context.clock)
        self._releases: set[asyncio.Task[None]] = set()
        self.batcher: Batcher[ClaimRow, list[ClaimedJob]] = Batcher(
            "claim",
            self._claim,
            recover=self._recover,
            abandoned=self._give_back,
            observe=context.observe_batch("claim"),
            rows_max=limits.BATCH_CLAIMS_MAX,
        )

    async def claim(
        self, principal: Principal, request: ClaimRequest, *, wait_seconds: float = 0
    ) -> list[ClaimedJob]:
        """Return up to `request.limit` of the best ready jobs of a queue, each under a new lease.

        With nothing to give, wait up to `wait_seconds` for some. A caller that is cancelled gives back
        what it was handed. Contract: spooled-jobs 3.11, 10.4.
        """
        check_queue(principal, request.queue)
        row = ClaimRow(principal.tenant_id, request)
        claimed = await self.batcher.submit_one(principal.tenant_id, row)
        if claimed or wait_seconds <= 0:
            return claimed
        deadline = time.monotonic() + wait_seconds
        while not claimed:
            left = deadline - time.monotonic()
            if left <= 0 or self._closing:
                break
            await self._context.wakeups.wait(
                principal.tenant_id, (request.queue,), min(left, LOOK_AGAIN_SECONDS)
            )
            if not self._closing:
                claimed = await self.batcher.submit_one(principal.tenant_id, row)
        return claimed

    def give_back(self, principal: Principal, claimed: Sequence[ClaimedJob]) -> None:
        """Give back, in a moment, what was handed to a caller that was never told."""
        self._release_soon([(principal.tenant_id, job.id, job.lease_id) for job in claimed])

    async def promote(self) -> tuple[int, float | None]:
        """Make due jobs claimable; returns how many, and in how many seconds the next one is due."""
        async with self._context.database.session() as session:
            lookback_seconds = self._lookback.seconds()
            promoted = await claims.promote_due_jobs(
                session,
                lookback_seconds=lookback_seconds,
                limit=limits.PROMOTED_ROWS_MAX,
                now=self._context.now(),
            )
            self._lookback.found(len(promoted), limit=limits.PROMOTED_ROWS_MAX)
            seconds = await claims.seconds_to_next_run(
                session, lookback_seconds=lookback_seconds, now=self._context.now()
            )
        self._announce_ready(promoted)
        self._context.note_next_due(TIMER_SECONDS_MAX if seconds is None else min(seconds, TIMER_SECONDS_MAX))
        return len(promoted), seconds

    async def close(self) -> None:
        """Let waiting claims go, answer what was asked, give back what nobody took."""
        self._closing = True
        for tenant_id, queue in self._context.wakeups.waiting_queues():
            self._context.wakeups.wake_here(tenant_id, queue, limits.CLAIM_WAITERS_MAX)
        await self.batcher.close()
        while self._releases:
            await asyncio.wait(self._releases)

    # The batch

    async def _claim(
        self, rows: list[ClaimRow], batch_id: int
    ) -> Sequence[list[ClaimedJob] | MillstreamError]:
        wants, seats, slot_seats = _merge(rows, self.positions)
        lease_ids = self._lease_ids(batch_id, len(slot_seats))
        now = self._context.now()
        async with self._context.database.session() as session:
            # What is due is claimable, whether or not the timer has been there yet.
            for _ in range(PROMOTIONS_PER_CLAIM_MAX if self._context.may_be_due() else 0):
                promoted = await claims.promote_due_jobs(
                    session,
                    lookback_seconds=RECENT_SECONDS if now is None else WHOLE_SECONDS,
                    limit=limits.PROMOTED_ROWS_MAX,
                    now=now,
                )
                self._announce_ready(promoted)
                if len(promoted) < limits.PROMOTED_ROWS_MAX:
                    break
            tenant_ids = (row.tenant_id for row in rows)
            async with self._context.outbox.beside(session, tenant_ids, outbox.CLAIM) as notes:
                started_at = time.monotonic()
                handed = await claims.claim_jobs(
                    session, wants, seats, slot_seats, lease_ids, batch_id=batch_id, now=now
                )
                seconds = time.monotonic() - started_at
                if notes is not None:
                    notes.extend(_notes_of(rows, handed))
        self._note_positions(wants, handed, slot_seats, seconds)
        for row, claimed in zip(rows, handed, strict=True):
            if claimed and self._context.hub.listens(row.tenant_id):
                for job in claimed:
                    self._context.tell(EventKind.JOB_CLAIMED, row.tenant_id, job.queue, job.id)
        return handed

    def _note_positions(
        self,
        wants: Sequence[Want],
        handed: Sequence[Sequence[ClaimedJob]],
        slot_seats: Sequence[int],
        seconds: float,
    ) -> None:
        if seconds <= SLOW_SECONDS and not self.positions:
            return
        for want in wants:
            seats = dict.fromkeys(slot_seats[want.slot_first : want.slot_first + want.jobs])
            claimed = [job for seat in seats for job in handed[seat - 1]]
            self.positions.learn((want.tenant_id, want.queue), want.position, claimed, seconds=seconds)

    def _lease_head(self, batch_id: int) -> str:
        """Return the first 16 digits of every lease id of a batch: by them they are found if the answer is lost."""
        digits = hashlib.blake2b(batch_id.to_bytes(8), key=self._secret, digest_size=8).hexdigest()
        return f"{digits[:12]}4{digits[12:15]}"

    def _lease_ids(self, batch_id: int, count: int) -> list[str]:
        """Return version 4 UUIDs in hexadecimal digits; half of each is random anew."""
        head = self._lease_head(batch_id) + "a"
        noise = os.urandom(8 * count).hex()
        return [head + noise[start + 1 : start + 16] for start in range(0, len(noise), 16)]

    async def _recover(
        self, rows: list[ClaimRow], batch_id: int, _started_at: float
    ) -> Sequence[MillstreamError]:
        """Give back what a lost batch may have handed out: its callers were told nothing."""
        head = self._lease_head(batch_id)
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            claimed = await claims.find_claimed_jobs(session, sorted({row.tenant_id for row in rows}), head)
            await claims.release_jobs(session, claimed, self._context.now())
        return [OutcomeUnknown() for _ in rows]

    def _announce_ready(self, promoted: Sequence[Promoted]) -> None:
        for job in promoted:
            self._context.wakeups.wake(job.tenant_id, job.queue)
            self._context.tell(EventKind.JOB_READY, job.tenant_id, job.queue, job.id)

    # Leases whose caller has left

    def _give_back(self, orphans: Sequence[tuple[ClaimRow, list[ClaimedJob]]]) -> None:
        self._release_soon(
            [(row.tenant_id, job.id, job.lease_id) for row, claimed in orphans for job in claimed]
        )

    def _release_soon(self, leases: Sequence[tuple[int, UUID, UUID]]) -> None:
        if leases:
            task = asyncio.create_task(self._release(leases), name="release leases")
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    async def _release(self, leases: Sequence[tuple[int, UUID, UUID]]) -> None:
        try:
            async with self._context.database.session() as session:
                released = await claims.release_jobs(session, leases, self._context.now())
        except MillstreamError as error:
            # They return when their leases run out.
            _log.warning("leases not given back", jobs=len(leases), error=error.message)
            return
        for job in released:
            self._context.wakeups.wake(job.tenant_id, job.queue)


def _notes_of(rows: Sequence[ClaimRow], handed: Sequence[Sequence[ClaimedJob]]) -> list[JobNote]:
    return [
        JobNote(row.tenant_id, job.id, WebhookEvent.JOB_STARTED, JobState.RUNNING)
        for row, claimed in zip(rows, handed, strict=True)
        for job in claimed
    ]


def _merge(rows: Sequence[ClaimRow], positions: ClaimPositions) -> tuple[list[Want], list[Seat], list[int]]:
    """Merge the claims of one queue into one want; say slot by slot whose seat a job there goes to."""
    queues: dict[QueueKey, list[int]] = {}
    for seat, row in enumerate(rows, start=1):
        slots = queues.setdefault((row.tenant_id, row.request.queue), [])
        slots.extend([seat] * row.request.limit)
    wants: list[Want] = []
    slot_seats: list[int] = []
    for (tenant_id, queue), slots in queues.items():
        position = positions.find((tenant_id, queue))
        wants.append(Want(tenant_id, queue, len(slots), len(slot_seats), position))
        slot_seats += slots
    seats = [Seat(row.request.worker_id, row.request.lease_seconds) for row in rows]
    return wants, seats, slot_seats
