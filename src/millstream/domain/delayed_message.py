"""Messages that wait to be delivered."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from millstream.domain.topic import Priority


class DelayedMessage(Struct, frozen=True, kw_only=True):
    """A message that is hidden until `deliver_at`, as it stood at `seen_at`."""

    partition: int
    offset: int
    priority: Priority
    published_at: datetime
    deliver_at: datetime
    seen_at: datetime


class DelayedStatistics(Struct, frozen=True, kw_only=True):
    """Totals of a tenant's delayed messages; `pending_by_topic` names topics with any. Contract: goqueue-messaging 6.4."""

    scheduled: int
    delivered: int
    cancelled: int
    delivered_delay_seconds: float
    pending_by_topic: Mapping[str, int]

    @property
    def pending(self) -> int:
        """How many wait to be delivered."""
        return sum(self.pending_by_topic.values())

    @property
    def average_delay_seconds(self) -> float:
        """The mean delay that delivered messages were published with; 0 when there are none."""
        return self.delivered_delay_seconds / self.delivered if self.delivered else 0.0
