"""Buckets and windows. Contract: spooled-tenancy 8."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.limits import RATE_WAIT_SECONDS_MAX
from millstream.domain.rate import Bucket, RateLimit, RateScope, Standing, Window, decide, standing_of


def limit(burst: int, per_second: float, scope: RateScope = RateScope.ORGANIZATION) -> RateLimit:
    return RateLimit(scope, "somebody", burst, per_second)


@given(
    st.integers(1, 50),
    st.floats(0.01, 100),
    st.lists(st.floats(0, 5, allow_nan=False), max_size=200),
)
def test_no_stretch_of_time_admits_more_than_its_burst_and_rate(
    burst: int, per_second: float, pauses: list[float]
) -> None:
    allowed = limit(burst, per_second)
    bucket = Bucket(burst, 0.0)
    now, admitted = 0.0, 0
    for pause in pauses:
        now += pause
        if bucket.fill(allowed, now) >= 1:
            bucket.take(1)
            admitted += 1
        assert 0 <= bucket.fill(allowed, now) <= burst
    assert admitted <= burst + per_second * now + 1e-6


@given(st.integers(1, 1000), st.floats(0.3, 1000), st.integers(0, 2000))
def test_who_comes_back_when_told_is_admitted(burst: int, per_second: float, sent: int) -> None:
    allowed = limit(burst, per_second)
    bucket = Bucket(burst, 0.0)
    for _ in range(min(sent, burst)):
        bucket.take(1)
    tokens = bucket.fill(allowed, 0.0)
    standing = standing_of(allowed, tokens, cost=1)
    assert (standing.retry_after_seconds == 0) == (tokens >= 1)
    assert bucket.fill(allowed, float(standing.retry_after_seconds) + 1e-6) >= 1
    assert bucket.fill(allowed, float(standing.reset_seconds) + 1e-6) >= burst - 1e-6


def test_a_lower_limit_counts_from_the_next_request_on() -> None:
    bucket = Bucket(100, 0.0)
    assert bucket.fill(limit(100, 1), 0.0) == 100
    assert bucket.fill(limit(10, 1), 0.0) == 10


def test_a_limit_of_nothing_never_admits() -> None:
    standing = standing_of(limit(0, 0), 0.0, cost=1)
    assert standing == Standing(
        RateScope.ORGANIZATION, 0, 0, RATE_WAIT_SECONDS_MAX, retry_after_seconds=RATE_WAIT_SECONDS_MAX
    )


def test_the_tightest_limit_is_the_one_that_is_told() -> None:
    wide, narrow = limit(100, 10), limit(5, 0.1, RateScope.API_KEY)
    assert decide([wide, narrow], [90.0, 3.0], cost=1, admitted=True).scope is RateScope.API_KEY
    assert decide([wide, narrow], [2.0, 3.0], cost=1, admitted=True).scope is RateScope.ORGANIZATION
    refused = decide([wide, narrow], [0.5, 0.5], cost=1, admitted=False)
    assert (refused.scope, refused.remaining, refused.retry_after_seconds) == (RateScope.API_KEY, 0, 5)


def test_what_is_refused_by_one_limit_names_that_one_however_little_the_other_has() -> None:
    wide, narrow = limit(100, 10), limit(5, 0.1, RateScope.API_KEY)
    refused = decide([wide, narrow], [1.0, 0.5], cost=1, admitted=False)
    assert (refused.scope, refused.retry_after_seconds) == (RateScope.API_KEY, 5)


@pytest.mark.parametrize(("processes", "burst"), [(1, 10), (2, 5), (3, 4), (20, 1)])
def test_processes_that_count_apart_have_parts(processes: int, burst: int) -> None:
    part = limit(10, 6.0).divided(processes)
    assert (part.burst, part.per_second) == (burst, 6.0 / processes)


def test_a_window_admits_its_number_and_begins_anew() -> None:
    window = Window(100.0)
    assert [window.take(1, 3, 60, 100.0 + n)[0] for n in range(5)] == [2, 1, 0, -1, -1]
    assert window.take(0, 3, 60, 159.0) == (0, 1.0)
    assert window.take(1, 3, 60, 160.0) == (2, 60.0)


def test_what_is_given_back_to_a_window_can_be_used_again() -> None:
    window = Window(0.0)
    assert [window.take(requests, 1, 60, 0.0)[0] for requests in (1, -1, 1, 1)] == [0, 1, 0, -1]
    assert [window.take(-1, 1, 60, 0.0)[0] for _ in range(3)] == [1, 1, 1]
