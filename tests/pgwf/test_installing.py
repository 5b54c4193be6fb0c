import asyncio
import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import asyncpg
import psycopg
import pytest

from millstream.embedded import find_binaries
from millstream.pgwf.__main__ import main
from millstream.pgwf.errors import InstallError, InvalidArgument, VerifyError
from millstream.pgwf.installer import AsyncInstaller, Installer
from millstream.pgwf.script import render
from tests.conftest import TEMPLATE, Cluster
from tests.pgwf.flow import Flow, Session

# What earlier scripts made, as far as a newer one has to get along with it.
PINNED = """
create schema pgwf;
create table pgwf.jobs (
    job_id text primary key, next_need text not null, wait_for text[] not null default '{}', singleton_key text,
    available_at timestamptz not null default clock_timestamp(), lease_id text,
    lease_expires_at timestamptz not null default '-infinity',
    created_at timestamptz not null default clock_timestamp()
);
create index jobs_old on pgwf.jobs (next_need, lease_expires_at);
create table pgwf.jobs_archive (
    archived_at timestamptz not null default clock_timestamp(), job_id text primary key, next_need text not null,
    wait_for text[] not null default '{}', singleton_key text, created_at timestamptz not null, lease_id text
);
create sequence pgwf.jobs_trace_id_seq;
create table pgwf.jobs_trace (
    trace_id bigint primary key default nextval('pgwf.jobs_trace_id_seq'), job_id text not null,
    event_type text not null, worker_id text not null, event_at timestamptz not null default clock_timestamp(),
    input_data jsonb not null, output_data jsonb
);
create view pgwf.jobs_with_status as select j.*, 'READY'::text as status from pgwf.jobs as j;
create function pgwf._lock_job(p_row pgwf.jobs_with_status) returns void language sql as 'select';
create function pgwf.submit_job(
    p_job_id text, p_worker_id text, p_next_need text, p_wait_for text[] default '{}',
    p_singleton_key text default null, p_available_at timestamptz default clock_timestamp()
) returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language sql as 'select p_job_id, p_next_need, p_wait_for, p_available_at';
create function pgwf.reschedule_job(
    p_job_id text, p_lease_id text, p_worker_id text, p_next_need text, p_wait_for text[] default '{}',
    p_singleton_key text default null, p_available_at timestamptz default clock_timestamp()
) returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language sql as 'select p_job_id, p_next_need, p_wait_for, p_available_at';
insert into pgwf.jobs (job_id, next_need) values ('parent', 'cap');
insert into pgwf.jobs (job_id, next_need, wait_for) values ('child', 'cap', array['parent']);
insert into pgwf.jobs (job_id, next_need, available_at) values ('future', 'cap', '2100-01-01Z');
insert into pgwf.jobs_archive (job_id, next_need, created_at) values ('done', 'cap', now());
"""
REFERENCE = """
alter table pgwf.jobs add payload jsonb not null default '{}', add expires_at timestamptz not null default 'infinity',
    add lease_expiration_count bigint not null default 0, add consecutive_expirations bigint not null default 0,
    add cancel_requested boolean not null default false, add cancel_requested_by text,
    add cancel_requested_at timestamptz,
    add constraint jobs_payload_is_object check (jsonb_typeof(payload) = 'object');
create function pgwf.is_trace_enabled() returns boolean language sql immutable as 'select false';
create function pgwf.crash_concern_threshold() returns integer language sql immutable as 'select 2';
drop function pgwf._lock_job;
drop view pgwf.jobs_with_status;
create view pgwf.jobs_with_status as
    select j.*, case when consecutive_expirations >= pgwf.crash_concern_threshold() then 'CRASH_CONCERN' else 'READY' end
    as status from pgwf.jobs as j;
create view pgwf.jobs_friendly_status as select job_id, status from pgwf.jobs_with_status;
create function pgwf._lock_job(p_row pgwf.jobs_with_status) returns void language sql as 'select';
"""


@pytest.fixture
def make_schema(shared_dsn: str) -> Callable[[str], str]:
    """Run what an earlier script would have, under a fresh name."""

    def make(script: str) -> str:
        name = f"old_{secrets.token_hex(6)}"
        with psycopg.connect(shared_dsn, autocommit=True) as connection:
            connection.execute(script.replace("pgwf", name).encode())
        return name

    return make


def test_the_script_is_a_transaction_of_its_own_that_any_client_can_send(shared_dsn: str) -> None:
    name = f"flow_{secrets.token_hex(6)}"
    script = Installer(shared_dsn, schema=name).render()
    assert script.isascii()
    assert "pgwf" not in script
    with psycopg.connect(shared_dsn, autocommit=True) as connection:
        before = connection.execute("show search_path").fetchone()
        connection.execute(script.encode())
        connection.execute(script.encode())
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert connection.execute("show search_path").fetchone() == before
        (extensions,) = connection.execute(
            "select count(*) from pg_extension where extname <> 'plpgsql'"
        ).fetchall()
        assert extensions == (0,)
    Installer(shared_dsn, schema=name).verify()


async def test_psql_runs_the_file_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    dsn = _fresh_database(cluster)
    psql = find_binaries().directory / "psql"
    file = resources.files("millstream.pgwf") / "pgwf.sql"
    process = await asyncio.create_subprocess_exec(
        *(str(psql), "-Xq", "-v", "ON_ERROR_STOP=1", "-f", str(file), dsn), cwd=tmp_path
    )
    assert await process.wait() == 0
    Installer(dsn).verify()


def test_the_script_is_printed_for_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pgwf", "flows"])
    main()
    assert capsys.readouterr().out == render("flows")
    monkeypatch.setattr("sys.argv", ["pgwf", "No-name"])
    with pytest.raises(SystemExit):
        main()
    assert "schema name" in capsys.readouterr().err


def test_installing_again_keeps_jobs_and_switches(own_flow: Flow) -> None:
    own_flow.rows("select pgwf.set_trace(false), pgwf.set_notify(true), pgwf.set_crash_concern_threshold(7)")
    own_flow.submit("a", payload='{"n": 1}')
    own_flow.submit("child", wait_for=["a"])
    Installer(own_flow.dsn, schema=own_flow.schema).apply()
    Installer(own_flow.dsn, schema=own_flow.schema).verify()
    assert own_flow.live() == ["a", "child"]
    assert own_flow.row(
        "select pgwf.is_trace_enabled(), pgwf.is_notify_enabled(), pgwf.crash_concern_threshold()"
    ) == (False, True, 7)
    own_flow.complete(*own_flow.take())
    assert own_flow.take()[0] == "child"


@pytest.mark.parametrize("script", [PINNED, PINNED + REFERENCE], ids=["pinned", "reference"])
def test_what_older_scripts_installed_is_upgraded_in_place(
    shared_dsn: str, make_schema: Callable[[str], str], script: str
) -> None:
    name = make_schema(script)
    Installer(shared_dsn, schema=name).apply()
    Installer(shared_dsn, schema=name).verify()
    session = Session(shared_dsn, name)
    try:
        assert session.row("select pgwf.is_trace_enabled(), pgwf.crash_concern_threshold()") == (
            (False, 2) if script != PINNED else (True, 5)
        )
        assert session.values("select status from pgwf.jobs_with_status order by created_at") == [
            *("READY", "PENDING_JOBS", "AWAITING_FUTURE")
        ]
        session.rows("select pgwf.submit_job('new', 'w', 'cap')")
        assert [job_id for job_id, _ in session.lease(limit=10)] == ["parent", "new"]
        with pytest.raises(psycopg.errors.RaiseException, match="already completed"):
            session.rows("select pgwf.submit_job('done', 'w', 'cap')")
        assert session.value("select to_regclass(%s)", f"{name}.jobs_old") is None
        names = session.values(
            "select conname from pg_constraint where conrelid = %s::regclass", f"{name}.jobs"
        )
        assert {"jobs_pkey", "jobs_payload_is_object", "jobs_payload_size_limit"} <= set(names)
    finally:
        session.connection.close()


def test_installations_side_by_side_do_not_see_each_other(own_flow: Flow) -> None:
    name = f"flow_{secrets.token_hex(6)}"
    Installer(own_flow.dsn, schema=name).apply()
    neighbour = Session(own_flow.dsn, name)
    try:
        for session in (own_flow, neighbour):
            session.rows("select pgwf.set_notify(true)")
        own_flow.submit("a", singleton_key="key")
        neighbour.submit("a", singleton_key="key")
        with own_flow.connection.transaction():
            own_flow.take()
            # Keys are locked for each of them apart.
            assert neighbour.take()[0] == "a"
        assert neighbour.lease("other") == []
        assert neighbour.values("select pg_listening_channels()") == [f"{name}.need.other"]
        assert own_flow.value("select count(*) from pgwf.jobs_trace") == 2
        assert neighbour.value("select count(*) from pgwf.jobs_trace") == 2
    finally:
        neighbour.connection.close()


def test_many_install_at_once(own_flow: Flow) -> None:
    name = f"flow_{secrets.token_hex(6)}"
    running = [own_flow.start(Installer(own_flow.dsn, schema=name).apply) for _ in range(4)]
    for each in running:
        each.result()
    Installer(own_flow.dsn, schema=name).verify()


@pytest.mark.parametrize("name", ["", "Upper", "with-dash", "1st", "pg_mine", "a" * 41, 'quo"te', "ω"])
def test_names_that_would_need_quotes_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Installer("", schema=name)
    with pytest.raises(ValueError, match="schema name"):
        render(name)


def test_what_is_missing_is_named(own_flow: Flow) -> None:
    with pytest.raises(VerifyError) as nothing:
        Installer(own_flow.dsn, schema="nowhere").verify()
    assert "nowhere.jobs" in nothing.value.missing
    assert len(nothing.value.missing) > 30
    own_flow.rows("drop function pgwf.need_channel cascade")
    own_flow.rows("drop index pgwf.jobs_due")
    own_flow.rows("drop trigger jobs_wake_at_on_insert on pgwf.jobs")
    with pytest.raises(VerifyError) as some:
        Installer(own_flow.dsn, schema=own_flow.schema).verify()
    assert some.value.missing == [
        *(f"{own_flow.schema}.jobs_due", f"{own_flow.schema}.need_channel(text)", "jobs_wake_at_on_insert")
    ]
    Installer(own_flow.dsn, schema=own_flow.schema).apply()
    own_flow.rows("delete from pgwf.settings")
    with pytest.raises(VerifyError, match="row of settings"):
        Installer(own_flow.dsn, schema=own_flow.schema).verify()
    Installer(own_flow.dsn, schema=own_flow.schema).apply()
    Installer(own_flow.dsn, schema=own_flow.schema).verify()


def test_an_installation_that_fails_leaves_nothing(own_flow: Flow) -> None:
    name = f"flow_{secrets.token_hex(6)}"
    own_flow.rows(f"create schema {name}")
    own_flow.rows(f"create table {name}.jobs (something_else int)")
    with pytest.raises(InstallError, match=name):
        Installer(own_flow.dsn, schema=name).apply()
    assert own_flow.value("select count(*) from pg_class where relnamespace = %s::regnamespace", name) == 1


async def test_asyncpg_installs_too(shared_dsn: str) -> None:
    name = f"flow_{secrets.token_hex(6)}"
    installer = AsyncInstaller(shared_dsn, schema=name)
    with pytest.raises(VerifyError):
        await installer.verify()
    await installer.apply()
    await installer.verify()
    connection = await asyncpg.connect(shared_dsn)
    try:
        # Arguments without casts: the driver asks the server for their types.
        when = "2031-05-06 07:08:09Z"
        await connection.fetch(
            f"select {name}.submit_job($1, $2, $3, $4, $5, $6)", "a", "w", "c", [], None, when
        )
        assert await connection.fetchval(f"select singleton_key from {name}.jobs") is None
        assert await connection.fetchval(f"select available_at = '{when}' from {name}.jobs")
    finally:
        await connection.close()


def test_the_sweep_is_scheduled_where_there_is_a_scheduler(cluster: Cluster) -> None:
    dsn = _fresh_database(cluster)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            b"""
            create schema cron;
            create table cron.job (
                jobid bigint generated always as identity, jobname text, schedule text, command text
            );
            create function cron.schedule(text, text, text) returns bigint language sql as
                'insert into cron.job (jobname, schedule, command) values ($1, $2, $3) returning jobid';
            create function cron.unschedule(bigint) returns boolean language sql as
                'delete from cron.job where jobid = $1 returning true';
            """
        )
        Installer(dsn).apply()
        Installer(dsn).apply()
        assert connection.execute("select jobname, schedule, command from cron.job").fetchall() == [
            *(
                (
                    "pgwf_archive_cancelled",
                    "* * * * *",
                    "select pgwf.archive_cancelled_jobs('pgwf-cron', 500)",
                ),
            )
        ]
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("drop table cron.job")
        connection.execute(render().encode())
        assert len(notices) == 1
        assert "pg_cron" in notices[0]
    Installer(dsn).verify()


def _fresh_database(cluster: Cluster) -> str:
    name = f"workflows_{secrets.token_hex(6)}"
    with psycopg.connect(cluster.template_dsn, autocommit=True) as connection:
        connection.execute(f"create database {name} template template0".encode())
    return cluster.template_dsn.replace(TEMPLATE, name)


def test_a_worker_needs_no_more_than_the_three_tables(own_flow: Flow) -> None:
    role = f"worker_{secrets.token_hex(6)}"
    own_flow.rows(f"create role {role}")
    own_flow.rows(f"grant usage on schema pgwf to {role}")
    own_flow.rows(
        f"grant select, insert, update, delete on pgwf.jobs, pgwf.jobs_archive, pgwf.jobs_trace to {role}"
    )
    own_flow.rows(f"grant usage on sequence pgwf.jobs_trace_id_seq to {role}")
    own_flow.rows("select pgwf.set_crash_concern_threshold(1)")
    own_flow.rows(f"set role {role}")
    own_flow.submit("a", singleton_key="key")
    own_flow.submit("b", wait_for=["a"])
    for _ in range(2):
        own_flow.take()
        own_flow.lapse("a")
    assert own_flow.lease() == []
    own_flow.finish("a")
    own_flow.cancel("b")
    assert own_flow.sweep() == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        own_flow.rows("select pgwf.set_trace(false)")
