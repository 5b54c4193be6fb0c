"""Everything that changes topics and groups takes locks in one order: nothing that goes on at once meets a deadlock."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from millstream.domain.clock import SteeredClock
from millstream.domain.consumer_group import JoinRequest, TopicPartition
from millstream.domain.delivery import PollRequest
from millstream.domain.errors import (
    AccessDenied,
    BadRequest,
    Conflict,
    Gone,
    NotFound,
    Unavailable,
)
from millstream.domain.group_position import (
    ALL_PARTITIONS,
    CommitRequest,
    PartitionOffset,
    ResetRequest,
    ResetStrategy,
)
from millstream.domain.message import NewMessage
from millstream.domain.tenant import Principal
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.conftest import Cluster, make_principal

GROUP = "g"
KEPT, GOING = "kept", "going"
PARTITIONS = 3
MEMBERS = 4
CROWD = 12
OPERATIONS = 35
# Whatever goes on at the same time may be in each other's way: that is answered like this, and done nevertheless by others.
_ANSWERS = (NotFound, Gone, Conflict, AccessDenied, Unavailable)

Operation = Callable[[], Awaitable[object]]


class Crowd:
    """One of those who do everything at once; `members` are what all of them have joined as, with what each owns."""

    def __init__(
        self,
        engine: Engine,
        principal: Principal,
        clock: SteeredClock,
        number: int,
        members: dict[str, Sequence[TopicPartition]],
    ) -> None:
        self.engine = engine
        self.principal = principal
        self.clock = clock
        self.chance = random.Random(number)
        self.client_id = f"c{number}"
        self.members = members
        self.receipts: list[str] = []
        self.done: set[Operation] = set()

    async def run(self) -> None:
        operations: Sequence[tuple[int, Operation]] = (
            (6, self.publish),
            (8, self.poll),
            (5, self.settle),
            (4, self.reject),
            (2, self.commit),
            (1, self.reset),
            (2, self.join),
            (1, self.leave),
            (1, self.recreate),
            (1, self.grow),
            (1, self.keep_house),
            (1, self.let_time_pass),
        )
        await self.do(self.join)
        chosen = self.chance.choices(
            [operation for _, operation in operations], [weight for weight, _ in operations], k=OPERATIONS
        )
        for operation in chosen:
            await self.do(operation)

    async def do(self, operation: Operation) -> None:
        try:
            await operation()
        except _ANSWERS:
            return
        self.done.add(operation)

    async def publish(self) -> None:
        topic = self.chance.choice([KEPT, KEPT, GOING])
        messages = [
            NewMessage("v", partition=partition, delay_seconds=self.chance.choice([None, None, 60.0]))
            for partition in self.chance.choices(range(PARTITIONS), k=5)
        ]
        await self.engine.publishing.publish(self.principal, topic, messages)

    async def poll(self) -> None:
        request = PollRequest(member_id=self.member(), max_messages=10, wait_seconds=0.0)
        polled = await self.engine.polling.poll(self.principal, GROUP, request)
        self.receipts += [message.receipt for message in polled.messages]

    async def settle(self) -> None:
        receipts = [self.receipts.pop() for _ in range(min(4, len(self.receipts)))]
        if receipts:
            await self.engine.acknowledging.ack_many(self.principal, receipts)

    async def reject(self) -> None:
        acknowledging = self.engine.acknowledging
        if self.receipts:
            receipt = self.receipts.pop(self.chance.randrange(len(self.receipts)))
            if self.chance.random() < 0.5:
                await acknowledging.reject(self.principal, receipt, reason="r")
            else:
                await acknowledging.nack(self.principal, receipt, delay_seconds=0)

    async def commit(self) -> None:
        member_id = self.member()
        owned = self.members[member_id]
        offsets = [PartitionOffset(one.topic, one.partition, self.chance.randrange(30)) for one in owned]
        if offsets:
            self.chance.shuffle(offsets)
            request = CommitRequest(member_id=member_id, offsets=offsets)
            await self.engine.positions.commit(self.principal, GROUP, request)

    async def reset(self) -> None:
        strategy = self.chance.choice([ResetStrategy.EARLIEST, ResetStrategy.LATEST])
        request = ResetRequest(topic=KEPT, strategy=strategy, partition=ALL_PARTITIONS)
        await self.engine.positions.reset(self.principal, GROUP, request)

    async def join(self) -> None:
        topics = [KEPT, GOING] if self.chance.random() < 0.7 else [KEPT]
        request = JoinRequest(client_id=self.client_id, topics=topics)
        joined = (await self.engine.groups.join(self.principal, GROUP, request)).me
        self.members[joined.member_id] = joined.assigned
        if len(self.members) > MEMBERS:
            await self.leave()

    async def leave(self) -> None:
        member_id = self.member()
        del self.members[member_id]
        await self.engine.groups.leave(self.principal, GROUP, member_id)

    def member(self) -> str:
        if not self.members:
            raise NotFound("nobody has joined")
        return self.chance.choice(list(self.members))

    async def recreate(self) -> None:
        try:
            await self.engine.topics.delete(self.principal, GOING)
        finally:
            await self.engine.topics.create(self.principal, GOING, PARTITIONS, 1)

    async def grow(self) -> None:
        with suppress(BadRequest):
            await self.engine.topics.add_partitions(self.principal, GOING, PARTITIONS + 1)

    async def keep_house(self) -> None:
        await self.engine.log_retention.remove_deleted()
        await self.engine.delayed.deliver()
        await self.engine.groups.sweep()
        await self.engine.lease_ends.prune()

    async def let_time_pass(self) -> None:
        self.clock.advance(self.chance.choice([31, 31, 1_200]))
        await asyncio.gather(self.engine.lease_ends.expire(), self.engine.log_retention.prune())


@asynccontextmanager
async def opened_engine(dsn: str, clock: SteeredClock) -> AsyncGenerator[Engine]:
    """Open an engine that answers joins at once and loses members only when they leave."""
    settings = EngineSettings(topics=TopicSettings(gathering_seconds=0.0, session_seconds=3_600.0))
    database = await Database.open(dsn, min_size=1, max_size=8)
    engine = await open_engine(
        database, settings, direct=lambda: installation.direct_session(dsn), clock=clock
    )
    try:
        yield engine
    finally:
        await engine.close()
        # Ended connections have told all that they counted.
        await database.close()


async def test_nothing_that_changes_topics_and_groups_at_once_meets_a_deadlock(
    cluster: Cluster, database_dsn: str, clock: SteeredClock
) -> None:
    async with installation.direct_session(database_dsn) as own:
        [row] = await own.many("select current_database() as name")
    name = row["name"]

    async def ask(query: str, *arguments: object) -> int:
        async with installation.direct_session(cluster.superuser_dsn) as session:
            rows = await session.many(query, *arguments)
        return next((int(row["number"]) for row in rows), 0)

    counted = "select deadlocks as number from pg_stat_database where datname = $1"
    before = await ask(counted, name)
    # Looked for long before anybody's patience with a lock ends.
    await ask(f'alter database "{name}" set deadlock_timeout = 5')
    try:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(opened_engine(database_dsn, clock)) for _ in range(2)]
            principal = await make_principal(engines[0])
            for topic in (KEPT, GOING):
                await engines[0].topics.create(principal, topic, PARTITIONS, 1)
            members: dict[str, Sequence[TopicPartition]] = {}
            crowd = [Crowd(engines[number % 2], principal, clock, number, members) for number in range(CROWD)]
            await asyncio.gather(*(one.run() for one in crowd))
            names = {getattr(done, "__name__", "") for one in crowd for done in one.done}
            assert len(names) == 12, names
    finally:
        await ask(f'alter database "{name}" reset deadlock_timeout')
    assert await ask(counted, name) == before
