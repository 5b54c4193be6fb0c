"""How much is on its way to whom, so that no receiver takes the room of others."""

from collections import Counter, OrderedDict
from typing import TypeVar
from uuid import UUID

from millstream.domain import limits
from millstream.store.outgoing_deliveries import Claimed, Rooms

_Key = TypeVar("_Key")


class Receivers:
    """Counts what is in flight by receiver and host; a host that did not answer gets little until it does."""

    def __init__(self) -> None:
        self._total = 0
        self._receivers: Counter[tuple[int, UUID]] = Counter()
        self._hosts: Counter[str] = Counter()
        self._troubled: OrderedDict[str, None] = OrderedDict()

    def rooms(self) -> Rooms:
        """Return how much more may be sent."""
        hosts = {
            host: max(0, self._room_of(host) - self._hosts[host]) for host in (*self._hosts, *self._troubled)
        }
        return Rooms(
            total=max(0, limits.DELIVERIES_IN_FLIGHT_MAX - self._total),
            receiver=limits.DELIVERIES_PER_RECEIVER_MAX,
            host=limits.DELIVERIES_PER_HOST_MAX,
            receivers={
                receiver: max(0, limits.DELIVERIES_PER_RECEIVER_MAX - count)
                for receiver, count in self._receivers.items()
            },
            hosts=hosts,
        )

    def enter(self, delivery: Claimed) -> None:
        """Note that a delivery is on its way."""
        self._total += 1
        self._receivers[delivery.tenant_id, delivery.receiver] += 1
        self._hosts[delivery.host] += 1

    def leave(self, delivery: Claimed, *, unanswered: bool | None) -> None:
        """Note that it is no more; `unanswered` says whether its host kept silent (None: nobody asked it)."""
        self._total -= 1
        _take_one(self._receivers, (delivery.tenant_id, delivery.receiver))
        _take_one(self._hosts, delivery.host)
        if unanswered:
            self._troubled[delivery.host] = None
            self._troubled.move_to_end(delivery.host)
            if len(self._troubled) > limits.TROUBLED_HOSTS_MAX:
                self._troubled.popitem(last=False)
        elif unanswered is False:
            self._troubled.pop(delivery.host, None)

    def _room_of(self, host: str) -> int:
        if host in self._troubled:
            return limits.DELIVERIES_PER_TROUBLED_HOST_MAX
        return limits.DELIVERIES_PER_HOST_MAX


def _take_one(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
