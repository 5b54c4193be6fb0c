"""A tenant whose consumers join groups, each through one engine or another."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from millstream.domain.clock import SteeredClock
from millstream.domain.consumer_group import Heartbeat, JoinRequest, Membership
from millstream.domain.tenant import Principal
from millstream.domain.topic import Topic
from millstream.engine.engine import Engine
from tests.engine.topics_by_hand import make_topic

GROUP = "g"
WINDOW_SECONDS = 0.25
_ROWS = """select t.name || '-' || p.partition as label, p.member_id, p.target_member_id, p.start_offset, p.low,
    p.lane_bases, p.lane_offsets, p.lane_seqs,
    (
        select coalesce(sum(d.leased), 0)::int from millstream.deliveries as d
        where d.tenant_id = p.tenant_id and d.group_id = p.group_id and d.topic_id = p.topic_id and d.partition = p.partition
    ) as in_flight
from millstream.group_partitions as p
join millstream.topics as t on t.tenant_id = p.tenant_id and t.id = p.topic_id
join millstream.consumer_groups as g on g.tenant_id = p.tenant_id and g.id = p.group_id
where p.tenant_id = $1 and g.name = $2
order by t.name, p.partition"""
_LEASE = """insert into millstream.deliveries (
    tenant_id, group_id, topic_id, partition, lane, member_id, secret, base_offset, message_count, outcomes, leased,
    lowest_leased, first_delivered_at, delivered_at, deadline
)
values ($1, $2, $3, $4, 3, $5, 1, $7, 3, '\\x000100', 2, $7, $6::timestamptz, $6, $6 + interval '30 seconds')"""
_OWED = """select "offset", lane, visible_at, attempt from millstream.redeliveries
where tenant_id = $1 and group_id = $2 order by 1"""


class Consumers:
    """What a tenant's consumers do."""

    def __init__(self, engine: Engine, principal: Principal, clock: SteeredClock) -> None:
        self.engine = engine
        self.principal = principal
        self.clock = clock

    def through(self, engine: Engine) -> "Consumers":
        """Return the same tenant at another engine."""
        return Consumers(engine, self.principal, self.clock)

    async def topic(self, name: str = "orders", partitions: int = 6) -> Topic:
        return await make_topic(self.engine, self.principal.tenant_id, name, partitions)

    def joining(
        self, client_id: str = "w", topics: Sequence[str] = ("orders",), group: str = GROUP, **options: Any
    ) -> "asyncio.Task[Membership]":
        """Join in the background: joins of an empty group wait for others."""
        request = JoinRequest(client_id=client_id, topics=topics, **options)
        return asyncio.create_task(self.engine.groups.join(self.principal, group, request))

    async def gather(self, *joins: "asyncio.Task[Membership]", group: str = GROUP) -> list[Membership]:
        """Have joins that are under way answered together."""
        await until(lambda: self._is_member_count(len(joins), group))
        self.clock.advance(WINDOW_SECONDS)
        # As the loop does; here it spares a test the rest of the window in true time.
        await self.engine.groups.sweep()
        async with asyncio.timeout(10):
            return list(await asyncio.gather(*joins))

    async def join_first(
        self, *client_ids: str, topics: Sequence[str] = ("orders",), group: str = GROUP, **options: Any
    ) -> list[Membership]:
        """Join as the first members of a group."""
        joins = [self.joining(client_id, topics, group, **options) for client_id in client_ids]
        return await self.gather(*joins, group=group)

    async def join(
        self, client_id: str = "w", topics: Sequence[str] = ("orders",), group: str = GROUP, **options: Any
    ) -> Membership:
        """Join a group that has members."""
        async with asyncio.timeout(10):
            return await self.joining(client_id, topics, group, **options)

    async def heartbeat(self, member_id: str, generation: int = 0, group: str = GROUP) -> Heartbeat:
        return await self.engine.groups.heartbeat(self.principal, group, member_id, generation)

    async def leave(self, member_id: str, group: str = GROUP) -> None:
        await self.engine.groups.leave(self.principal, group, member_id)

    async def rows(self, group: str = GROUP) -> dict[str, Any]:
        """Return the rows of a group's partitions by label."""
        async with self.engine.context.database.session() as session:
            return {row["label"]: row for row in await session.many(_ROWS, self.principal.tenant_id, group)}

    async def owners(self, group: str = GROUP) -> dict[str, str | None]:
        """Return who owns what, by label."""
        return {label: row["member_id"] for label, row in (await self.rows(group)).items()}

    async def lease(
        self, group_id: int, topic: Topic, partition: int, member_id: str, *, offset: int = 10
    ) -> None:
        """Have a member hold the first and last of three messages from `offset` on; it acknowledged the second."""
        key = (topic.tenant_id, group_id, topic.id, partition)
        async with self.engine.context.database.transaction() as session:
            await session.run(_LEASE, *key, member_id, self.clock.now(), offset)

    async def owed(self, group_id: int) -> list[tuple[Any, ...]]:
        """Return what a group is to be delivered again."""
        async with self.engine.context.database.session() as session:
            rows = await session.many(_OWED, self.principal.tenant_id, group_id)
            return [(row["offset"], row["lane"], row["visible_at"], row["attempt"]) for row in rows]

    async def _is_member_count(self, count: int, group: str) -> bool:
        summaries = await self.engine.groups.list_details(self.principal)
        return any(summary.name == group and summary.members == count for summary in summaries)


def labels(membership: Membership) -> list[str]:
    """Return what a member was assigned when it joined."""
    return [partition.label for partition in membership.me.assigned]


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Return once `is_so`; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not await is_so():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
