"""What a server has written down once all of that was tried. Contract: spooled-tenancy 19.9 (I8)."""

import hmac
import re
from urllib.parse import urlsplit

import psycopg

from tests.api.spooled.administrator import Administrator
from tests.api.spooled.wire import Api, LiveTenant, answered, refused
from tests.conftest import GITHUB_SECRET, STRIPE_SECRET, LiveServer


def test_the_log_of_a_server_that_was_called_in_bad_faith_shows_no_secret(
    own: Api, stranger: Api, server: LiveServer, tenant: LiveTenant
) -> None:
    assert own.api_key is not None
    pair = answered(stranger.post("/auth/login", {"api_key": own.api_key}))
    # Everything secret, where it does not belong.
    secrets = [own.api_key, server.admin_key, pair["access_token"], pair["refresh_token"]]
    for secret in [*secrets, tenant.webhook_token]:
        refused(stranger.call("GET", "/jobs", params={"token": secret, "api_key": secret}), 401)
        refused(stranger.call("GET", f"/jobs/{secret}"), 401)
        refused(own.get(f"/jobs/{secret}"), 404)
        refused(own.get("/jobs", limit=secret), 400)
        answered(stranger.post("/auth/validate", {"token": f"{secret}x"}))
    signature = hmac.new(GITHUB_SECRET.encode(), b"{", "sha256").hexdigest()
    for headers in (
        {"X-Hub-Signature-256": f"sha256={signature}"},
        {"Stripe-Signature": STRIPE_SECRET},
        {"X-Webhook-Token": tenant.webhook_token},
    ):
        for provider in ("custom", "github", "stripe"):
            path = f"/webhooks/{tenant.organization_id}/{provider}"
            response = stranger.call("POST", path, content=b"{", headers=headers)
            assert 400 <= response.status_code < 500
    body = {"name": "hook", "url": "https://10.0.0.1/", "events": ["job.created"], "secret": signature}
    refused(own.post("/outgoing-webhooks", body), 400)
    refused(Administrator(stranger.http, stranger.url, own.api_key).get("/stats"), 401)

    with psycopg.connect(server.dsn) as connection:
        kept = connection.execute("select key, value from millstream.settings").fetchall()
        hashes = connection.execute("select hash, encode(digest, 'hex') from millstream.api_keys").fetchall()
    settings = {key: value for key, value in kept if "secret" in key or "pepper" in key}
    assert settings
    log = (server.data_dir / "serve.log").read_text()
    given = [*secrets, tenant.webhook_token, signature, GITHUB_SECRET, STRIPE_SECRET, server.dsn]
    given += [*settings.values(), *(text for row in hashes for text in row if text)]
    password = urlsplit(server.dsn).password
    given += [password] if password else []
    assert [secret for secret in given if secret in log] == []
    assert re.findall(r"\$2[aby]\$\d\d\$|eyJ[\w-]{20,}\.eyJ|postgres(?:ql)?://\S*:\S+@", log) == []
