"""What the raw HTTP tests share: a caller bound to one credential, and exact checks of answers."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import httpx2

JsonObject: TypeAlias = dict[str, Any]
T = TypeVar("T")

UTC_MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
WORKER = "worker-1"


class LiveServer(Protocol):
    """The running server that the `server` fixture hands out."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def admin_key(self) -> str: ...
    @property
    def metrics_url(self) -> str: ...
    @property
    def dsn(self) -> str: ...


class LiveTenant(Protocol):
    """One organization of the running server, as the `tenant` and `free_tenant` fixtures hand it out."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str: ...
    @property
    def organization_id(self) -> str: ...
    @property
    def tenant_id(self) -> int: ...
    @property
    def webhook_token(self) -> str: ...


def a_queue() -> str:
    """A queue name nobody else uses, so that tests can share an organization."""
    return f"q-{uuid.uuid4().hex[:16]}"


def dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def answered(response: httpx2.Response, status: int = 200) -> Any:
    """The body of a success, which is JSON whenever there is one (contract: spooled-jobs 1.6)."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    if status == 204:
        assert response.content == b""
        return None
    assert response.headers["content-type"].split(";")[0] == "application/json"
    return response.json()


def refused(response: httpx2.Response, status: int, code: str | None = None) -> JsonObject:
    """The error envelope (contract: spooled-jobs 1.9, spooled-tenancy 1.3)."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert isinstance(body, dict)
    if code is not None:
        assert body["code"] == code, body
    assert re.fullmatch(r"[A-Z][A-Z_]+", body["code"])
    assert isinstance(body["message"], str)
    assert body["message"]
    if body["code"] == "VALIDATION_ERROR":
        assert body["error"] == "Validation failed"
        for entry in body["details"]:
            assert set(entry) == {"field", "message", "code"}
            assert all(isinstance(value, str) for value in entry.values())
    if body["code"] == "INVALID_JSON":
        assert body["error"] == "Invalid JSON"
        assert [(entry["field"], entry["code"]) for entry in body["details"]] == [("body", "PARSE_ERROR")]
    return body


def refused_fields(response: httpx2.Response, status: int) -> set[str]:
    """The fields that a validation error complains about."""
    return {entry["field"] for entry in refused(response, status, "VALIDATION_ERROR")["details"]}


def eventually(look: Callable[[], T], holds: Callable[[T], bool], *, seconds: float = 10.0) -> T:
    """What `look` returns once it `holds`; the last thing seen when the deadline passes first."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if holds(seen) or time.monotonic() > deadline:
            return seen
        pause.wait(0.02)


class Api:
    """A caller of `/api/v1` with one bearer credential, and the arrangements that most tests begin with."""

    def __init__(self, http: httpx2.Client, url: str, api_key: str | None) -> None:
        self.http = http
        self.url = url
        self.api_key = api_key

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str | int] | None = None,
    ) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {self.api_key}"} if self.api_key is not None else {}
        if body is not None:
            content = dumps(body)
        if content is not None:
            sent["Content-Type"] = "application/json"
        if not path.startswith("/health"):
            path = f"/api/v1{path}"
        return self.http.request(
            method, f"{self.url}{path}", content=content, headers={**sent, **(headers or {})}, params=params
        )

    def get(self, path: str, **params: str | int) -> httpx2.Response:
        return self.call("GET", path, params=params or None)

    def post(self, path: str, body: object = None, **headers: str) -> httpx2.Response:
        return self.call("POST", path, body, headers=headers or None)

    def put(self, path: str, body: object = None) -> httpx2.Response:
        return self.call("PUT", path, body)

    def delete(self, path: str, **params: str | int) -> httpx2.Response:
        return self.call("DELETE", path, params=params or None)

    # Arrangements: each asserts the success of what it does.

    def enqueue(self, queue: str, payload: object = None, **fields: object) -> str:
        made = answered(self.post("/jobs", {"queue_name": queue, "payload": payload, **fields}), 201)
        return made["id"]

    def job(self, job_id: str) -> JsonObject:
        return answered(self.get(f"/jobs/{job_id}"))

    def status(self, job_id: str) -> str:
        return self.job(job_id)["status"]

    def claim(self, queue: str, worker: str = WORKER, **fields: object) -> list[JsonObject]:
        return answered(self.post("/jobs/claim", {"queue_name": queue, "worker_id": worker, **fields}))[
            "jobs"
        ]

    def claim_one(self, queue: str, worker: str = WORKER) -> JsonObject:
        (job,) = self.claim(queue, worker)
        return job

    def running(self, queue: str | None = None, worker: str = WORKER, **fields: object) -> JsonObject:
        """A fresh job, claimed by `worker`."""
        queue = queue or a_queue()
        self.enqueue(queue, {"n": 1}, **fields)
        return self.claim_one(queue, worker)

    def complete(self, job: JsonObject, worker: str = WORKER, **fields: object) -> None:
        body = {"worker_id": worker, "lease_id": job["lease_id"], **fields}
        assert answered(self.post(f"/jobs/{job['id']}/complete", body))["success"] is True

    def fail(self, job: JsonObject, worker: str = WORKER, error: str = "boom", **fields: object) -> None:
        body = {"worker_id": worker, "lease_id": job["lease_id"], "error": error, **fields}
        assert answered(self.post(f"/jobs/{job['id']}/fail", body))["success"] is True

    def dead(self, queue: str | None = None, payload: object = None, **fields: object) -> str:
        """A job that failed for good."""
        queue = queue or a_queue()
        job_id = self.enqueue(queue, payload, **{"max_retries": 0, **fields})
        self.fail(self.claim_one(queue))
        return job_id

    def history(self, job_id: str) -> list[str]:
        return [event["event_type"] for event in answered(self.get(f"/jobs/{job_id}/history"))]
