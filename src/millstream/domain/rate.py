"""How many requests a client may send: buckets that fill with time, windows that begin anew."""

from collections.abc import Sequence
from enum import StrEnum
from math import ceil

from msgspec import Struct

from millstream.domain import limits


class RateScope(StrEnum):
    """Whose limit it is, by the word that clients read. Contract: spooled-tenancy 8.1."""

    ORGANIZATION = "organization"
    API_KEY = "api_key"
    ADDRESS = "ip"


class RateLimit(Struct, frozen=True):
    """At most `burst` requests at once and `per_second` for good, counted under `key`."""

    scope: RateScope
    key: str
    burst: int
    per_second: float

    def divided(self, processes: int) -> "RateLimit":
        """Return the share of one of `processes` that count each for itself."""
        return RateLimit(self.scope, self.key, ceil(self.burst / processes), self.per_second / processes)


class Client(Struct, frozen=True):
    """Who sends requests without a credential; `is_identified` unless nothing but a user agent tells."""

    key: str
    is_identified: bool = True


class Standing(Struct, frozen=True):
    """How a client stands with the limit that decides.

    `limit` is how many requests the limit's window holds, `reset_seconds` when it is whole again,
    `retry_after_seconds` (0: the request was admitted) when it is worth to come back.
    """

    scope: RateScope
    limit: int
    remaining: int
    reset_seconds: int
    retry_after_seconds: int = 0


class Bucket:
    """A token bucket: what a client may still send at once. It knows no rate, so that a limit may change at any time."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self._tokens = tokens
        self._at = now

    def fill(self, limit: RateLimit, now: float) -> float:
        """Add what has come in until `now`; return the tokens."""
        tokens = self._tokens + (now - self._at) * limit.per_second
        self._at = now
        self._tokens = tokens = min(limit.burst, tokens)
        return tokens

    def take(self, tokens: float) -> float:
        """Take tokens out, a negative number puts them back; return what is left."""
        self._tokens -= tokens
        return self._tokens


class Window:
    """Requests counted since the first one, until its time is over."""

    __slots__ = ("_began_at", "_requests")

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._requests = 0

    def take(self, requests: int, limit: int, seconds: float, now: float) -> tuple[int, float]:
        """Count `requests` (negative: give them back) if they fit; return what is left, below 0 if not, and for how long."""
        if now - self._began_at >= seconds:
            self._began_at = now
            self._requests = 0
        left = limit - self._requests - requests
        if left >= 0:
            self._requests = max(0, self._requests + requests)
        return min(left, limit), self._began_at + seconds - now


def decide(asked: Sequence[RateLimit], tokens: Sequence[float], *, cost: int, admitted: bool) -> Standing:
    """Return the standing with the tightest of the limits `asked`, whose buckets now hold `tokens`."""
    standings = [
        standing_of(limit, left, cost=0 if admitted else cost)
        for limit, left in zip(asked, tokens, strict=True)
    ]
    if len(standings) == 1:
        return standings[0]
    return max(standings, key=lambda one: (one.retry_after_seconds, -one.remaining))


def standing_of(limit: RateLimit, tokens: float, *, cost: int) -> Standing:
    """Return the standing of a client whose bucket holds `tokens` and that was refused `cost` more (0: was not)."""
    short = cost - tokens
    return Standing(
        limit.scope,
        limit.burst,
        int(tokens) if tokens > 0 else 0,
        _seconds(limit.burst - tokens, limit.per_second),
        _seconds(short, limit.per_second) if cost and short > 0 else 0,
    )


def _seconds(tokens: float, per_second: float) -> int:
    if tokens <= per_second:
        # A limit of nothing never fills.
        return 1 if per_second else limits.RATE_WAIT_SECONDS_MAX
    if tokens >= per_second * limits.RATE_WAIT_SECONDS_MAX:
        return limits.RATE_WAIT_SECONDS_MAX
    return ceil(tokens / per_second)
