"""Injection and abuse, as a table of its own beside the rules of each endpoint. Contract: spooled-tenancy 19.5, 19.6."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.api.raw_connection import connect, exchange, read_answer
from tests.api.spooled.endpoints import WITH_BODY, Endpoint, each
from tests.api.spooled.wire import Api, LiveTenant, a_queue, answered, refused, refused_fields

# Longer than the quick suite has time for.
pytestmark = pytest.mark.slow

SQL = [
    "'; DROP TABLE jobs; --",
    "1 OR 1=1",
    "x' UNION SELECT secret FROM api_keys --",
    '"; delete from millstream.jobs; --',
    "$1",
    "%s%n{0}",
    "\\'; select pg_sleep(60); --",
]
KIB = 1024


@each(WITH_BODY)
def test_sql_in_any_text_is_refused_or_kept_as_text(api: Api, endpoint: Endpoint) -> None:
    texts = [
        name
        for name, kind in (endpoint.required | endpoint.optional).items()
        if kind in ("text", "time", "any")
    ]
    for name in texts:
        for text in SQL:
            response = api.call(endpoint.method, endpoint.path, {**(endpoint.body or {}), name: text})
            assert response.status_code < 500, (name, text, response.text)


@pytest.mark.parametrize("text", SQL)
def test_sql_in_what_is_stored_comes_back_as_it_was(api: Api, text: str) -> None:
    queue = a_queue()
    fields = {"tags": {text: [text]}, "idempotency_key": f"{queue}{text}"}
    job_id = api.enqueue(queue, {"job_type": text, text: text}, **fields)
    job = api.job(job_id)
    assert (job["payload"], job["tags"]) == ({"job_type": text, text: text}, {text: [text]})
    assert [row["id"] for row in answered(api.get("/jobs", queue_name=queue, job_type=text))] == [job_id]
    assert [row["id"] for row in answered(api.get("/jobs", queue_name=queue, tag=text))] == [job_id]
    api.fail(api.claim_one(queue), error=text)
    assert api.job(job_id)["last_error"] == text
    assert answered(api.post(f"/queues/{queue}/pause", {"reason": text}))["reason"] == text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "<b>", "&lt;", "javascript:x"])
def test_markup_in_a_name_is_400(api: Api, name: str) -> None:
    assert refused_fields(api.post("/jobs", {"queue_name": name, "payload": 1}), 400) == {"queue_name"}
    body = {"queue_name": name, "hostname": "h"}
    assert "queue_name" in refused_fields(api.post("/workers/register", body), 400)


def test_markup_in_a_payload_is_never_served_as_markup(api: Api) -> None:
    response = api.get(f"/jobs/{api.enqueue(a_queue(), '<script>alert(1)</script>')}")
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", [".hidden", "-leading", "two words", "semi;colon", "../../../etc/passwd", "a/b", "a\tb", "ïmage"]
)
def test_a_name_outside_the_alphabet_is_400(api: Api, name: str) -> None:
    assert refused_fields(api.post("/jobs", {"queue_name": name, "payload": 1}), 400) == {"queue_name"}


def test_two_dots_in_a_queue_name_are_legal(api: Api) -> None:
    queue = f"{a_queue()}..x"
    api.enqueue(queue)
    assert api.claim_one(queue)["queue_name"] == queue


def test_control_characters_are_taken_out_of_what_people_read(api: Api) -> None:
    job = api.running()
    api.fail(job, error="\x1b[31mred\x1b[0m\x07 bell\x08\r\n\tnext\x7f\u0085")
    assert api.job(job["id"])["last_error"] == "[31mred[0m bell\r\n\tnext"


@pytest.mark.parametrize(
    "value", ["https://example.com/\r\nX-Injected: 1", "https://example.com/\n", "https://exa\rmple.com"]
)
def test_a_line_break_in_a_header_bound_value_is_400(api: Api, value: str) -> None:
    body = {"queue_name": "q", "payload": 1, "completion_webhook": value}
    assert refused_fields(api.post("/jobs", body), 400) == {"completion_webhook"}


def test_a_line_break_makes_no_second_header(api: Api) -> None:
    for given in (b"a\rX-Injected: 1", b"a\x0bX-Injected: 1", b"a\x85X-Injected: 1"):
        _, received = exchange(api, b"GET /api/v1/jobs/stats HTTP/1.1", b"X-Request-Id: " + given)
        head = received.partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nx-injected:" not in head
        assert b"\rx-injected" not in head


def test_more_body_than_announced_is_no_part_of_it(api: Api) -> None:
    body = json.dumps({"queue_name": a_queue(), "payload": 1}).encode()
    smuggled = a_queue()
    status, received = exchange(
        api,
        "POST /api/v1/jobs HTTP/1.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        body=body + json.dumps({"queue_name": smuggled, "payload": 1}).encode(),
    )
    assert status in (201, 400), received
    assert answered(api.get("/jobs", queue_name=smuggled)) == []


def test_less_body_than_announced_does_not_take_the_next_request_in(api: Api) -> None:
    with connect(api) as connection:
        connection.sendall(
            b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
            + f"Authorization: Bearer {api.api_key}\r\n\r\n".encode()
            + b'{"queue_name":"q"}'
        )
        assert read_answer(connection)[0] == 400


@pytest.mark.parametrize(("plan_tier", "kib"), [("free", 64), ("starter", 256), ("pro", 1024)])
def test_a_payload_above_the_plan_is_413(
    api: Api, make_tenant: Callable[..., LiveTenant], plan_tier: str, kib: int
) -> None:
    tenant = make_tenant(plan_tier=plan_tier)
    own = Api(api.http, tenant.url, tenant.api_key)
    own.enqueue("q", "x" * (kib * KIB - 2))
    body = refused(own.post("/jobs", {"queue_name": "q", "payload": "x" * (kib * KIB - 1)}), 413)
    assert (body["code"], body["current"]) == ("PAYLOAD_TOO_LARGE", kib * KIB + 1)
    if plan_tier != "pro":
        assert (body["limit"], body["plan"]) == (kib * KIB, plan_tier)


def test_opaque_json_above_64_kib_is_400(api: Api) -> None:
    for method, path, field, body in (
        ("POST", "/jobs", "tags", {"queue_name": "q", "payload": 1}),
        ("PUT", "/queues/q/config", "settings", {}),
        ("POST", "/workers/register", "metadata", {"queue_name": "q", "hostname": "h"}),
    ):
        fits, over = "x" * (64 * KIB - 2), "x" * (64 * KIB - 1)
        assert api.call(method, path, {**body, field: fits}).status_code < 300, path
        assert refused_fields(api.call(method, path, {**body, field: over}), 400) == {field}


LONG = 4_000_000


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/jobs", "queue_name", "a" * LONG),
        ("/jobs", "queue_name", "a." * (LONG // 2)),
        ("/jobs", "idempotency_key", "k" * LONG),
        ("/jobs", "completion_webhook", "https://" + "a." * (LONG // 2)),
        ("/jobs", "scheduled_at", "2" * LONG),
        ("/jobs", "scheduled_at", "2026-01-01T00:00:00." + "0" * LONG),
        ("/workers/register", "hostname", "a-" * (LONG // 2) + "."),
        ("/organizations", "slug", "a-" * (LONG // 2)),
        ("/organizations", "billing_email", "a@" + "a." * (LONG // 2)),
        ("/organizations", "billing_email", "a" * LONG + "@"),
    ],
    ids=lambda value: value[:24],
)
def test_a_very_long_value_is_refused_in_linear_time(api: Api, path: str, field: str, value: str) -> None:
    body = {"queue_name": "q", "payload": 1, "hostname": "h", "name": "Name", "slug": "a-slug"}
    # Anything worse than linear would not be over within the test's own time limit.
    assert field in refused_fields(api.post(path, {**body, field: value}), 400)
