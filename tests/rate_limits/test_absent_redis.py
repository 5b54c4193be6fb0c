"""A server whose Redis was never there: it starts, and admits little. Contract: spooled-tenancy 8.3, 14.2."""

import socket
from collections.abc import Iterator

import httpx2
import pytest

from tests.cli.server_process import ServerProcess
from tests.rate_limits.servers import LIMITED, calling, is_limited, make_tenant, rate, running

FALLBACK = 10
PASSWORD = "hunter2-of-nobody"


@pytest.fixture(scope="module")
def lonely() -> Iterator[ServerProcess]:
    """A server that was told of a Redis where nobody listens."""
    # Bound and not listening: connections are refused, and nobody else takes the port.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"redis://:{PASSWORD}@127.0.0.1:{held.getsockname()[1]}/0"
        with running({**LIMITED, "REDIS_URL": url}) as server:
            yield server


def test_each_key_is_admitted_ten_times_a_minute(lonely: ServerProcess) -> None:
    for plan_tier in ("free", "enterprise"):
        with calling(lonely.url, make_tenant(lonely, plan_tier=plan_tier).api_key) as client:
            answers = [client.get("/jobs/stats") for _ in range(FALLBACK + 1)]
            assert [rate(answer) for answer in answers] == [
                (FALLBACK, left, "api_key") for left in (*range(FALLBACK - 1, -1, -1), 0)
            ]
            assert is_limited(answers[-1])


def test_each_address_is_admitted_ten_times_a_minute(lonely: ServerProcess) -> None:
    with calling(lonely.url) as client:
        answers = [client.get("/jobs/stats") for _ in range(FALLBACK + 1)]
        assert [answer.status_code for answer in answers] == [401] * FALLBACK + [429]
        assert is_limited(answers[-1])


def test_a_revoked_key_is_refused_at_once_all_the_same(lonely: ServerProcess) -> None:
    with calling(lonely.url, make_tenant(lonely).api_key) as client:
        [key] = client.get("/api-keys").json()
        assert client.delete(f"/api-keys/{key['id']}").status_code == 204
        assert client.get("/jobs/stats").status_code == 401


def test_health_says_that_the_cache_is_away_and_all_else_is_well(lonely: ServerProcess) -> None:
    body = httpx2.get(f"{lonely.url}/health").json()
    assert (body["status"], body["database"], body["cache"]) == ("healthy", True, False)
    assert httpx2.get(f"{lonely.url}/health/ready").status_code == 200
    assert PASSWORD not in lonely.log.read_text()
