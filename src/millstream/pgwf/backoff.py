"""How long to wait between polls that find nothing."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from millstream.pgwf.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of `initial` seconds, then `factor` times as long each, up to `maximum`.

    `jitter` (0 to 1) is the part of each wait that is left to chance: with 0.2 a wait is 80 to 100 % of its length.
    Raises InvalidArgument.
    """

    initial: float = 1.0
    maximum: float = 60.0
    factor: float = 2.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum < math.inf:
            raise InvalidArgument("initial and maximum are positive, and initial is not the larger one")
        if not 1 <= self.factor < math.inf:
            raise InvalidArgument("factor is at least 1")
        if not 0 <= self.jitter <= 1:
            raise InvalidArgument("jitter is from 0 to 1")

    def delays(self) -> Iterator[float]:
        """Yield the waits in seconds, without end."""
        delay = self.initial
        while True:
            yield self.varied(delay)
            delay = min(delay * self.factor, self.maximum)

    def varied(self, delay: float) -> float:
        """Return a wait of `delay` seconds less what chance takes of it."""
        return delay * (1 - self.jitter * random.random())
