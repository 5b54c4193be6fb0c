"""Messages with a delay: listed, cancelled, counted, and announced when they become due."""

import asyncio
from collections.abc import Sequence

from millstream.domain import limits
from millstream.domain.delayed_message import DelayedMessage, DelayedStatistics
from millstream.domain.errors import NotFound
from millstream.domain.tenant import Principal
from millstream.engine.context import Context
from millstream.engine.lookback import Lookback
from millstream.engine.topics import Topics
from millstream.engine.wakeups import EVERYONE, topic_bell
from millstream.store import delayed_messages

# What another process noted, and was stopped before it announced it, is found by looking.
TIMER_SECONDS_MAX = 5.0


class DelayedHint:
    """Tells the timer that a message was given a time to wait for, maybe an earlier one than it knows."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def note(self) -> None:
        """Have the timer look."""
        self.event.set()


class DelayedMessages:
    """The messages of all tenants that wait to be delivered, each seen through a principal of its own."""

    def __init__(self, context: Context, topics: Topics, hint: DelayedHint) -> None:
        self._context = context
        self._topics = topics
        self._lookback = Lookback(context.clock)
        self.hint = hint

    async def list(
        self, principal: Principal, topic_name: str, *, limit: int = 100, skip: int = 0
    ) -> Sequence[DelayedMessage]:
        """Return what waits, the next one first; nothing for an unknown topic. Contract: goqueue-messaging 6.1."""
        try:
            topic = await self._topics.get(principal, topic_name)
        except NotFound:
            return []
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await delayed_messages.list_delayed_messages(
                session,
                principal.tenant_id,
                topic.id,
                limit=min(limit, limits.READ_MESSAGES_MAX),
                skip=min(skip, limits.PAGE_OFFSET_MAX),
                now=self._context.now(),
            )

    async def get(
        self, principal: Principal, topic_name: str, offset: int, *, partition: int | None = None
    ) -> DelayedMessage:
        """Return what waits at `offset`, of the lowest partition unless one is given. Raises NotFound.

        Contract: goqueue-messaging 6.2.
        """
        topic = await self._topics.get(principal, topic_name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            found = await delayed_messages.find_delayed_message(
                session, principal.tenant_id, topic.id, partition, offset, self._context.now()
            )
        if found is None:
            raise NotFound("delayed message not found")
        return found

    async def cancel(self, principal: Principal, topic_name: str, partition: int, offset: int) -> None:
        """Hide a message for good that is not due yet, from every group. Raises NotFound.

        Of a cancellation and the delivery at the same moment exactly one happens. Contract: goqueue-messaging 6.3.
        """
        topic = await self._topics.get(principal, topic_name)
        async with self._context.database.tenant(principal.tenant_id) as session:
            cancelled = await delayed_messages.cancel_delayed_message(
                session, principal.tenant_id, topic.id, partition, offset, self._context.now()
            )
        if not cancelled:
            raise NotFound("delayed message not found or already delivered")

    async def statistics(self, principal: Principal) -> DelayedStatistics:
        """Return totals that a restart does not reset. Contract: goqueue-messaging 6.4."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await delayed_messages.count_delayed_messages(
                session, principal.tenant_id, self._context.now()
            )

    async def deliver(self) -> tuple[int, float | None]:
        """Announce messages that have become due; returns how many, and in how many seconds the next one is.

        They are visible by their time, whether or not anybody announced them.
        """
        async with self._context.database.session() as session:
            lookback_seconds = self._lookback.seconds()
            delivered = await delayed_messages.fold_delivered(
                session,
                lookback_seconds=lookback_seconds,
                limit=limits.PROMOTED_ROWS_MAX,
                now=self._context.now(),
            )
            done = sum(topic.messages for topic in delivered)
            self._lookback.found(done, limit=limits.PROMOTED_ROWS_MAX)
            seconds = await delayed_messages.seconds_to_next_delivery(
                session, lookback_seconds=lookback_seconds, now=self._context.now()
            )
        for topic in delivered:
            self._context.wakeups.wake(topic.tenant_id, topic_bell(topic.topic_id), EVERYONE)
        return done, seconds
