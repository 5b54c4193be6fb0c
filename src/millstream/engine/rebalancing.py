"""Changes of consumer groups: what is decided under a group's lock is written by statements over sets."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from millstream.domain.assignment import Partition
from millstream.domain.consumer_group import unknown_group
from millstream.domain.rebalance import GroupMember, Reason, begin_rebalance, end_revocation
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.wakeups import EVERYONE, group_bell
from millstream.store import consumer_groups, deliveries, group_assignments, group_members
from millstream.store.consumer_groups import LockedGroup
from millstream.store.database import Session
from millstream.store.group_assignments import Assignment


class _Before(Struct):
    # What was read of a group, to tell what has changed.
    members: Mapping[str, GroupMember]
    owners: Mapping[Partition, str | None]
    targets: Mapping[Partition, str]


class GroupChange:
    """Groups that one transaction holds. Change `groups`, then `write`.

    Members are written before partitions, of all groups, since that is the order of locks.
    """

    def __init__(self, session: Session, tenant_id: int, groups: Sequence[LockedGroup]) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self.groups = groups
        self._before: dict[int, _Before] = {}

    async def load(self) -> None:
        """Read members and partitions; call it after members were added or removed."""
        await group_members.load_members(self._session, self._tenant_id, self.groups)
        await group_assignments.load_assignments(self._session, self._tenant_id, self.groups)
        for held in self.groups:
            group = held.group
            self._before[held.id] = _Before(
                {member_id: replace(member) for member_id, member in group.members.items()},
                dict(group.owners),
                dict(group.targets),
            )

    async def write(self) -> None:
        """Write what has changed."""
        if not self.groups:
            return
        at = max(held.at for held in self.groups)
        await consumer_groups.save_groups(self._session, self._tenant_id, self.groups, at)
        members = {
            (held.id, member_id): member
            for held in self.groups
            for member_id, member in held.group.members.items()
            if member != self._before[held.id].members.get(member_id)
        }
        if members:
            await group_members.save_members(self._session, self._tenant_id, members)
        await self._write_assignments(at)

    async def _write_assignments(self, at: datetime) -> None:
        changed: list[Assignment] = []
        added: list[Assignment] = []
        for held in self.groups:
            before = self._before[held.id]
            known_topics = {topic_id for topic_id, _ in before.owners}
            for partition in sorted({*held.group.owners, *held.group.targets}):
                assignment = _assignment_of(held, partition)
                if partition not in before.owners:
                    added.append(_with_start(assignment, held, known_topics))
                elif assignment.member_id != before.owners[
                    partition
                ] or assignment.target_id != before.targets.get(partition):
                    changed.append(assignment)
        if changed:
            # All of them: more are held in the same transaction, and none out of order.
            await group_assignments.lock_assignments(self._session, self._tenant_id, self.groups)
            await group_assignments.change_assignments(self._session, self._tenant_id, changed, at)
        if added:
            await group_assignments.add_assignments(self._session, self._tenant_id, added, at)


async def lock(session: Session, tenant_id: int, group: str, now: datetime | None) -> LockedGroup:
    """Hold a group until the transaction ends. Raises NotFound."""
    held = await consumer_groups.lock_group(session, tenant_id, group, now)
    if held is None:
        raise unknown_group()
    return held


def wake_groups(context: Context, tenant_id: int, group_ids: Sequence[int]) -> None:
    """Have everybody look who waits for something of these groups."""
    for group_id in group_ids:
        context.wakeups.wake(tenant_id, group_bell(group_id), EVERYONE)


async def rebalance(
    session: Session,
    tenant_id: int,
    groups: Sequence[LockedGroup],
    reason: Reason,
    settings: TopicSettings,
) -> None:
    """Begin a new generation of groups that the transaction holds."""
    change = GroupChange(session, tenant_id, groups)
    await change.load()
    for held in groups:
        begin_rebalance(held.group, reason, held.at, revocation_seconds=settings.revocation_seconds)
    await change.write()


async def greet_and_rebalance(
    session: Session, tenant_id: int, held: LockedGroup, settings: TopicSettings
) -> None:
    """Assign for the members whose joins were gathered. They could not say a word before they are answered."""
    await group_members.greet_members(session, tenant_id, held.id, held.at)
    await rebalance(session, tenant_id, [held], Reason.MEMBER_JOINED, settings)


async def assign_gathered(
    session: Session, tenant_id: int, held: LockedGroup, settings: TopicSettings
) -> bool:
    """End the gathering of joins if its time is over; returns whether it did."""
    until = held.group.gathering_until
    if until is None or held.at < until:
        return False
    await greet_and_rebalance(session, tenant_id, held, settings)
    return True


async def after_departures(
    session: Session,
    tenant_id: int,
    held: LockedGroup,
    member_ids: Sequence[str],
    reason: Reason,
    settings: TopicSettings,
) -> None:
    """Assign what removed members owned, and make owed at once what they were delivered.

    While joins are gathered nothing is assigned. Contract: goqueue-messaging 7.6, 9.7.
    """
    until = held.group.gathering_until
    if until is None or held.at >= until:
        await rebalance(session, tenant_id, [held], reason, settings)
    else:
        await group_members.load_members(session, tenant_id, [held])
        if not held.group.members:
            held.group.gathering_until = None
            await consumer_groups.save_groups(session, tenant_id, [held], held.at)
    await group_assignments.lock_assignments(session, tenant_id, [held])
    await deliveries.give_back(session, tenant_id, held.id, member_ids, held.at)


async def end_overdue_revocation(session: Session, tenant_id: int, held: LockedGroup) -> bool:
    """Take what was not given up in time; returns whether there was anything to do."""
    if held.group.revoking_until is None or held.at < held.group.revoking_until:
        return False
    change = GroupChange(session, tenant_id, [held])
    await change.load()
    if not end_revocation(held.group, held.at):
        return False
    await change.write()
    return True


def _assignment_of(held: LockedGroup, partition: Partition) -> Assignment:
    topic_id, number = partition
    return Assignment(
        group_id=held.id,
        topic_id=topic_id,
        partition=number,
        member_id=held.group.owners.get(partition),
        target_id=held.group.targets.get(partition),
    )


def _with_start(assignment: Assignment, held: LockedGroup, known_topics: set[int]) -> Assignment:
    # A partition that was added to a topic which the group reads already is read from its beginning.
    reader = held.group.members.get(assignment.member_id or assignment.target_id or "")
    at_end = reader is not None and reader.starts_latest and assignment.topic_id not in known_topics
    return replace(assignment, at_end=at_end)
