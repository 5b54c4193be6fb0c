"""Latency histogram: bounded memory, mergeable between processes, exact to one part in 512."""

import msgspec

# Values below 2**_EXACT_BITS microseconds have a bucket each; above, every power of two is cut into
# 2**_EXACT_BITS / 2 buckets, so that the relative error stays below 1/512 at any magnitude.
_EXACT_BITS = 10
_EXACT = 1 << _EXACT_BITS
_HALF = _EXACT >> 1
# 2**36 microseconds are 19 hours, longer than any answer is waited for.
_MAGNITUDES = 36 - _EXACT_BITS
_SIZE = _EXACT + _MAGNITUDES * _HALF


class LatencyHistogram:
    """Counts of durations. `record` is called once per request and is therefore kept to integer arithmetic."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets = [0] * _SIZE
        self.count = 0

    def record(self, seconds: float) -> None:
        """Count one duration of `seconds`. Negative ones count as zero, ones beyond 19 hours as 19 hours."""
        microseconds = int(seconds * 1_000_000)
        if 0 <= microseconds < _EXACT:
            index = microseconds
        elif microseconds < 0:
            index = 0
        else:
            shift = microseconds.bit_length() - _EXACT_BITS
            index = min((shift << (_EXACT_BITS - 1)) + (microseconds >> shift), _SIZE - 1)
        self._buckets[index] += 1
        self.count += 1

    def merge(self, other: "LatencyHistogram") -> None:
        """Add the counts of `other` to this one."""
        self._buckets = [mine + theirs for mine, theirs in zip(self._buckets, other._buckets, strict=True)]
        self.count += other.count

    def percentile(self, percent: float) -> float:
        """Smallest duration, in seconds, that `percent` (0 to 100) per cent of the recorded ones do not exceed.

        Nearest-rank definition: the result is the bucket of a value that was recorded. 0.0 when nothing was.
        """
        if self.count == 0:
            return 0.0
        rank = max(1, -int(-self.count * percent // 100))
        seen = 0
        for index, bucket in enumerate(self._buckets):
            seen += bucket
            if seen >= rank:
                return _lower_bound_microseconds(index) / 1_000_000
        raise AssertionError("the buckets hold fewer values than were counted")

    def to_wire(self) -> "HistogramWire":
        """Sparse form for the pipe between generator and parent."""
        return HistogramWire({index: bucket for index, bucket in enumerate(self._buckets) if bucket})

    @classmethod
    def from_wire(cls, wire: "HistogramWire") -> "LatencyHistogram":
        """Rebuild what `to_wire` wrote."""
        histogram = cls()
        for index, bucket in wire.buckets.items():
            histogram._buckets[index] = bucket
            histogram.count += bucket
        return histogram


class HistogramWire(msgspec.Struct, frozen=True):
    """Non-empty buckets by index."""

    buckets: dict[int, int]


def _lower_bound_microseconds(index: int) -> int:
    if index < _EXACT:
        return index
    shift = (index - _HALF) >> (_EXACT_BITS - 1)
    return (index - (shift << (_EXACT_BITS - 1))) << shift
