"""What each failure of a real server means."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from millstream.domain.errors import (
    DatabaseUnavailable,
    MillstreamError,
    OutcomeUnknown,
    PoisonRow,
    RowLocked,
    Unavailable,
)
from millstream.store.database import Database, Session, meaning_of
from tests.conftest import Cluster
from tests.store.conftest import Connect

INSERT = (
    "insert into millstream.jobs (tenant_id, id, queue, state, priority, max_retries, timeout_seconds, created_at,"
    " updated_at, payload) values (1, gen_random_uuid(), $1, 1, $2, 3, 300, now(), now(), '{}')"
)


async def a_check_that_fails(session: Session) -> None:
    await session.run(INSERT, "q", 101)


async def a_number_that_does_not_fit(session: Session) -> None:
    await session.run("select $1::text::smallint", "70000")


async def a_text_that_is_no_uuid(session: Session) -> None:
    await session.run("select $1::text::uuid", "x")


async def an_argument_that_the_driver_cannot_encode(session: Session) -> None:
    await session.run(INSERT, "q", 70_000)


async def an_argument_of_another_type(session: Session) -> None:
    await session.run(INSERT, 7, 1)


async def a_nul_in_a_text(session: Session) -> None:
    await session.run("select $1::text", "a\0b")


async def a_lone_surrogate(session: Session) -> None:
    await session.run("select $1::text", "\ud800")


async def a_null_where_none_may_be(session: Session) -> None:
    await session.run(INSERT, None, 1)


async def a_key_that_is_taken(session: Session) -> None:
    for _ in range(2):
        await session.run("insert into millstream.job_labels (tenant_id, kind, label) values (1, 1, 'q')")


async def an_index_entry_that_is_too_large(session: Session) -> None:
    # Random, so that compression does not make it fit.
    await session.run(
        "insert into millstream.job_labels (tenant_id, kind, label) values (1, 1, $1)",
        secrets.token_hex(20_000),
    )


async def a_statement_that_takes_too_long(session: Session) -> None:
    await session.run("set statement_timeout = '20ms'")
    await session.run("select pg_sleep(5)")


async def a_transaction_that_may_not_write(session: Session) -> None:
    await session.run("begin read only")
    try:
        await session.run(INSERT, "q", 1)
    finally:
        await session.run("rollback")


async def a_table_that_is_missing(session: Session) -> None:
    await session.run("select * from millstream.nowhere")


async def a_statement_with_a_slip(session: Session) -> None:
    await session.run("selekt 1")


Provoke = Callable[[Session], Awaitable[None]]
MEANINGS: list[tuple[Provoke, type[MillstreamError]]] = [
    (a_check_that_fails, PoisonRow),
    (a_number_that_does_not_fit, PoisonRow),
    (a_text_that_is_no_uuid, PoisonRow),
    (an_argument_that_the_driver_cannot_encode, PoisonRow),
    (an_argument_of_another_type, PoisonRow),
    (a_nul_in_a_text, PoisonRow),
    (a_lone_surrogate, PoisonRow),
    (a_null_where_none_may_be, PoisonRow),
    (a_key_that_is_taken, PoisonRow),
    (an_index_entry_that_is_too_large, PoisonRow),
    (a_statement_that_takes_too_long, Unavailable),
    (a_transaction_that_may_not_write, Unavailable),
]


@pytest.mark.parametrize(("provoke", "meaning"), MEANINGS, ids=[provoke.__name__ for provoke, _ in MEANINGS])
async def test_a_failure_has_its_meaning(
    database: Database, provoke: Provoke, meaning: type[MillstreamError]
) -> None:
    with pytest.raises(MillstreamError) as failed:
        async with database.session() as session:
            await provoke(session)
    assert type(failed.value) is meaning
    # The connection serves the next one.
    async with database.session() as session:
        assert await session.one("select 1") is not None


@pytest.mark.parametrize("provoke", [a_table_that_is_missing, a_statement_with_a_slip])
async def test_a_defect_of_ours_is_not_dressed_up(database: Database, provoke: Provoke) -> None:
    with pytest.raises(asyncpg.PostgresError) as failed:
        async with database.session() as session:
            await provoke(session)
    assert meaning_of(failed.value, sent=True) is None


async def test_a_row_that_another_holds_is_locked(database: Database, connect: Connect) -> None:
    other = await connect()
    await other.execute("insert into millstream.job_labels (tenant_id, kind, label) values (1, 1, 'q')")
    async with other.transaction():
        await other.execute("select * from millstream.job_labels for update")
        with pytest.raises(RowLocked):
            async with database.session() as session:
                await session.run("update millstream.job_labels set kind = 2")


async def test_two_that_wait_for_each_other_are_told_that_a_row_is_locked(
    database: Database, connect: Connect
) -> None:
    setup = await connect()
    await setup.execute("insert into millstream.job_labels values (1, 1, 'a'), (1, 1, 'b')")
    both = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> type[MillstreamError] | None:
        take = "select * from millstream.job_labels where label = $1 for update"
        try:
            async with database.transaction() as session:
                await session.run(take, first)
                await both.wait()
                await session.run(take, second)
        except MillstreamError as error:
            return type(error)
        return None

    # The deadlock detector ends one of them; the other goes on.
    outcomes = await asyncio.gather(lock("a", "b"), lock("b", "a"))
    assert set(outcomes) == {RowLocked, None}


async def test_a_connection_that_is_cut_leaves_the_outcome_unknown(
    database: Database, connect: Connect, cluster: Cluster
) -> None:
    killer = await asyncpg.connect(cluster.superuser_dsn)
    try:
        with pytest.raises(OutcomeUnknown):  # noqa: PT012 - the failure leaves by the context
            async with database.session() as session:
                row = await session.one("select pg_backend_pid() as pid")
                assert row is not None
                await killer.execute("select pg_terminate_backend($1)", row["pid"])
                await session.run("select 1")
    finally:
        await killer.close()
    async with database.session() as session:
        assert await session.one("select 1") is not None


async def test_nobody_at_home_is_a_database_that_is_away(cluster: Cluster, tmp_path: Any) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.open(f"postgresql://nobody@localhost/none?host={tmp_path}")


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(PoisonRow):  # noqa: PT012 - the failure leaves by the context
        async with database.transaction() as session:
            await session.run("insert into millstream.job_labels values (1, 1, 'a')")
            await session.run("select 'x'::text::uuid")
    async with database.session() as session:
        assert await session.one("select 1 from millstream.job_labels") is None


async def test_a_caller_that_leaves_a_transaction_leaves_nothing(database_dsn: str) -> None:
    database = await Database.open(database_dsn, min_size=1, max_size=1)
    try:
        inside = asyncio.Event()

        async def work() -> None:
            async with database.tenant(1) as session:
                await session.run("insert into millstream.job_labels values (1, 1, 'a')")
                inside.set()
                await session.run("select pg_sleep(30)")

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The only connection is usable, with no transaction, role or tenant left on it.
        async with database.session() as session:
            row = await session.one(
                "select current_user::text as role, current_setting('millstream.tenant_id', true) as tenant,"
                " (select count(*) from millstream.job_labels) as labels, pg_current_xact_id_if_assigned() is null as idle"
            )
        assert row is not None
        assert (row["role"], row["tenant"] or "", row["labels"], row["idle"]) == ("millstream", "", 0, True)
    finally:
        await database.close()
