"""Joining a consumer group. The first joins of one without members are gathered for a moment and answered together."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from millstream.domain import limits
from millstream.domain.consumer_group import (
    JoinRequest,
    Membership,
    Protocol,
    check_group_name,
    check_join,
    unknown_group,
    unknown_member,
)
from millstream.domain.errors import BadRequest, Conflict, NotFound
from millstream.domain.rebalance import Reason
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.rebalancing import assign_gathered, greet_and_rebalance, lock, rebalance, wake_groups
from millstream.engine.wakeups import group_bell
from millstream.store import consumer_groups, group_members
from millstream.store.consumer_groups import GroupReading, HeldTopic, LockedGroup
from millstream.store.database import Session

# A join that waits for others looks again after this long even if nobody wakes it.
LOOK_SECONDS_MAX = 1.0
LOOK_SECONDS_MIN = 0.001


class _Entry(Struct, frozen=True, kw_only=True):
    # A member that joined: what it is called, and for how long joins are still gathered, None when they are not.
    group_id: int
    member_id: str
    gathers_for: float | None


class Joining:
    """Takes members in. Processes meet in the group's row: whichever finds the window over assigns for all."""

    def __init__(self, context: Context, settings: TopicSettings) -> None:
        self._context = context
        self._settings = settings

    async def join(self, tenant_id: int, group: str, request: JoinRequest, protocol: Protocol) -> Membership:
        """Join a group. Raises BadRequest, NotFound, Conflict. Contract: goqueue-messaging 7.4, 12.1."""
        check_group_name(group)
        topics = check_join(request)
        entry = await self._enter(tenant_id, group, request, topics, protocol)
        reading = await self._answer(tenant_id, group, entry)
        # It may have been evicted meanwhile.
        reading.status.member(entry.member_id)
        return Membership(member_id=entry.member_id, group=reading.status)

    async def _enter(
        self, tenant_id: int, name: str, request: JoinRequest, topics: Sequence[str], protocol: Protocol
    ) -> _Entry:
        async with self._context.database.tenant(tenant_id) as session:
            # Held, so that no partition is added to them unnoticed before the membership is there to see.
            subscribed = await _hold_topics(session, tenant_id, topics)
            held = await self._lock_or_create(session, tenant_id, name)
            group = held.group
            await group_members.load_members(session, tenant_id, [held])
            _check_room(held, request, subscribed, protocol)
            opens = not group.members and protocol is Protocol.EAGER and self._settings.gathering_seconds > 0
            group.protocol = protocol
            if opens:
                group.gathering_until = held.at + timedelta(seconds=self._settings.gathering_seconds)
            topic_ids = [topic.id for topic in subscribed]
            known = group.members.get(request.member_id or "")
            member_id = await self._put(session, tenant_id, held, request, topic_ids)
            until = group.gathering_until
            gathers = until is not None and held.at < until
            if gathers:
                await consumer_groups.save_groups(session, tenant_id, [held], held.at)
            elif until is not None:
                await greet_and_rebalance(session, tenant_id, held, self._settings)
            elif known is None or list(known.topic_ids) != topic_ids:
                await rebalance(session, tenant_id, [held], Reason.MEMBER_JOINED, self._settings)
        if not gathers:
            wake_groups(self._context, tenant_id, [held.id])
        left = (until - held.at).total_seconds() if gathers and until is not None else None
        return _Entry(group_id=held.id, member_id=member_id, gathers_for=left)

    async def _lock_or_create(self, session: Session, tenant_id: int, name: str) -> LockedGroup:
        now = self._context.now()
        held = await consumer_groups.lock_group(session, tenant_id, name, now)
        if held is not None:
            return held
        await consumer_groups.create_group(session, tenant_id, name, now)
        return await lock(session, tenant_id, name, now)

    async def _put(
        self,
        session: Session,
        tenant_id: int,
        held: LockedGroup,
        request: JoinRequest,
        topic_ids: Sequence[int],
    ) -> str:
        settings = self._settings
        member_id = request.member_id
        if member_id is None or member_id not in held.group.members:
            member_id = f"{request.client_id}-{self._context.ids.next().hex}"
        seconds = settings.session_seconds if request.session_seconds is None else request.session_seconds
        latest = settings.starts_latest if request.starts_latest is None else request.starts_latest
        await group_members.put_member(
            session,
            tenant_id,
            held.id,
            member_id,
            client_id=request.client_id,
            topic_ids=topic_ids,
            starts_latest=latest,
            # Stored in milliseconds: a shorter session is one of a millisecond.
            session_timeout_ms=max(round(seconds * 1000), 1),
            at=held.at,
        )
        return member_id

    async def _answer(self, tenant_id: int, name: str, entry: _Entry) -> GroupReading:
        """Return the group once joins are not gathered any more."""
        left = entry.gathers_for
        while True:
            if left is not None:
                seconds = min(max(left, LOOK_SECONDS_MIN), LOOK_SECONDS_MAX)
                await self._context.wakeups.wait(tenant_id, [group_bell(entry.group_id)], seconds)
            reading = await self._read(tenant_id, name, entry.group_id)
            left = reading.gathers_for
            if left is None:
                return reading
            if left <= 0:
                await self._end_gathering(tenant_id, name)

    async def _read(self, tenant_id: int, name: str, group_id: int) -> GroupReading:
        async with self._context.database.tenant(tenant_id) as session:
            reading = await consumer_groups.read_group(session, tenant_id, name, self._context.now())
        if reading is None:
            raise unknown_group()
        if reading.status.id != group_id:
            # It was deleted while its joins were gathered, and made anew.
            raise unknown_member()
        return reading

    async def _end_gathering(self, tenant_id: int, name: str) -> None:
        async with self._context.database.tenant(tenant_id) as session:
            held = await lock(session, tenant_id, name, self._context.now())
            ended = await assign_gathered(session, tenant_id, held, self._settings)
        if ended:
            wake_groups(self._context, tenant_id, [held.id])


async def _hold_topics(session: Session, tenant_id: int, names: Sequence[str]) -> list[HeldTopic]:
    found = {topic.name: topic for topic in await consumer_groups.hold_topics(session, tenant_id, names)}
    for name in names:
        if name not in found:
            raise NotFound(f"topic not found: {name}")
    return [found[name] for name in names]


def _check_room(
    held: LockedGroup, request: JoinRequest, subscribed: Sequence[HeldTopic], protocol: Protocol
) -> None:
    members = held.group.members
    if members and held.group.protocol is not protocol:
        raise Conflict(f"group uses the {held.group.protocol.word} protocol")
    if request.member_id not in members and len(members) >= limits.GROUP_MEMBERS_MAX:
        raise Conflict(f"group is full: {limits.GROUP_MEMBERS_MAX} members at most")
    if sum(topic.partitions for topic in subscribed) > limits.GROUP_PARTITIONS_MAX:
        raise BadRequest(f"too many partitions: {limits.GROUP_PARTITIONS_MAX} at most")
