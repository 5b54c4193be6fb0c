from tests.pgwf.flow import Flow


def test_each_status_shows_what_belongs_to_it(flow: Flow) -> None:
    flow.submit("active", "leased", payload='{"n": 1}')
    _, lease_id = flow.take("leased")
    flow.submit("future", available_at="2100-01-01 00:00:00.123456+00")
    flow.submit("pending", wait_for=["future"])
    flow.submit("ready")
    flow.submit("cancelled")
    flow.cancel("cancelled")
    flow.submit("expired", expires_at="2001-01-01 00:00:00.654321+00")
    flow.rows("set time zone 'UTC'")
    rows = flow.rows(
        "select job_id, status, pending_jobs, sleep_until::text, worker_id, cancelled_at is not null, cancelled_by,"
        " expires_at::text from pgwf.jobs_friendly_status order by creation_dt"
    )
    assert rows == [
        ("active", "ACTIVE", None, None, lease_id, False, None, "infinity"),
        ("future", "AWAITING_FUTURE", None, "2100-01-01 00:00:00.123456+00", None, False, None, "infinity"),
        ("pending", "PENDING_JOBS", ["future"], None, None, False, None, "infinity"),
        ("ready", "READY", None, None, None, False, None, "infinity"),
        ("cancelled", "CANCELLED", None, None, None, True, "canceller", "infinity"),
        ("expired", "EXPIRED", None, None, None, False, None, "2001-01-01 00:00:00.654321+00"),
    ]
    assert flow.rows("select job_id, status from pgwf.jobs_with_status order by created_at") == [
        row[:2] for row in rows
    ]


PRECEDENCE = [
    ("lease_expires_at = '2100-01-01Z', cancel_requested = true, expires_at = '2001-01-01Z'", "ACTIVE"),
    ("cancel_requested = true, available_at = '2100-01-01Z'", "CANCELLED"),
    (
        "available_at = '2100-01-01Z', wait_for = array['x'], consecutive_expirations = 5, expires_at = '2001-01-01Z'",
        "AWAITING_FUTURE",
    ),
    ("wait_for = array['x'], consecutive_expirations = 5, expires_at = '2001-01-01Z'", "PENDING_JOBS"),
    ("consecutive_expirations = 5, expires_at = '2001-01-01Z'", "CRASH_CONCERN"),
    ("expires_at = '2001-01-01Z'", "EXPIRED"),
    ("consecutive_expirations = 4", "READY"),
]


def test_the_first_status_that_applies_is_the_status(flow: Flow) -> None:
    for state, status in PRECEDENCE:
        flow.submit(status)
        flow.rows(f"update pgwf.jobs set {state} where job_id = %s", status)
        assert flow.status(status) == status
        assert flow.value("select status from pgwf.jobs_friendly_status where job_id = %s", status) == status
    assert [job_id for job_id, _ in flow.lease(limit=10)] == ["READY"]


def test_the_columns_are_those_that_others_rely_on(flow: Flow) -> None:
    columns = (
        "select array_agg(attname::text order by attnum) from pg_attribute"
        " where attrelid = to_regclass(%s) and attnum > 0"
    )
    jobs = (
        "job_id next_need wait_for payload singleton_key available_at expires_at lease_id lease_expires_at"
        " lease_expiration_count consecutive_expirations created_at cancel_requested cancel_requested_by"
        " cancel_requested_at"
    ).split()
    assert flow.value(columns, f"{flow.schema}.jobs") == [*jobs, "wake_at"]
    assert flow.value(columns, f"{flow.schema}.jobs_with_status") == [*jobs, "status"]
    assert (
        flow.value(columns, f"{flow.schema}.jobs_friendly_status")
        == (
            "job_id status creation_dt pending_jobs sleep_until worker_id cancelled_at cancelled_by expires_at payload"
        ).split()
    )
    assert (
        flow.value(columns, f"{flow.schema}.jobs_archive")
        == (
            "archived_at job_id next_need wait_for payload singleton_key created_at expires_at lease_id"
            " lease_expiration_count consecutive_expirations cancel_requested cancel_requested_by cancel_requested_at"
        ).split()
    )
    assert (
        flow.value(columns, f"{flow.schema}.jobs_trace")
        == ("trace_id job_id event_type worker_id event_at input_data output_data").split()
    )
