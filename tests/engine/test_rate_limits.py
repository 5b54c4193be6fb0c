"""Limits in one process, on a steered clock. Contract: spooled-tenancy 8.1."""

from uuid import uuid4

import msgspec
import pytest

from millstream.domain import limits
from millstream.domain.plan import PLANS
from millstream.domain.rate import Client, RateScope, Standing
from millstream.domain.tenant import Principal
from millstream.engine.rate_limits import AddressLimit, RateLimits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Clock:
    return Clock()


def of_plan(tier: str, *, rate_limit: int | None = None) -> Principal:
    return Principal(
        tenant_id=1,
        organization_id=str(uuid4()),
        api_key_id=uuid4(),
        plan=PLANS[tier],
        rate_limit=rate_limit,
    )


async def admitted(rate_limits: RateLimits, principal: Principal, most: int = 5000) -> int:
    """How many requests go through before one is refused."""
    for number in range(most):
        if (await rate_limits.admit(principal)).retry_after_seconds:
            return number
    return most


async def test_a_plan_admits_its_burst_and_then_its_rate(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(), now=watch)
    for tier, plan in PLANS.items():
        principal = of_plan(tier)
        assert await admitted(rate_limits, principal) == plan.rate_limit_burst
        watch.now += 1
        assert await admitted(rate_limits, principal) == plan.rate_limit_requests_per_second
        watch.now += 1000
        assert await admitted(rate_limits, principal) == plan.rate_limit_burst


async def test_a_key_counts_by_the_minute(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(), now=watch)
    principal = of_plan("enterprise", rate_limit=30)
    assert await admitted(rate_limits, principal) == 30
    watch.now += 1.9
    assert await admitted(rate_limits, principal) == 0
    watch.now += 0.2
    assert await admitted(rate_limits, principal) == 1
    watch.now += 60
    assert await admitted(rate_limits, principal) == 30


async def test_what_is_counted_apart_goes_by_a_number_of_its_own(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(requests_per_second=7, burst=7), apart="topics", now=watch)
    one = of_plan("free", rate_limit=1)
    assert await admitted(rate_limits, one) == 7
    assert await admitted(rate_limits, msgspec.structs.replace(one, api_key_id=uuid4())) == 0
    assert await admitted(rate_limits, of_plan("enterprise")) == 7
    client = Client("127.0.0.1")
    standings = [await rate_limits.admit_client(client) for _ in range(8)]
    assert [bool(standing.retry_after_seconds) for standing in standings] == [False] * 7 + [True]
    watch.now += 1
    assert await admitted(rate_limits, one) == 7


async def test_two_keys_of_an_organization_share_its_bucket(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(), now=watch)
    one = of_plan("free")
    other = msgspec.structs.replace(one, api_key_id=uuid4())
    assert await admitted(rate_limits, one) == 10
    assert await admitted(rate_limits, other) == 0
    assert await admitted(rate_limits, of_plan("free")) == 10


async def test_a_changed_plan_counts_from_the_next_request_on(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(), now=watch)
    principal = of_plan("enterprise")
    await rate_limits.admit(principal)
    smaller = msgspec.structs.replace(principal, plan=PLANS["free"])
    assert await admitted(rate_limits, smaller) == 10


async def test_an_override_may_leave_no_burst_or_nothing_at_all(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(), now=watch)
    plan = msgspec.structs.replace(PLANS["free"], rate_limit_burst=0)
    slow = msgspec.structs.replace(of_plan("free"), plan=plan)
    assert await admitted(rate_limits, slow) == 1
    none = msgspec.structs.replace(plan, rate_limit_requests_per_second=0)
    assert await admitted(rate_limits, msgspec.structs.replace(of_plan("free"), plan=none)) == 0


@pytest.mark.parametrize(("processes", "part"), [(2, 5), (3, 4), (64, 1)])
async def test_a_process_among_others_admits_its_part(watch: Clock, processes: int, part: int) -> None:
    rate_limits = RateLimits(AddressLimit(), processes=processes, now=watch)
    principal = of_plan("free")
    standing = await rate_limits.admit(principal)
    assert (standing.limit, standing.remaining) == (part, part - 1)
    assert await admitted(rate_limits, principal) == part - 1


async def test_an_address_is_charged_asked_and_paid_back(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(requests_per_second=1, burst=2), now=watch)
    client = Client("192.0.2.1")

    def standing(remaining: int, reset: int, retry_after: int = 0) -> Standing:
        return Standing(RateScope.ADDRESS, 2, remaining, reset, retry_after)

    assert await rate_limits.admit_client(client) == standing(1, 1)
    assert await rate_limits.admit_client(client, 0) == standing(1, 1)
    assert await rate_limits.admit_client(client) == standing(0, 2)
    assert await rate_limits.admit_client(client) == standing(0, 2, 1)
    await rate_limits.give_back(client)
    assert await rate_limits.admit_client(client) == standing(0, 2)
    for _ in range(5):
        await rate_limits.give_back(client)
    assert (await rate_limits.admit_client(client, 0)).remaining == 2
    assert await rate_limits.admit_client(client) == standing(1, 1)


async def test_a_crowd_of_addresses_is_forgotten_but_nobody_else(
    watch: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATE_CLIENTS_MAX", 100)
    rate_limits = RateLimits(AddressLimit(requests_per_second=1, burst=2), now=watch)
    principal = of_plan("free")
    await admitted(rate_limits, principal)
    busy = Client("192.0.2.1")
    for number in range(1000):
        await rate_limits.admit_client(Client(f"198.51.100.{number}"))
        refused = (await rate_limits.admit_client(busy)).retry_after_seconds > 0
        assert refused == (number >= 2)
    assert [len(kept) for kept in rate_limits._local._buckets.values()] == [1, 0, 100]
    assert await admitted(rate_limits, principal) == 0


async def test_without_shared_counters_they_are_never_away(watch: Clock) -> None:
    rate_limits = RateLimits(AddressLimit(), now=watch)
    assert await rate_limits.counters_answer()
    await rate_limits.close()
