import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.cli.bench.histogram import HistogramWire, LatencyHistogram


def histogram_of(seconds: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for duration in seconds:
        histogram.record(duration)
    return histogram


def test_percentiles_of_small_values_are_exact():
    histogram = histogram_of([number / 1_000_000 for number in range(1, 101)])
    assert [histogram.percentile(percent) for percent in (1, 50, 95, 99, 100)] == pytest.approx(
        [0.000001, 0.00005, 0.000095, 0.000099, 0.0001]
    )


def test_percentiles_are_nearest_rank_values_that_were_recorded():
    histogram = histogram_of([0.0001, 0.0002, 0.0003, 0.0009])
    assert histogram.percentile(50) == pytest.approx(0.0002)
    assert histogram.percentile(51) == pytest.approx(0.0003)
    assert histogram.percentile(0) == pytest.approx(0.0001)


def test_an_empty_histogram_has_percentiles_of_zero():
    assert LatencyHistogram().percentile(99) == 0.0


@given(st.lists(st.floats(min_value=0, max_value=60_000), min_size=1, max_size=200), st.floats(0, 100))
def test_a_percentile_is_within_a_part_in_512_of_the_true_one(seconds: list[float], percent: float):
    rank = max(1, -int(-len(seconds) * percent // 100))
    true = sorted(int(duration * 1_000_000) for duration in seconds)[rank - 1] / 1_000_000
    found = histogram_of(seconds).percentile(percent)
    assert found <= true + 1e-9
    assert true - found <= true / 512 + 1e-9


def test_values_out_of_range_land_in_the_outermost_buckets():
    histogram = histogram_of([-1.0, 10.0**9])
    assert histogram.count == 2
    assert histogram.percentile(50) == 0.0
    assert histogram.percentile(100) > 60_000


def test_merging_equals_recording_in_one():
    values = [random.Random(7).expovariate(100) for _ in range(1000)]
    whole, left, right = histogram_of(values), histogram_of(values[:300]), histogram_of(values[300:])
    left.merge(right)
    assert left.count == 1000
    assert left.to_wire() == whole.to_wire()


def test_a_histogram_survives_the_pipe():
    histogram = histogram_of([0.0004, 0.0004, 1.5])
    wire = msgspec.json.decode(msgspec.json.encode(histogram.to_wire()), type=HistogramWire)
    copy = LatencyHistogram.from_wire(wire)
    assert copy.count == 3
    assert [copy.percentile(percent) for percent in (50, 99)] == [
        histogram.percentile(percent) for percent in (50, 99)
    ]
