"""When schedules run in their time zones. Contract: spooled-jobs 6.3."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.cron import parse_cron
from millstream.domain.schedule import ScheduleError, next_run_at
from millstream.domain.time_zone import TimeZoneError, find_time_zone, last_reading_until

MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def runs(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next runs, each after the one before, in UTC."""
    moment = at(after)
    found: list[str] = []
    for _ in range(count):
        moment = next_run_at(cron, zone, moment)
        assert moment.tzinfo is UTC
        found.append(moment.strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # Skipped: Berlin's clocks went from 2 to 3 on 29 March 2026, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0 30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 01:00", "03-30 01:00"]),
        ("*/20 * * * *", "Europe/Berlin", "2026-03-29T00:30", ["03-29 00:40", "03-29 01:00", "03-29 01:20"]),
        ("59 1 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 00:59", "03-29 23:59"]),
        # Repeated: they went from 3 back to 2 on 25 October, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("0 30 2 * * *", "Europe/Berlin", "2026-10-25T00:45", ["10-26 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", ["10-25 00:00", "10-25 02:00", "10-25 03:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", ["10-26 01:30"]),
        # New York: 8 March and 1 November 2026.
        ("15 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 07:00", "03-09 06:15"]),
        ("15 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 05:15", "11-02 06:15"]),
        # Lord Howe moves by half an hour only: 4 October and 5 April 2026.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", ["10-03 15:30", "10-04 15:15"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T16:00", ["04-04 14:45", "04-05 15:15"]),
        # Santiago's midnight is skipped (6 September 2026) and its eleventh hour comes twice (4 April).
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00", ["09-06 04:00", "09-07 03:00"]),
        ("30 23 * * *", "America/Santiago", "2026-04-04T12:00", ["04-05 02:30", "04-06 03:30"]),
        # In the south it is the other way round.
        ("30 2 * * *", "Australia/Sydney", "2026-10-03T12:00", ["10-03 16:00", "10-04 15:30"]),
        ("30 2 * * *", "Australia/Sydney", "2026-04-04T12:00", ["04-04 15:30", "04-05 16:30"]),
        # A whole day that Samoa left out: its two midnights are one moment.
        ("0 0 * * *", "Pacific/Apia", "2011-12-29T12:00", ["12-30 10:00", "12-31 10:00"]),
        # Where nothing changes.
        ("30 2 * * *", "UTC", "2026-03-28T12:00", ["03-29 02:30", "03-30 02:30"]),
        ("30 2 * * *", "Asia/Kolkata", "2026-03-28T12:00", ["03-28 21:00", "03-29 21:00"]),
        ("30 2 * * *", "+05:45", "2026-03-28T12:00", ["03-28 20:45", "03-29 20:45"]),
        ("30 2 * * *", "-03:30", "2026-03-28T12:00", ["03-29 06:00", "03-30 06:00"]),
        ("30 2 * * *", "Etc/GMT+7", "2026-03-28T12:00", ["03-29 09:30", "03-30 09:30"]),
        # The days of the zone, not of UTC: leap days and the ends of years.
        ("0 0 29 2 *", "Asia/Tokyo", "2027-01-01T00:00", ["02-28 15:00", "02-28 15:00"]),
        ("0 0 1 1 *", "Pacific/Kiritimati", "2026-12-31T00:00", ["12-31 10:00", "12-31 10:00"]),
        ("59 23 31 12 *", "Pacific/Pago_Pago", "2026-12-31T12:00", ["01-01 10:59", "01-01 10:59"]),
    ],
)
def test_a_schedule_runs_by_the_clocks_of_its_zone(
    cron: str, zone: str, after: str, expected: list[str]
) -> None:
    assert runs(cron, zone, after, len(expected)) == expected


def test_the_next_run_is_later_than_now_and_a_whole_second() -> None:
    noon = at("2026-03-01T12:00:00")
    assert next_run_at("0 12 * * *", "UTC", noon) == noon + timedelta(days=1)
    assert next_run_at("0 12 * * *", "UTC", noon - timedelta(microseconds=1)) == noon
    assert next_run_at("* * * * * *", "UTC", noon + timedelta(microseconds=5)) == noon + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        ("2026-10-25T00:10:05", "02:10:05"),
        # The clock repeats its hour: all of it was shown before.
        ("2026-10-25T01:00:00", "02:59:59"),
        ("2026-10-25T01:59:59", "02:59:59"),
        ("2026-10-25T02:00:00", "03:00:00"),
    ],
)
def test_a_repeated_hour_was_shown_to_its_end_already(instant: str, shown: str) -> None:
    reading = last_reading_until(at(instant), ZoneInfo("Europe/Berlin"))
    assert (reading.strftime("%H:%M:%S"), reading.tzinfo) == (shown, None)


@pytest.mark.parametrize(
    "name",
    [
        "", "Mars/Phobos", "Europe/Nowhere", "../UTC", "/etc/localtime", "Europe/../UTC", "America", "localtime",
        "posix/UTC", "right/UTC", "posixrules", "+5:30", "+05:60", "+24:00", "05:30", "+0530", "Europe/Berlin\0",
        "Europe/Berlin\n", "A" * 65, "Ü", "Europe//Berlin", "tzdata.zi", "zone.tab",
    ],
)  # fmt: skip
def test_what_names_no_zone_is_refused(name: str) -> None:
    with pytest.raises(TimeZoneError):
        find_time_zone(name)
    with pytest.raises(ScheduleError):
        next_run_at("* * * * *", name, at("2026-01-01T00:00"))


def test_an_expression_that_cannot_be_kept_says_why() -> None:
    with pytest.raises(ScheduleError, match="never matches"):
        next_run_at("0 0 30 2 *", "UTC", at("2026-01-01T00:00"))
    with pytest.raises(ScheduleError, match="never matches any more"):
        next_run_at("0 0 1 1 *", "UTC", at("9999-06-01T00:00"))


# What the rules say, minute by minute. Each of these zones changes its clocks within a day of one of these moments.
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
    "America/Santiago": ("2026-04-05T03:00", "2026-09-06T04:00"),
    "Africa/Casablanca": ("2026-02-15T02:00", "2026-03-22T02:00"),
    "Asia/Kathmandu": ("2026-01-01T00:00",),
}
MOMENTS = st.sampled_from([(zone, change) for zone, changes in CHANGES.items() for change in changes])
FIELD = st.one_of(
    st.just("*"),
    st.integers(1, 23).map(lambda step: f"*/{step}"),
    st.lists(st.integers(0, 23), min_size=1, max_size=4).map(lambda found: ",".join(map(str, found))),
)


def readings_of(cron: str, first: datetime, last: datetime) -> set[datetime]:
    """The matching readings of a clock from `first` to `last`."""
    found: set[datetime] = set()
    for reading in parse_cron(cron).readings_after(first - MINUTE):
        if reading > last:
            break
        found.add(reading)
    return found


def expected_run(cron: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The next run within a day, found by watching the clock."""
    wall = after.astimezone(zone).replace(tzinfo=None)
    matching = readings_of(cron, wall - timedelta(days=1), wall + timedelta(days=2))
    moment = after.replace(second=0, microsecond=0)
    for _ in range(24 * 60):
        shown = moment.astimezone(zone).replace(tzinfo=None)
        moment += MINUTE
        now = moment.astimezone(zone)
        reading = now.replace(tzinfo=None, fold=0)
        # All that the clock passes over in this minute, itself included; nothing while it repeats itself.
        passed = {shown + MINUTE * step for step in range(1, 1 + (reading - shown) // MINUTE)}
        if not now.fold and matching & passed and moment > after:
            return moment
    return None


@settings(max_examples=60, deadline=None)
@given(minute=FIELD, hour=FIELD, place=MOMENTS, offset_seconds=st.integers(-36 * 3600, 12 * 3600))
def test_a_next_run_is_what_watching_the_clock_would_find(
    minute: str, hour: str, place: tuple[str, str], offset_seconds: int
) -> None:
    zone, change = place
    cron = f"{minute} {hour} * * *"
    after = at(change) + timedelta(seconds=offset_seconds)
    expected = expected_run(cron, ZoneInfo(zone), after)
    found = next_run_at(cron, zone, after)
    assert found == expected or (expected is None and found > after + timedelta(days=1) - MINUTE)
    # Later moments never have an earlier next run.
    assert next_run_at(cron, zone, after + timedelta(minutes=7)) >= found
