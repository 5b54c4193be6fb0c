"""Polling: messages into the hands of a group's members, waiting for some if asked to."""

import asyncio
import time
from collections.abc import Hashable, Sequence

import structlog

from millstream.domain import limits
from millstream.domain.delivery import Polled, PollRequest
from millstream.domain.errors import MillstreamError, OutcomeUnknown
from millstream.domain.receipt import DeliveryKey, read_receipts
from millstream.domain.tenant import Principal
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.engine.handing_out import HandingOut, Page
from millstream.engine.lease_ends import LeaseEnds, key_of
from millstream.engine.poll_supply import PollRow
from millstream.engine.sightings import Sightings
from millstream.engine.wakeups import EVERYONE, group_bell, member_bell, topic_bell, until
from millstream.store import batches, deliveries, group_positions, redeliveries
from millstream.store.redeliveries import Redelivery

# How often a held poll looks for itself: hints of what another process published may be lost.
LOOK_AGAIN_SECONDS = 1.0
# How often a poll goes on at once after it has found only what is not handed out.
ROUNDS_MAX = 100

_log = structlog.get_logger(__name__)


class Polling:
    """Hands messages out to members."""

    def __init__(
        self, context: Context, lease_ends: LeaseEnds, sightings: Sightings, settings: TopicSettings
    ) -> None:
        self._context = context
        self._sightings = sightings
        self._settings = settings
        self._handing_out = HandingOut(context, lease_ends, settings)
        self._closing = False
        self._undoings: set[asyncio.Task[None]] = set()
        self.batcher: Batcher[PollRow, Page] = Batcher(
            "poll",
            self._poll,
            recover=self._recover,
            key_of=_member_of,
            abandoned=self._abandon,
            observe=context.observe_batch("poll"),
            rows_max=limits.BATCH_POLLS_MAX,
        )

    async def poll(self, principal: Principal, group: str, request: PollRequest) -> Polled:
        """Lease messages of the partitions that a member owns, best first, each with a receipt.

        With nothing to give, wait for some. A caller that is cancelled leaves no lease behind. Raises NotFound for an
        unknown group or member, Conflict for a generation that is ahead. Contract: goqueue-messaging 8.
        """
        row = PollRow(
            principal.tenant_id,
            group,
            request.member_id,
            min(request.max_messages, self._settings.poll_messages_max),
            request.generation or 0,
        )
        deadline = time.monotonic() + min(request.wait_seconds, self._settings.poll_wait_seconds_max)
        page = await self._look(row)
        while not page.messages and not self._closing and time.monotonic() < deadline:
            # Whoever waits hears before it looks: what is published in between is not missed.
            with self._context.wakeups.listening(row.tenant_id, _bells_of(page, row.member_id)) as woken:
                page = await self._look(row)
                if page.messages:
                    break
                left = deadline - time.monotonic()
                if left > 0 and not self._closing:
                    await until(woken, min(left, _pause_of(page)))
        return Polled(page.messages, page.generation, page.rebalance_required)

    def give_back(self, principal: Principal, polled: Polled) -> None:
        """Give back, in a moment and without counting it, what was handed to a caller that was never told."""
        read = read_receipts([message.receipt for message in polled.messages])
        self._undo_soon([(principal.tenant_id, receipts.key) for receipts, _ in read])

    async def close(self) -> None:
        """Let held polls go, answer what was asked, give back what nobody took."""
        self._closing = True
        for tenant_id, bell in self._context.wakeups.waiting_queues():
            self._context.wakeups.wake_here(tenant_id, bell, EVERYONE)
        await self.batcher.close()
        while self._undoings:
            await asyncio.wait(self._undoings)

    async def _look(self, row: PollRow) -> Page:
        page = await self.batcher.submit_one(row.tenant_id, row)
        for _ in range(ROUNDS_MAX):
            if not page.is_unfinished:
                break
            page = await self.batcher.submit_one(row.tenant_id, row)
        await self._sightings.saw([(row.tenant_id, page.group_id, row.member_id)], page.session_seconds)
        return page

    # The batch

    async def _poll(self, rows: list[PollRow], batch_id: int) -> Sequence[Page | MillstreamError]:
        return await self._handing_out.run(rows, batch_id)

    async def _recover(
        self, rows: list[PollRow], batch_id: int, _started_at: float
    ) -> Sequence[MillstreamError]:
        """Give back what a lost batch may have handed out: its callers were told nothing."""
        pollers = [(row.tenant_id, row.group, row.member_id) for row in rows]
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            found = await deliveries.find_polled(session, pollers, self._handing_out.secrets_of(batch_id))
        await self._undo(found)
        return [OutcomeUnknown() for _ in rows]

    # Deliveries whose caller has left

    def _abandon(self, orphans: Sequence[tuple[PollRow, Page]]) -> None:
        self._undo_soon([delivery for _, page in orphans for delivery in page.deliveries])

    def _undo_soon(self, found: Sequence[tuple[int, DeliveryKey]]) -> None:
        if found:
            task = asyncio.create_task(self._undo_quietly(found), name="undo deliveries")
            self._undoings.add(task)
            task.add_done_callback(self._undoings.discard)

    async def _undo_quietly(self, found: Sequence[tuple[int, DeliveryKey]]) -> None:
        try:
            await self._undo(found)
        except MillstreamError as error:
            # They return when their leases end.
            _log.warning("deliveries not given back", deliveries=len(found), error=error.message)

    async def _undo(self, found: Sequence[tuple[int, DeliveryKey]]) -> None:
        """Make owed what was leased to a caller that was not told, as often delivered as before."""
        if not found:
            return
        now = self._context.now()
        async with self._context.database.transaction() as session:
            held, at = await deliveries.lock(session, sorted(found), 0, now)
            undone = [one for one in held.values() if one.leased == len(one.offsets)]
            if not undone or at is None:
                return
            await deliveries.remove(session, undone)
            await redeliveries.owe(
                session,
                [
                    Redelivery(
                        key_of(one),
                        offset,
                        one.lane,
                        at,
                        one.attempt - 1,
                        None,
                        one.first_delivered_at if one.attempt > 1 else None,
                        None,
                        one.last_error,
                    )
                    for one in undone
                    for offset in one.offsets
                ],
            )
            # Messages that were handed out for the first time are not any more.
            settled = [
                (key_of(one), one.member_id, len(one.offsets) if one.attempt == 1 else 0) for one in undone
            ]
            await group_positions.advance(session, settled, now)
        for tenant_id, group_id in {(one.tenant_id, one.key.group_id) for one in undone}:
            self._context.wakeups.wake(tenant_id, group_bell(group_id), EVERYONE)


def _member_of(row: PollRow) -> Hashable:
    # What a member may hold is counted once for all of its polls: they go one after the other.
    return row.tenant_id, row.group, row.member_id


def _bells_of(page: Page, member_id: str) -> list[str]:
    bells = [group_bell(page.group_id), *map(topic_bell, page.topic_ids)]
    if page.is_full:
        bells.append(member_bell(page.group_id, member_id))
    return bells


def _pause_of(page: Page) -> float:
    # What is due already and was not handed out is for a loop, or for when the member holds less: both wake.
    if page.next_seconds is None or page.next_seconds <= 0:
        return LOOK_AGAIN_SECONDS
    return min(page.next_seconds, LOOK_AGAIN_SECONDS)
