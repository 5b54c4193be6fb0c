from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.limits import RETRY_FACTOR_MAX, RETRY_IN_SECONDS_MAX
from millstream.domain.retry import Backoff, retry_delay_seconds

backoffs = st.builds(
    Backoff,
    initial_seconds=st.integers(0, RETRY_IN_SECONDS_MAX),
    factor=st.floats(1, RETRY_FACTOR_MAX),
    max_seconds=st.integers(0, RETRY_IN_SECONDS_MAX),
)


def test_without_a_queue_of_its_own_the_delay_doubles_up_to_a_minute() -> None:
    assert [retry_delay_seconds(count) for count in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_queue_has_its_own_first_delay_factor_and_end() -> None:
    backoff = Backoff(initial_seconds=10, factor=3, max_seconds=200)
    assert [retry_delay_seconds(count, backoff) for count in range(5)] == [10, 30, 90, 200, 200]


def test_a_fraction_of_a_second_is_dropped() -> None:
    backoff = Backoff(initial_seconds=1, factor=1.5)
    assert [retry_delay_seconds(count, backoff) for count in range(5)] == [1, 1, 2, 3, 5]


@given(backoff=backoffs, retry_count=st.integers(0, 10_000))
def test_a_delay_never_shrinks_and_never_passes_its_end(backoff: Backoff, retry_count: int) -> None:
    delay = retry_delay_seconds(retry_count, backoff)
    assert 0 <= delay <= backoff.max_seconds
    assert delay <= retry_delay_seconds(retry_count + 1, backoff)


@given(retry_count=st.integers(0, 10**9))
def test_no_count_overflows_the_usual_delay(retry_count: int) -> None:
    assert 1 <= retry_delay_seconds(retry_count) <= 60
