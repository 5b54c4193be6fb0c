"""The metrics port's answers. Contract: spooled-tenancy 13.3."""

import httpx2
import pytest

from millstream.config import Secret
from millstream.serving.metrics_endpoint import MetricsEndpoint


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _client(
    *, token: Secret | None = None, ready: bool = True, clock: Clock | None = None
) -> httpx2.AsyncClient:
    async def is_ready() -> bool:
        return ready

    endpoint = MetricsEndpoint(lambda: b"a_total 1\n", is_ready, token=token, clock=clock or Clock())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=endpoint), base_url="http://metrics")


async def test_metrics_are_open_without_a_token() -> None:
    async with _client() as client:
        answer = await client.get("/metrics")
    assert (answer.status_code, answer.text) == (200, "a_total 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Basic secret-token", 401),
        ("secret-token", 401),
        ("Bearer secret-token", 200),
        ("bearer secret-token", 200),
    ],
)
async def test_a_token_is_required_once_there_is_one(header: str | None, status: int) -> None:
    async with _client(token=Secret("secret-token")) as client:
        answer = await client.get("/metrics", headers={} if header is None else {"authorization": header})
    assert answer.status_code == status


async def test_health_and_readiness_need_no_token() -> None:
    async with _client(token=Secret("secret-token")) as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200


async def test_not_ready_is_503_while_health_stays_200() -> None:
    async with _client(ready=False) as client:
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200


async def test_the_sixty_first_scrape_of_a_window_is_refused_until_the_next() -> None:
    clock = Clock()
    async with _client(clock=clock) as client:
        assert {(await client.get("/metrics")).status_code for _ in range(60)} == {200}
        clock.now += 64.9
        refused = await client.get("/metrics")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        clock.now += 0.1
        assert (await client.get("/metrics")).status_code == 200


async def test_a_stranger_without_the_token_cannot_use_up_the_window() -> None:
    async with _client(token=Secret("secret-token")) as client:
        for _ in range(70):
            assert (await client.get("/metrics")).status_code == 401
        answer = await client.get("/metrics", headers={"authorization": "Bearer secret-token"})
    assert answer.status_code == 200


async def test_other_paths_and_methods_are_refused() -> None:
    async with _client() as client:
        assert (await client.get("/")).status_code == 404
        posted = await client.post("/metrics")
        assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
        head = await client.head("/health")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "3")
