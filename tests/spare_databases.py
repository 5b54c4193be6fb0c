"""Migrated databases to be alone in, used again: emptying one costs a tenth of copying one."""

import secrets
from collections.abc import Callable

import psycopg
from psycopg import sql

# Changes with anything that a test may do to the schema: what it adds or alters has a newer xmin, what it drops is
# missing. Vacuum and analyze change neither.
_SHAPE = """
select count(*), max(o.changed)
from (
    select xmin::text::bigint as changed from pg_class where oid >= 16384
    union all select xmin::text::bigint from pg_attribute where attrelid >= 16384
    union all select xmin::text::bigint from pg_constraint where oid >= 16384
    union all select xmin::text::bigint from pg_index where indrelid >= 16384
    union all select xmin::text::bigint from pg_namespace where oid >= 16384
    union all select xmin::text::bigint from pg_policy
    union all select xmin::text::bigint from pg_proc where oid >= 16384
    union all select xmin::text::bigint from pg_trigger
) as o
"""
# Sessions that a test left behind would hold locks, or write once more.
_END_SESSIONS = """
select pg_terminate_backend(pid, 10000)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
_TABLES = """
select relname
from pg_class
where relnamespace = 'millstream'::regnamespace and relkind in ('r', 'p') and not relispartition
"""
_ROWS = sql.SQL("select jsonb_agg(t)::text from {} as t")
_INSERT = sql.SQL("insert into {} select * from jsonb_populate_recordset(null::{}, {}::jsonb)")


class SpareDatabases:
    """Copies of `template` on the server of `superuser_dsn_of`; what one borrower left behind no other sees."""

    def __init__(self, superuser_dsn_of: Callable[[str], str], template: str) -> None:
        self._dsn_of = superuser_dsn_of
        self._template = template
        self._empty: list[_Spare] = []
        self._lent: dict[str, _Spare] = {}

    def borrow(self) -> str:
        """Return the name of a database that is as the template is."""
        spare = self._empty.pop() if self._empty else self._copy()
        self._lent[spare.name] = spare
        return spare.name

    def give_back(self, name: str) -> None:
        """Take `name` back: emptied, or dropped if its schema is no longer the template's."""
        spare = self._lent.pop(name)
        if spare.restore():
            self._empty.append(spare)
        else:
            self._drop(spare)

    def close(self) -> None:
        """Drop what is left."""
        for spare in (*self._empty, *self._lent.values()):
            self._drop(spare)

    def _copy(self) -> "_Spare":
        name = f"test_{secrets.token_hex(6)}"
        self._at_maintenance(sql.SQL("create database {} template {}"), name, self._template)
        return _Spare(name, psycopg.connect(self._dsn_of(name), autocommit=True))

    def _drop(self, spare: "_Spare") -> None:
        spare.connection.close()
        self._at_maintenance(sql.SQL("drop database {} with (force)"), spare.name)

    def _at_maintenance(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self._dsn_of("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(*map(sql.Identifier, names)))


class _Spare:
    # Its connection is kept: a new one would cost more than everything that is done with it.

    def __init__(self, name: str, connection: psycopg.Connection) -> None:
        self.name = name
        self.connection = connection
        self._shape = connection.execute(_SHAPE).fetchone()
        self._restoration = _restoration(connection)

    def restore(self) -> bool:
        """Make it as it was; False when that is not to be had by deleting rows."""
        self.connection.execute(_END_SESSIONS)
        if self.connection.execute(_SHAPE).fetchone() != self._shape:
            return False
        self.connection.execute(self._restoration)
        return True


def _restoration(connection: psycopg.Connection) -> sql.Composed:
    # Neither triggers nor foreign keys: everything goes. Sequences go on, so that no test meets the dead rows of
    # another one's tenant.
    steps: list[sql.Composable] = [sql.SQL("set session_replication_role = replica")]
    for (name,) in connection.execute(_TABLES).fetchall():
        table = sql.Identifier("millstream", name)
        steps.append(sql.SQL("delete from {}").format(table))
        row = connection.execute(_ROWS.format(table)).fetchone()
        if row is not None and row[0] is not None:
            # What the migrations themselves wrote.
            steps.append(_INSERT.format(table, table, row[0]))
    return sql.SQL(";").join(steps)
