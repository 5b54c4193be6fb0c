"""A group on a real engine beside the reference: random operations, compared after each."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import Gone, NotFound
from millstream.domain.group_position import CommitRequest, PartitionOffset, ResetRequest, ResetStrategy
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.conftest import STARTED_AT, TEMPLATE, Cluster, make_principal
from tests.engine.consuming import GROUP, TOPIC, Consuming
from tests.model.delivery_reference import Answer, Reference, State

T = TypeVar("T")

picks = st.integers(0, 1_000)


class DeliveryMachine(RuleBasedStateMachine):
    """One partition, one group, one member at a time."""

    cluster: ClassVar[Cluster]
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = SteeredClock(STARTED_AT)
        self.reference = Reference()
        self.database_name = f"model_{uuid4().hex[:12]}"
        self.runner = asyncio.Runner()
        self.member = "m0"
        self.members = 1
        self.settled_once = False

    @initialize()
    def open(self) -> None:
        self.runner.run(self._create())
        self.consuming: Consuming = self.runner.run(self._begin())

    async def _create(self) -> None:
        async with installation.direct_session(self.cluster.superuser_dsn) as session:
            await session.run(f"create database {self.database_name} template {TEMPLATE}")

    async def _open(self) -> Engine:
        dsn = self.cluster.dsn_of(self.database_name)
        self.database = await Database.open(dsn, min_size=1, max_size=5)
        return await open_engine(
            self.database, direct=lambda: installation.direct_session(dsn), clock=self.clock
        )

    async def _begin(self) -> Consuming:
        engine = await self._open()
        principal = await make_principal(engine)
        return await Consuming.begin(engine, principal, self.clock, members=(self.member,))

    def teardown(self) -> None:
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        if hasattr(self, "consuming"):
            await self.consuming.engine.close()
            await self.database.close()
        async with installation.direct_session(self.cluster.superuser_dsn) as session:
            await session.run(f"drop database if exists {self.database_name} with (force)")

    def run(self, operation: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(operation)

    # Publishing

    @rule(
        count=st.integers(1, 4),
        priority=st.sampled_from(list(Priority)),
        delay=st.sampled_from([0, 0, 0, 3, 40]),
    )
    def publish(self, count: int, priority: Priority, delay: int) -> None:
        offsets = self.run(
            self.consuming.publish(*["v"] * count, priority=priority, delay_seconds=delay or None)
        )
        assert offsets == list(range(len(self.reference.messages), len(self.reference.messages) + count))
        for _ in offsets:
            self.reference.publish(self.clock.now(), delay)

    @precondition(lambda self: self.reference.messages)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        delayed = [one for one in self.reference.messages if one.delayed] or self.reference.messages
        offset = delayed[pick % len(delayed)].offset
        cancelled = self.reference.cancel(offset, self.clock.now())
        engine = self.consuming.engine
        try:
            self.run(engine.delayed.cancel(self.consuming.principal, TOPIC, 0, offset))
        except NotFound:
            assert not cancelled
        else:
            assert cancelled

    # Polling and settling

    @rule(count=st.sampled_from([1, 2, 3, 100]))
    def poll(self, count: int) -> None:
        now = self.clock.now()
        self.reference.tick(now)
        ready = self.reference.ready()
        messages = self.run(self.consuming.poll(count, member=self.member))
        assert len(messages) == min(count, len(ready))
        levels = [(one.priority, one.offset) for one in messages]
        assert levels == sorted(levels)
        for one in messages:
            assert one.delivery_count == self.reference.lease(one.offset, one.receipt, now)

    @precondition(lambda self: self.reference.receipts)
    @rule(
        act=st.sampled_from(["ack", "ack", "ack", "nack", "reject", "extend"]),
        pick=picks,
        seconds=st.sampled_from([0, 1, 35]),
        latest=st.booleans(),
    )
    def settle(self, act: str, pick: int, seconds: int, latest: bool) -> None:
        receipts = list(self.reference.receipts)
        if latest:
            live = [one.receipt for one in self.reference.messages if one.state is State.LEASED]
            receipts = [one for one in live if one is not None] or receipts
        receipt = receipts[pick % len(receipts)]
        expected = self.reference.use(receipt, act, seconds or 1, self.clock.now())
        acknowledging, principal = self.consuming.engine.acknowledging, self.consuming.principal
        calls: dict[str, Any] = {
            "ack": lambda: acknowledging.ack(principal, receipt),
            "nack": lambda: acknowledging.nack(principal, receipt, delay_seconds=seconds or 1),
            "reject": lambda: acknowledging.reject(principal, receipt, reason="r"),
            "extend": lambda: acknowledging.extend(principal, receipt, seconds or 1),
        }
        try:
            self.run(calls[act]())
        except NotFound:
            assert expected is Answer.NOT_FOUND, (act, self.reference.receipts[receipt])
        except Gone:
            assert expected is Answer.GONE, (act, self.reference.receipts[receipt])
        else:
            assert expected is Answer.DONE, (act, self.reference.receipts[receipt])

    @rule()
    def leave(self) -> None:
        self.reference.tick(self.clock.now())
        self.run(self.consuming.leave(self.member))
        self.member = f"m{self.members}"
        self.members += 1
        self.run(self.consuming.take_over(self.member))
        self.reference.leave()

    # Positions

    @rule(pick=picks)
    def commit(self, pick: int) -> None:
        self.reference.tick(self.clock.now())
        position = pick % (len(self.reference.messages) + 2)
        request = CommitRequest(member_id=self.member, offsets=[PartitionOffset(TOPIC, 0, position)])
        self.run(self.consuming.engine.positions.commit(self.consuming.principal, GROUP, request))
        # A position beyond the end settles nothing that is not there: what comes below it is never handed out.
        if position <= len(self.reference.messages):
            self.reference.commit(position, self.clock.now())
            self.reference.tick(self.clock.now())
        else:
            self.go_back_to_the_end()

    def go_back_to_the_end(self) -> None:
        end = len(self.reference.messages)
        self.reference.commit(end, self.clock.now())
        request = CommitRequest(member_id=self.member, offsets=[PartitionOffset(TOPIC, 0, end)])
        self.run(self.consuming.engine.positions.commit(self.consuming.principal, GROUP, request))

    @rule(pick=picks)
    def reset(self, pick: int) -> None:
        position = pick % (len(self.reference.messages) + 1)
        request = ResetRequest(topic=TOPIC, strategy=ResetStrategy.OFFSET, offset=position)
        self.run(self.consuming.engine.positions.reset(self.consuming.principal, GROUP, request))
        self.reference.reset(position)
        self.reference.tick(self.clock.now())

    # Time and trouble

    @rule(seconds=st.sampled_from([1, 3, 31, 40]))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        # Leases that end for the last time are ended by a loop.
        self.run(self.consuming.engine.lease_ends.expire())
        self.reference.tick(self.clock.now())
        self.reference.bury(self.clock.now())

    @rule()
    def restart(self) -> None:
        self.run(self._restart())

    async def _restart(self) -> None:
        await self.consuming.engine.close()
        await self.database.close()
        self.consuming = self.consuming.elsewhere(await self._open())

    # What must always hold

    @invariant()
    def nothing_is_lost_or_held_twice(self) -> None:
        DeliveryMachine.steps += 1
        if hasattr(self, "consuming"):
            self.run(self._compare())

    async def _compare(self) -> None:
        consuming = self.consuming
        low = await consuming.low()
        reference = self.reference
        if low is not None:
            # Nothing but what was owed when it was passed is unsettled below it.
            held = [
                one.offset for one in reference.messages if one.state is not State.SETTLED and not one.delayed
            ]
            assert low <= min(held, default=low)
        async with consuming.engine.context.database.session() as session:
            letters = await session.one(
                "select coalesce(sum(p.next_offset), 0) as letters from millstream.topics as t"
                " inner join millstream.partitions as p on p.tenant_id = t.tenant_id and p.topic_id = t.id"
                " where t.name = 'orders.dlq'"
            )
            leased = await session.one(
                "select coalesce(sum(leased), 0) as leased from millstream.deliveries where finished_at is null"
            )
        assert letters is not None
        assert leased is not None
        assert letters["letters"] == reference.buried
        now = self.clock.now()
        expected = [one for one in reference.messages if one.state is State.LEASED and one.visible_at > now]
        assert leased["leased"] >= len(expected)
