"""Rebalances of both protocols, decided without a database. Contract: goqueue-messaging 7.7, 12.8."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from millstream.domain.assignment import Partition
from millstream.domain.consumer_group import Protocol
from millstream.domain.errors import Conflict
from millstream.domain.rebalance import (
    Group,
    GroupMember,
    Reason,
    RebalanceState,
    RebalanceStatistics,
    begin_rebalance,
    confirm,
    end_revocation,
    revoke,
)

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GRACE_SECONDS = 60


def group_of(protocol: Protocol, topics: dict[int, int], *members: str) -> Group:
    return Group(
        protocol=protocol,
        generation=0,
        gathering_until=None,
        revoking_until=None,
        rebalance=None,
        statistics=RebalanceStatistics(),
        members={name: member_of(topics) for name in members},
        owners={},
        targets={},
        topics=topics,
    )


def member_of(topics: dict[int, int]) -> GroupMember:
    return GroupMember(topic_ids=list(topics), starts_latest=False)


def begin(group: Group, reason: Reason, at: datetime = AT) -> None:
    begin_rebalance(group, reason, at, revocation_seconds=GRACE_SECONDS)


def cooperative(partitions: int, *members: str) -> Group:
    """A cooperative group whose members have learned what they own."""
    group = group_of(Protocol.COOPERATIVE, {1: partitions}, *members)
    begin(group, Reason.MEMBER_JOINED)
    for name in members:
        confirm(group, name, group.generation, AT)
    return group


def shares(group: Group) -> Counter[str | None]:
    return Counter(group.owners.values())


def test_an_eager_group_is_assigned_anew_at_once() -> None:
    group = group_of(Protocol.EAGER, {1: 4}, "a", "b")
    begin(group, Reason.MEMBER_JOINED)
    assert group.owners == {(1, 0): "a", (1, 1): "a", (1, 2): "b", (1, 3): "b"}
    group.members["c"] = member_of({1: 4})
    begin(group, Reason.MEMBER_JOINED, AT + timedelta(seconds=5))
    assert group.owners == {(1, 0): "a", (1, 1): "a", (1, 2): "b", (1, 3): "c"}
    assert (group.generation, group.targets, group.is_rebalancing) == (2, {}, False)
    assert group.members["a"].changes == group.members["a"].changes[:1]
    assert [change.generation for change in group.members["b"].changes] == [1, 2]
    counted = group.statistics
    assert (counted.total, counted.successful, counted.failed) == (2, 2, 0)
    assert (counted.partitions_assigned, counted.partitions_revoked) == (5, 1)
    assert counted.last_at == AT + timedelta(seconds=5)
    assert counted.by_reason["member_joined"] == 2


def test_what_nobody_subscribes_to_any_more_belongs_to_nobody() -> None:
    group = group_of(Protocol.EAGER, {1: 2, 2: 1}, "a")
    begin(group, Reason.MEMBER_JOINED)
    group.members["a"].topic_ids = [2]
    begin(group, Reason.MEMBER_JOINED)
    assert group.owners == {(1, 0): None, (1, 1): None, (2, 0): "a"}
    del group.members["a"]
    begin(group, Reason.MEMBER_LEFT)
    assert group.owners == {(1, 0): None, (1, 1): None, (2, 0): None}
    assert group.generation == 3


def test_a_newcomer_waits_until_others_have_given_up_its_share() -> None:
    group = cooperative(6, "a", "b")
    group.members["c"] = member_of({1: 6})
    begin(group, Reason.MEMBER_JOINED)
    assert group.rebalance_state is RebalanceState.PENDING_REVOKE
    assert group.revoking_until == AT + timedelta(seconds=GRACE_SECONDS)
    # What moves stays with its owner until that one has given it up.
    assert shares(group) == {"a": 3, "b": 3}
    assert len(group.owed_by("a")) == len(group.owed_by("b")) == 1
    assert revoke(group, "a", 1, group.owed_by("a")) == 1
    assert shares(group) == {"a": 2, "b": 3, None: 1}
    assert revoke(group, "b", 2, group.owed_by("b")) == 0
    assert group.rebalance_state is RebalanceState.PENDING_ASSIGN
    assert shares(group) == {"a": 2, "b": 2, "c": 2}
    assert [confirm(group, name, 2, AT + timedelta(seconds=3)) for name in "abca"] == [
        *(True, True, True),
        False,
    ]
    assert group.rebalance_state is RebalanceState.COMPLETE
    assert not group.is_rebalancing
    counted = group.statistics
    assert (counted.total, counted.successful, counted.failed) == (2, 2, 0)
    assert (counted.partitions_revoked, counted.partitions_assigned) == (2, 8)
    assert (counted.last_duration_ms, counted.average_duration_ms) == (3000, 1500)


def test_two_partitions_are_shared_by_two() -> None:
    group = cooperative(2, "a")
    group.members["b"] = member_of({1: 2})
    begin(group, Reason.MEMBER_JOINED)
    revoke(group, "a", 1, group.owed_by("a"))
    assert shares(group) == {"a": 1, "b": 1}


def test_what_is_not_listed_stays_owed() -> None:
    group = cooperative(6, "a")
    group.members["b"] = member_of({1: 6})
    begin(group, Reason.MEMBER_JOINED)
    owed = group.owed_by("a")
    assert len(owed) == 3
    kept = next(partition for partition in group.owners if partition not in owed)
    assert revoke(group, "a", 1, [owed[0], kept, (9, 9)]) == 1
    assert group.owed_by("a") == owed[1:]
    assert group.owners[kept] == "a"
    assert revoke(group, "a", 1, owed) == 0


def test_a_revocation_that_is_not_asked_for_is_refused() -> None:
    group = cooperative(2, "a")
    with pytest.raises(Conflict, match="no active rebalance"):
        revoke(group, "a", 1, [])
    group.members["b"] = member_of({1: 2})
    begin(group, Reason.MEMBER_JOINED)
    for generation in (0, 3):
        with pytest.raises(Conflict, match="stale generation"):
            revoke(group, "a", generation, [])
    owed = group.owed_by("a")
    assert revoke(group, "a", 1, owed) == 0
    # The same once more, as clients repeat what they were not answered.
    assert revoke(group, "a", 1, owed) == 0


def test_what_is_not_given_up_in_time_is_taken() -> None:
    group = cooperative(4, "a", "b")
    group.members["c"] = member_of({1: 4})
    begin(group, Reason.MEMBER_JOINED)
    assert not end_revocation(group, AT + timedelta(seconds=GRACE_SECONDS - 1))
    assert end_revocation(group, AT + timedelta(seconds=GRACE_SECONDS))
    assert group.rebalance_state is RebalanceState.PENDING_ASSIGN
    assert group.statistics.revocation_timeouts == 1
    assert not end_revocation(group, AT + timedelta(seconds=GRACE_SECONDS))
    assert shares(group)["c"] == 1


def test_a_change_amid_a_rebalance_begins_another_and_keeps_what_is_owned() -> None:
    group = cooperative(6, "a", "b")
    group.members["c"] = member_of({1: 6})
    begin(group, Reason.MEMBER_JOINED)
    revoke(group, "a", 1, group.owed_by("a"))
    group.members["d"] = member_of({1: 6})
    begin(group, Reason.MEMBER_JOINED)
    assert (group.generation, shares(group)) == (3, {"a": 2, "b": 3, None: 1})
    assert group.rebalance is not None
    # Members still know the generation before the first of the two.
    assert group.rebalance.start_generation == 1
    assert revoke(group, "b", 1, group.owed_by("b")) == 0
    assert sorted(shares(group).values()) == [1, 1, 2, 2]
    assert group.statistics.failed == 1


def test_a_member_that_leaves_is_replaced_without_asking_anybody() -> None:
    group = cooperative(6, "a", "b", "c")
    kept = {partition: owner for partition, owner in group.owners.items() if owner != "b"}
    del group.members["b"]
    begin(group, Reason.MEMBER_LEFT)
    assert group.rebalance_state is RebalanceState.PENDING_ASSIGN
    assert shares(group) == {"a": 3, "c": 3}
    assert kept.items() <= group.owners.items()


def test_the_last_member_ends_the_rebalance_with_its_departure() -> None:
    group = cooperative(2, "a")
    del group.members["a"]
    begin(group, Reason.MEMBER_LEFT)
    assert (group.generation, group.rebalance_state) == (2, RebalanceState.NONE)
    assert shares(group) == {None: 2}
    assert group.statistics.successful == 2


def test_statistics_of_groups_add_up() -> None:
    one, other = cooperative(2, "a").statistics, cooperative(3, "a").statistics
    other.last_at = AT + timedelta(seconds=1)
    other.last_duration_ms = 7
    total = RebalanceStatistics()
    for counted in (one, other, RebalanceStatistics()):
        total.add(counted)
    assert (total.total, total.partitions_assigned, total.last_duration_ms) == (2, 5, 7)
    assert total.last_at == other.last_at
    assert RebalanceStatistics().average_duration_ms == 0


class CooperativeMachine(RuleBasedStateMachine):
    """Members of a cooperative group come, go, obey, hesitate."""

    def __init__(self) -> None:
        super().__init__()
        self.group = group_of(Protocol.COOPERATIVE, {1: 5, 2: 3})
        self.at = AT
        # What each live member may believe to own: it was assigned, and neither given up nor taken in the end.
        self.held: dict[Partition, str] = {}
        self.generation = 0

    @rule(name=st.sampled_from("abcdef"), topic_ids=st.sampled_from([(1,), (2,), (1, 2), (1, 2)]))
    def join(self, name: str, topic_ids: tuple[int, ...]) -> None:
        member = self.group.members.setdefault(name, GroupMember(topic_ids=(), starts_latest=False))
        member.topic_ids = topic_ids
        self.held = {
            partition: owner
            for partition, owner in self.held.items()
            if owner != name or partition[0] in topic_ids
        }
        self.begin(Reason.MEMBER_JOINED)

    @precondition(lambda self: self.group.members)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.group.members)))
        del self.group.members[name]
        self.held = {partition: owner for partition, owner in self.held.items() if owner != name}
        self.begin(Reason.MEMBER_LEFT)

    @rule()
    def grow(self) -> None:
        self.group.topics = {**self.group.topics, 2: self.group.topics[2] + 1}
        self.begin(Reason.PARTITIONS_CHANGED)

    @precondition(lambda self: self.group.debtors())
    @rule(data=st.data(), all_of_it=st.booleans())
    def obey(self, data: st.DataObject, all_of_it: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.group.debtors())))
        given = self.group.owed_by(name)[: None if all_of_it else 1]
        revoke(self.group, name, self.group.generation, given)
        for partition in given:
            del self.held[partition]
        self.note()

    @rule(seconds=st.sampled_from([1, GRACE_SECONDS]))
    def wait(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)
        owed = {partition for name in self.group.debtors() for partition in self.group.owed_by(name)}
        if end_revocation(self.group, self.at):
            for partition in owed:
                del self.held[partition]
        self.note()

    @rule()
    def everybody_listens(self) -> None:
        for name in sorted(self.group.members):
            confirm(self.group, name, self.group.generation, self.at)
        if self.group.members and not self.group.debtors():
            assert self.group.rebalance_state is RebalanceState.COMPLETE

    def begin(self, reason: Reason) -> None:
        begin(self.group, reason, self.at)
        self.note()

    def note(self) -> None:
        for partition, owner in self.group.owners.items():
            if owner is not None:
                # Nobody gets what a live member may still believe to own.
                assert self.held.get(partition, owner) == owner
                self.held[partition] = owner

    @invariant()
    def owners_read_what_they_own(self) -> None:
        for (topic_id, partition), owner in self.group.owners.items():
            if owner is not None:
                assert topic_id in self.group.members[owner].topic_ids
                assert partition < self.group.topics[topic_id]

    @invariant()
    def nobody_loses_what_it_did_not_give_up(self) -> None:
        for partition, owner in self.held.items():
            assert self.group.owners[partition] == owner

    @invariant()
    def the_state_says_who_is_waited_for(self) -> None:
        is_pending = self.group.rebalance_state is RebalanceState.PENDING_REVOKE
        assert is_pending == bool(self.group.debtors())
        assert is_pending == (self.group.revoking_until is not None)
        if not is_pending:
            assert self.group.targets == {}

    @invariant()
    def what_is_settled_is_shared_by_all_subscribers(self) -> None:
        if self.group.debtors():
            return
        loads = Counter(self.group.owners.values())
        for topic_id, count in self.group.topics.items():
            readers = [name for name, member in self.group.members.items() if topic_id in member.topic_ids]
            owned = [self.group.owners.get((topic_id, partition)) for partition in range(count)]
            assert all(owned) if readers else not any(owned)
        if all(set(member.topic_ids) == {1, 2} for member in self.group.members.values()):
            sizes = [loads[name] for name in self.group.members]
            assert max(sizes, default=0) - min(sizes, default=0) <= 1

    @invariant()
    def generations_only_grow(self) -> None:
        assert self.group.generation >= self.generation
        self.generation = self.group.generation


CooperativeMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestCooperativeMachine = CooperativeMachine.TestCase
