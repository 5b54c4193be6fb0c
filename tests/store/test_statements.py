import re

import asyncpg
import pytest

from millstream.store.queries import load_all

STATEMENTS = load_all()
_STEERED_NOW = re.compile(r"coalesce\(\$\d+::timestamptz, now\(\)\)")


async def test_every_statement_is_prepared_by_a_migrated_database(
    connection: asyncpg.Connection,
) -> None:
    for name, statement in sorted(STATEMENTS.items()):
        prepared = await connection.prepare(statement.sql)
        assert len(prepared.get_parameters()) == len(statement.parameters), name
        labels = [column.name for column in prepared.get_attributes()]
        # A statement that is read has columns, each under a name of its own; one that is only run has none.
        assert bool(labels) == (statement.shape != "exec"), name
        assert len(labels) == len(set(labels)), name


async def test_every_relation_is_named_with_its_schema(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select relname::text as name from pg_class"
        " where relnamespace = 'millstream'::regnamespace and relkind in ('r', 'p', 'v')"
    )
    relations = "|".join(sorted(row["name"] for row in rows))
    bare = re.compile(rf"\b(?:from|join|into|update|using)\s+(?:{relations})\b")
    assert bare.search("delete from jobs as j")
    for name, statement in STATEMENTS.items():
        assert bare.search(statement.sql) is None, name


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_reads_the_clock_but_as_a_default(name: str) -> None:
    # Steered tests and real servers run the same statements: a bare now() would ignore the steering.
    assert "now()" not in _STEERED_NOW.sub("", STATEMENTS[name].sql)
