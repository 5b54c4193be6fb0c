"""A table of its own behind a batcher, so that what group commit does can be seen row by row."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from millstream.domain.errors import MillstreamError, OutcomeUnknown
from millstream.store.database import Database

_CREATE = """create table millstream.landing (
    id int primary key, tenant_id int not null, value int not null, batch bigint not null,
    constraint landing_value_small check (value < 100)
)"""
_INSERT = """with batch as materialized (select pg_advisory_xact_lock($1::bigint)),
held as materialized (
    select l.id from batch, unnest($2::int[]) as g (id)
    join millstream.landing as l on l.id = g.id order by l.id for update of l
)
insert into millstream.landing (id, tenant_id, value, batch)
select g.id, g.tenant_id, g.value, $1 from batch, unnest($2::int[], $3::int[], $4::int[]) as g (id, tenant_id, value)
where (select count(*) from held) >= 0
on conflict (id) do update set value = landing.value + excluded.value
returning id"""


class Item(NamedTuple):
    """A row to land; a value of 100 or more is poison."""

    id: int
    tenant_id: int = 1
    value: int = 1


class Landing:
    """Runs rows as one statement. While `gate` is closed, statements wait before they begin."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    @classmethod
    async def create(cls, database: Database) -> "Landing":
        async with database.transaction() as session:
            await session.run("set local role millstream_owner")
            await session.run(_CREATE)
        return cls(database)

    async def run(self, rows: Sequence[Item], batch_id: int) -> list[int | MillstreamError]:
        """Insert `rows`, adding to what is there already, and answer each with its id."""
        self.batches.append([row.id for row in rows])
        self.begun.set()
        await self.gate.wait()
        async with self.database.session() as session:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await session.many(_INSERT, batch_id, *columns)
        return [row.id for row in rows]

    async def recover(
        self, rows: Sequence[Item], batch_id: int, _started_at: float
    ) -> list[int | MillstreamError]:
        """Answer which of `rows` the batch landed, once its session has ended."""
        async with self.database.transaction() as session:
            await session.one("select pg_advisory_xact_lock($1)", batch_id)
            found = await session.many("select id from millstream.landing where batch = $1", batch_id)
        landed = {record["id"] for record in found}
        return [row.id if row.id in landed else OutcomeUnknown() for row in rows]

    async def landed(self) -> dict[int, int]:
        """Return the values that are in the table, by id."""
        async with self.database.session() as session:
            rows = await session.many("select id, value from millstream.landing")
        return {row["id"]: row["value"] for row in rows}
