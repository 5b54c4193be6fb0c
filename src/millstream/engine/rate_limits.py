"""Who may send how many requests: organizations, keys and addresses. Contract: spooled-tenancy 8."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, Protocol

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import CountersAway
from millstream.domain.rate import Bucket, Client, RateLimit, RateScope, Standing, Window, decide, standing_of
from millstream.domain.tenant import Principal

# How long shared counters that failed are left alone: requests go on without them meanwhile.
RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Shared(Protocol):
    """Buckets that all processes share."""

    async def take(self, asked: Sequence[RateLimit], cost: int) -> tuple[bool, list[float]]:
        """Take from all buckets or none. Raises CountersAway."""
        ...

    async def answer(self) -> bool:
        """Tell whether they can be used."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


class AddressLimit(Struct, frozen=True, kw_only=True):
    """What one address may send without a credential."""

    requests_per_second: int = 100
    burst: int = 200


class RateLimits:
    """The request limits of one process; with `shared` buckets those of all processes together.

    Without them each of `processes` counts for itself and grants its part. While they are away each admits
    a few requests a minute and client, and no more. With `apart` requests are counted apart from all others, under
    that name, and an organization may send as many as an address, whatever its plan and keys say.
    """

    def __init__(
        self,
        address: AddressLimit,
        *,
        shared: Shared | None = None,
        processes: int = 1,
        apart: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._shared = shared
        self._apart = apart
        self._local = _LocalBuckets(now, processes)
        self._fallback = _FallbackWindows(now)
        self._recovering: asyncio.Task[None] | None = None

    async def admit(self, principal: Principal) -> Standing:
        """Count a request of `principal` against its organization and its key."""
        if self._apart is not None:
            return await self._admit_apart(f"{self._apart}:{principal.organization_id}")
        plan = principal.plan
        own = RateLimit(
            RateScope.ORGANIZATION,
            principal.organization_id,
            # A rate without a burst would admit nothing.
            plan.rate_limit_burst or min(plan.rate_limit_requests_per_second, 1),
            plan.rate_limit_requests_per_second,
        )
        if principal.rate_limit is None and self._shared is None:
            return self._local.take_one(own, 1)
        key, asked = principal.api_key_id.hex, [own]
        if principal.rate_limit is not None:
            asked.append(RateLimit(RateScope.API_KEY, key, principal.rate_limit, principal.rate_limit / 60))
        return await self._take(asked, 1, RateScope.API_KEY, key)

    async def admit_client(self, client: Client, cost: int = 1) -> Standing:
        """Count a request without a valid credential; with `cost` 0 only tell how the client stands."""
        key = client.key if self._apart is None else f"{self._apart}:{client.key}"
        asked = RateLimit(RateScope.ADDRESS, key, self._address.burst, self._address.requests_per_second)
        return await self._take([asked], cost, RateScope.ADDRESS, key, client.is_identified)

    async def give_back(self, client: Client) -> None:
        """Take back what `admit_client` counted: the credential turned out to be valid."""
        await self.admit_client(client, -1)

    async def counters_answer(self) -> bool:
        """Tell whether the shared counters can be used; so it is without any."""
        return self._shared is None or await self._shared.answer()

    async def close(self) -> None:
        """Let go of the shared counters."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.wait({self._recovering})
        if self._shared is not None:
            await self._shared.close()

    async def _admit_apart(self, key: str) -> Standing:
        asked = RateLimit(RateScope.ORGANIZATION, key, self._address.burst, self._address.requests_per_second)
        return await self._take([asked], 1, RateScope.ORGANIZATION, key)

    async def _take(
        self, asked: list[RateLimit], cost: int, scope: RateScope, key: str, is_identified: bool = True
    ) -> Standing:
        if self._shared is None:
            return self._local.take(asked, cost)
        if self._recovering is None:
            try:
                admitted, tokens = await self._shared.take(asked, cost)
            except CountersAway as error:
                self._leave_shared(self._shared, error)
            else:
                return decide(asked, tokens, cost=cost, admitted=admitted)
        requests = (
            limits.RATE_FALLBACK_REQUESTS if is_identified else limits.RATE_FALLBACK_UNIDENTIFIED_REQUESTS
        )
        return self._fallback.take(scope, key, min(requests, *(limit.burst for limit in asked)), cost)

    def _leave_shared(self, shared: Shared, reason: CountersAway) -> None:
        # Requests that were under way together all fail; the first one says so.
        if self._recovering is None:
            _log.warning(
                "the shared rate limits are away, a few requests a minute are admitted",
                reason=type(reason.__cause__).__name__,
            )
            self._recovering = asyncio.create_task(self._recover(shared), name="rate limits")

    async def _recover(self, shared: Shared) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if await shared.answer():
                break
        _log.info("the shared rate limits are back")
        self._recovering = None


class _LocalBuckets:
    """The buckets of this process; the client that was silent longest is forgotten first."""

    def __init__(self, now: Callable[[], float], processes: int) -> None:
        self._now = now
        self._processes = processes
        # Apart, so that a crowd of addresses makes nobody's key or organization forgotten.
        self._buckets: dict[RateScope, OrderedDict[str, Bucket]] = {
            scope: OrderedDict() for scope in RateScope
        }

    def take_one(self, limit: RateLimit, cost: int) -> Standing:
        """Do what `take` does for one limit, as nearly every request needs it."""
        if self._processes > 1:
            limit = limit.divided(self._processes)
        now = self._now()
        bucket = self._bucket(limit, now)
        tokens = bucket.fill(limit, now)
        if tokens < cost:
            return standing_of(limit, tokens, cost=cost)
        return standing_of(limit, min(bucket.take(cost), limit.burst), cost=0)

    def take(self, asked: Sequence[RateLimit], cost: int) -> Standing:
        """Take `cost` tokens from each bucket, or from none."""
        if len(asked) == 1:
            return self.take_one(asked[0], cost)
        now = self._now()
        if self._processes > 1:
            asked = [limit.divided(self._processes) for limit in asked]
        buckets = [self._bucket(limit, now) for limit in asked]
        tokens = [bucket.fill(limit, now) for bucket, limit in zip(buckets, asked, strict=True)]
        admitted = all(held >= cost for held in tokens)
        if admitted and cost:
            tokens = [
                min(bucket.take(cost), limit.burst) for bucket, limit in zip(buckets, asked, strict=True)
            ]
        return decide(asked, tokens, cost=cost, admitted=admitted)

    def _bucket(self, limit: RateLimit, now: float) -> Bucket:
        buckets = self._buckets[limit.scope]
        bucket = buckets.get(limit.key)
        if bucket is not None:
            buckets.move_to_end(limit.key)
            return bucket
        bucket = buckets[limit.key] = Bucket(limit.burst, now)
        if len(buckets) > limits.RATE_CLIENTS_MAX:
            buckets.popitem(last=False)
        return bucket


class _FallbackWindows:
    """Counts requests while the shared counters are away."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: OrderedDict[tuple[RateScope, str], Window] = OrderedDict()

    def take(self, scope: RateScope, key: str, requests: int, cost: int) -> Standing:
        """Count `cost` requests of one client, unless it has sent `requests` already."""
        now = self._now()
        window = self._windows.get((scope, key))
        if window is None:
            window = self._windows[scope, key] = Window(now)
            if len(self._windows) > limits.RATE_CLIENTS_MAX:
                self._windows.popitem(last=False)
        left, seconds = window.take(cost, requests, limits.RATE_FALLBACK_SECONDS, now)
        wait = max(1, ceil(seconds))
        return Standing(scope, requests, max(0, left), wait, wait if left < 0 else 0)
