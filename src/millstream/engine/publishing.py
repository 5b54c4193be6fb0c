"""Publishing: messages are routed, encoded, and appended by group commit."""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from millstream.domain import limits
from millstream.domain.duration import format_seconds
from millstream.domain.errors import BadRequest, InternalError, MillstreamError, NotFound, OutcomeUnknown
from millstream.domain.message import NewMessage, PublishedMessage, RefusedMessage
from millstream.domain.tenant import Principal
from millstream.domain.topic import Topic
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.batcher import Batcher
from millstream.engine.context import Context
from millstream.engine.delayed import DelayedHint
from millstream.engine.routing import Cursors, Delays, Given, Routed, route
from millstream.engine.topics import TOPIC_NOT_FOUND, Topics
from millstream.engine.wakeups import EVERYONE, topic_bell
from millstream.store import batches, delayed_messages, publish_keys, record_batches
from millstream.store.database import Session
from millstream.store.record_batches import Append, Starts

Outcome = PublishedMessage | RefusedMessage
# What a request is counted with besides its messages, so that empty ones do not fill memory unseen.
REQUEST_BYTES = 256


class Publishing:
    """Appends messages to topics."""

    def __init__(
        self, context: Context, topics: Topics, settings: TopicSettings, delayed_hint: DelayedHint
    ) -> None:
        self._context = context
        self._topics = topics
        self._settings = settings
        self._delayed_hint = delayed_hint
        self._cursors = Cursors()
        self.batcher: Batcher[Append, Starts] = Batcher(
            "publish",
            self._append_all,
            recover=self._recover,
            observe=context.observe_batch("publish"),
            rows_max=limits.BATCH_PUBLISHES_MAX,
        )

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self.batcher.close()

    async def publish(
        self, principal: Principal, topic_name: str, messages: Given, *, idempotency_key: str | None = None
    ) -> list[Outcome]:
        """Append `messages` and return what became of each, in their order, once they are committed.

        A key that was used on the topic within a day is answered with what became of its messages then.
        Raises BadRequest, NotFound or Unavailable. Contract: goqueue-messaging 4.
        """
        if not messages:
            raise BadRequest("at least one message required")
        if len(messages) > limits.PUBLISHED_MESSAGES_MAX:
            raise BadRequest(f"too many messages: {limits.PUBLISHED_MESSAGES_MAX} at most")
        topic = await self._topics.get(principal, topic_name)
        if idempotency_key is not None:
            return await self._publish_once(topic, messages, idempotency_key)
        routed = route(topic, messages, self._cursors)
        if routed is None:
            async with self._context.database.session() as session:
                routed = await self._route_delayed(session, topic, messages)
        if not routed.append.parts:
            return routed.answers({})
        starts = await self.batcher.submit_one(
            topic.tenant_id, routed.append, routed.size_bytes + REQUEST_BYTES
        )
        if routed.deliver_ats:
            self._delayed_hint.note()
        return routed.answers(starts)

    async def append(self, session: Session, topic: Topic, messages: Given) -> list[Outcome]:
        """Append `messages` within the caller's transaction, which locks the partitions after everything else.

        Raises NotFound when the topic was deleted. The caller calls `announce` after its commit.
        """
        return await self._append(session, topic, messages)

    async def append_committed(self, session: Session, topic: Topic, messages: Given) -> bool:
        """Append messages that were accepted already: it is too late to refuse any, so that neither limits of what may
        be pending count nor those of sizes. False when the topic was deleted. Otherwise like `append`.
        """
        try:
            await self._append(session, topic, messages, bounded=False)
        except NotFound:
            return False
        self._delayed_hint.note()
        return True

    async def _append(
        self, session: Session, topic: Topic, messages: Given, *, bounded: bool = True
    ) -> list[Outcome]:
        routed = route(topic, messages, self._cursors, bounded=bounded)
        if routed is None:
            routed = await self._route_delayed(session, topic, messages, bounded=bounded)
        if not routed.append.parts:
            return routed.answers({})
        [starts] = await record_batches.append(
            session, [routed.append], batch_id=secrets.randbits(63), now=self._context.now()
        )
        if starts is None:
            raise NotFound(TOPIC_NOT_FOUND)
        return routed.answers(starts)

    def announce(self, tenant_id: int, topic_ids: Iterable[int]) -> None:
        """Wake those who wait for messages of topics."""
        for topic_id in topic_ids:
            self._context.wakeups.wake(tenant_id, topic_bell(topic_id), EVERYONE)

    async def prune_keys(self) -> int:
        """Forget idempotency keys that are older than a day; returns how many."""
        async with self._context.database.transaction() as session:
            return await publish_keys.prune_publish_keys(
                session,
                seconds=limits.PUBLISH_KEY_SECONDS,
                limit=limits.PRUNED_ROWS_MAX,
                now=self._context.now(),
            )

    # The batch

    async def _append_all(self, rows: list[Append], batch_id: int) -> list[Starts | MillstreamError]:
        async with self._context.database.session() as session:
            starts = await record_batches.append(session, rows, batch_id=batch_id, now=self._context.now())
        return self._told(rows, starts, NotFound(TOPIC_NOT_FOUND))

    async def _recover(
        self, rows: list[Append], batch_id: int, _started_at: float
    ) -> list[Starts | MillstreamError]:
        async with self._context.database.transaction() as session:
            await batches.lock_batch(session, batch_id)
            starts = await record_batches.find_appended(session, rows, batch_id=batch_id)
        return self._told(rows, starts, OutcomeUnknown())

    def _told(
        self, rows: Sequence[Append], starts: Sequence[Starts | None], missing: MillstreamError
    ) -> list[Starts | MillstreamError]:
        answers: list[Starts | MillstreamError] = []
        woken: set[tuple[int, int]] = set()
        for row, begun in zip(rows, starts, strict=True):
            if begun is None:
                self._topics.forget(row.tenant_id)
                answers.append(missing)
                continue
            woken.add((row.tenant_id, row.topic_id))
            answers.append(begun)
        for tenant_id, topic_id in woken:
            self._context.wakeups.wake(tenant_id, topic_bell(topic_id), EVERYONE)
        return answers

    # Messages with a delay

    async def _route_delayed(
        self, session: Session, topic: Topic, messages: Given, *, bounded: bool = True
    ) -> Routed:
        """Route messages of which some may not be visible at once: by the database's time, and while there is room.

        Publishes at the same moment may together exceed the limits a little.
        """
        pending = await delayed_messages.get_pending(
            session, topic.tenant_id, topic.id, now=self._context.now()
        )
        room = self._settings.delayed_per_topic_max - sum(pending.counts.values())
        settled = list(messages)
        deliver_ats: dict[int, datetime] = {}
        for place, message in enumerate(messages):
            delay = 0.0 if isinstance(message, RefusedMessage) else _delay_of(message, pending.at)
            if delay <= 0 or isinstance(message, RefusedMessage):
                continue
            if not bounded:
                deliver_ats[place] = message.deliver_at or pending.at + timedelta(seconds=delay)
            elif delay > self._settings.delay_seconds_max:
                longest = self._settings.delay_seconds_max
                settled[place] = RefusedMessage(
                    f"delay {format_seconds(delay)} exceeds maximum {format_seconds(longest)}"
                )
            elif len(deliver_ats) >= room:
                settled[place] = RefusedMessage("too many delayed messages are pending in this topic")
            else:
                deliver_ats[place] = message.deliver_at or pending.at + timedelta(seconds=delay)
        most = (
            self._settings.delayed_per_partition_max
            if bounded
            else limits.PUBLISHED_MESSAGES_MAX + sum(pending.counts.values())
        )
        rooms = {partition: most - count for partition, count in pending.counts.items()}
        routed = route(topic, settled, self._cursors, Delays(deliver_ats, rooms), bounded=bounded)
        if routed is None:
            raise InternalError
        return routed

    # Idempotency keys

    async def _publish_once(self, topic: Topic, messages: Given, key: str) -> list[Outcome]:
        async with self._context.database.transaction() as session:
            known = await publish_keys.claim_publish_key(
                session,
                topic.tenant_id,
                topic.id,
                key,
                seconds=limits.PUBLISH_KEY_SECONDS,
                now=self._context.now(),
            )
            if known is not None:
                return known
            outcomes = await self.append(session, topic, messages)
            await publish_keys.keep_publish_results(session, topic.tenant_id, topic.id, key, outcomes)
        self.announce(topic.tenant_id, (topic.id,))
        self._delayed_hint.note()
        return outcomes


def _delay_of(message: NewMessage, at: datetime) -> float:
    if message.delay_seconds is not None:
        return message.delay_seconds
    return 0.0 if message.deliver_at is None else (message.deliver_at - at).total_seconds()
