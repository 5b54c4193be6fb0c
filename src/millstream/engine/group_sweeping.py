"""What becomes due in consumer groups by itself: sessions that run out, windows and grace periods that end."""

from contextlib import suppress
from datetime import datetime

from millstream.domain import limits
from millstream.domain.errors import NotFound, RowLocked, Unavailable
from millstream.domain.rebalance import Reason
from millstream.domain.topic_settings import TopicSettings
from millstream.engine.context import Context
from millstream.engine.rebalancing import (
    after_departures,
    assign_gathered,
    end_overdue_revocation,
    lock,
    wake_groups,
)
from millstream.engine.relay import LIVE_SECONDS
from millstream.store import consumer_groups, group_members, upkeep
from millstream.store.consumer_groups import GroupToTend, LockedGroup
from millstream.store.database import Session

SWEEP_SECONDS = 0.5


class GroupSweeping:
    """Tends the groups of all tenants.

    Silence of a member counts from when this process, or the longest-living one beside it, began to serve: nobody
    is blamed for a time in which nobody could have heard. As long as a dead process may pass for a living one,
    that is `LIVE_SECONDS` after its own begin, a process evicts nobody. Contract: goqueue-messaging 7.7.
    """

    def __init__(self, context: Context, settings: TopicSettings) -> None:
        self._context = context
        self._settings = settings
        self._serving_since: datetime | None = context.now()

    async def sweep(self) -> int:
        """Remove members that were silent too long, end what has waited long enough; returns in how many groups."""
        try:
            due = await self._list_due()
        except Unavailable:
            # Nobody was heard meanwhile.
            self._serving_since = None
            raise
        tended = 0
        for group in due:
            # One that somebody holds for seconds is left to the next sweep.
            with suppress(NotFound, RowLocked):
                tended += await self._tend(group)
        return tended

    async def _list_due(self) -> list[GroupToTend]:
        now = self._context.now()
        async with self._context.database.session() as session:
            if self._serving_since is None:
                self._serving_since = await upkeep.get_database_time(session, now)
            return await consumer_groups.list_groups_to_tend(
                session,
                serving_since=self._serving_since,
                process_id=self._context.process_id,
                live_seconds=LIVE_SECONDS,
                limit=limits.GROUPS_TENDED_MAX,
                now=now,
            )

    async def _tend(self, due: GroupToTend) -> bool:
        tenant_id = due.tenant_id
        async with self._context.database.tenant(tenant_id) as session:
            held = await lock(session, tenant_id, due.name, self._context.now())
            changed = (
                await assign_gathered(session, tenant_id, held, self._settings)
                or await self._evict(session, tenant_id, held, due.since)
                or await end_overdue_revocation(session, tenant_id, held)
            )
        if changed:
            wake_groups(self._context, tenant_id, [held.id])
        return changed

    async def _evict(self, session: Session, tenant_id: int, held: LockedGroup, since: datetime) -> bool:
        # While joins are gathered nobody has been told yet who it is.
        if held.group.gathering_until is not None:
            return False
        silent = await group_members.remove_silent_members(
            session, tenant_id, held.id, since=since, at=held.at
        )
        if silent:
            await after_departures(session, tenant_id, held, silent, Reason.MEMBER_TIMEOUT, self._settings)
        return bool(silent)
