"""Back-off between attempts. The statement `fail_jobs` computes the same; a test compares the two."""

from msgspec import Struct

DEFAULT_DELAY_SECONDS_MAX = 60


class Backoff(Struct, frozen=True, kw_only=True):
    """A queue's own back-off: `initial_seconds * factor ** retry_count`, at most `max_seconds`."""

    initial_seconds: int
    factor: float = 2.0
    max_seconds: int = 86_400


def retry_delay_seconds(retry_count: int, backoff: Backoff | None = None) -> int:
    """Return the delay before the attempt after `retry_count` earlier retries, in whole seconds.

    Without a queue's own back-off: 1, 2, 4, 8, 16, 32, 60, 60 … Contract: spooled-jobs 10.5, ruling R5.
    """
    if backoff is None:
        return min(2 ** min(retry_count, 6), DEFAULT_DELAY_SECONDS_MAX)
    # A power that overflows is past every maximum.
    try:
        delay = backoff.initial_seconds * backoff.factor**retry_count
    except OverflowError:
        return backoff.max_seconds
    return int(min(delay, backoff.max_seconds))
