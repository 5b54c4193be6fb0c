"""A tenant that publishes and reads."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from millstream.domain.clock import SteeredClock
from millstream.domain.message import Message, NewMessage, Page, PublishedMessage, ReadRequest, RefusedMessage
from millstream.domain.tenant import Principal
from millstream.domain.topic import Priority, TopicStatus
from millstream.engine.engine import Engine
from millstream.store.database import Row


class TopicWork(Struct, frozen=True):
    """What tests do with topics, in few words."""

    engine: Engine
    principal: Principal
    clock: SteeredClock

    async def create(self, name: str = "t", partitions: int = 1, retention_hours: int | None = None) -> int:
        """Create a topic and return its id."""
        topic = await self.engine.topics.create(self.principal, name, partitions, retention_hours)
        return topic.id

    async def publish(
        self, *messages: NewMessage | RefusedMessage, topic: str = "t", key: str | None = None
    ) -> list[PublishedMessage]:
        """Publish, and expect that nothing is refused."""
        answers = await self.try_publish(*messages, topic=topic, key=key)
        assert all(isinstance(answer, PublishedMessage) for answer in answers), answers
        return [answer for answer in answers if isinstance(answer, PublishedMessage)]

    async def try_publish(
        self, *messages: NewMessage | RefusedMessage, topic: str = "t", key: str | None = None
    ) -> Sequence[PublishedMessage | RefusedMessage]:
        return await self.engine.publishing.publish(self.principal, topic, messages, idempotency_key=key)

    async def read(self, topic: str = "t", partition: int = 0, **request: object) -> Page:
        return await self.engine.reading.read(
            self.principal,
            topic,
            partition,
            ReadRequest(**request),  # pyright: ignore[reportArgumentType] - named by the tests as its fields are
        )

    async def read_all(self, topic: str = "t", partition: int = 0, limit: int = 1000) -> list[Message]:
        """Read a partition to its end in log order."""
        messages: list[Message] = []
        offset = 0
        while True:
            page = await self.read(topic, partition, offset=offset, limit=limit, by_priority=False)
            messages += page.messages
            if page.next_offset == offset:
                return messages
            offset = page.next_offset

    async def describe(self, topic: str = "t") -> TopicStatus:
        return await self.engine.topics.describe(self.principal, topic)

    def in_seconds(self, seconds: float) -> datetime:
        now = self.clock.now()
        return now + timedelta(seconds=seconds)

    async def rows(self, query: str, *arguments: object) -> list[Row]:
        """Return what a look past the engine shows."""
        async with self.engine.context.database.session() as session:
            return await session.many(query, *arguments)

    async def run(self, statement: str, *arguments: object) -> None:
        async with self.engine.context.database.session() as session:
            await session.run(statement, *arguments)


def message(value: str = "v", **fields: object) -> NewMessage:
    return NewMessage(value, **fields)  # pyright: ignore[reportArgumentType] - named by the tests as its fields are


def values(messages: Sequence[Message]) -> list[str]:
    return [one.value for one in messages]


LOW, HIGH, CRITICAL = Priority.LOW, Priority.HIGH, Priority.CRITICAL
