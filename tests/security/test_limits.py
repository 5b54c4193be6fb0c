"""Plans at midnight and under a crowd. Contract: spooled-tenancy 19.7."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.api.spooled.test_plan_limits import fill, over_quota
from tests.api.spooled.wire import Api, LiveServer, LiveTenant, answered


@pytest.mark.parametrize("days_ago", [0, 1])
def test_what_was_created_yesterday_does_not_count_today(
    free: Api, free_tenant: LiveTenant, server: LiveServer, days_ago: int
) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            "insert into millstream.counter_deltas"
            " select %s, 1, '', (now() at time zone 'utc')::date - %s::int, 1000",
            [free_tenant.tenant_id, days_ago],
        )
    used = answered(free.get("/organizations/usage"))["usage"]["jobs_today"]["current"]
    assert used == (0 if days_ago else 1000)
    response = free.post("/jobs", {"queue_name": "q", "payload": 1})
    if days_ago:
        answered(response, 201)
    else:
        over_quota(response, "jobs_per_day", 1000, 1000)


def test_of_twenty_creates_at_once_with_room_for_one_exactly_one_succeeds(free: Api) -> None:
    fill(free, "q", 9)
    with ThreadPoolExecutor(20) as pool:
        body = {"queue_name": "q", "payload": 1}
        calls = [call.result() for call in [pool.submit(free.post, "/jobs", body) for _ in range(20)]]
    assert sorted(response.status_code for response in calls) == [201] + [429] * 19
    assert answered(free.get("/jobs/stats"))["pending"] == 10


def test_a_bulk_of_five_with_room_for_four_inserts_nothing(free: Api) -> None:
    fill(free, "q", 6)
    body = {"queue_name": "q", "jobs": [{"payload": n} for n in range(5)]}
    over_quota(free.post("/jobs/bulk", body), "active_jobs", 6, 10)
    assert answered(free.get("/jobs/stats"))["total"] == 6
    fill(free, "q", 4)
