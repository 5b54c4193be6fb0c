"""What publishers and the members of a group were told, held against the log."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from tests.chaos.line import Answer

# What a client may be told by a server whose database or connections fail it; 404 by one that has evicted it.
_HONEST = {200, 404, 410, 503}

Place = tuple[int, int]
"""Partition and offset."""


class Delivered(Struct, frozen=True):
    """A message in the hands of a member."""

    place: Place
    value: str
    receipt: str
    count: int


class TopicLedger:
    """Every answer of a load, by what it promises. Each message has a value that was sent once."""

    def __init__(self) -> None:
        self.published: dict[str, Place] = {}
        self.unanswered_requests: list[Sequence[str]] = []
        self.deliveries: defaultdict[Place, list[Delivered]] = defaultdict(list)
        self.acked: dict[Place, Delivered] = {}
        self.nacked = 0
        self.superseded = 0
        self.statuses: Counter[int] = Counter()
        self.unanswered = 0
        self.unreachable = 0
        self.dishonest: list[Answer] = []

    def note(self, answer: Answer) -> None:
        """Note that a request was answered, and whether the answer has the form that it must have."""
        self.statuses[answer.status] += 1
        if answer.status not in _HONEST or (
            answer.status == 503 and answer.headers.get("retry-after") != "1"
        ):
            self.dishonest.append(answer)

    def note_published(self, values: Sequence[str], results: Sequence[Mapping[str, int]]) -> None:
        for value, result in zip(values, results, strict=True):
            assert "error" not in result, result
            self.published[value] = (result["partition"], result["offset"])

    def note_delivered(self, message: Mapping[str, object]) -> Delivered:
        partition, offset, count = message["partition"], message["offset"], message["delivery_count"]
        assert isinstance(partition, int)
        assert isinstance(offset, int)
        assert isinstance(count, int)
        delivered = Delivered(
            (partition, offset), str(message["value"]), str(message["receipt_handle"]), count
        )
        self.deliveries[delivered.place].append(delivered)
        return delivered

    def note_acked(self, delivered: Delivered) -> None:
        assert delivered.place not in self.acked, "a message was acknowledged twice"
        self.acked[delivered.place] = delivered

    def check(self, log: Mapping[int, Sequence[str]], committed: Mapping[str, int]) -> None:
        """Fail unless every answer was the truth, and everything in `log` was settled by the group."""
        assert not self.dishonest
        self._check_log(log)
        self._check_deliveries(log)
        assert committed == {str(partition): len(values) for partition, values in log.items()}

    def _check_log(self, log: Mapping[int, Sequence[str]]) -> None:
        places = {
            value: (partition, offset)
            for partition, values in log.items()
            for offset, value in enumerate(values)
        }
        assert len(places) == sum(map(len, log.values())), "a request was carried out twice"
        for value, place in self.published.items():
            assert places.get(value) == place, "a message whose publishing was answered is not where it was"
        unknown = set(places) - set(self.published)
        for values in self.unanswered_requests:
            assert not unknown & set(values) or unknown >= set(values), "half of a request was carried out"
            unknown -= set(values)
        assert not unknown

    def _check_deliveries(self, log: Mapping[int, Sequence[str]]) -> None:
        for (partition, offset), deliveries in self.deliveries.items():
            assert {one.value for one in deliveries} == {log[partition][offset]}
            counts = [one.count for one in deliveries]
            # Settled at the last delivery; a delivery whose answer was lost may have been counted.
            assert counts == sorted(set(counts)), "a delivery was not counted"
            assert counts[-1] == self.acked[partition, offset].count, "delivered after its acknowledgement"
        assert set(self.acked) == {
            (partition, offset) for partition, values in log.items() for offset in range(len(values))
        }
