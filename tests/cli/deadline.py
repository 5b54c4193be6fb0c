"""Waiting for something that can be observed."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Return as soon as `condition` holds; fails when it does not within `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.02)
