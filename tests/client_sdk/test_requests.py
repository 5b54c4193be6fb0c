from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.client.requests import body_of, chunks, instant, query_of, segment


@given(st.lists(st.integers(), max_size=350), st.integers(min_value=1, max_value=120))
def test_chunks_keep_every_item_in_order(items: list[int], size: int) -> None:
    cut = list(chunks(iter(items), size))

    assert [item for chunk in cut for item in chunk] == items
    assert all(len(chunk) == size for chunk in cut[:-1])
    assert all(1 <= len(chunk) <= size for chunk in cut)


def test_only_what_is_given_is_sent() -> None:
    assert body_of(a=None, b=0, c=False, d="") == {"b": 0, "c": False, "d": ""}
    assert query_of(a=None, b=0, c=True, d="x") == {"b": "0", "c": "true", "d": "x"}


def test_times_are_sent_in_utc() -> None:
    noon_in_bern = datetime(2026, 1, 2, 12, 0, tzinfo=timezone(timedelta(hours=1)))

    assert instant(noon_in_bern) == datetime(2026, 1, 2, 11, 0, tzinfo=UTC)
    assert query_of(created_after=noon_in_bern) == {"created_after": "2026-01-02T11:00:00+00:00"}


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        instant(datetime(2026, 1, 2, 12, 0))  # noqa: DTZ001 - the mistake under test


def test_a_name_is_one_segment_of_the_path() -> None:
    assert segment("a/b c..%") == "a%2Fb%20c..%25"
