"""What the statements inside of the functions do to large tables."""

import re
from collections.abc import Iterator

import pytest

from tests.pgwf.flow import Flow, Session

ROWS = 20_000
# Of 8 KiB, for any of the calls below; the table has thousands.
BLOCKS_MAX = 300


@pytest.fixture(scope="module")
def crowded(shared_dsn: str) -> Iterator[Flow]:
    """Jobs of every kind that is not ready, all older than the ready ones of the same capability."""
    flow = Flow.installed(shared_dsn)
    flow.rows(
        f"""
        insert into pgwf.jobs (job_id, next_need, wait_for, available_at, lease_id, lease_expires_at, cancel_requested)
        select
            kind || i, 'cap',
            case when kind = 'waiting' then array['parent' || i % 1000] else '{{}}' end,
            case when kind = 'sleeping' then '2100-01-01Z' else clock_timestamp() end,
            case when kind = 'leased' then 'lease' end,
            case when kind = 'leased' then '2100-01-01Z' else '-infinity'::timestamptz end,
            kind = 'cancelled' and i <= 100
        from generate_series(1, {ROWS // 5}) as i
        cross join unnest(array['waiting', 'sleeping', 'leased', 'cancelled', 'ready']) with ordinality as k (kind, place)
        order by place
        """
    )
    flow.rows(
        "insert into pgwf.jobs (job_id, next_need) select 'parent' || i, 'parents' from generate_series(0, 999) i"
    )
    yield flow
    flow.close()


def _plans_of(flow: Session, call: str, *parameters: object) -> str:
    """Return the plans of all statements that a call runs."""
    said: list[str] = []
    flow.connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    flow.rows("load 'auto_explain'")
    flow.rows("set auto_explain.log_min_duration = 0")
    flow.rows("set auto_explain.log_nested_statements = on")
    flow.rows("set client_min_messages = log")
    flow.rows(call, *parameters)
    flow.rows("reset client_min_messages")
    return "\n".join(said)


def _blocks_of(flow: Session, call: str) -> int:
    (plan,) = flow.value(f"explain (analyze, buffers, format json) {call}")
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


@pytest.mark.parametrize("analyzed", [False, True])
def test_no_call_scans_the_table_of_jobs(crowded: Flow, analyzed: bool) -> None:
    # Fresh statistics or none: a session keeps the plans that it made.
    if analyzed:
        crowded.rows("analyze pgwf.jobs")
    session = crowded.other()
    session.rows("begin")
    for call, indexes in (
        (
            "select * from pgwf.get_work('w', array['cap', 'none'], 60, 10)",
            {"jobs_due", "jobs_sleeping", "jobs_pkey"},
        ),
        ("select pgwf.complete_unheld_job('parent1', 'w')", {"jobs_pkey", "jobs_waiting"}),
        ("select pgwf.archive_cancelled_jobs('w', 10)", {"jobs_cancelled", "jobs_waiting"}),
        ("select pgwf.submit_job('new', 'w', 'cap', array['parent2', 'parent3'])", {"jobs_pkey"}),
        ("select pgwf.cancel_job('parent3', 'w')", {"jobs_pkey"}),
    ):
        plans = _plans_of(session, call)
        assert not re.search(r"Seq Scan on jobs\b", plans), plans
        for index in indexes:
            assert re.search(rf"(Scan using|Index Scan on) {index}\b", plans), f"{index}: {plans}"
    session.rows("rollback")


def test_the_cost_of_a_call_does_not_follow_the_number_of_jobs(crowded: Flow) -> None:
    session = crowded.other()
    session.rows("begin")
    for call in (
        "select * from pgwf.get_work('w', array['cap'], 60, 1)",
        "select * from pgwf.get_work('w', array['cap'], 60, 1)",
        "select * from pgwf.get_work('w', array['nothing'], 60, 1)",
        "select pgwf.complete_unheld_job('parent1', 'w')",
        "select pgwf.archive_cancelled_jobs('w', 10)",
    ):
        # The first call also reads what its plans are made from.
        session.rows("savepoint before")
        session.rows(call)
        session.rows("rollback to before")
        assert _blocks_of(session, call) < BLOCKS_MAX, call
    session.rows("rollback")


def test_extending_a_lease_touches_no_index(flow: Flow) -> None:
    flow.submit("a", singleton_key="key")
    _, lease_id = flow.other().take()
    with flow.connection.transaction():
        updated = "select pg_stat_get_xact_tuples_{}(to_regclass(%s))"
        for _ in range(3):
            flow.rows("select pgwf.extend_lease('a', %s, 'w', 40)", lease_id)
        counts = [
            flow.value(updated.format(kind), f"{flow.schema}.jobs") for kind in ("updated", "hot_updated")
        ]
    assert counts == [3, 3]


def test_no_index_mentions_the_end_of_leases(flow: Flow) -> None:
    definitions = flow.values("select indexdef from pg_indexes where schemaname = %s", flow.schema)
    assert len(definitions) >= 10
    assert not [each for each in definitions if "lease_expires_at" in each]
    unexplained = (
        "select count(*) from pg_index as i join pg_class as c on c.oid = i.indexrelid"
        " where c.relnamespace = %s::regnamespace and not i.indisprimary and obj_description(c.oid) is null"
    )
    assert flow.value(unexplained, flow.schema) == 0
