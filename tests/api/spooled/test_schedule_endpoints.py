"""Contract: spooled-jobs 2.8, 6; spooled-tenancy 7.2, 19."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tests.api.spooled.wire import (
    UNKNOWN_ID,
    UTC_MICROSECONDS,
    Api,
    JsonObject,
    LiveTenant,
    a_queue,
    answered,
    eventually,
    refused,
    refused_fields,
)

FIELDS = {
    *("id", "organization_id", "name", "description", "cron_expression", "timezone", "queue_name"),
    *("payload_template", "priority", "max_retries", "timeout_seconds", "is_active", "last_run_at"),
    *("next_run_at", "run_count", "tags", "metadata", "created_at", "updated_at"),
}
YEARLY = "0 0 1 1 *"
ACTIONS = (
    ("GET", "", None),
    ("PUT", "", {"name": "x"}),
    ("DELETE", "", None),
    ("POST", "/pause", None),
    ("POST", "/resume", None),
    ("POST", "/trigger", None),
    ("GET", "/history", None),
)


def body(**fields: object) -> JsonObject:
    return {"name": "s", "cron_expression": YEARLY, "queue_name": "q", "payload_template": {}, **fields}


def create(api: Api, **fields: object) -> JsonObject:
    return answered(api.post("/schedules", body(**fields)), 201)


def read(api: Api, schedule: JsonObject) -> JsonObject:
    return answered(api.get(f"/schedules/{schedule['id']}"))


def test_a_schedule_is_answered_with_all_its_fields(api: Api) -> None:
    template = {"job_type": "mail", "aB": [1, 2**60, None, {"x": "\u00fc"}]}
    queue = a_queue()
    made = create(
        api,
        queue_name=queue,
        payload_template=template,
        description="each year",
        timezone="Asia/Tokyo",
        priority=-7,
        max_retries=0,
        timeout_seconds=86_400,
        tags=["a", {"b": 1}],
        metadata="text",
    )
    assert made.keys() == FIELDS
    year = datetime.now(UTC).year
    assert made["next_run_at"] in {f"{year + ahead}-12-31T15:00:00.000000Z" for ahead in (0, 1)}
    expected = {
        "name": "s",
        "description": "each year",
        "cron_expression": YEARLY,
        "timezone": "Asia/Tokyo",
        "queue_name": queue,
        "payload_template": template,
        "priority": -7,
        "max_retries": 0,
        "timeout_seconds": 86_400,
        "is_active": True,
        "last_run_at": None,
        "run_count": 0,
        "tags": ["a", {"b": 1}],
        "metadata": "text",
    }
    assert {name: made[name] for name in expected} == expected
    for name in ("next_run_at", "created_at", "updated_at"):
        assert UTC_MICROSECONDS.fullmatch(made[name])
    assert read(api, made) == made
    assert answered(api.get("/schedules", queue_name=queue)) == [made]


def test_what_is_not_given_has_its_default(api: Api) -> None:
    for absent in ({}, {"timezone": None, "priority": None, "tags": None, "metadata": None}):
        made = create(api, payload_template=None, **absent)
        expected = {
            "description": None,
            "timezone": "UTC",
            "priority": 0,
            "max_retries": 3,
            "timeout_seconds": 300,
            "tags": None,
            "metadata": None,
            "payload_template": None,
        }
        assert {name: made[name] for name in expected} == expected


@pytest.mark.parametrize("cron", ["0 0 * * * *", "0 * * * *", "  */5 9-17\t* jan-DEC Mon-fri "])
def test_an_expression_comes_back_unchanged(api: Api, cron: str) -> None:
    made = create(api, cron_expression=cron)
    assert made["cron_expression"] == cron
    assert read(api, made)["cron_expression"] == cron


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"description": "d" * 1001}, "description"),
        ({"queue_name": ""}, "queue_name"),
        ({"queue_name": "q" * 101}, "queue_name"),
        ({"queue_name": "a b"}, "queue_name"),
        ({"priority": 101}, "priority"),
        ({"priority": -101}, "priority"),
        ({"max_retries": 101}, "max_retries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 86_401}, "timeout_seconds"),
        ({"tags": "t" * 65_536}, "tags"),
        ({"metadata": "m" * 65_536}, "metadata"),
    ],
)
def test_a_broken_rule_is_400(api: Api, fields: JsonObject, broken: str) -> None:
    assert refused_fields(api.post("/schedules", body(**fields)), 400) == {broken}
    if broken != "queue_name":
        made = create(api)
        assert refused_fields(api.put(f"/schedules/{made['id']}", fields), 400) == {broken}
        assert read(api, made) == made


def test_what_is_missing_or_of_another_type_is_422(api: Api) -> None:
    for name in ("name", "cron_expression", "queue_name", "payload_template"):
        given = {key: value for key, value in body().items() if key != name}
        assert refused_fields(api.post("/schedules", given), 422) == {name}
    assert refused_fields(api.post("/schedules", body(priority="1", timezone=1)), 422) == {
        "priority",
        "timezone",
    }
    refused(api.call("POST", "/schedules", content=b"{"), 400, "INVALID_JSON")


@pytest.mark.parametrize(
    "cron",
    [
        *("", "* * * *", "* * * * * * *", "@hourly", "*/0 * * * *", "*/60 * * * *", "60 * * * *"),
        *("* * * * 8", "5-1 * * * *", "x * * * *", "0 0 L * *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"),
        *("*\u00a0* * * * *", "0 0 * * MON#2", "* " * 50 + "*"),
    ],
)
def test_what_is_no_expression_is_400(api: Api, cron: str) -> None:
    assert refused_fields(api.post("/schedules", body(cron_expression=cron)), 400) == {"cron_expression"}
    made = create(api)
    path = f"/schedules/{made['id']}"
    assert refused_fields(api.put(path, {"cron_expression": cron}), 400) == {"cron_expression"}


@pytest.mark.parametrize(
    "zone",
    [
        *("", "Mars/Phobos", "../../etc/passwd", "/etc/localtime", "Europe/../UTC", "localtime", "posix/UTC"),
        *("'; DROP TABLE schedules; --", "Europe/Berlin%00", "America", "+25:00", "z" * 1000),
    ],
)
def test_what_names_no_time_zone_is_400(api: Api, zone: str) -> None:
    assert refused_fields(api.post("/schedules", body(timezone=zone)), 400) == {"timezone"}


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Etc/GMT+5", "+05:30", "-00:45", "America/Indiana/Knox"]
)
def test_names_and_offsets_are_time_zones(api: Api, zone: str) -> None:
    assert create(api, timezone=zone)["timezone"] == zone


@pytest.mark.parametrize(
    "cron", ["0 0 29 2 */6", "59 59 23 29 2 *", ",".join(["*/7"] * 20) + " * * * *", "0 0 30 2 */2"]
)
def test_an_expression_that_matches_seldom_or_never_is_judged_all_the_same(api: Api, cron: str) -> None:
    response = api.post("/schedules", body(cron_expression=cron))
    if response.status_code == 400:
        assert refused_fields(response, 400) == {"cron_expression"}
    else:
        assert answered(response, 201)["next_run_at"] > datetime.now(UTC).isoformat()


def test_a_change_keeps_what_is_not_given_and_ignores_the_queue(api: Api) -> None:
    made = create(api, description="d", tags=[1])
    path = f"/schedules/{made['id']}"
    same = answered(api.put(path, {"queue_name": "x" * 255, "unknown": 1, "tags": None, "is_active": None}))
    assert {**same, "updated_at": made["updated_at"]} == made
    changed = answered(
        api.put(
            path,
            {
                "name": "other",
                "description": "",
                "cron_expression": "0 0 1 2 *",
                "timezone": "+01:00",
                "payload_template": [1],
                "priority": 5,
                "max_retries": 1,
                "timeout_seconds": 9,
                "tags": {"t": 1},
                "metadata": [2],
            },
        )
    )
    assert changed["next_run_at"].endswith("-01-31T23:00:00.000000Z")
    assert (changed["payload_template"], changed["tags"], changed["metadata"]) == ([1], {"t": 1}, [2])
    assert (changed["queue_name"], changed["description"], changed["priority"]) == ("q", "", 5)
    assert read(api, made) == changed


def test_pause_resume_and_trigger(api: Api) -> None:
    queue = a_queue()
    made = create(api, queue_name=queue, payload_template={"job_type": "t"}, tags=["x"])
    path = f"/schedules/{made['id']}"
    for _ in range(2):
        paused = answered(api.call("POST", f"{path}/pause", content=b"not JSON"))
        assert {**paused, "updated_at": made["updated_at"]} == {**made, "is_active": False}
    triggered = answered(api.post(f"{path}/trigger"))
    assert triggered.keys() == {"job_id", "triggered_at", "scheduled_at"}
    job = api.job(triggered["job_id"])
    assert (job["queue_name"], job["status"], job["tags"]) == (queue, "pending", ["x"])
    after = read(api, made)
    assert (after["run_count"], after["last_run_at"]) == (1, triggered["triggered_at"])
    assert after["next_run_at"] == made["next_run_at"]
    [run] = answered(api.get(f"{path}/history"))
    assert run.keys() == {
        "id",
        "schedule_id",
        "job_id",
        "status",
        "error_message",
        "started_at",
        "completed_at",
    }
    assert (run["schedule_id"], run["job_id"], run["status"]) == (made["id"], job["id"], "completed")
    assert run["error_message"] is None
    for _ in range(2):
        assert answered(api.post(f"{path}/resume"))["is_active"] is True
    answered(api.delete(path), 204)
    refused(api.delete(path), 404, "NOT_FOUND")
    assert api.status(job["id"]) == "pending"


def test_a_schedule_of_each_second_runs_by_itself_until_it_is_paused(api: Api) -> None:
    queue = a_queue()
    before = datetime.now(UTC)
    made = create(api, queue_name=queue, cron_expression="* * * * * *", payload_template={"n": 1})
    first = datetime.fromisoformat(made["next_run_at"])
    assert before - timedelta(seconds=1) < first <= datetime.now(UTC) + timedelta(seconds=1)
    path = f"/schedules/{made['id']}"
    runs = eventually(lambda: answered(api.get(f"{path}/history")), lambda found: len(found) >= 2)
    answered(api.post(f"{path}/pause"))
    runs = answered(api.get(f"{path}/history"))
    assert len(runs) >= 2
    assert {run["status"] for run in runs} == {"completed"}
    # One of each second, in the second that it is of.
    seconds = [run["started_at"][:19] for run in runs]
    assert seconds == sorted(set(seconds), reverse=True)
    jobs = answered(api.get("/jobs", queue_name=queue))
    assert {job["id"] for job in jobs} == {run["job_id"] for run in runs}
    assert read(api, made)["run_count"] == len(runs)


def test_lists_are_filtered_and_paged(own: Api) -> None:
    assert answered(own.get("/schedules")) == []
    made = [create(own, queue_name=queue) for queue in ("a", "b", "a")]
    answered(own.post(f"/schedules/{made[0]['id']}/pause"))

    def listed(**query: str | int) -> list[int]:
        ids = [schedule["id"] for schedule in made]
        return [ids.index(row["id"]) for row in answered(own.get("/schedules", **query))]

    assert listed() == [2, 1, 0]
    assert listed(queue_name="a") == [2, 0]
    assert listed(queue_name="*'") == []
    assert listed(is_active="true") == [2, 1]
    assert listed(is_active="false", organization_id="x") == [0]
    assert listed(limit=2) == [2, 1]
    assert listed(limit=-5, offset=1) == [1]
    assert listed(limit=100_000, offset=-1) == [2, 1, 0]
    refused(own.get("/schedules", is_active="maybe"), 400, "BAD_REQUEST")
    refused(own.get("/schedules", limit="x"), 400, "BAD_REQUEST")
    refused(own.get(f"/schedules/{made[0]['id']}/history", limit="x"), 400, "BAD_REQUEST")
    for _ in range(2):
        answered(own.post(f"/schedules/{made[0]['id']}/trigger"))
    assert len(answered(own.get(f"/schedules/{made[0]['id']}/history", limit=1))) == 1
    assert len(answered(own.get(f"/schedules/{made[0]['id']}/history", limit=0))) == 1
    assert len(answered(own.get(f"/schedules/{made[0]['id']}/history", limit=9_999))) == 2


def test_an_unknown_schedule_is_404(api: Api) -> None:
    for method, action, sent in ACTIONS:
        refused(api.call(method, f"/schedules/{UNKNOWN_ID}{action}", sent), 404, "NOT_FOUND")


def test_a_foreign_schedule_is_a_missing_one(api: Api, own: Api) -> None:
    made = create(api)
    for method, action, sent in ACTIONS:
        refused(own.call(method, f"/schedules/{made['id']}{action}", sent), 404, "NOT_FOUND")
    assert made["id"] not in own.get("/schedules").text
    assert read(api, made) == made


def test_schedules_outside_the_scope_are_missing_ones(
    http: httpx2.Client, api: Api, make_tenant: Callable[..., LiveTenant]
) -> None:
    tenant = make_tenant()
    owner = Api(http, tenant.url, tenant.api_key)
    mine, other = create(owner, queue_name="mine"), create(owner, queue_name="other")
    key = answered(owner.post("/api-keys", {"name": "k", "queues": ["mine"]}), 201)["key"]
    restricted = Api(http, tenant.url, key)
    assert answered(restricted.get("/schedules")) == [mine]
    for method, action, sent in ACTIONS:
        refused(restricted.call(method, f"/schedules/{other['id']}{action}", sent), 404, "NOT_FOUND")
    refused(restricted.post("/schedules", body(queue_name="other")), 403, "ACCESS_DENIED")
    create(restricted, queue_name="mine")
    assert read(owner, other) == other


def test_the_free_plan_has_one_active_schedule(free: Api) -> None:
    made = create(free)
    expected = {
        "code": "QUOTA_EXCEEDED",
        "error": "limit_exceeded",
        "resource": "schedules",
        "current": 1,
        "limit": 1,
        "plan": "free",
        "upgrade_to": "starter",
    }

    def is_over(response: httpx2.Response) -> None:
        answer = refused(response, 429)
        assert {name: answer[name] for name in expected} == expected
        assert "schedules limit reached (1/1)" in answer["message"]
        assert "retry-after" not in response.headers

    is_over(free.post("/schedules", body()))
    path = f"/schedules/{made['id']}"
    answered(free.post(f"{path}/pause"))
    create(free)
    is_over(free.post(f"{path}/resume"))
    is_over(free.put(path, {"is_active": True}))
    usage = answered(free.get("/organizations/usage"))["usage"]["schedules"]
    assert (usage["current"], usage["limit"]) == (1, 1)
    for _ in range(10):
        answered(free.post(f"{path}/trigger"))
    full = refused(free.post(f"{path}/trigger"), 429, "QUOTA_EXCEEDED")
    assert (full["resource"], full["current"]) == ("active_jobs", 10)


def test_a_template_above_the_plan_is_413(free: Api) -> None:
    large = refused(free.post("/schedules", body(payload_template="x" * 65_536)), 413, "PAYLOAD_TOO_LARGE")
    assert (large["limit"], large["plan"]) == (65_536, "free")
    create(free, payload_template="x" * 65_534)
