"""Consumer groups put into the database as they stand after joins: for tests of what members are handed."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from millstream.domain.tenant import Principal
from millstream.domain.topic import Topic
from millstream.engine.engine import Engine
from millstream.store import deliveries


async def put_group(engine: Engine, principal: Principal, name: str) -> int:
    """Make a group of generation 1 without members; returns its id."""
    async with engine.context.database.session() as session:
        row = await session.one(
            "insert into millstream.consumer_groups (tenant_id, name, generation, created_at, updated_at)"
            " values ($1, $2, 1, coalesce($3, now()), coalesce($3, now())) returning id",
            principal.tenant_id,
            name,
            engine.context.now(),
        )
    assert row is not None
    return int(row["id"])


async def put_member(
    engine: Engine,
    principal: Principal,
    group_id: int,
    member_id: str,
    owned: Mapping[int, Sequence[int]],
    *,
    session_seconds: float = 30.0,
) -> None:
    """Make a member that owns partitions, by topic id; those that the group knows go over to it."""
    async with engine.context.database.session() as session:
        await session.run(
            "insert into millstream.group_members (tenant_id, group_id, member_id, client_id, topic_ids, session_timeout_ms,"
            " joined_at, seen_at, generation) values ($1, $2, $3, $3, $4, $5, coalesce($6, now()), coalesce($6, now()), 1)",
            principal.tenant_id,
            group_id,
            member_id,
            list(owned),
            int(session_seconds * 1000),
            engine.context.now(),
        )
    for topic_id, partitions in owned.items():
        for partition in partitions:
            await own(engine, principal, group_id, member_id, topic_id, partition)


async def own(
    engine: Engine, principal: Principal, group_id: int, member_id: str, topic_id: int, partition: int
) -> None:
    """Let a member own a partition, from the start of its log unless the group has a position there."""
    async with engine.context.database.session() as session:
        await session.run(
            "insert into millstream.group_partitions as g (tenant_id, group_id, topic_id, partition, member_id,"
            " start_offset, lane_bases, lane_offsets, lane_seqs, updated_at)"
            " select $1, $2, $3, $4, $5, p.log_start, array_fill(p.log_start, '{6}'), array_fill(p.log_start, '{6}'),"
            " p.lane_starts, coalesce($6, now())"
            " from millstream.partitions as p where p.tenant_id = $1 and p.topic_id = $3 and p.partition = $4"
            " on conflict (tenant_id, group_id, topic_id, partition) do update set member_id = excluded.member_id",
            principal.tenant_id,
            group_id,
            topic_id,
            partition,
            member_id,
            engine.context.now(),
        )


async def join(
    engine: Engine,
    principal: Principal,
    group: str,
    members: Sequence[str],
    topics: Sequence[Topic],
) -> int:
    """Make a group whose members share the partitions of topics in turn; returns its id."""
    group_id = await put_group(engine, principal, group)
    for number, member in enumerate(members):
        owned = {topic.id: list(range(number, topic.partitions, len(members))) for topic in topics}
        await put_member(engine, principal, group_id, member, owned)
    return group_id


async def leave(
    engine: Engine, principal: Principal, group_id: int, member_id: str, now: datetime | None
) -> None:
    """Let a member go: what it holds is owed at once."""
    async with engine.context.database.transaction() as session:
        await session.run(
            "select from millstream.group_partitions where tenant_id = $1 and group_id = $2"
            " order by topic_id, partition for update",
            principal.tenant_id,
            group_id,
        )
        await deliveries.give_back(session, principal.tenant_id, group_id, [member_id], now)
        await session.run(
            "delete from millstream.group_members where tenant_id = $1 and group_id = $2 and member_id = $3",
            principal.tenant_id,
            group_id,
            member_id,
        )
        await session.run(
            "update millstream.group_partitions set member_id = null"
            " where tenant_id = $1 and group_id = $2 and member_id = $3",
            principal.tenant_id,
            group_id,
            member_id,
        )
