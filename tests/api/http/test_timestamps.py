from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.api.http.timestamps import format_optional, format_timestamp, parse_timestamp

MOMENTS = st.datetimes(timezones=st.just(UTC))
OFFSETS = st.integers(min_value=-14 * 60, max_value=14 * 60).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)


@given(MOMENTS)
def test_what_was_formatted_is_read_back_as_the_same_moment(moment):
    text = format_timestamp(moment)

    assert len(text) == len("2026-10-01T09:00:00.000000Z")
    assert parse_timestamp(text) == moment


@given(MOMENTS, OFFSETS)
def test_the_offset_of_a_timestamp_is_taken_into_account(moment, zone):
    # A day from either end of time, where every offset still has a date.
    moment = min(max(moment, datetime(1, 1, 2, tzinfo=UTC)), datetime(9999, 12, 30, tzinfo=UTC))

    assert parse_timestamp(moment.astimezone(zone).isoformat()) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01T09:00:00Z", datetime(2026, 10, 1, 9, tzinfo=UTC)),
        ("2026-10-01T09:00:00", datetime(2026, 10, 1, 9, tzinfo=UTC)),
        ("2026-10-01t09:00:00z", datetime(2026, 10, 1, 9, tzinfo=UTC)),
        ("2026-10-01 09:00:00+00:00", datetime(2026, 10, 1, 9, tzinfo=UTC)),
        ("2026-10-01T09:00:00.5+02:30", datetime(2026, 10, 1, 6, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-10-01T09:00:00.123Z", datetime(2026, 10, 1, 9, 0, 0, 123_000, tzinfo=UTC)),
        ("2026-10-01T09:00:00.123456789-01:00", datetime(2026, 10, 1, 10, 0, 0, 123_456, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_every_spelling_that_clients_send_is_read(text, expected):
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-10-01",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-10-01T24:00:00Z",
        "2026-10-01T09:00Z",
        "2026-10-01T09:00:00.Z",
        "2026-10-01T09:00:00.1234567890Z",
        "2026-10-01T09:00:00+24:00",
        "2026-10-01T09:00:00+0200 ",
        "2026-10-01T09:00:00Z\n",
        "20261001T090000Z",
        "12026-10-01T09:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
        "٢٠٢٦-10-01T09:00:00Z",
    ],
)
def test_what_is_no_time_within_the_years_1_to_9999_is_none(text):
    assert parse_timestamp(text) is None


@given(st.text())
def test_no_text_makes_the_parser_raise(text):
    parse_timestamp(text)


def test_a_time_in_another_zone_goes_out_as_utc():
    moment = datetime(2026, 10, 1, 11, 0, 0, 7, tzinfo=timezone(timedelta(hours=2)))

    assert format_timestamp(moment) == "2026-10-01T09:00:00.000007Z"


def test_no_time_stays_no_time():
    assert format_optional(None) is None
