"""A caller of `/api/v1/admin`, and organizations made by it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx2

from tests.api.spooled.wire import Api, JsonObject, answered

Make: TypeAlias = Callable[..., tuple[JsonObject, Api]]


def a_slug() -> str:
    return f"org-{uuid.uuid4().hex[:20]}"


class Administrator(Api):
    """Presents the admin key, or another one."""

    def __init__(self, http: httpx2.Client, url: str, admin_key: str | bytes | None) -> None:
        super().__init__(http, url, None)
        self.admin_key = admin_key

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
        sent: dict[str, Any] = dict(headers or {})
        if self.admin_key is not None:
            sent["X-Admin-Key"] = self.admin_key
        return super().call(method, f"/admin{path}", body, content=content, headers=sent, params=params)

    def patch(self, path: str, body: object) -> httpx2.Response:
        return self.call("PATCH", path, body)

    def make(self, **fields: object) -> tuple[JsonObject, Api]:
        """A fresh organization, created over HTTP, and a caller with its first key."""
        body = {"name": "Example", "slug": a_slug(), **fields}
        made = answered(self.post("/organizations", body), 201)
        return made["organization"], Api(self.http, self.url, made["api_key"]["key"])
