"""A server with the settings of production. Contract: spooled-tenancy 12.4, 12.5, 13.3, 14, 19.6 (F9), 19.9 (I6, I7)."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.api.raw_connection import read_answer
from tests.cli.server_process import ServerProcess

# Longer than the quick suite has time for.
pytestmark = pytest.mark.slow

ORIGIN = "https://app.example.com"
TOKEN = "a token of the operator's Prometheus"
SECURE = {"x-forwarded-proto": "https"}
PREFLIGHT = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}


@pytest.fixture(scope="module")
def production() -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        environment = {
            "RUST_ENV": "production",
            "HOST": "127.0.0.1",
            "JWT_SECRET": "9vX2-kQ7r_Lm4Zt8Wc1Yb6Nf3Hj5Gs0Pd",
            "CORS_ALLOWED_ORIGINS": f"{ORIGIN}, https://other.example.com",
            "ENABLE_HSTS": "1",
            "FORCE_HTTPS": "true",
            "METRICS_TOKEN": TOKEN,
            "RATE_LIMIT_REQUESTS_PER_SECOND": "50",
            "RATE_LIMIT_BURST_SIZE": "400",
        }
        running = ServerProcess(directory / "data", directory / "log", environment=environment)
        try:
            yield running.wait_ready()
        finally:
            code = running.stop()
        assert code == 0


def test_limits_are_on(production: ServerProcess) -> None:
    answer = httpx2.get(f"{production.url}/api/v1/jobs/stats", headers={**production.headers, **SECURE})
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-limit"] == "1000"
    assert answer.headers["x-ratelimit-scope"] == "organization"
    stranger = httpx2.get(f"{production.url}/api/v1/jobs/stats", headers=SECURE)
    assert (stranger.status_code, stranger.headers["x-ratelimit-limit"]) == (401, "400")


def test_keys_are_live_and_strict_transport_is_asked_for(production: ServerProcess) -> None:
    assert production.credentials["api_key"].startswith("sk_live_")
    answer = httpx2.get(f"{production.url}/health")
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains; preload"


class TestForcedHttps:
    @pytest.mark.parametrize("proto", ["http", "", "https, http", "HTTP", "ftp"])
    def test_what_did_not_come_over_tls_is_400(self, production: ServerProcess, proto: str) -> None:
        headers = {**production.headers, "x-forwarded-proto": proto}
        answer = httpx2.get(f"{production.url}/api/v1/jobs/stats", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "HTTPS" in answer.json()["message"]

    def test_no_word_of_a_proxy_is_400_too(self, production: ServerProcess) -> None:
        answer = httpx2.get(f"{production.url}/api/v1/jobs/stats", headers=production.headers)
        assert answer.status_code == 400

    def test_probes_come_without_tls(self, production: ServerProcess) -> None:
        for path in ("/health", "/health/live", "/health/ready"):
            assert httpx2.get(production.url + path).status_code == 200


class TestOrigins:
    @pytest.mark.parametrize("origin", [ORIGIN, "https://other.example.com"])
    def test_a_listed_one_may_read(self, production: ServerProcess, origin: str) -> None:
        answer = httpx2.get(f"{production.url}/api/v1/nothing", headers={**SECURE, "origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]

    @pytest.mark.parametrize(
        "origin",
        ["https://evil.example.com", "http://app.example.com", "https://app.example.com.evil.com", "null"],
    )
    def test_any_other_may_not(self, production: ServerProcess, origin: str) -> None:
        for method, extra in (("GET", {}), ("OPTIONS", PREFLIGHT)):
            answer = httpx2.request(
                method, f"{production.url}/api/v1/jobs", headers={**SECURE, **extra, "origin": origin}
            )
            assert "access-control-allow-origin" not in answer.headers

    def test_a_preflight_names_what_clients_send(self, production: ServerProcess) -> None:
        headers = {**PREFLIGHT, "origin": ORIGIN, "access-control-request-headers": "x-something-else"}
        answer = httpx2.options(f"{production.url}/api/v1/jobs", headers=headers)
        assert answer.status_code == 204
        assert "x-something-else" not in answer.headers["access-control-allow-headers"].lower()
        assert "x-admin-key" in answer.headers["access-control-allow-headers"].lower()
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-max-age"] == "3600"


@pytest.mark.parametrize("line", ["TRACE /api/v1/jobs", "CONNECT /api/v1/jobs", "TRACE /health"])
def test_dangerous_methods_are_405(production: ServerProcess, line: str) -> None:
    address = urlsplit(production.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n".encode())
        assert read_answer(connection)[0] == 405


class TestMetrics:
    def urls(self, production: ServerProcess) -> list[str]:
        return [f"{production.url}/metrics", f"{production.metrics_url}/metrics"]

    def test_both_ports_want_the_token(self, production: ServerProcess) -> None:
        for url in self.urls(production):
            for given in (
                None,
                "",
                "Bearer",
                f"Bearer {TOKEN[:-1]}",
                f"Bearer {TOKEN}x",
                f"Bearer {TOKEN.upper()}",
                f"Basic {TOKEN}",
                TOKEN,
                production.headers["authorization"],
            ):
                headers = {} if given is None else {"authorization": given}
                assert httpx2.get(url, headers=headers).status_code == 401, (url, given)
            answer = httpx2.get(url, headers={"authorization": f"Bearer {TOKEN}"})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    def test_the_metrics_port_answers_sixty_scrapes_a_window(self, production: ServerProcess) -> None:
        main, port = self.urls(production)
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(headers=headers) as scraper:
            statuses = [scraper.get(port).status_code for _ in range(61)]
            assert statuses[:59] == [200] * 59
            assert statuses[-1] == 429
            refused = scraper.get(port)
            assert 1 <= int(refused.headers["retry-after"]) <= 65
            assert refused.headers["content-type"].startswith("text/plain")
            assert scraper.get(main).status_code == 200
            assert scraper.get(f"{production.metrics_url}/ready").text == "ready\n"
