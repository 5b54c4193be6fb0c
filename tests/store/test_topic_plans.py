"""The plans of topics: what a publish, a read or a description looks at does not grow with the log."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from millstream.domain.message import NewMessage
from millstream.store import record_batches
from millstream.store.database import Database, Session
from millstream.store.installation import direct_session
from millstream.store.record_batches import Append, Chunk, Part
from millstream.store.record_codec import encode_chunk
from millstream.store.topics import create_topic
from tests.store.conftest import MakeFilled
from tests.store.planning import STATEMENTS

TENANT = 1
PARTITIONS = 3
BATCHES = 100_000

# Ten messages each, some hidden; the same bytes in all, which nobody decodes here.
_FILL = """insert into millstream.record_batches (
    tenant_id, topic_id, partition, lane, base_offset, last_offset, lane_first, record_count, published_at, codec,
    size_bytes, records
)
select
    $1, $2, n % $3, 1 + n / $3 % 6, n / $3 * 10, n / $3 * 10 + 9, n / $3 / 6 * 10, 10,
    now() - interval '1 day' + n * interval '100 milliseconds', 0, 11, $5
from generate_series(0, $4 - 1) as n"""
_ADVANCE = """update millstream.partitions set next_offset = $4 / $3 * 10 + 10, last_published_at = now()
where tenant_id = $1 and topic_id = $2 and $3 > 0"""


async def make_topic(session: Session, name: str, batches: int) -> int:
    topic = await create_topic(session, TENANT, name, partitions=PARTITIONS, retention_hours=168, now=None)
    assert topic is not None
    if batches:
        records = b"\x9a" + b"\xc0" * 10
        await session.run(_FILL, TENANT, topic.id, PARTITIONS, batches, records)
        await session.run(_ADVANCE, TENANT, topic.id, PARTITIONS, batches)
        await session.run("set role millstream_owner")
        await session.run("vacuum (analyze) millstream.record_batches")
        await session.run("reset role")
    return topic.id


@pytest.fixture(scope="module")
def topics_dsn(make_filled: MakeFilled) -> Iterator[str]:
    """A database with an empty topic and one with many batches."""

    async def fill(dsn: str) -> None:
        async with direct_session(dsn) as session:
            await make_topic(session, "empty", 0)
            await make_topic(session, "full", BATCHES)

    with make_filled(fill) as dsn:
        yield dsn


@pytest.fixture
async def database(topics_dsn: str) -> AsyncIterator[Database]:
    opened = await Database.open(topics_dsn, min_size=1, max_size=2)
    yield opened
    await opened.close()


@pytest.fixture
async def topic_ids(database: Database) -> tuple[int, int]:
    """The empty topic and the one with many batches."""
    async with database.session() as session:
        rows = await session.many("select id from millstream.topics order by id")
    return rows[0]["id"], rows[1]["id"]


def buffers_of(node: Mapping[str, Any]) -> int:
    return node["Shared Hit Blocks"] + node["Shared Read Blocks"]


def nodes_of(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes_of(child)


async def measure(session: Session, name: str, arguments: Mapping[str, object]) -> tuple[int, set[str]]:
    """Run a statement twice, within a transaction that is taken back; return what the second touched, and how."""
    statement = STATEMENTS[name]
    values = [arguments.get(parameter) for parameter in statement.parameters]
    row = None
    await session.run("begin")
    try:
        for _ in range(2):
            row = await session.one(
                f"explain (analyze, buffers, timing off, summary off, format json) {statement.sql}", *values
            )
    finally:
        await session.run("rollback")
    assert row is not None
    plan = json.loads(row[0])[0]["Plan"]
    scans = {
        f"{node['Node Type']} {node['Relation Name']}"
        for node in nodes_of(plan)
        if node.get("Relation Name") in ("record_batches", "delayed_messages") and "Scan" in node["Node Type"]
    }
    return buffers_of(plan), scans


def publish_arguments(topic_id: int) -> Mapping[str, object]:
    data = encode_chunk([(NewMessage("v").value,)] * 10)
    part = [Part(partition, 10, [Chunk(3, range(10), data)]) for partition in range(PARTITIONS)]
    batch = record_batches._Batch([Append(TENANT, topic_id, part)])
    return dict(zip(record_batches.APPEND_PARAMETERS, batch.arguments(7, None), strict=True))


async def test_a_publish_touches_as_much_whatever_the_log_holds(
    database: Database, topic_ids: tuple[int, int]
) -> None:
    async with database.session() as session:
        touched = [
            (await measure(session, "append_record_batches", publish_arguments(topic_id)))[0]
            for topic_id in topic_ids
        ]
    # A deeper index is a block or two for each row.
    assert touched[1] <= touched[0] + 4 * PARTITIONS


async def test_descriptions_and_totals_do_not_look_at_batches(
    database: Database, topic_ids: tuple[int, int]
) -> None:
    async with database.tenant(TENANT) as session:
        for name in (
            "list_partitions",
            "count_delayed_messages",
            "count_pending_messages",
            "get_pending_counts",
        ):
            row = await session.one(
                f"explain (analyze, buffers, timing off, summary off, format json) {STATEMENTS[name].sql}",
                *[
                    {"tenant_id": TENANT, "topic_id": topic_ids[1]}.get(parameter)
                    for parameter in STATEMENTS[name].parameters
                ],
            )
            assert row is not None
            assert "record_batches" not in row[0], name


@pytest.mark.parametrize("offset", [0, 170_000, 333_000])
@pytest.mark.parametrize("from_time", [False, True])
async def test_a_page_is_read_by_its_key_wherever_it_lies(
    database: Database, topic_ids: tuple[int, int], offset: int, from_time: bool
) -> None:
    arguments: dict[str, object] = {
        "tenant_id": TENANT,
        "topic_id": topic_ids[1],
        "partition": 1,
        "offset": offset,
        "limit": 100,
        "bytes_max": 1_000_000,
    }
    async with database.session() as session:
        if from_time:
            row = await session.one("select now() - interval '1 hour' as at")
            assert row is not None
            arguments["from_time"] = row["at"]
        touched, scans = await measure(session, "read_record_batches", arguments)
    assert scans == {"Index Scan record_batches"}
    # A dozen look-ups and eleven batches; by time, some hundred look-ups more.
    assert touched < (1_500 if from_time else 150)


async def test_retention_that_has_nothing_to_do_looks_at_few_rows(
    database: Database, topic_ids: tuple[int, int]
) -> None:
    async with database.session() as session:
        touched, _ = await measure(
            session,
            "list_log_starts",
            {"after_tenant_id": 0, "after_topic_id": 0, "after_partition": -1, "limit": 500},
        )
    assert touched < 1_500 * len(topic_ids)
