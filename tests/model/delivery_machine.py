"""A group on a real engine beside the reference: random operations, compared after each."""

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from millstream.domain.clock import SteeredClock
from millstream.domain.errors import AccessDenied, Gone, NotFound
from millstream.domain.group_position import CommitRequest, PartitionOffset, ResetRequest, ResetStrategy
from millstream.domain.topic import Priority
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.conftest import STARTED_AT, TEMPLATE, Cluster, make_principal
from tests.engine import groups_by_hand
from tests.engine.consuming import GROUP, TOPIC, Consuming
from tests.model.delivery_reference import DELIVERIES_MAX, Answer, Reference, ReferenceMessage, State

T = TypeVar("T")

picks = st.integers(0, 1_000)


class DeliveryMachine(RuleBasedStateMachine):
    """One partition and one group: a member that owns the partition, and at times another that did, or waits to."""

    cluster: ClassVar[Cluster]
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = SteeredClock(STARTED_AT)
        self.reference = Reference()
        self.database_name = f"model_{uuid4().hex[:12]}"
        self.runner = asyncio.Runner()
        self.member = "m0"
        self.other: str | None = None
        self.members = 1
        # Delayed messages that the committed offset has passed.
        self.owed: set[int] = set()
        # The last message of each priority that was handed out for the first time.
        self.last_fresh: dict[Priority, int] = {}

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
            assert one.delivery_count == self.reference.lease(one.offset, one.receipt, now, self.member)
            if one.delivery_count == 1 and not self.reference.messages[one.offset].delayed:
                assert one.offset > self.last_fresh.get(one.priority, -1)
                self.last_fresh[one.priority] = one.offset

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
        fading = self.reference.is_fading(receipt)
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
            answer = Answer.NOT_FOUND
        except Gone:
            answer = Answer.GONE
        else:
            answer = Answer.DONE
        if fading and answer is Answer.GONE:
            self.reference.fade(receipt)
        expected = self.reference.use(receipt, act, seconds or 1, self.clock.now())
        assert answer is expected, (act, self.reference.receipts[receipt])

    # Members

    @rule(other=st.booleans())
    def leave(self, other: bool) -> None:
        self.reference.tick(self.clock.now())
        leaving = self.other if other and self.other is not None else self.member
        self.run(self.consuming.leave(leaving))
        self.reference.leave(leaving)
        if leaving == self.member:
            if self.other is None:
                self.join()
            else:
                self.own(self.other)
        self.other = None

    def join(self) -> None:
        self.member = f"m{self.members}"
        self.members += 1
        self.run(self.consuming.take_over(self.member))

    def own(self, member: str) -> None:
        self.member = member
        consuming = self.consuming
        self.run(
            groups_by_hand.own(
                consuming.engine, consuming.principal, consuming.group_id, member, consuming.topic.id, 0
            )
        )

    @rule()
    def hand_over(self) -> None:
        """Let another member own the partition; what was leased to the former goes on."""
        former = self.member
        if self.other is None:
            self.join()
        else:
            self.own(self.other)
        self.other = former

    @precondition(lambda self: self.other is not None)
    @rule()
    def ask_for_what_another_owns(self) -> None:
        assert self.other is not None
        assert not self.run(self.consuming.poll(member=self.other))
        request = CommitRequest(member_id=self.other, offsets=[PartitionOffset(TOPIC, 0, 0)])
        try:
            self.run(self.consuming.engine.positions.commit(self.consuming.principal, GROUP, request))
        except AccessDenied:
            return
        raise AssertionError

    # Positions

    @rule(pick=picks)
    def commit(self, pick: int) -> None:
        self.last_fresh.clear()
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
        self.last_fresh.clear()
        position = pick % (len(self.reference.messages) + 1)
        request = ResetRequest(topic=TOPIC, strategy=ResetStrategy.OFFSET, offset=position)
        self.run(self.consuming.engine.positions.reset(self.consuming.principal, GROUP, request))
        self.reference.reset(position)
        self.reference.tick(self.clock.now())

    # Time and trouble

    @rule(seconds=st.sampled_from([1, 3, 31, 40]))
    def advance(self, seconds: int) -> None:
        self.move_to(self.clock.now() + timedelta(seconds=seconds))

    def move_to(self, moment: datetime) -> None:
        now = self.clock.now()
        if moment <= now:
            return
        self.clock.advance((moment - now).total_seconds())
        # Leases that end for the last time are ended by a loop.
        self.run(self.consuming.engine.lease_ends.expire())
        self.run(self.consuming.engine.delayed.deliver())
        self.reference.tick(self.clock.now())
        self.reference.bury(self.clock.now())

    def kept(self) -> list[ReferenceMessage]:
        return self.reference.messages[self.reference.log_start :]

    @precondition(lambda self: self.kept())
    @rule(pick=picks, leased=st.booleans())
    def let_expire(self, pick: int, leased: bool) -> None:
        """Have the log begin behind a message, which may have been handed out a moment ago."""
        kept = self.kept()
        expires_at = kept[pick % len(kept)].expires_at
        self.move_to(expires_at - timedelta(seconds=1))
        if leased:
            self.poll(100)
        self.move_to(expires_at + timedelta(seconds=1))
        self.retain()

    @rule()
    def retain(self) -> None:
        self.run(self.consuming.engine.log_retention.prune())
        self.reference.retain(self.clock.now())
        status = self.run(self.consuming.engine.topics.describe(self.consuming.principal, TOPIC))
        assert status.partitions[0].log_start == self.reference.log_start

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
        now = self.clock.now()
        if low is not None:
            unsettled = [
                one for one in reference.messages if one.state is not State.SETTLED and not one.removed
            ]
            passed = {one.offset for one in unsettled if one.offset < low}
            # Nothing is passed by but delayed messages before their first delivery; what was passed stays so.
            self.owed &= passed
            self.owed |= {one.offset for one in unsettled if one.delayed and one.count == 0} & passed
            assert passed == self.owed
        assert all(one.failures <= DELIVERIES_MAX for one in reference.messages)
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
        expected = [one for one in reference.messages if one.state is State.LEASED and one.visible_at > now]
        assert leased["leased"] >= len(expected)
