"""The cooperative protocol: members go on reading what they keep, and give up one by one what moves."""

from collections.abc import Collection, Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.consumer_group import (
    GroupStatus,
    JoinRequest,
    Membership,
    MemberStatus,
    Protocol,
    TopicPartition,
    require_member_id,
    unknown_group,
    unknown_member,
)
from millstream.domain.rebalance import RebalanceState, RebalanceStatistics, confirm, end_revocation, revoke
from millstream.domain.tenant import Principal
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.groups import accepted_beat
from millstream.engine.joining import Joining
from millstream.engine.rebalancing import GroupChange, lock, wake_groups
from millstream.store import consumer_groups, group_assignments, group_members
from millstream.store.group_members import Beat


class CooperativeHeartbeat(Struct, frozen=True, kw_only=True):
    """What a member is told. `to_revoke` and its deadline: what it has to give up; `assigned`: all that it owns."""

    rebalance_required: bool
    state: RebalanceState
    protocol: Protocol
    generation: int
    to_revoke: Sequence[TopicPartition] | None = None
    revocation_deadline: datetime | None = None
    assigned: Sequence[TopicPartition] | None = None


class Revocation(Struct, frozen=True, kw_only=True):
    """What became of giving up partitions: how many members still have to, and how far the rebalance is."""

    pending: int
    state: RebalanceState


class CooperativeStatus(Struct, frozen=True, kw_only=True):
    """A group with what is told of its rebalances."""

    group: GroupStatus
    rebalance_state: RebalanceState
    statistics: RebalanceStatistics


class Cooperative:
    """Members of cooperative groups, each seen through a principal. Contract: goqueue-messaging 12."""

    def __init__(self, context: Context, settings: TopicSettings) -> None:
        self._context = context
        self._joining = Joining(context, settings)

    async def join(self, principal: Principal, group: str, request: JoinRequest) -> Membership:
        """Join a group; what the member owns it learns by heartbeats.

        Raises BadRequest, NotFound for a topic, Conflict while the group has members of the other protocol.
        Contract: goqueue-messaging 12.1.
        """
        return await self._joining.join(principal.tenant_id, group, request, Protocol.COOPERATIVE)

    async def heartbeat(
        self, principal: Principal, group: str, member_id: str, generation: int
    ) -> CooperativeHeartbeat:
        """Note that a member lives and tell it what to give up, or what it owns.

        The generation told is the one that members knew when the rebalance began for as long as they give up
        partitions, the new one afterwards. Raises BadRequest, NotFound, Conflict for a generation that lies ahead.
        Contract: goqueue-messaging 12.2.
        """
        require_member_id(member_id)
        beat = await self._beat(principal.tenant_id, group, member_id, generation)
        if _brings_news(beat, generation):
            beat = await self._advance(principal.tenant_id, group, member_id, generation)
        return _told(beat)

    async def revoke(
        self,
        principal: Principal,
        group: str,
        member_id: str,
        generation: int,
        partitions: Collection[TopicPartition],
    ) -> Revocation:
        """Give up partitions; what was asked for and is not listed stays owed.

        Raises BadRequest, NotFound, and Conflict for another generation than the rebalance's or when there is no
        rebalance. Contract: goqueue-messaging 12.3.
        """
        require_member_id(member_id)
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            held = await lock(session, tenant_id, group, self._context.now())
            if not await group_members.touch_member(session, tenant_id, held.id, member_id, held.at):
                raise unknown_member()
            topic_ids = await group_assignments.list_topic_ids(
                session, tenant_id, sorted({partition.topic for partition in partitions})
            )
            change = GroupChange(session, tenant_id, [held])
            await change.load()
            end_revocation(held.group, held.at)
            pending = revoke(
                held.group,
                member_id,
                generation,
                {
                    (topic_ids[partition.topic], partition.partition)
                    for partition in partitions
                    if partition.topic in topic_ids
                },
            )
            await change.write()
        wake_groups(self._context, tenant_id, [held.id])
        return Revocation(pending=pending, state=held.group.rebalance_state)

    async def get_assignment(
        self, principal: Principal, group: str, member_id: str
    ) -> tuple[int, MemberStatus]:
        """Return the generation and a member of a group of either protocol. Raises BadRequest, NotFound.

        Contract: goqueue-messaging 12.5.
        """
        require_member_id(member_id)
        status = (await self.get(principal, group)).group
        return status.generation, status.member(member_id)

    async def get(self, principal: Principal, group: str) -> CooperativeStatus:
        """Return a group of either protocol. Raises NotFound. Contract: goqueue-messaging 12.6."""
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            reading = await consumer_groups.read_group(session, tenant_id, group, self._context.now())
        if reading is None:
            raise unknown_group()
        state = RebalanceState.NONE if reading.rebalance is None else reading.rebalance.state
        return CooperativeStatus(group=reading.status, rebalance_state=state, statistics=reading.statistics)

    async def statistics(self, principal: Principal, group: str | None = None) -> RebalanceStatistics:
        """Return what rebalances a group had, or all groups together. Raises NotFound.

        Contract: goqueue-messaging 12.7.
        """
        async with self._context.database.tenant(principal.tenant_id) as session:
            counted = await consumer_groups.list_statistics(session, principal.tenant_id, group)
        if group is not None and not counted:
            raise unknown_group()
        total = RebalanceStatistics()
        for statistics in counted:
            total.add(statistics)
        return total

    async def _beat(self, tenant_id: int, group: str, member_id: str, generation: int) -> Beat:
        async with self._context.database.tenant(tenant_id) as session:
            beat = await group_members.beat_member(
                session, tenant_id, group, member_id, generation, self._context.now()
            )
        return accepted_beat(beat, generation)

    async def _advance(self, tenant_id: int, group: str, member_id: str, generation: int) -> Beat:
        """Do under the group's lock what a heartbeat brings about, and see what the member is to be told then."""
        async with self._context.database.tenant(tenant_id) as session:
            held = await lock(session, tenant_id, group, self._context.now())
            change = GroupChange(session, tenant_id, [held])
            await change.load()
            if member_id not in held.group.members:
                raise unknown_member()
            ended = end_revocation(held.group, held.at)
            if confirm(held.group, member_id, generation, held.at) or ended:
                await change.write()
            beat = await group_members.beat_member(
                session, tenant_id, group, member_id, generation, self._context.now()
            )
        if ended:
            wake_groups(self._context, tenant_id, [held.id])
        return accepted_beat(beat, generation)


def _brings_news(beat: Beat, generation: int) -> bool:
    if beat.rebalance is None:
        return False
    if beat.rebalance.state is RebalanceState.PENDING_REVOKE:
        return beat.revoking_until is not None and beat.at >= beat.revoking_until
    return (
        beat.rebalance.state is RebalanceState.PENDING_ASSIGN
        and generation == beat.generation
        and beat.confirmed != generation
    )


def _told(beat: Beat) -> CooperativeHeartbeat:
    begun = beat.rebalance
    if begun is not None and begun.state is RebalanceState.PENDING_REVOKE:
        owes = bool(beat.moving)
        return CooperativeHeartbeat(
            rebalance_required=True,
            state=begun.state,
            protocol=beat.protocol,
            generation=begun.start_generation,
            to_revoke=beat.moving if owes else None,
            revocation_deadline=beat.revoking_until if owes else None,
        )
    # A member of an eager group owns what it was assigned, too.
    state = RebalanceState.COMPLETE if begun is None else begun.state
    return CooperativeHeartbeat(
        rebalance_required=beat.is_rebalancing,
        state=state,
        protocol=beat.protocol,
        generation=beat.generation,
        assigned=beat.assigned,
    )
