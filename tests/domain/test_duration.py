import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.duration import format_duration, format_seconds, parse_duration, parse_seconds

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("30s", 30 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5h", 5400 * SECOND),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("300ms", 300_000_000),
        ("1us", 1_000),
        ("1\u00b5s", 1_000),
        ("1\u03bcs", 1_000),
        ("1ns", 1),
        ("1.9ns", 1),
        ("-2m", -120 * SECOND),
        ("1s1s", 2 * SECOND),
        ("1ms1h", 3_600 * SECOND + 1_000_000),
        ("671088.64s", 671_088_640_000_000),
        ("9223372036854775807ns", 2**63 - 1),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, nanoseconds: int):
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "1d",
        "-",
        "+",
        ".",
        ".s",
        "1",
        "00",
        "1 s",
        " 1s",
        "1s ",
        "1S",
        "1h-2m",
        "1..2s",
        "1e3s",
        "s",
        "9223372036854775808ns",
        "3000000h",
        "٣s",
        "1" * 200 + "ns",
        "NaN",
        "infs",
    ],
)
def test_what_is_no_duration_is_none(text: str):
    assert parse_duration(text) is None
    assert parse_seconds(text) is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5\u00b5s"),
        (250_000_000, "250ms"),
        (SECOND + SECOND // 2, "1.5s"),
        (30 * SECOND, "30s"),
        (60 * SECOND, "1m0s"),
        (3_600 * SECOND, "1h0m0s"),
        (-90 * SECOND, "-1m30s"),
        (2**63 - 1, "2562047h47m16.854775807s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it(nanoseconds: int, text: str):
    assert format_duration(nanoseconds) == text


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_what_is_written_reads_as_the_same_duration(nanoseconds: int):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text(alphabet="0123456789.-+nuµmsh", max_size=20))
def test_whatever_is_read_survives_being_written(text: str):
    nanoseconds = parse_duration(text)
    if nanoseconds is not None:
        assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.1 + 0.2, "300ms"), (671_088.64, "186h24m48.64s"), (0, "0s")]
)
def test_seconds_are_written_without_the_noise_of_floating_point(seconds: float, text: str):
    assert format_seconds(seconds) == text
