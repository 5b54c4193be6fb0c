"""Consumer groups: who is a member, and what it owns. Every change is one transaction under the group's lock."""

from collections.abc import Sequence

from millstream.domain import limits
from millstream.domain.consumer_group import (
    GroupStatus,
    GroupSummary,
    Heartbeat,
    JoinRequest,
    Membership,
    Protocol,
    check_generation,
    needs_rejoin,
    require_member_id,
    state_of,
    unknown_group,
    unknown_member,
)
from millstream.domain.rebalance import Reason
from millstream.domain.tenant import Principal
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.group_sweeping import GroupSweeping
from millstream.engine.joining import Joining
from millstream.engine.rebalancing import after_departures, lock, rebalance, wake_groups
from millstream.store import consumer_groups, group_assignments, group_members
from millstream.store.database import Session
from millstream.store.group_members import Beat


class Groups:
    """The consumer groups of all tenants, each seen through a principal of its own."""

    def __init__(self, context: Context, settings: TopicSettings) -> None:
        self._context = context
        self._settings = settings
        self._joining = Joining(context, settings)
        self._sweeping = GroupSweeping(context, settings)

    async def join(self, principal: Principal, group: str, request: JoinRequest) -> Membership:
        """Join a group on the eager protocol; the first joins of one without members are answered together.

        Raises BadRequest, NotFound for a topic, Conflict while the group has members of the other protocol.
        Contract: goqueue-messaging 7.4.
        """
        return await self._joining.join(principal.tenant_id, group, request, Protocol.EAGER)

    async def heartbeat(
        self, principal: Principal, group: str, member_id: str, generation: int = 0
    ) -> Heartbeat:
        """Note that a member lives, and tell whether its assignment is another one than at `generation`.

        Generation 0 only keeps alive. Raises BadRequest, NotFound, Conflict for a generation that lies ahead.
        Contract: goqueue-messaging 7.5.
        """
        require_member_id(member_id)
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            beat = accepted_beat(
                await group_members.beat_member(
                    session, tenant_id, group, member_id, generation, self._context.now()
                ),
                generation,
            )
        return Heartbeat(
            rebalance_required=needs_rejoin(beat.changes, generation),
            state=state_of((member_id,), is_rebalancing=beat.is_rebalancing),
            generation=beat.generation,
            topics=beat.topics,
            assigned=beat.assigned,
        )

    async def leave(self, principal: Principal, group: str, member_id: str) -> None:
        """Leave a group of either protocol; what the member was delivered is owed again at once.

        Raises BadRequest, NotFound. Contract: goqueue-messaging 7.6, 12.4.
        """
        require_member_id(member_id)
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            held = await lock(session, tenant_id, group, self._context.now())
            if not await group_members.remove_member(session, tenant_id, held.id, member_id):
                raise unknown_member()
            await after_departures(session, tenant_id, held, [member_id], Reason.MEMBER_LEFT, self._settings)
        self.wake(tenant_id, [held.id])

    async def list_names(self, principal: Principal) -> list[str]:
        """Return the names of all groups, sorted. Contract: goqueue-messaging 7.1."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await consumer_groups.list_group_names(session, principal.tenant_id)

    async def list_details(self, principal: Principal) -> list[GroupSummary]:
        """Return all groups, sorted by name. Contract: goqueue-messaging 7.1."""
        async with self._context.database.tenant(principal.tenant_id) as session:
            return await consumer_groups.list_group_summaries(session, principal.tenant_id)

    async def get(self, principal: Principal, group: str) -> GroupStatus:
        """Return a group. Raises NotFound. Contract: goqueue-messaging 7.2."""
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            reading = await consumer_groups.read_group(session, tenant_id, group, self._context.now())
        if reading is None:
            raise unknown_group()
        return reading.status

    async def delete(self, principal: Principal, group: str) -> None:
        """Delete a group with its members, positions and leases; messages stay. Raises NotFound.

        Contract: goqueue-messaging 7.3.
        """
        tenant_id = principal.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            held = await lock(session, tenant_id, group, self._context.now())
            await group_assignments.lock_assignments(session, tenant_id, [held])
            await consumer_groups.delete_group(session, tenant_id, held.id, self._context.now())
        self.wake(tenant_id, [held.id])

    async def topics_changed(self, session: Session, tenant_id: int, topic_id: int) -> list[int]:
        """Assign anew, in the caller's transaction, where a topic is read that was deleted or got more partitions.

        Call it once the topic's rows say so, and before any row of the log's partitions is locked; hand what it
        returns to `wake` after the commit. Of a deleted topic every group forgets positions and leases.
        Contract: goqueue-messaging 3.4, 7.7, 13.1.
        """
        held = await consumer_groups.lock_groups_of_topic(session, tenant_id, topic_id, self._context.now())
        if not held:
            return []
        await rebalance(session, tenant_id, held, Reason.PARTITIONS_CHANGED, self._settings)
        await group_assignments.forget_topic_if_deleted(session, tenant_id, topic_id, held)
        return [group.id for group in held]

    def wake(self, tenant_id: int, group_ids: Sequence[int]) -> None:
        """Have everybody look who waits for something of these groups."""
        wake_groups(self._context, tenant_id, group_ids)

    async def sweep(self) -> int:
        """Remove members that were silent too long, end what has waited long enough; returns in how many groups.

        Contract: goqueue-messaging 7.7, 12.8.
        """
        return await self._sweeping.sweep()

    async def remove_rows(self) -> int:
        """Remove a batch of what deleted groups were owed; returns how many rows."""
        async with self._context.database.session() as session:
            return await consumer_groups.remove_group_rows(session, limit=limits.PRUNED_ROWS_MAX)


def accepted_beat(beat: Beat | None, generation: int) -> Beat:
    """Return a heartbeat that was accepted. Raises NotFound, Conflict. Contract: goqueue-messaging 7.5."""
    if beat is None:
        raise unknown_group()
    if beat.known:
        check_generation(generation, beat.generation)
    if not beat.accepted:
        raise unknown_member()
    return beat
