"""Contract: spooled-jobs 1.1, 1.3; spooled-tenancy 1.1, 12.6; rulings R2, R20."""

from __future__ import annotations

import pytest

from tests.api.spooled.endpoints import ALL, WITH_BODY, Endpoint
from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused, refused_fields


@pytest.mark.parametrize(
    "path", ["/nothing", "/jobs/x/y/z", "/api/v1/jobs", f"/jobs/{UNKNOWN_ID}/unknown", "/metrics/prometheus"]
)
def test_an_unknown_path_is_404_with_the_envelope(api: Api, path: str) -> None:
    refused(api.get(path), 404, "NOT_FOUND")


def test_a_path_outside_the_prefix_is_404_for_the_clients_of_both_dialects(api: Api) -> None:
    response = api.http.get(f"{api.url}/nothing-here")
    body = refused(response, 404, "NOT_FOUND")
    assert isinstance(body["error"], str)
    assert body["status"] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/jobs"),
        ("DELETE", "/jobs"),
        ("POST", "/jobs/stats"),
        ("POST", "/jobs/dlq"),
        ("GET", f"/jobs/{UNKNOWN_ID}/complete"),
        ("GET", f"/jobs/{UNKNOWN_ID}/priority"),
        ("POST", "/queues"),
        ("GET", "/queues/some/config"),
        ("PUT", "/queues/some/pause"),
        ("POST", "/workers"),
        ("PUT", "/workers/some"),
        ("TRACE", "/jobs"),
    ],
)
def test_a_known_path_with_another_method_is_405_with_the_envelope(api: Api, method: str, path: str) -> None:
    refused(api.call(method, path), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("path", ["/jobs/", "/jobs/stats/", "/queues/", "/workers/", f"/jobs/{UNKNOWN_ID}/"])
def test_a_trailing_slash_is_an_unknown_path_and_never_a_redirect(api: Api, path: str) -> None:
    refused(api.get(path), 404, "NOT_FOUND")


def test_literal_segments_win_over_ids(api: Api) -> None:
    assert "total" in answered(api.get("/jobs/stats"))
    assert answered(api.get("/jobs/status", ids=UNKNOWN_ID)) == []
    assert isinstance(answered(api.get("/jobs/dlq")), list)


def test_a_percent_encoded_queue_name_is_the_queue_of_that_name(api: Api) -> None:
    queue = f"{a_queue()}.x_y"
    answered(api.put(f"/queues/{queue}/config", {"max_retries": 9}))
    encoded = queue.replace(".", "%2E").replace("_", "%5F").replace("-", "%2D")
    assert answered(api.get(f"/queues/{encoded}"))["max_retries"] == 9


def test_unknown_query_parameters_and_body_keys_are_ignored(api: Api) -> None:
    queue = a_queue()
    body = {"queue_name": queue, "payload": 1, "organization_id": "other", "surprise": {"deep": [1]}}
    job_id = answered(api.post("/jobs", body), 201)["id"]
    rows = answered(api.get("/jobs", queue_name=queue, organization_id="other", surprise="1"))
    assert [row["id"] for row in rows] == [job_id]


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda endpoint: endpoint.name)
class TestBodies:
    def test_a_body_that_is_not_json_is_400(self, api: Api, endpoint: Endpoint) -> None:
        for content in (
            b"{",
            b"nope",
            b'{"a":}',
            b"[1,]",
            b"{'a':1}",
            b'{"a":1}}',
            b'{"a":1} x',
            b"\xef\xbb\xbf{}",
        ):
            refused(api.call(endpoint.method, endpoint.path, content=content), 400, "INVALID_JSON")

    def test_an_empty_body_is_400_where_a_field_is_required(self, api: Api, endpoint: Endpoint) -> None:
        response = api.call(endpoint.method, endpoint.path, content=b"")
        if endpoint.required:
            refused(response, 400, "INVALID_JSON")
        else:
            assert response.status_code in (200, 400)

    def test_a_body_of_another_top_level_type_is_422(self, api: Api, endpoint: Endpoint) -> None:
        for content in (b"[]", b"1", b'"text"', b"true", b"null"):
            refused(api.call(endpoint.method, endpoint.path, content=content), 422, "VALIDATION_ERROR")

    def test_every_missing_required_field_is_named_in_one_422(self, api: Api, endpoint: Endpoint) -> None:
        if endpoint.required:
            response = api.call(endpoint.method, endpoint.path, {})
            assert refused_fields(response, 422) >= set(endpoint.required)
        else:
            # A body without anything is read, whether or not what it is about exists.
            assert api.call(endpoint.method, endpoint.path, {}).status_code == (
                404 if UNKNOWN_ID in endpoint.path else 200
            )

    def test_null_is_absent(self, api: Api, endpoint: Endpoint) -> None:
        plain = api.call(endpoint.method, endpoint.path, endpoint.body)
        nulls = dict.fromkeys(endpoint.optional) | (endpoint.body or {})
        assert api.call(endpoint.method, endpoint.path, nulls).status_code == plain.status_code
        for name, kind in endpoint.required.items():
            if kind != "any":
                response = api.call(endpoint.method, endpoint.path, {**(endpoint.body or {}), name: None})
                assert refused_fields(response, 422) == {name}

    def test_a_body_labelled_as_something_else_is_415(self, api: Api, endpoint: Endpoint) -> None:
        for label in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
            "multipart/form-data",
        ):
            response = api.call(
                endpoint.method, endpoint.path, endpoint.body, headers={"Content-Type": label}
            )
            refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")

    def test_a_body_labelled_as_json_in_any_way_is_read(self, api: Api, endpoint: Endpoint) -> None:
        plain = api.call(endpoint.method, endpoint.path, endpoint.body).status_code
        for label in ("application/json; charset=utf-8", "Application/JSON", "application/problem+json"):
            response = api.call(
                endpoint.method, endpoint.path, endpoint.body, headers={"Content-Type": label}
            )
            assert response.status_code == plain, (label, response.text)


def test_a_body_without_any_label_is_read(api: Api) -> None:
    request = api.http.build_request(
        "POST",
        f"{api.url}/api/v1/jobs",
        content=b'{"queue_name":"unlabelled","payload":1}',
        headers={"Authorization": f"Bearer {api.api_key}"},
    )
    assert "content-type" not in request.headers
    answered(api.http.send(request), 201)


def test_a_compressed_body_is_415(api: Api) -> None:
    response = api.call("POST", "/jobs", content=b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"})
    refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"{}"])
@pytest.mark.parametrize("label", [None, "application/json", "text/plain"])
def test_bodiless_actions_take_no_notice_of_a_body(
    api: Api, content: bytes | None, label: str | None
) -> None:
    headers = {"Content-Type": label} if label else None
    queue = a_queue()
    dead, waiting = api.dead(queue), api.enqueue(queue)
    worker = answered(api.post("/workers/register", {"queue_name": queue, "hostname": "h"}), 201)["id"]
    answered(api.call("POST", f"/jobs/{dead}/retry", content=content, headers=headers))
    answered(api.call("DELETE", f"/jobs/{waiting}", content=content, headers=headers), 204)
    refused(api.call("POST", f"/queues/{queue}/resume", content=content, headers=headers), 404)
    answered(api.call("POST", f"/workers/{worker}/deregister", content=content, headers=headers), 204)


def test_shape_comes_before_rules_and_rules_before_existence(api: Api) -> None:
    both = {"queue_name": "", "payload": 1, "priority": "high"}
    assert refused_fields(api.post("/jobs", both), 422) == {"priority"}
    assert refused_fields(api.put(f"/jobs/{UNKNOWN_ID}/priority", {"priority": 101}), 400) == {"priority"}
    assert refused_fields(api.post(f"/jobs/{UNKNOWN_ID}/fail", {"worker_id": "w", "error": ""}), 400) == {
        "error"
    }
    refused(api.put(f"/jobs/{UNKNOWN_ID}/priority", {"priority": 100}), 404, "NOT_FOUND")


def test_all_broken_fields_are_listed(api: Api) -> None:
    wrong_types = {"queue_name": 5, "payload": 1, "priority": "x", "max_retries": []}
    assert refused_fields(api.post("/jobs", wrong_types), 422) == {"queue_name", "priority", "max_retries"}
    broken_rules = {"queue_name": ".", "payload": 1, "priority": 101, "timeout_seconds": 0}
    assert refused_fields(api.post("/jobs", broken_rules), 400) == {
        "queue_name",
        "priority",
        "timeout_seconds",
    }


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.name)
def test_no_endpoint_answers_without_a_credential(anonymous: Api, endpoint: Endpoint) -> None:
    response = anonymous.call(endpoint.method, endpoint.path, endpoint.body)
    assert refused(response, 401, "UNAUTHORIZED")["error"] == "unauthorized"
