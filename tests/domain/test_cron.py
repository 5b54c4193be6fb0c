"""Which readings of a clock cron expressions match. Contract: spooled-jobs 6.2."""

from datetime import datetime
from itertools import islice

import pytest

from millstream.domain.cron import CronError, parse_cron

EVE = datetime(2026, 12, 31, 23, 59, 30)  # noqa: DTZ001 - a reading of a clock has no zone


def matched(expression: str, count: int = 4, after: datetime = EVE) -> list[str]:
    readings = islice(parse_cron(expression).readings_after(after), count)
    return [reading.isoformat(" ") for reading in readings]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # Five fields begin with the minute, six with the second; a year ends in any of them.
        ("* * * * *", ["2027-01-01 00:00:00", "2027-01-01 00:01:00"]),
        ("* * * * * *", ["2026-12-31 23:59:31", "2026-12-31 23:59:32"]),
        ("0 0 1 1 *", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
        ("59 59 23 31 12 *", ["2026-12-31 23:59:59", "2027-12-31 23:59:59"]),
        ("  5\t 6  *   * * ", ["2027-01-01 06:05:00", "2027-01-02 06:05:00"]),
        # Steps begin with the lowest value, or with the one that is given.
        ("*/20 0 1 * *", ["2027-01-01 00:00:00", "2027-01-01 00:20:00", "2027-01-01 00:40:00", "2027-02-01 00:00:00"]),
        ("50/4 0 1 1 *", ["2027-01-01 00:50:00", "2027-01-01 00:54:00", "2027-01-01 00:58:00", "2028-01-01 00:50:00"]),
        ("0 0 */10 1 *", ["2027-01-01 00:00:00", "2027-01-11 00:00:00", "2027-01-21 00:00:00", "2027-01-31 00:00:00"]),
        ("0 0 1 */5 *", ["2027-01-01 00:00:00", "2027-06-01 00:00:00", "2027-11-01 00:00:00", "2028-01-01 00:00:00"]),
        ("10-20/5 0 1 1 *", ["2027-01-01 00:10:00", "2027-01-01 00:15:00", "2027-01-01 00:20:00"]),
        # One value with a range to itself stays one.
        ("5-5/2 0 1 1 *", ["2027-01-01 00:05:00", "2028-01-01 00:05:00"]),
        ("7,3-4,58/2 0 1 1 *", ["2027-01-01 00:03:00", "2027-01-01 00:04:00", "2027-01-01 00:07:00", "2027-01-01 00:58:00"]),
        # Names, in any case.
        ("0 0 1 feb,OCT-Dec *", ["2027-02-01 00:00:00", "2027-10-01 00:00:00", "2027-11-01 00:00:00", "2027-12-01 00:00:00"]),
        ("0 0 * * fri-SAT", ["2027-01-01 00:00:00", "2027-01-02 00:00:00", "2027-01-08 00:00:00", "2027-01-09 00:00:00"]),
        # Sunday is 0 and 7.
        ("0 0 * * 0", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
        ("0 0 * * 7", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
        ("0 0 * * SUN", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
        ("0 0 * * 6-7", ["2027-01-02 00:00:00", "2027-01-03 00:00:00", "2027-01-09 00:00:00"]),
        ("0 0 * * 2/3", ["2027-01-01 00:00:00", "2027-01-05 00:00:00", "2027-01-08 00:00:00"]),
        ("0 0 * * */3", ["2027-01-02 00:00:00", "2027-01-03 00:00:00", "2027-01-06 00:00:00"]),
        # Both day fields restricted: either matches. A star with a step restricts nothing.
        ("0 0 13 * 5", ["2027-01-01 00:00:00", "2027-01-08 00:00:00", "2027-01-13 00:00:00", "2027-01-15 00:00:00"]),
        ("0 0 */2 * 5", ["2027-01-01 00:00:00", "2027-01-15 00:00:00", "2027-01-29 00:00:00"]),
        # Days that not every month or year has.
        ("0 0 31 * *", ["2027-01-31 00:00:00", "2027-03-31 00:00:00", "2027-05-31 00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 0 30 2 1", ["2027-02-01 00:00:00", "2027-02-08 00:00:00"]),
    ],
)  # fmt: skip
def test_an_expression_matches_these_and_none_between(expression: str, expected: list[str]) -> None:
    assert matched(expression, len(expected)) == expected


def test_a_century_without_a_leap_day_is_passed_over() -> None:
    after = datetime(2096, 3, 1)  # noqa: DTZ001 - a reading of a clock has no zone
    assert matched("0 0 29 2 *", 1, after) == ["2104-02-29 00:00:00"]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("* *\n* * *", "five fields"),
        ("*\u00a0* * * *", "five fields"),
        ("*/0 * * * *", "step of the minute must be between 1 and 59"),
        ("*/60 * * * *", "step of the minute"),
        ("* */24 * * *", "step of the hour"),
        ("* * */32 * *", "step of the day of the month"),
        ("* * * */13 *", "step of the month"),
        ("* * * * */7", "step of the day of the week"),
        ("60 * * * *", "minute is out of range"),
        ("60 * * * * *", "second is out of range"),
        ("* 24 * * *", "hour is out of range"),
        ("* * 0 * *", "day of the month is out of range"),
        ("* * 32 * *", "day of the month is out of range"),
        ("* * * 0 *", "month is out of range"),
        ("* * * 13 *", "month is out of range"),
        ("* * * * 8", "day of the week is out of range"),
        ("* * * MON *", "month is out of range"),
        ("* * * * JAN", "day of the week is out of range"),
        ("* FEB * * *", "hour is out of range"),
        ("5-1 * * * *", "ends before it begins"),
        ("* * * * fri-sun", "ends before it begins"),
        *((f"0 0 {day} * *", "cannot be read") for day in ("L", "LW", "15W", "?", "-1", "1-", "1,,2", ",", "1/", "1/2/3", "*5", "1.5", "+1")),
        *((f"0 0 * * {day}", "cannot be read") for day in ("MON#2", "5L", "١", "FRIDAY")),
        ("0 0 30 2 *", "never matches"),
        ("0 0 31 4,6,9,11 *", "never matches"),
        ("0 0 0 31 FEB */2", "never matches"),
        ("99999999999999999999 * * * *", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_with_its_reason(expression: str, words: str) -> None:
    with pytest.raises(CronError, match=words):
        parse_cron(expression)
