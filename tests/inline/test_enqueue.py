"""Jobs that are created inside a caller's own transaction."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import psycopg
import pytest

from millstream import inline
from millstream.domain.job import ClaimRequest, JobState
from millstream.domain.webhook import NewWebhook, WebhookEvent
from tests.engine.work import Work

pytestmark = pytest.mark.usefixtures("work")


async def test_a_job_is_claimable_once_its_transaction_commits(
    work: Work, connection: psycopg.Connection
) -> None:
    job_id = inline.enqueue(connection, "mail", {"to": "ä@example.com"}, priority=7, tags={"kind": "x"})
    assert await work.claim("mail") == []
    connection.commit()
    [claimed] = await work.claim("mail")
    assert (claimed.id, json.loads(claimed.payload), claimed.priority) == (job_id, {"to": "ä@example.com"}, 7)
    job = await work.job(job_id)
    assert (job.max_retries, job.timeout_seconds, job.job_type, job.tags) == (3, 300, "", '{"kind":"x"}')


async def test_what_was_rolled_back_never_was(work: Work, connection: psycopg.Connection) -> None:
    inline.enqueue(connection, "mail", {}, idempotency_key="k")
    connection.rollback()
    assert await work.engine.inline.take() == 0
    assert await work.claim("mail") == []
    job_id = inline.enqueue(connection, "mail", {}, idempotency_key="k")
    connection.commit()
    assert [claimed.id for claimed in await work.claim("mail")] == [job_id]


async def test_asynchronous_drivers_enqueue_as_well(work: Work, caller_dsn: str) -> None:
    connection = await asyncpg.connect(caller_dsn)
    try:
        async with connection.transaction():
            job_id = await inline.enqueue_async(connection, "mail", [1, None, "x"], job_type="welcome")
    finally:
        await connection.close()
    job = await work.job(job_id)
    assert (job.state, job.payload, job.job_type) == (JobState.READY, '[1,null,"x"]', "welcome")


async def test_an_idempotency_key_names_one_job(work: Work, connection: psycopg.Connection) -> None:
    first = inline.enqueue(connection, "mail", {}, idempotency_key="once")
    assert inline.enqueue(connection, "mail", {}, idempotency_key="once") == first
    connection.commit()
    assert inline.enqueue(connection, "other", {}, idempotency_key="once") == first
    connection.commit()
    assert await work.enqueue("mail", idempotency_key="once") == first


async def test_a_job_with_a_time_waits_for_it(work: Work, connection: psycopg.Connection) -> None:
    job_id = inline.enqueue(
        connection,
        "later",
        {},
        run_at=datetime.now(UTC) + timedelta(hours=1),
        max_retries=0,
        timeout_seconds=5,
    )
    connection.commit()
    assert await work.engine.inline.take() == 1
    assert work.engine.context.delayed_hint.is_set()
    assert await work.state(job_id) == JobState.SCHEDULED
    work.clock.advance(3601)
    [claimed] = await work.claim("later")
    assert (claimed.id, claimed.max_retries, claimed.timeout_seconds) == (job_id, 0, 5)


async def test_the_server_takes_note_of_labels_totals_and_webhooks(
    work: Work, connection: psycopg.Connection
) -> None:
    await work.engine.outgoing_webhooks.create(
        work.principal,
        NewWebhook(name="n", url="http://localhost:9/", events=(WebhookEvent.JOB_CREATED,)),
    )
    job_ids = {inline.enqueue(connection, "q", {"job_type": "report"}) for _ in range(3)}
    connection.commit()
    assert await work.engine.inline.take() == 3
    assert await work.engine.inline.take() == 0
    async with work.engine.context.database.session() as session:
        noted = await session.many("select data from millstream.outgoing_deliveries")
        labels = await session.many("select kind, label from millstream.job_labels order by kind")
        counted = await session.one("select sum(amount) as jobs from millstream.all_counters where kind = 1")
    assert {UUID(json.loads(row["data"])["job_id"]) for row in noted} == job_ids
    assert counted is not None
    assert counted["jobs"] == 3
    assert [(row["kind"], row["label"]) for row in labels] == [(1, "q"), (2, "report")]


async def test_a_waiting_claim_is_woken_by_the_commit(work: Work, connection: psycopg.Connection) -> None:
    # Opens the line that commits are heard on.
    await work.engine.inline.take()
    await asyncio.wait_for(work.engine.inline.hint.wait(), 10)
    work.engine.inline.hint.clear()
    job_id = inline.enqueue(connection, "mail", {})
    request = ClaimRequest(queue="mail", worker_id="w")
    waiting = asyncio.create_task(work.engine.jobs.claim(work.principal, request, wait_seconds=20))
    connection.commit()
    await asyncio.wait_for(work.engine.inline.hint.wait(), 10)
    await work.engine.inline.take()
    assert [claimed.id for claimed in await asyncio.wait_for(waiting, 10)] == [job_id]


async def test_an_open_transaction_holds_up_nobody(
    work: Work, connection: psycopg.Connection, other_connection: psycopg.Connection
) -> None:
    inline.enqueue(connection, "fresh-queue", {"job_type": "fresh"})
    other = inline.enqueue(other_connection, "fresh-queue", {"job_type": "fresh"})
    other_connection.commit()
    assert await work.engine.inline.take() == 1
    over_http = await work.enqueue("fresh-queue", job_type="fresh")
    assert {claimed.id for claimed in await work.claim("fresh-queue", limit=10)} == {other, over_http}
    connection.rollback()


async def test_an_organization_is_named_by_its_id(work: Work, connection: psycopg.Connection) -> None:
    named = inline.enqueue(connection, "q", {}, organization=work.principal.organization_id)
    connection.commit()
    assert await work.state(named) == JobState.READY


REFUSED = [
    ({"queue": "no spaces"}, inline.InvalidArgument, "queue"),
    ({"queue": ""}, inline.InvalidArgument, "queue"),
    ({"payload": {"x": float("nan")}}, inline.InvalidArgument, "payload"),
    ({"payload": {"x": "\0"}}, inline.InvalidArgument, "Unicode"),
    ({"payload": "\ud800"}, inline.InvalidArgument, "json"),
    ({"payload": object()}, inline.InvalidArgument, "payload"),
    ({"payload": "x" * 1_048_576}, inline.TooLarge, "payload"),
    ({"priority": 101}, inline.InvalidArgument, "priority"),
    ({"max_retries": -1}, inline.InvalidArgument, "max_retries"),
    ({"timeout_seconds": 0}, inline.InvalidArgument, "timeout_seconds"),
    ({"idempotency_key": ""}, inline.InvalidArgument, "idempotency_key"),
    ({"tags": "x"}, inline.InvalidArgument, "tags"),
    ({"run_at": datetime(2026, 1, 1)}, inline.InvalidArgument, "zone"),  # noqa: DTZ001 - what is refused
    ({"organization": "nobody"}, inline.Unknown, "nobody"),
]


@pytest.mark.parametrize(("options", "kind", "said"), REFUSED)
def test_bad_values_are_refused_by_name(
    options: dict[str, object], kind: type[Exception], said: str, connection: psycopg.Connection
) -> None:
    arguments: dict[str, object] = {"queue": "q", "payload": {}, **options}
    with pytest.raises(kind, match=said):
        inline.enqueue(connection, **arguments)  # pyright: ignore[reportArgumentType] - some are meant to be wrong


def test_what_is_not_about_the_call_is_the_drivers_own_error(connection: psycopg.Connection) -> None:
    connection.execute("set local statement_timeout = 1")
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(10)")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        inline.enqueue(connection, "q", {})


def test_a_caller_reaches_nothing_but_the_functions(connection: psycopg.Connection) -> None:
    for statement in (
        "select * from millstream.jobs",
        "select * from millstream.inline_jobs",
        "insert into millstream.staged_messages (tenant_id, topic_id, value, priority) values (1, 1, '', 1)",
        "select millstream.tenant_named(null)",
        "select millstream.protect_table('millstream.jobs')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(statement)


def test_the_functions_are_closed_to_everybody_else(cluster_stranger: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        cluster_stranger.execute("select millstream.enqueue_v1('q', '{}')")
