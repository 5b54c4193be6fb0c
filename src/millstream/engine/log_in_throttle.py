"""Keeps those who guess from guessing fast. Contract: spooled-tenancy 5.2.

Counted in this process: with several, each counts what reaches it.
"""

import ipaddress
import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from millstream.domain import limits
from millstream.domain.errors import RateLimited

_KEY_FAILURES = RateLimitItemPerMinute(5, namespace="failed log-ins of a key")
_ADDRESS_FAILURES = RateLimitItemPerMinute(60, namespace="failed log-ins from an address")
_KEY_SUCCESSES = RateLimitItemPerMinute(30, namespace="log-ins of a key")
_VALIDATIONS = RateLimitItemPerMinute(600, namespace="validations from an address")
_CODES_OF_EMAIL = RateLimitItemPerMinute(5, 15, namespace="codes for an e-mail address")
_CODES_FROM_ADDRESS = RateLimitItemPerMinute(10, namespace="codes asked for from an address")
_EMAIL_LOOKS = RateLimitItemPerMinute(30, namespace="looks for an e-mail address")
_CODE_TRIES = RateLimitItemPerMinute(20, namespace="codes tried from an address")
# A customer of IPv6 has all the addresses of a prefix.
_CUSTOMER_BITS = 64


class LogInThrottle:
    """Counts attempts by who makes them and what they present; an address is that of the connection's peer."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def admit(self, address: str, key_digest: str, *, is_known: bool) -> None:
        """Raise RateLimited when too many attempts to log in went before this one.

        A key that was right before (`is_known`) does not suffer from what others behind its address do.
        """
        address = _customer_of(address)
        await self._check(_KEY_FAILURES, key_digest, address)
        await self._check(_KEY_SUCCESSES, key_digest, address)
        if not is_known:
            await self._check(_ADDRESS_FAILURES, address)

    async def note_failure(self, address: str, key_digest: str) -> None:
        """Count an attempt that failed."""
        address = _customer_of(address)
        await self._hit(_KEY_FAILURES, key_digest, address)
        await self._hit(_ADDRESS_FAILURES, address)

    async def note_success(self, address: str, key_digest: str) -> None:
        """Count an attempt that succeeded."""
        await self._hit(_KEY_SUCCESSES, key_digest, _customer_of(address))

    async def admit_validation(self, address: str) -> None:
        """Count a look at a token. Raises RateLimited."""
        await self._spend(_VALIDATIONS, _customer_of(address))

    async def admit_code(self, address: str, email: str) -> None:
        """Count a code that is to be sent. Raises RateLimited."""
        await self._spend(_CODES_FROM_ADDRESS, _customer_of(address))
        await self._spend(_CODES_OF_EMAIL, email)

    async def admit_code_try(self, address: str) -> None:
        """Count a code that is presented. Raises RateLimited."""
        await self._spend(_CODE_TRIES, _customer_of(address))

    async def admit_email_look(self, address: str) -> None:
        """Count a question for an e-mail address. Raises RateLimited."""
        await self._spend(_EMAIL_LOOKS, _customer_of(address))

    async def _check(self, item: RateLimitItem, *who: str) -> None:
        if not await self._limiter.test(item, *who):
            raise await self._refusal(item, *who)

    async def _spend(self, item: RateLimitItem, *who: str) -> None:
        if not await self._hit(item, *who):
            raise await self._refusal(item, *who)

    async def _hit(self, item: RateLimitItem, *who: str) -> bool:
        if len(self._storage.storage) >= limits.THROTTLED_CALLERS_MAX:
            # Each hit looks at all counters for those that have ended: they must stay few.
            await self._storage.reset()
        return await self._limiter.hit(item, *who)

    async def _refusal(self, item: RateLimitItem, *who: str) -> RateLimited:
        window = await self._limiter.get_window_stats(item, *who)
        return RateLimited(max(1, math.ceil(window.reset_time - time.time())))


def _customer_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        # A Unix socket has no address.
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _CUSTOMER_BITS), strict=False))
