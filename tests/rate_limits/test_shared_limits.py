"""Limits that all processes share, and what is left of them while Redis is away. Contract: spooled-tenancy 8.3, 19.6 (F10)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import httpx2
import msgspec
import pytest

from millstream.domain.plan import PLANS
from millstream.domain.rate import Client, RateScope
from millstream.domain.tenant import Principal
from millstream.engine.rate_limits import AddressLimit, RateLimits
from millstream.observe import metrics
from millstream.store.shared_buckets import SharedBuckets
from tests.cli.deadline import wait_until
from tests.cli.server_process import ServerProcess
from tests.rate_limits.redis_server import PASSWORD, RedisServer, running_redis
from tests.rate_limits.servers import LIMITED, calling, is_limited, make_tenant, rate, running

pytestmark = pytest.mark.slow

FALLBACK = 10
FALLBACK_UNIDENTIFIED = 5


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as started:
        yield started


@pytest.fixture
def shared(redis: RedisServer) -> Iterator[ServerProcess]:
    """A server of two processes that count in Redis."""
    with running({**LIMITED, "REDIS_URL": redis.url}, "--processes", "2") as server:
        yield server


@pytest.fixture
async def two(redis: RedisServer) -> AsyncIterator[tuple[RateLimits, RateLimits]]:
    """The limits of two processes."""

    def limits() -> RateLimits:
        buckets = SharedBuckets(redis.url, pool_size=4, count_operation=metrics.REDIS_OPERATIONS.inc)
        return RateLimits(AddressLimit(requests_per_second=1, burst=20), shared=buckets)

    pair = limits(), limits()
    yield pair
    for one in pair:
        await one.close()


def slow_principal(*, rate_limit: int | None = None) -> Principal:
    """A tenant whose bucket does not fill during a test."""
    plan = msgspec.structs.replace(
        PLANS["enterprise"], rate_limit_requests_per_second=0, rate_limit_burst=100
    )
    return Principal(
        tenant_id=1, organization_id=str(uuid4()), api_key_id=uuid4(), plan=plan, rate_limit=rate_limit
    )


async def test_processes_cannot_spend_the_same_token(two: tuple[RateLimits, RateLimits]) -> None:
    principal = slow_principal()
    standings = await asyncio.gather(*(two[n % 2].admit(principal) for n in range(150)))
    assert sum(one.retry_after_seconds == 0 for one in standings) == 100
    assert {one.limit for one in standings} == {100}
    assert sorted(one.remaining for one in standings if not one.retry_after_seconds) == list(range(100))


async def test_both_limits_of_a_key_are_taken_from_or_none(
    two: tuple[RateLimits, RateLimits], redis: RedisServer
) -> None:
    principal = slow_principal(rate_limit=1)
    assert (await two[0].admit(principal)).retry_after_seconds == 0
    for one in two:
        for _ in range(20):
            refused = await one.admit(principal)
            assert (refused.scope, refused.remaining) == (RateScope.API_KEY, 0)
            assert refused.retry_after_seconds > 50
    other = await two[1].admit(msgspec.structs.replace(principal, rate_limit=None))
    assert (other.scope, other.remaining) == (RateScope.ORGANIZATION, 98)
    key = f"org:{{{principal.organization_id}}}:rate:key:{principal.api_key_id.hex}"
    # What fills within a minute is forgotten soon after.
    assert 55_000 < int(redis.ask("PTTL", key).strip(b":\r\n")) <= 61_000


async def test_an_address_is_paid_back_in_every_process(two: tuple[RateLimits, RateLimits]) -> None:
    client = Client("192.0.2.1")
    for _ in range(30):
        await two[0].admit_client(client)
        await two[1].give_back(client)
    assert (await two[1].admit_client(client, 0)).remaining == 20


async def test_an_unidentified_client_has_half_of_what_is_left_without_redis(
    two: tuple[RateLimits, RateLimits], redis: RedisServer
) -> None:
    redis.stop()
    for client, most in (
        (Client("192.0.2.1"), FALLBACK),
        (Client("agent:x", is_identified=False), FALLBACK_UNIDENTIFIED),
        (Client("agent:y", is_identified=False), FALLBACK_UNIDENTIFIED),
    ):
        standings = [await two[0].admit_client(client) for _ in range(most + 3)]
        assert [one.retry_after_seconds > 0 for one in standings] == [False] * most + [True] * 3
        assert {one.limit for one in standings} == {most}
        assert all(0 < one.retry_after_seconds <= 60 for one in standings[most:])
    # A key whose own limit is tighter keeps that.
    tight = slow_principal(rate_limit=2)
    assert [(await two[0].admit(tight)).remaining for _ in range(3)] == [1, 0, 0]


def burst(client: httpx2.Client, most: int) -> list[httpx2.Response]:
    return [client.get("/jobs/stats") for _ in range(most)]


def cache_answers(server: ServerProcess) -> bool:
    answer = httpx2.get(f"{server.url}/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    return answer.json()["cache"]


def test_a_plan_is_whole_however_many_processes_answer(shared: ServerProcess) -> None:
    tenant = make_tenant(shared)
    answers = [answer for _ in range(8) for answer in _from_a_fresh_connection(shared, tenant.api_key, 5)]
    assert rate(answers[0]) == (10, 9, "organization")
    assert {rate(answer)[0::2] for answer in answers} == {(10, "organization")}
    assert any(is_limited(answer) for answer in answers)
    counted = httpx2.get(f"{shared.metrics_url}/metrics").text
    (line,) = [line for line in counted.splitlines() if line.startswith("spooled_redis_operations_total ")]
    assert float(line.split()[1]) >= 40


def _from_a_fresh_connection(server: ServerProcess, api_key: str, most: int) -> list[httpx2.Response]:
    with calling(server.url, api_key) as client:
        return burst(client, most)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_redis_a_few_requests_a_minute_are_admitted_until_it_is_back(
    redis: RedisServer, how: str
) -> None:
    with running({**LIMITED, "REDIS_URL": redis.url}) as server:
        tenant, other = (make_tenant(server, plan_tier="enterprise") for _ in range(2))
        with calling(server.url, tenant.api_key) as client, calling(server.url) as stranger:
            assert rate(client.get("/jobs/stats")) == (1000, 999, "organization")
            assert cache_answers(server)

            (redis.stop if how == "stopped" else redis.freeze)()
            answers = burst(client, FALLBACK + 3)
            assert [answer.status_code for answer in answers] == [200] * FALLBACK + [429] * 3
            assert [rate(answer) for answer in answers[:FALLBACK]] == [
                (FALLBACK, left, "api_key") for left in range(FALLBACK - 1, -1, -1)
            ]
            assert all(is_limited(answer) for answer in answers[FALLBACK:])
            assert all(rate(answer)[0] == FALLBACK for answer in answers)
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
            assert not cache_answers(server)

            # Each client has its own; a key that was never seen is still looked up, a wrong one still refused.
            with calling(server.url, other.api_key) as second:
                assert [answer.status_code for answer in burst(second, FALLBACK)] == [200] * FALLBACK
            refused = burst(stranger, FALLBACK + 2)
            assert [answer.status_code for answer in refused] == [401] * FALLBACK + [429] * 2
            assert rate(refused[0]) == (FALLBACK, FALLBACK - 1, "ip")

            (redis.start if how == "stopped" else redis.thaw)()
            wait_until(lambda: cache_answers(server) and client.get("/jobs/stats").status_code == 200)
            assert rate(client.get("/jobs/stats"))[0::2] == (1000, "organization")
            assert {answer.status_code for answer in burst(client, 50)} == {200}
            log = server.log.read_text()
            assert log.count("the shared rate limits are away") == 1
            assert log.count("the shared rate limits are back") == 1
            assert PASSWORD not in log


async def test_what_is_counted_apart_shares_its_own_buckets_only(redis: RedisServer) -> None:
    def limits(apart: str | None) -> RateLimits:
        buckets = SharedBuckets(redis.url, pool_size=4, count_operation=metrics.REDIS_OPERATIONS.inc)
        return RateLimits(AddressLimit(requests_per_second=0, burst=3), shared=buckets, apart=apart)

    one, other, ordinary = limits("topics"), limits("topics"), limits(None)
    principal, client = slow_principal(), Client("127.0.0.1")
    for admit in (
        lambda limiter: limiter.admit(principal),
        lambda limiter: limiter.admit_client(client),
    ):
        assert [(await admit(each)).retry_after_seconds for each in (one, other, one)] == [0, 0, 0]
        assert (await admit(other)).retry_after_seconds >= 1
        assert (await admit(ordinary)).remaining >= 2
    for each in (one, other, ordinary):
        await each.close()
