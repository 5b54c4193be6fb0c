"""Incoming webhooks on servers whose settings differ from those of the other suites. Contract: spooled-tenancy 19.8."""

import hmac
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cli.server_process import ServerProcess, run_command

# Longer than the quick suite has time for.
pytestmark = pytest.mark.slow

BODY = b'{"action":"opened"}'
JWT_SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def production() -> Iterator[ServerProcess]:
    """A production server that no provider's secret was given to."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        environment = {"RUST_ENV": "production", "JWT_SECRET": JWT_SECRET, "HOST": "127.0.0.1"}
        running = ServerProcess(directory / "data", directory / "log", environment=environment)
        try:
            yield running.wait_ready()
        finally:
            running.stop()


def _post(
    server: ServerProcess, provider: str, headers: dict[str, str], organization: str | None = None
) -> tuple[int, str]:
    organization = organization or server.credentials["organization_id"]
    response = httpx2.post(
        f"{server.url}/api/v1/webhooks/{organization}/{provider}", content=BODY, headers=headers
    )
    return response.status_code, response.json()["code"]


def _jobs(server: ServerProcess) -> int:
    return httpx2.get(f"{server.url}/api/v1/jobs/stats", headers=server.headers).json()["total"]


def _signature(secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), BODY, "sha256").hexdigest()


@pytest.mark.parametrize("signature", ["", _signature(""), _signature("None")])
def test_h13_without_a_configured_secret_nothing_is_accepted(
    production: ServerProcess, signature: str
) -> None:
    signed = {**HTTPS, "X-Hub-Signature-256": signature, "Stripe-Signature": signature}
    for provider in ("github", "stripe"):
        assert _post(production, provider, signed) == (500, "INTERNAL_ERROR")
        # Whom it is for is looked at first.
        assert _post(production, provider, signed, "unknown") == (404, "NOT_FOUND")
    assert _jobs(production) == 0


def test_h13_the_operator_is_told_once_for_each_provider(production: ServerProcess) -> None:
    for _ in range(5):
        _post(production, "github", HTTPS)
        _post(production, "stripe", HTTPS)
    told = [line for line in production.log.read_text().splitlines() if "no secret is configured" in line]
    assert len(told) == 2


@pytest.mark.parametrize("provider", ["custom", "github", "stripe"])
@pytest.mark.parametrize("forwarded", [None, "", "http", "http,https", "https2", "wss"])
def test_h20_in_production_plain_http_is_refused(
    production: ServerProcess, provider: str, forwarded: str | None
) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-Proto": forwarded}
    for organization in (None, "unknown"):
        assert _post(production, provider, headers, organization) == (400, "BAD_REQUEST")


def test_h20_in_production_https_is_accepted(production: ServerProcess) -> None:
    url = f"{production.url}/api/v1/webhooks/{production.credentials['organization_id']}/custom"
    headers = {"X-Webhook-Token": _webhook_token(production)}
    body = {"queue_name": "q", "payload": 1}
    for forwarded in ("https", "HTTPS", "https, http"):
        answer = httpx2.post(url, json=body, headers={**headers, "X-Forwarded-Proto": forwarded})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx2.post(url, json=body, headers=headers).status_code == 400
    assert _jobs(production) == 3


def _webhook_token(server: ServerProcess) -> str:
    token = "select webhook_token from millstream.tenants"
    done = run_command("db", "shell", "--data-dir", str(server.data_dir), "--command", token, "--json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    return row["webhook_token"]


def test_h23_no_secret_is_in_an_answer_or_in_the_log() -> None:
    secrets = {"GITHUB_WEBHOOK_SECRET": "the-github-secret", "STRIPE_WEBHOOK_SECRET": "the-stripe-secret"}
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        environment = {**secrets, "LOG_LEVEL": "debug", "JSON_LOGS": "1"}
        server = ServerProcess(directory / "data", directory / "log", environment=environment).wait_ready()
        try:
            token = _webhook_token(server)
            signature = _signature(secrets["GITHUB_WEBHOOK_SECRET"])
            shown = [
                json.dumps(server.ready),
                *_answers(server, {"X-Hub-Signature-256": signature}),
                *_answers(server, {"X-Webhook-Token": token}),
                *_answers(server, {"X-Webhook-Token": token + "x", "Stripe-Signature": "t=1,v1=2"}),
            ]
            rows = httpx2.get(f"{server.url}/api/v1/webhooks/deliveries", headers=server.headers)
            assert len(rows.json()) == 2
            shown += [rows.text, httpx2.get(server.metrics_url).text]
        finally:
            server.stop()
        shown.append(server.log.read_text())
    for text in shown:
        for secret in (*secrets.values(), token, signature):
            assert secret not in text


def _answers(server: ServerProcess, headers: dict[str, str]) -> list[str]:
    answers: list[str] = []
    for provider in ("custom", "github", "stripe"):
        url = f"{server.url}/api/v1/webhooks/{server.credentials['organization_id']}/{provider}"
        answer = httpx2.post(url, json={"queue_name": "q", "payload": 1}, headers=headers)
        answers.append(answer.text + repr(answer.headers))
    # The signature of another body, so the custom webhook and a signed one are what is accepted.
    if "X-Hub-Signature-256" in headers:
        url = f"{server.url}/api/v1/webhooks/{server.credentials['organization_id']}/github"
        answer = httpx2.post(url, content=BODY, headers=headers)
        assert answer.status_code == 200
        answers.append(answer.text + repr(answer.headers))
    return answers
