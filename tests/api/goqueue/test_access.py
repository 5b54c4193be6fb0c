"""Who a request acts for. Ruling R19, goqueue-platform 10.5."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from millstream.api.http.app import create_http_app
from millstream.api.http.settings import HttpSettings
from millstream.config.schema import Environment, ServerConfig
from millstream.engine.engine import Engine
from millstream.serving.http import HttpListener
from tests.api.goqueue.wire import Topics, answered, refused
from tests.conftest import LiveServer
from tests.live_tenants import LiveTenant

PLACEHOLDERS = ["token", "changeme", "my-api-key", "xsk_live_1"]
LIKE_CREDENTIALS = [
    "sk_live_nobody",
    "sk_test_x",
    "sp_live_x",
    "gq_" + "0" * 64,
    "eyJhbGciOiJIUzI1NiJ9.e30.x",
    "sk_",
]
LOCAL = [
    "localhost",
    "localhost:8080",
    "127.0.0.1",
    "127.8.9.1:1",
    "[::1]:8080",
    "app.localhost:3000",
    "LOCALHOST",
]
FOREIGN = [
    "example.com",
    "example.com:8080",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "10.0.0.1",
    "[::2]",
]


def names(api: Topics, **headers: str) -> list[str]:
    return answered(api.call("GET", "/topics", headers=headers))["topics"]


class TestOnThisMachine:
    """A development server on a loopback address."""

    def test_without_a_credential_the_default_tenant_is_meant(
        self, anonymous: Topics, http: httpx2.Client, server: LiveServer
    ) -> None:
        topic = anonymous.create()
        anonymous.publish(topic, "x")
        first = Topics(http, server.url, server.api_key)
        assert topic in names(first)
        assert anonymous.read(topic) == first.read(topic)

    @pytest.mark.parametrize("text", PLACEHOLDERS)
    def test_a_placeholder_is_no_credential(self, anonymous: Topics, text: str) -> None:
        topic = anonymous.create()
        for headers in ({"Authorization": f"Bearer {text}"}, {"X-API-Key": text}):
            assert topic in names(anonymous, **headers)
        assert topic in names(anonymous, Authorization="Basic dXNlcjpwYXNz")

    @pytest.mark.parametrize("text", LIKE_CREDENTIALS)
    def test_what_looks_like_a_credential_must_be_one(self, anonymous: Topics, text: str) -> None:
        for headers in ({"Authorization": f"Bearer {text}"}, {"X-API-Key": text}):
            answer = anonymous.call("GET", "/topics", headers=headers)
            refused(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"

    def test_a_credential_selects_its_tenant(self, own: Topics, anonymous: Topics) -> None:
        topic = own.create()
        assert names(own) == [topic]
        assert topic not in names(anonymous)
        assert own.api_key is not None
        assert names(anonymous, **{"X-API-Key": own.api_key}) == [topic]
        both = {"Authorization": f"Bearer {own.api_key}", "X-API-Key": "sk_live_nobody"}
        assert names(anonymous, **both) == [topic]

    def test_a_tenant_that_is_named_without_a_credential_is_ignored(
        self, anonymous: Topics, tenant: LiveTenant
    ) -> None:
        topic = anonymous.create()
        for claimed in (tenant.organization_id, "my-tenant"):
            assert topic in names(anonymous, **{"X-Tenant-ID": claimed, "Authorization": "Bearer token"})

    @pytest.mark.parametrize("host", LOCAL)
    def test_local_hosts_are_served(self, anonymous: Topics, host: str) -> None:
        names(anonymous, Host=host)
        names(anonymous, Origin=f"http://{host}")
        names(anonymous, Origin=f"https://{host}")

    @pytest.mark.parametrize("host", FOREIGN)
    def test_a_page_of_the_web_cannot_drive_the_server(
        self, anonymous: Topics, own: Topics, host: str
    ) -> None:
        for headers in (
            {"Host": host},
            {"Origin": f"http://{host}"},
            {"Host": host, "Authorization": "Bearer token"},
        ):
            refused(anonymous.call("GET", "/topics", headers=headers), 403)
            # With a credential nobody has to guess who asks.
            if "Authorization" not in headers:
                names(own, **headers)

    @pytest.mark.parametrize(
        "origin", ["null", "file://", "localhost", "ftp://localhost", "http://", "http://[::1", ""]
    )
    def test_other_origins_are_no_local_pages(self, anonymous: Topics, origin: str) -> None:
        refused(anonymous.call("GET", "/topics", headers={"Origin": origin}), 403)


class TestAnyServer:
    def test_a_named_tenant_is_the_credentials_own(
        self, own: Topics, tenant: LiveTenant, make_tenant: Callable[..., LiveTenant], server: LiveServer
    ) -> None:
        topic = own.create()
        assert names(own, **{"X-Tenant-ID": tenant.organization_id}) == [topic]
        for other in (make_tenant().organization_id, "default", "my-tenant", "../x"):
            refused(own.call("GET", "/topics", headers={"X-Tenant-ID": other}), 403)
        first = Topics(own.http, server.url, server.api_key)
        for _ in range(2):
            names(first, **{"X-Tenant-ID": "default"})

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/topics"),
            ("POST", "/topics"),
            ("POST", "/topics/emails/messages"),
            ("GET", "/groups"),
            ("POST", "/messages/ack"),
            ("GET", "/v1/topics/emails"),
            ("GET", "/delay/stats"),
        ],
    )
    def test_a_key_that_is_limited_to_queues_reaches_no_topics(
        self, restricted: Topics, method: str, path: str
    ) -> None:
        refused(restricted.call(method, path), 403)


@asynccontextmanager
async def serving(engine: Engine, settings: HttpSettings) -> AsyncGenerator[str]:
    """The address of a server in this process."""
    app = create_http_app(engine, settings, observe=lambda *_: None, render_metrics=lambda: b"")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    http = HttpListener(app, [listener], shutdown_seconds=1)
    await http.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await http.stop()


async def test_elsewhere_a_credential_is_required(engine: Engine) -> None:
    _, key = await engine.tenants.create(name="Default organization", slug="default", billing_email=None)
    async with (
        serving(engine, HttpSettings(topics_without_credentials=False)) as url,
        httpx2.AsyncClient(base_url=url) as client,
    ):
        for headers in (
            {},
            {"Authorization": "Bearer token"},
            {"X-API-Key": "token"},
            {"X-Tenant-ID": "default"},
        ):
            answer = await client.get("/topics", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["status"] == 401
        assert (await client.get("/topics", headers={"X-API-Key": key.secret})).json() == {"topics": []}


async def test_without_a_default_tenant_a_credential_is_required(engine: Engine) -> None:
    tenant, _ = await engine.tenants.create(name="Somebody else", slug="default", billing_email=None)
    async with (
        serving(engine, HttpSettings(topics_without_credentials=True)) as url,
        httpx2.AsyncClient(base_url=url) as client,
    ):
        assert (await client.get("/topics")).status_code == 200
        await engine.removal.remove(tenant.public_id, unless_active=False)
        engine.context.invalidations.forget(tenant.id)
        assert (await client.get("/topics")).status_code == 401


@pytest.mark.parametrize(
    ("environment", "host", "is_local"),
    [
        (Environment.DEVELOPMENT, "127.0.0.1", True),
        (Environment.DEVELOPMENT, "127.9.9.9", True),
        (Environment.DEVELOPMENT, "::1", True),
        (Environment.DEVELOPMENT, "localhost", True),
        (Environment.DEVELOPMENT, "0.0.0.0", False),
        (Environment.DEVELOPMENT, "::", False),
        (Environment.DEVELOPMENT, "192.168.1.2", False),
        (Environment.DEVELOPMENT, "localhost.example.com", False),
        (Environment.STAGING, "127.0.0.1", False),
        (Environment.PRODUCTION, "127.0.0.1", False),
    ],
)
def test_only_a_development_server_of_this_machine_minds_no_credential(
    environment: Environment, host: str, is_local: bool
) -> None:
    assert ServerConfig(environment=environment, host=host).is_local is is_local
