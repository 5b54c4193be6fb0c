"""Slows down whoever keeps presenting wrong secrets."""

import ipaddress
import math
import time
from collections.abc import Callable

from millstream.domain import limits
from millstream.domain.errors import RateLimited

# Whoever has one address of an IPv6 network has all of them.
_NETWORK_BITS = 64


class FailureThrottle:
    """Counts failures by client address in this process, `failures_max` in a window of `seconds`.

    A library's store would clean up in a task or thread of its own; here the oldest address makes room.
    """

    def __init__(
        self, *, failures_max: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures_max = failures_max
        self._seconds = seconds
        self._clock = clock
        # By network: how many failures, and when the window ends.
        self._windows: dict[str, tuple[int, float]] = {}

    def check(self, address: str) -> None:
        """Raise RateLimited while `address` has failed too often."""
        failures, ends_at = self._windows.get(_network_of(address), (0, 0.0))
        remaining = ends_at - self._clock()
        if remaining > 0 and failures >= self._failures_max:
            raise RateLimited(max(1, math.ceil(remaining)))

    def note(self, address: str) -> None:
        """Note a failure of `address`."""
        network, now = _network_of(address), self._clock()
        failures, ends_at = self._windows.pop(network, (0, 0.0))
        if ends_at <= now:
            failures, ends_at = 0, now + self._seconds
        if len(self._windows) >= limits.FAILING_ADDRESSES_MAX:
            del self._windows[next(iter(self._windows))]
        self._windows[network] = (failures + 1, ends_at)


def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS), strict=False))
