"""When and how often a call is tried again."""

import msgspec

from millstream.client.errors import ConnectionFailed, RateLimited, Unavailable

# A server that asks for more patience than this is better reported to the caller than waited for.
RETRY_AFTER_SECONDS_MAX = 30.0


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How a client repeats calls that failed for a passing reason.

    At most `attempts` tries within `timeout_seconds`, the pauses growing from `wait_initial_seconds` to
    `wait_max_seconds` with some jitter; a server's `Retry-After` (up to 30 s) takes precedence.
    `Retries(attempts=1)` never repeats.

    Repeated are: rate-limited calls and calls that never left this machine, always; lost connections and
    answers 408, 502, 503, 504 only where a second arrival cannot act twice (reads, settings, calls with an
    idempotency key, settlements fenced by a lease). Contract: spooled-jobs 1.11.
    """

    attempts: int = 4
    timeout_seconds: float = 60.0
    wait_initial_seconds: float = 0.1
    wait_max_seconds: float = 5.0


def retry_delay(error: Exception, *, replay_safe: bool) -> bool | float:
    """Whether `error` is worth another try; a number is the pause in seconds that the server asked for."""
    match error:
        case RateLimited(retry_after_seconds=seconds):
            return min(seconds, RETRY_AFTER_SECONDS_MAX)
        case ConnectionFailed(sent=sent):
            return replay_safe or not sent
        case Unavailable(retry_after_seconds=seconds) if replay_safe:
            return True if seconds is None else min(seconds, RETRY_AFTER_SECONDS_MAX)
        case _:
            return False
