"""NUL and wrong types are refused in every field. Contract: spooled-jobs 1.3; spooled-tenancy 12.2, 19.5."""

from __future__ import annotations

import pytest

from tests.api.spooled.endpoints import WITH_BODY, Endpoint, each
from tests.api.spooled.wire import UNKNOWN_ID, Api, a_queue, answered, refused, refused_fields


@each(WITH_BODY)
def test_nul_in_any_string_is_400(api: Api, endpoint: Endpoint) -> None:
    texts = [
        name
        for name, kind in (endpoint.required | endpoint.optional).items()
        if kind in ("text", "time", "any")
    ]
    for name in texts:
        response = api.call(endpoint.method, endpoint.path, {**(endpoint.body or {}), name: "a\0b"})
        refused(response, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("payload", ["\0", {"\0": 1}, {"a": ["x", {"b": "y\0"}]}, [["\0"]]])
def test_nul_anywhere_in_opaque_json_is_400(api: Api, payload: object) -> None:
    running = api.running()
    for method, path, body in (
        ("POST", "/jobs", {"queue_name": "q", "payload": payload}),
        ("POST", "/jobs", {"queue_name": "q", "payload": 1, "tags": payload}),
        ("POST", f"/jobs/{running['id']}/complete", {"worker_id": "worker-1", "result": payload}),
        ("PUT", "/queues/q/config", {"settings": payload}),
        ("POST", "/workers/register", {"queue_name": "q", "hostname": "h", "metadata": payload}),
    ):
        refused(api.call(method, path, body), 400, "VALIDATION_ERROR")
    assert api.status(running["id"]) == "processing"


def test_what_only_looks_like_nul_survives(api: Api) -> None:
    content = rb'{"queue_name":"q","payload":"\\u0000 \\\\u0000 \\ud800"}'
    made = answered(api.call("POST", "/jobs", content=content), 201)
    assert api.job(made["id"])["payload"] == r"\u0000 \\u0000 \ud800"


CANDIDATES: list[object] = [
    True,
    False,
    0,
    -1,
    1.5,
    5.0,
    "text",
    "",
    "7",
    "true",
    [],
    [1],
    [None],
    {},
    {"a": 1},
    2**70,
]


def fits(value: object, kind: str) -> bool:
    match kind:
        case "text" | "time":
            return isinstance(value, str)
        case "integer":
            return type(value) is int and value < 2**63
        case "number":
            return type(value) in (int, float) and value != 2**70
        case "boolean":
            return isinstance(value, bool)
        case "texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "objects":
            return value == []
        case _:
            return True


@each([endpoint for endpoint in WITH_BODY if endpoint.required or endpoint.optional], fast_one_in=5)
def test_a_wrong_type_in_any_field_is_422(api: Api, endpoint: Endpoint) -> None:
    for name, kind in (endpoint.required | endpoint.optional).items():
        for value in CANDIDATES:
            response = api.call(endpoint.method, endpoint.path, {**(endpoint.body or {}), name: value})
            if fits(value, kind):
                assert response.status_code < 500, (name, value, response.text)
                continue
            assert response.status_code == 422, (name, value, response.text)
            fields = refused_fields(response, 422)
            assert all(field == name or field.startswith((f"{name}.", f"{name}[")) for field in fields), (
                name,
                fields,
            )


@pytest.mark.parametrize("value", CANDIDATES, ids=repr)
def test_a_wrong_item_in_a_list_is_422(api: Api, value: object) -> None:
    if not isinstance(value, str):
        refused(api.post("/jobs/dlq/retry", {"job_ids": [value]}), 422, "VALIDATION_ERROR")
    refused(api.post("/jobs/bulk", {"queue_name": "q", "jobs": [value]}), 422, "VALIDATION_ERROR")
    refused(api.post("/jobs/settle", {"worker_id": "w", "items": [value]}), 422, "VALIDATION_ERROR")
    for name in ("priority", "idempotency_key", "scheduled_at"):
        item = {"payload": 1, name: value}
        assert api.post("/jobs/bulk", {"queue_name": a_queue(), "jobs": [item]}).status_code in (200, 422)
    for name in ("job_id", "lease_id", "action", "error", "retry_in_seconds", "worker_id", "result"):
        item = {"job_id": UNKNOWN_ID, "action": "fail", "error": "e", name: value}
        response = api.post("/jobs/settle", {"worker_id": "w", "items": [item]})
        assert response.status_code in (200, 400, 422), (name, response.text)
