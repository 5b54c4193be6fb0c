"""What the tests of topics share: a caller with one credential, and exact checks of answers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

import httpx2

from tests.api.spooled.wire import JsonObject, dumps

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
UNKNOWN = "nobody-made-this"


def a_topic() -> str:
    """A topic name nobody else uses."""
    return f"t-{uuid.uuid4().hex[:16]}"


def a_group() -> str:
    """A group name nobody else uses."""
    return f"g-{uuid.uuid4().hex[:16]}"


def answered(response: httpx2.Response, status: int = 200) -> Any:
    """The body of a success: always JSON, never 204. Contract: goqueue-messaging 0.3."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/json"
    return response.json()


def refused(response: httpx2.Response, status: int, text: str | None = None) -> JsonObject:
    """The body of a refusal. Contract: goqueue-messaging 1.3."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["status"] == status
    if text is not None:
        assert body["error"] == text or body["error"].startswith(text), body
    return body


class Topics:
    """A caller of the topics of one tenant."""

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
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> httpx2.Response:
        # The published clients say so of every request, with or without a body.
        sent = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.api_key is not None:
            sent["Authorization"] = f"Bearer {self.api_key}"
        if body is not None:
            content = dumps(body)
        return self.http.request(
            method,
            f"{self.url}{path}",
            content=content,
            headers={**sent, **(headers or {})},
            params=params or None,
        )

    def get(self, path: str, **params: str | int) -> httpx2.Response:
        return self.call("GET", path, params=params)

    def post(self, path: str, body: object = None, **headers: str) -> httpx2.Response:
        return self.call("POST", path, body, headers=headers)

    def delete(self, path: str) -> httpx2.Response:
        return self.call("DELETE", path)

    # Arrangements

    def create(self, partitions: int = 1, name: str | None = None) -> str:
        """A new topic; returns its name."""
        name = name or a_topic()
        answered(self.post("/topics", {"name": name, "num_partitions": partitions}), 201)
        return name

    def publish(self, topic: str, *messages: str | JsonObject) -> list[JsonObject]:
        """Publish messages, all of which are accepted; returns their results."""
        given = [{"value": message} if isinstance(message, str) else message for message in messages]
        results = answered(self.post(f"/topics/{topic}/messages", {"messages": given}))["results"]
        assert not [result for result in results if "error" in result], results
        return results

    def read(self, topic: str, partition: int = 0, **params: str | int) -> JsonObject:
        """A page of a partition."""
        return answered(self.get(f"/topics/{topic}/partitions/{partition}/messages", **params))

    def join(self, group: str, *topics: str, client_id: str = "worker", **fields: object) -> JsonObject:
        """A new member of a group; returns what it is told."""
        return answered(
            self.post(f"/groups/{group}/join", {"client_id": client_id, "topics": list(topics), **fields})
        )

    def poll(self, group: str, member: str, timeout: str = "0", **params: str | int) -> list[JsonObject]:
        """Lease messages."""
        return answered(self.get(f"/groups/{group}/poll", member_id=member, timeout=timeout, **params))[
            "messages"
        ]

    def ack(self, message: JsonObject) -> JsonObject:
        """Acknowledge a message."""
        return answered(self.post("/messages/ack", {"receipt_handle": message["receipt_handle"]}))
