"""The kinds of totals that are counted of deliveries, in `counter_deltas`."""

from typing import Final

DELIVERED: Final = 50
ACKED: Final = 51
NACKED: Final = 52
REJECTED: Final = 53
EXTENDED: Final = 54
EXPIRED: Final = 55
RETRIED: Final = 56
# Dead letters, with the reason or the topic as the subject.
BURIED_FOR: Final = 57
BURIED_FROM: Final = 58
# First deliveries, and for how many microseconds their messages had been ready, with the priority as the subject.
FIRST_DELIVERED: Final = 59
WAITED_US: Final = 60
