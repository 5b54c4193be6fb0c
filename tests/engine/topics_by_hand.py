"""Topics made row by row, for tests of what stands on them."""

from millstream.domain.topic import LANES, Topic
from millstream.engine.engine import Engine

_TOPIC = """insert into millstream.topics (tenant_id, name, partitions, retention_hours, created_at)
values ($1, $2, $3, 168, now())
returning tenant_id, id, name, partitions, retention_hours, created_at"""
_PARTITIONS = """insert into millstream.partitions (tenant_id, topic_id, partition)
select $1, $2, number from generate_series($3::int, $4::int - 1) as number"""
_GROW = "update millstream.topics set partitions = $3 where tenant_id = $1 and id = $2"
_DELETE = "update millstream.topics set deleted_at = now() where tenant_id = $1 and id = $2"
_APPEND = """update millstream.partitions
set log_start = $4, next_offset = $5, lane_starts = $6, lane_nexts = $7
where tenant_id = $1 and topic_id = $2 and partition = $3"""


async def make_topic(engine: Engine, tenant_id: int, name: str, partitions: int) -> Topic:
    """Make a topic with empty partitions."""
    async with engine.context.database.transaction() as session:
        row = await session.one(_TOPIC, tenant_id, name, partitions)
        assert row is not None
        topic = Topic(
            tenant_id=row["tenant_id"],
            id=row["id"],
            name=row["name"],
            partitions=row["partitions"],
            retention_hours=row["retention_hours"],
            created_at=row["created_at"],
        )
        await session.run(_PARTITIONS, tenant_id, topic.id, 0, partitions)
    return topic


async def grow_topic(engine: Engine, topic: Topic, partitions: int) -> None:
    """Give a topic more partitions, as its log does."""
    async with engine.context.database.transaction() as session:
        await session.run(_GROW, topic.tenant_id, topic.id, partitions)
        await session.run(_PARTITIONS, topic.tenant_id, topic.id, topic.partitions, partitions)
        changed = await engine.groups.topics_changed(session, topic.tenant_id, topic.id)
    engine.groups.wake(topic.tenant_id, changed)


async def delete_topic(engine: Engine, topic: Topic) -> None:
    """Delete a topic, as its log does."""
    async with engine.context.database.transaction() as session:
        await session.run(_DELETE, topic.tenant_id, topic.id)
        changed = await engine.groups.topics_changed(session, topic.tenant_id, topic.id)
    engine.groups.wake(topic.tenant_id, changed)


async def fill_partition(engine: Engine, topic: Topic, partition: int, *, start: int, end: int) -> None:
    """Have a partition reach from `start` to `end`, all of it in the lane of normal priority."""
    lanes = [0] * len(LANES)
    starts, nexts = lanes.copy(), lanes.copy()
    starts[2], nexts[2] = start, end
    async with engine.context.database.session() as session:
        await session.run(_APPEND, topic.tenant_id, topic.id, partition, start, end, starts, nexts)
