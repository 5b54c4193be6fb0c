import time
from unittest.mock import patch
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain import ids
from millstream.domain.ids import IdSource, derived_id, parse_id


def test_each_id_is_greater_than_the_one_before() -> None:
    source = IdSource()
    made = [source.next() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_an_id_is_a_version_7_uuid_of_this_variant() -> None:
    source = IdSource()
    for _ in range(100):
        made = source.next()
        assert made.version == 7
        assert made.variant == RFC_4122


@given(steps=st.lists(st.integers(min_value=-5_000_000, max_value=5_000_000), min_size=1, max_size=50))
def test_a_clock_that_steps_back_makes_no_smaller_id(steps: list[int]) -> None:
    source = IdSource()
    at = 1_700_000_000_000_000_000
    last = UUID(int=0)
    for step in steps:
        at += step
        with patch.object(time, "time_ns", return_value=at):
            made = source.next()
        assert made > last
        assert made.version == 7
        last = made


def test_an_id_begins_with_the_millisecond_of_its_making() -> None:
    with patch.object(time, "time_ns", return_value=1_700_000_000_123_999_999):
        made = IdSource().next()
    assert made.int >> 80 == 1_700_000_000_123


def test_a_millisecond_whose_counter_is_used_up_borrows_the_next_one() -> None:
    source = IdSource()
    with patch.object(time, "time_ns", return_value=1_700_000_000_000_000_000):
        first = source.next()
        source._counter = (1 << ids._COUNTER_BITS) - 1
        second = source.next()
    assert first.int >> 80 == 1_700_000_000_000
    assert second.int >> 80 == 1_700_000_000_001
    assert second > first


def test_ids_of_two_sources_do_not_collide() -> None:
    sources = [IdSource() for _ in range(10)]
    assert len({source.next() for source in sources for _ in range(1_000)}) == 10_000


@given(value=st.uuids(), upper=st.booleans())
def test_the_usual_spelling_of_a_uuid_is_read_in_any_case(value: UUID, upper: bool) -> None:
    text = str(value)
    assert parse_id(text.upper() if upper else text) == value


@given(text=st.text(max_size=40))
def test_reading_an_id_never_raises_and_never_guesses(text: str) -> None:
    value = parse_id(text)
    assert value is None or str(value) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not-an-id",
        "0190a5d2e4b07c1a8f3e5d6c7b8a9f00",
        "{0190a5d2-e4b0-7c1a-8f3e-5d6c7b8a9f00}",
        "urn:uuid:0190a5d2-e4b0-7c1a-8f3e-5d6c7b8a9f00",
        "0190a5d2e4b0-7c1a-8f3e-5d6c-7b8a9f00",
        "0190a5d2-e4b0-7c1a-8f3e-5d6c7b8a9f0g",
        "0190a5d2-e4b0-7c1a-8f3e-5d6c7b8a9f0０",
        " 190a5d2-e4b0-7c1a-8f3e-5d6c7b8a9f00",
        "0190a5d2-e4b0-7c1a-8f3e-5d6c7b8a9f00\n",
    ],
)
def test_other_spellings_are_no_ids(text: str) -> None:
    assert parse_id(text) is None


def test_a_derived_id_is_the_same_whenever_it_is_made() -> None:
    job_id = uuid4()
    assert derived_id(job_id, "created") == derived_id(job_id, "created")
    assert derived_id(job_id, "created") != derived_id(job_id, "completed")
    assert derived_id(job_id, "created") != derived_id(uuid4(), "created")
