"""A consumer group at work: publish, poll, settle."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from millstream.domain.clock import SteeredClock
from millstream.domain.delivery import DeliveredMessage, PollRequest
from millstream.domain.message import NewMessage, PublishedMessage
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority, Topic
from millstream.engine.engine import Engine
from tests.engine import groups_by_hand

TOPIC = "orders"
GROUP = "billing"


class Consuming:
    """One topic and one group of a tenant, with members that share its partitions."""

    def __init__(
        self, engine: Engine, principal: Principal, clock: SteeredClock, topic: Topic, group_id: int
    ) -> None:
        self.engine = engine
        self.principal = principal
        self.clock = clock
        self.topic = topic
        self.group_id = group_id

    @classmethod
    async def begin(
        cls,
        engine: Engine,
        principal: Principal,
        clock: SteeredClock,
        *,
        partitions: int = 1,
        members: Sequence[str] = ("ann",),
    ) -> "Consuming":
        """Create the topic and the group."""
        topic = await engine.topics.create(principal, TOPIC, partitions)
        group_id = await groups_by_hand.join(engine, principal, GROUP, members, [topic])
        return cls(engine, principal, clock, topic, group_id)

    def elsewhere(self, engine: Engine) -> "Consuming":
        """Return the same group as another process sees it."""
        return Consuming(engine, self.principal, self.clock, self.topic, self.group_id)

    async def publish(
        self,
        *values: str,
        partition: int | None = 0,
        priority: Priority = Priority.NORMAL,
        delay_seconds: float | None = None,
        topic: str = TOPIC,
        key: str | None = None,
    ) -> list[int]:
        """Publish messages; returns their offsets."""
        outcomes = await self.engine.publishing.publish(
            self.principal,
            topic,
            [
                NewMessage(value, key, partition=partition, priority=priority, delay_seconds=delay_seconds)
                for value in values
            ],
        )
        offsets: list[int] = []
        for outcome in outcomes:
            assert isinstance(outcome, PublishedMessage), outcome
            offsets.append(outcome.offset)
        return offsets

    async def poll(
        self,
        count: int = 100,
        *,
        member: str = "ann",
        wait_seconds: float = 0.0,
        group: str = GROUP,
        generation: int | None = None,
    ) -> list[DeliveredMessage]:
        """Poll once."""
        polled = await self.engine.polling.poll(
            self.principal,
            group,
            PollRequest(
                member_id=member, max_messages=count, wait_seconds=wait_seconds, generation=generation
            ),
        )
        return list(polled.messages)

    async def polled_values(self, count: int = 100, *, member: str = "ann") -> list[str]:
        """Poll once; returns the values."""
        return [message.value for message in await self.poll(count, member=member)]

    async def ack(self, *messages: DeliveredMessage) -> None:
        """Acknowledge messages one by one."""
        for message in messages:
            await self.engine.acknowledging.ack(self.principal, message.receipt)

    async def low(self, partition: int = 0, *, group_id: int | None = None) -> int | None:
        """Return the committed offset as it is stored."""
        async with self.engine.context.database.session() as session:
            row = await session.one(
                "select low from millstream.group_partitions"
                " where tenant_id = $1 and group_id = $2 and topic_id = $3 and partition = $4",
                self.principal.tenant_id,
                self.group_id if group_id is None else group_id,
                self.topic.id,
                partition,
            )
        return None if row is None else row["low"]

    async def leave(self, member: str = "ann") -> None:
        """Let a member go."""
        await groups_by_hand.leave(
            self.engine, self.principal, self.group_id, member, self.engine.context.now()
        )

    async def take_over(self, member: str, partition: int = 0) -> None:
        """Let another member own a partition."""
        await groups_by_hand.put_member(
            self.engine, self.principal, self.group_id, member, {self.topic.id: [partition]}
        )

    def in_seconds(self, seconds: float) -> datetime:
        """Return the time so many seconds from now."""
        return self.clock.now() + timedelta(seconds=seconds)
