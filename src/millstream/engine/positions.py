"""Positions of consumer groups: listed, committed by members, reset. Contract: goqueue-messaging 10, 14.5, 14.10."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from millstream.domain.consumer_group import check_group_name
from millstream.domain.delivery import Delivery, Outcome
from millstream.domain.errors import AccessDenied, BadRequest, Conflict, NotFound
from millstream.domain.group_position import (
    ALL_PARTITIONS,
    CommitRequest,
    GroupPositions,
    PartitionOffset,
    ResetRequest,
    ResetStrategy,
)
from millstream.domain.tenant import Principal
from millstream.engine.context import Context
from millstream.engine.handing_out import GENERATION_AHEAD, GROUP_NOT_FOUND, MEMBER_NOT_FOUND
from millstream.engine.sightings import Sightings
from millstream.engine.topics import TOPIC_NOT_FOUND
from millstream.engine.wakeups import EVERYONE, group_bell
from millstream.store import deliveries, position_changes, topics
from millstream.store.database import Session
from millstream.store.group_positions import GroupPartition
from millstream.store.position_changes import NewPosition

OFFSET_MAX: Final = 2**62


class Positions:
    """How far groups are."""

    def __init__(self, context: Context, sightings: Sightings) -> None:
        self._context = context
        self._sightings = sightings

    async def list(self, principal: Principal, group: str, topic: str | None = None) -> GroupPositions:
        """Return the next offset to read by topic and partition, nothing for a group that is not known.

        Contract: goqueue-messaging 10.1.
        """
        async with self._context.database.tenant(principal.tenant_id) as session:
            found = await position_changes.list_positions(session, principal.tenant_id, group, topic)
        return found or GroupPositions(generation=0, updated_at=None, offsets={})

    async def commit(self, principal: Principal, group: str, request: CommitRequest) -> None:
        """Settle everything below offsets of partitions that a member owns, all of them or none.

        Committing backwards lets the group read again. Raises NotFound for an unknown group or member, AccessDenied for
        a partition that is not the member's, Conflict for a generation that is ahead. Contract: goqueue-messaging 10.2.
        """
        tenant_id, offsets = principal.tenant_id, _distinct(request)
        now = self._context.now()
        async with self._context.database.tenant(tenant_id) as session:
            member = await position_changes.find_committing_member(
                session, tenant_id, group, request.member_id
            )
            if member is None:
                raise NotFound(GROUP_NOT_FOUND)
            if member.member_id is None:
                raise NotFound(MEMBER_NOT_FOUND)
            if request.generation is not None and request.generation > member.generation:
                raise Conflict(GENERATION_AHEAD)
            owned = await position_changes.lock_owned(session, tenant_id, member, offsets)
            positions = [one for one in owned if one is not None]
            if len(positions) < len(offsets):
                raise AccessDenied("partition not assigned to this member")
            await self._end_leases(session, tenant_id, member.group_id, positions, Outcome.COMMITTED)
            await position_changes.commit(session, tenant_id, member.group_id, positions, now)
        await self._sightings.saw([(tenant_id, member.group_id, request.member_id)])
        self._context.wakeups.wake(tenant_id, group_bell(member.group_id), EVERYONE)

    async def reset(
        self, principal: Principal, group: str, request: ResetRequest
    ) -> Sequence[PartitionOffset]:
        """Let a group, which need not exist, begin anew somewhere; returns where.

        Raises BadRequest, or NotFound for an unknown topic or partition. Contract: goqueue-messaging 10.3.
        """
        tenant_id, now = principal.tenant_id, self._context.now()
        offset, timestamp = _target_of(request)
        check_group_name(group)
        async with self._context.database.tenant(tenant_id) as session:
            positions = await position_changes.find_reset_positions(
                session,
                tenant_id,
                request.topic,
                partition=None if request.partition == ALL_PARTITIONS else request.partition,
                offset=offset,
                timestamp=timestamp,
                to_end=request.strategy is ResetStrategy.LATEST,
            )
            if not positions:
                is_known = await topics.find_topic(session, tenant_id, request.topic) is not None
                raise NotFound(f"partition {request.partition} not found" if is_known else TOPIC_NOT_FOUND)
            group_id = None
            if not request.dry_run:
                group_id = await position_changes.find_or_create_group(session, tenant_id, group, now)
                await position_changes.lock_for_reset(session, tenant_id, group_id, positions, now)
                await self._end_leases(session, tenant_id, group_id, positions, Outcome.SUPERSEDED)
                await position_changes.reset(session, tenant_id, group_id, positions, now)
        if group_id is not None:
            self._context.wakeups.wake(tenant_id, group_bell(group_id), EVERYONE)
        return [PartitionOffset(request.topic, one.partition, one.position) for one in positions]

    async def _end_leases(
        self,
        session: Session,
        tenant_id: int,
        group_id: int,
        positions: Sequence[NewPosition],
        outcome: Outcome,
    ) -> None:
        """End leases: all of them by a reset, those below the positions by a commit."""
        keys = [GroupPartition(tenant_id, group_id, one.topic_id, one.partition) for one in positions]
        ends = {
            (one.topic_id, one.partition): one.position if outcome is Outcome.COMMITTED else OFFSET_MAX
            for one in positions
        }
        live = await deliveries.lock_live(session, keys)
        for delivery in live:
            _end(delivery, ends[delivery.key.topic_id, delivery.key.partition], outcome)
        changed = [delivery for delivery in live if delivery.changed]
        if changed:
            await deliveries.record(session, changed, (), self._context.now())


def _end(delivery: Delivery, end: int, outcome: Outcome) -> None:
    for place, offset in enumerate(delivery.offsets):
        if offset < end and delivery.outcomes[place] == Outcome.LEASED:
            delivery.settle(place, outcome)


def _distinct(request: CommitRequest) -> Sequence[PartitionOffset]:
    if not request.offsets:
        raise BadRequest("offsets are required")
    if not all(0 <= one.offset <= OFFSET_MAX for one in request.offsets):
        raise BadRequest(f"invalid offset: 0 to {OFFSET_MAX}")
    # The last one counts where a partition is named twice.
    return list({(one.topic, one.partition): one for one in request.offsets}.values())


def _target_of(request: ResetRequest) -> tuple[int | None, datetime | None]:
    match request.strategy:
        case ResetStrategy.OFFSET:
            if request.offset is None or not 0 <= request.offset <= OFFSET_MAX:
                raise BadRequest("offset is required")
            return request.offset, None
        case ResetStrategy.TIMESTAMP:
            if request.timestamp is None:
                raise BadRequest("timestamp is required")
            return None, request.timestamp
        case ResetStrategy.EARLIEST | ResetStrategy.LATEST:
            return None, None
