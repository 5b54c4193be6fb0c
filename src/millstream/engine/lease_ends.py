"""The end of leases: their messages are owed again, or become dead letters. Contract: goqueue-messaging 9.7."""

import asyncio
from collections.abc import Sequence

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.delivery import Delivery, Outcome, is_spent
from millstream.domain.errors import MillstreamError, RowLocked
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.message_burial import MAX_RETRIES_EXCEEDED, Burial, MessageBurial
from millstream.engine.wakeups import EVERYONE, group_bell
from millstream.store import deliveries, group_positions, message_counters, redeliveries
from millstream.store.counters import Count
from millstream.store.database import Session
from millstream.store.group_positions import GroupPartition
from millstream.store.redeliveries import Redelivery

# Another process may hand out a shorter lease than this one knows of. Contract: goqueue-messaging 9.7.
TIMER_SECONDS_MAX = 0.5
_ATTEMPTS_MAX = 2**15 - 1

_log = structlog.get_logger(__name__)


class Ended(Struct, frozen=True):
    """What ended: how many deliveries, and in how many seconds the next lease ends."""

    deliveries: int
    next_seconds: float | None


class LeaseEnds:
    """Ends leases that have run out."""

    def __init__(self, context: Context, burial: MessageBurial, settings: TopicSettings) -> None:
        self._context = context
        self._burial = burial
        self._settings = settings
        # Set when a lease was given a time to end that may be earlier than the timer knows.
        self.hint = asyncio.Event()

    async def expire(self) -> Ended:
        """End leases whose time has come; a full batch means that there may be more."""
        now = self._context.now()
        async with self._context.database.session() as session:
            keys = await deliveries.find_ended_partitions(session, limits.EXPIRED_DELIVERIES_MAX, now)
        count = await self._expire(keys) if keys else 0
        async with self._context.database.session() as session:
            seconds = await deliveries.seconds_to_next_deadline(session, now)
        return Ended(count, seconds)

    async def prune(self) -> int:
        """Remove deliveries that were finished longer ago than calls are repeated; returns how many."""
        async with self._context.database.session() as session:
            return await deliveries.prune(
                session,
                kept_seconds=self._settings.receipt_replay_seconds,
                limit=limits.PRUNED_ROWS_MAX,
                now=self._context.now(),
            )

    async def give_back(self, session: Session, keys: Sequence[GroupPartition]) -> int:
        """End leases in partitions that the caller holds, but for those whose messages become dead letters."""
        ended, _ = await self._end(session, keys, attempts_below=self._settings.deliveries_max)
        return ended

    async def _expire(self, keys: Sequence[GroupPartition]) -> int:
        try:
            return await self._expire_together(keys)
        except RowLocked:
            return await self._expire_each(keys)
        except MillstreamError as error:
            if len(keys) == 1:
                _log.warning("leases not ended", error=error.message, partitions=len(keys))
            return await self._expire_each(keys)

    async def _expire_each(self, keys: Sequence[GroupPartition]) -> int:
        # One partition that is held, or whose dead letters cannot be written, does not keep the others.
        count = 0
        for key in keys:
            try:
                count += await self._expire_together((key,))
            except RowLocked:
                continue
            except MillstreamError as error:
                _log.warning(
                    "leases not ended", topic_id=key.topic_id, partition=key.partition, error=error.message
                )
        return count

    async def _expire_together(self, keys: Sequence[GroupPartition]) -> int:
        async with self._context.database.session() as session, session.together():
            held = await group_positions.lock(session, keys)
            if not held:
                return 0
            count, told = await self._end(session, held, attempts_below=_ATTEMPTS_MAX)
        self._burial.announce(told)
        for tenant_id, group_id in {(key.tenant_id, key.group_id) for key in held}:
            self._context.wakeups.wake(tenant_id, group_bell(group_id), EVERYONE)
        return count

    async def _end(
        self, session: Session, keys: Sequence[GroupPartition], *, attempts_below: int
    ) -> tuple[int, list[tuple[int, int]]]:
        now = self._context.now()
        ended, at = await deliveries.lock_ended(
            session, keys, attempts_below=attempts_below, limit=limits.EXPIRED_DELIVERIES_MAX, now=now
        )
        if not ended or at is None:
            return 0, []
        owed: list[Redelivery] = []
        burials: list[Burial] = []
        counts: list[Count] = []
        for delivery in ended:
            places = delivery.ended_places(at)
            counts.append(Count(delivery.tenant_id, message_counters.EXPIRED, "", len(places)))
            if is_spent(self._settings, delivery.attempt):
                burials += [
                    Burial(delivery, place, MAX_RETRIES_EXCEEDED, delivery.last_error) for place in places
                ]
                _settle(delivery, places, Outcome.DEAD_LETTERED)
            else:
                counts.append(Count(delivery.tenant_id, message_counters.RETRIED, "", len(places)))
                owed += [owed_again(delivery, place) for place in places]
                _settle(delivery, places, Outcome.GIVEN_BACK)
        if owed:
            await redeliveries.owe(session, owed)
        await deliveries.record(session, ended, [*counts, *self._burial.counts(burials)], now)
        if burials:
            await group_positions.advance(session, _settled(burials), now)
        return len(ended), await self._burial.bury(session, burials, at)


def owed_again(delivery: Delivery, place: int) -> Redelivery:
    """Return what a group is owed from the end of a lease on."""
    return Redelivery(
        key_of(delivery),
        delivery.offsets[place],
        delivery.lane,
        delivery.deadline_of(place),
        delivery.attempt,
        delivery.key.id,
        delivery.first_delivered_at,
        delivery.delivered_at,
        delivery.last_error,
    )


def key_of(delivery: Delivery) -> GroupPartition:
    """Return where a delivery belongs."""
    return GroupPartition(
        delivery.tenant_id, delivery.key.group_id, delivery.key.topic_id, delivery.key.partition
    )


def _settle(delivery: Delivery, places: Sequence[int], outcome: Outcome) -> None:
    for place in places:
        delivery.settle(place, outcome)


def _settled(burials: Sequence[Burial]) -> list[tuple[GroupPartition, str, int]]:
    counts: dict[tuple[GroupPartition, str], int] = {}
    for burial in burials:
        key = (key_of(burial.delivery), burial.delivery.member_id)
        counts[key] = counts.get(key, 0) + 1
    return [(key, member_id, count) for (key, member_id), count in counts.items()]
