from datetime import UTC, datetime, timedelta

from millstream.domain.clock import Clock, SteeredClock


def test_the_usual_clock_leaves_time_to_the_database() -> None:
    assert Clock().now() is None


def test_a_steered_clock_stands_still_until_it_is_moved() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    clock = SteeredClock(start)
    assert clock.now() == clock.now() == start
    clock.advance(1.5)
    assert clock.now() == start + timedelta(seconds=1.5)
