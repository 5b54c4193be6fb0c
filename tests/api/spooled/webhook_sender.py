"""What sends webhooks to one organization, signed or not."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any

import httpx2

from tests.api.spooled.wire import LiveTenant, answered
from tests.conftest import GITHUB_SECRET, STRIPE_SECRET


def signature(message: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), message, "sha256").hexdigest()


def github_signature(body: bytes, secret: str = GITHUB_SECRET) -> str:
    return f"sha256={signature(body, secret)}"


def stripe_signature(body: bytes, age_seconds: int = 0, secret: str = STRIPE_SECRET) -> str:
    sent_at = int(time.time()) - age_seconds
    return f"t={sent_at},v1={signature(f'{sent_at}.'.encode() + body, secret)}"


def stripe_event(event_id: str = "evt_1", **fields: object) -> bytes:
    event = {"id": event_id, "type": "charge.succeeded", "created": 1_700_000_000, "livemode": False}
    return json.dumps({**event, "data": {"object": {"id": "ch_1", "amount": 5}}, **fields}).encode()


class Sender:
    """Posts to an organization's webhooks; what is not said is as the provider sends it."""

    def __init__(self, http: httpx2.Client, tenant: LiveTenant) -> None:
        self.http = http
        self.tenant = tenant

    def post(self, provider: str, body: bytes, headers: dict[str, Any]) -> httpx2.Response:
        url = f"{self.tenant.url}/api/v1/webhooks/{self.tenant.organization_id}/{provider}"
        sent = {name: value for name, value in headers.items() if value is not None}
        return self.http.post(url, content=body, headers={"Content-Type": "application/json", **sent})

    def custom(self, body: object, token: str | bytes | None = "", **headers: str) -> httpx2.Response:
        """`token` is the organization's own unless another one, or None, is given."""
        if token == "":
            token = self.tenant.webhook_token
        return self.post("custom", json.dumps(body).encode(), {"X-Webhook-Token": token, **headers})

    def github(self, body: bytes, signed: str | None = "", **headers: str | None) -> httpx2.Response:
        if signed == "":
            signed = github_signature(body)
        sent = {"X-GitHub-Event": "push", "X-Hub-Signature-256": signed}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        return self.post("github", body, sent)

    def stripe(self, body: bytes, signed: str | None = "", **headers: str) -> httpx2.Response:
        if signed == "":
            signed = stripe_signature(body)
        return self.post("stripe", body, {"Stripe-Signature": signed, **headers})

    def call(self, method: str, path: str, **params: str | int) -> httpx2.Response:
        """Call the API with the organization's key."""
        headers = {"Authorization": f"Bearer {self.tenant.api_key}"}
        return self.http.request(
            method, f"{self.tenant.url}/api/v1{path}", headers=headers, params=params or None
        )

    def jobs(self) -> list[dict[str, Any]]:
        """Every job of the organization, in full, the oldest first."""
        rows = answered(self.call("GET", "/jobs", order_dir="asc", limit=100))
        return [answered(self.call("GET", f"/jobs/{row['id']}")) for row in rows]

    def log(self, **params: str | int) -> list[dict[str, Any]]:
        return answered(self.call("GET", "/webhooks/deliveries", **params))

    def assert_nothing_came_in(self) -> None:
        assert self.jobs() == []
        assert self.log() == []
