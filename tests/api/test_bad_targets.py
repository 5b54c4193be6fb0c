"""No path, query or method is a 500. Contract: spooled-jobs 1.3; spooled-tenancy 12.1, 19.6."""

from __future__ import annotations

import pytest

from tests.api.raw_connection import exchange
from tests.api.spooled.endpoints import ALL, Endpoint, each
from tests.api.spooled.wire import Api, refused

SEGMENTS = [
    "not-a-uuid",
    "00000000000000000000000000000000",
    "{00000000-0000-4000-8000-000000000000}",
    "urn:uuid:00000000-0000-4000-8000-000000000000",
    "0" * 2000,
    "-1",
    "1%20OR%201=1",
    "%27%3B%20DROP%20TABLE%20jobs%3B%20--",
    "a%2Fb",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%2F..%2Fworkers",
    "stats%2F",
    "%2F",
    "%00",
    "a%00b",
    "%FF",
    "%C3%28",
    "%ED%A0%80",
    "%F0%9F%98%80",
    "%25",
    "%252F",
    "%0d%0aX-Injected:%201",
    "*",
    "~",
    "$ne",
    "%3Cscript%3E",
]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_an_id_that_is_no_id_is_an_unknown_one(api: Api, segment: str) -> None:
    for method, path, body in (
        ("GET", "/jobs/{}", None),
        ("DELETE", "/jobs/{}", None),
        ("GET", "/jobs/{}/history", None),
        ("PUT", "/jobs/{}/priority", {"priority": 1}),
        ("POST", "/jobs/{}/complete", {"worker_id": "w"}),
        ("POST", "/jobs/{}/fail", {"worker_id": "w", "error": "e"}),
        ("POST", "/jobs/{}/heartbeat", {"worker_id": "w"}),
        ("POST", "/jobs/{}/progress", {"progress": 1}),
        ("GET", "/schedules/{}", None),
        ("PUT", "/schedules/{}", {}),
        ("DELETE", "/schedules/{}", None),
        ("POST", "/schedules/{}/pause", None),
        ("POST", "/schedules/{}/resume", None),
        ("POST", "/schedules/{}/trigger", None),
        ("GET", "/schedules/{}/history", None),
        ("GET", "/workers/{}", None),
        ("POST", "/workers/{}/heartbeat", {"current_jobs": 0}),
        ("POST", "/workers/{}/deregister", None),
        ("DELETE", "/workers/{}", None),
    ):
        response = api.call(method, path.format(segment), body)
        assert response.status_code == 404, (method, path, response.status_code, response.text)
        refused(response, 404, "NOT_FOUND")
        assert "x-injected" not in response.headers
    refused(api.post(f"/jobs/{segment}/retry"), 409, "CONFLICT")


@pytest.mark.parametrize(
    "segment", [segment for segment in SEGMENTS if "%" in segment or segment in ("*", "~", "$ne")]
)
def test_a_queue_name_that_is_no_name_is_400(api: Api, segment: str) -> None:
    for method, path, body in (
        ("GET", "/queues/{}", None),
        ("GET", "/queues/{}/stats", None),
        ("PUT", "/queues/{}/config", {}),
        ("POST", "/queues/{}/pause", {}),
        ("DELETE", "/queues/{}", None),
    ):
        refused(api.call(method, path.format(segment), body), 400, "BAD_REQUEST")


QUERY_VALUES = [
    "%00",
    "a%00b",
    "%FF",
    "%ED%A0%80",
    "%C3%28",
    "",
    "%F0%9F%98%80",
    "x" * 4000,
    "%27%20OR%201=1--",
    "%",
]


@pytest.mark.parametrize("value", QUERY_VALUES, ids=lambda value: value[:20])
@pytest.mark.parametrize("path", ["/jobs", "/jobs/dlq", "/schedules"])
def test_no_query_value_is_a_500(api: Api, path: str, value: str) -> None:
    names = (
        *("queue_name", "status", "q", "job_type", "created_after", "created_before", "tag"),
        *("order_by", "order_dir", "limit", "offset", "is_active"),
    )
    for name in names:
        response = api.http.get(
            f"{api.url}/api/v1{path}?{name}={value}", headers={"Authorization": f"Bearer {api.api_key}"}
        )
        assert response.status_code in (200, 400), (name, response.status_code, response.text)
        if response.status_code == 400:
            refused(response, 400)


@pytest.mark.parametrize("name", ["queue_name", "q", "job_type", "tag", "status", "ids"])
def test_nul_in_a_query_value_is_400(api: Api, name: str) -> None:
    path = "/jobs/status" if name == "ids" else "/jobs"
    refused(api.get(path, **{name: "a\0b"}), 400)


def test_a_tag_that_is_too_long_is_400(api: Api) -> None:
    refused(api.get("/jobs", tag="t" * 1025), 400)


@pytest.mark.parametrize(
    "query", ["", "?", "?&", "?=", "?limit", "?limit=1&limit=2", "?%", "?%00=1", "?a[]=1", "?limit=1;2"]
)
def test_no_query_string_is_a_500(api: Api, query: str) -> None:
    assert exchange(api, f"GET /api/v1/jobs{query} HTTP/1.1")[0] in (200, 400)


@each(ALL, fast_one_in=5)
def test_no_method_is_a_500(api: Api, endpoint: Endpoint) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "get"):
        body = endpoint.body if method not in ("GET", "HEAD", "TRACE") else None
        if method == "DELETE" and "queue" in endpoint.path:
            continue
        response = api.call(method, endpoint.path, body)
        assert response.status_code < 500, (method, response.status_code, response.text)
