from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.api.http.query import Query
from millstream.domain.errors import BadRequest


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        (b"", 50),
        (b"limit=7", 7),
        (b"limit=0", 1),
        (b"limit=-5", 1),
        (b"limit=200", 100),
        (b"limit=9223372036854775808", 100),
        (b"limit=" + b"9" * 5000, 100),
        (b"limit=-" + b"9" * 5000, 1),
        (b"limit=" + b"0" * 5000 + b"7", 7),
        (b"limit=3&limit=4", 4),
        (b"other=x", 50),
    ],
)
def test_integers_out_of_range_are_clamped(query, limit):
    assert Query(query).clamped("limit", 50, 1, 100) == limit


@pytest.mark.parametrize("value", [b"abc", b"", b"1.5", b"1e3", b"0x10", b"%D9%A1", b"1_0", b"5%00"])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(BadRequest):
        Query(b"limit=" + value).clamped("limit", 50, 1, 100)


def test_flags_know_two_words_and_their_digits():
    assert Query(b"delete_jobs=true").flag("delete_jobs")
    assert not Query(b"delete_jobs=false").flag("delete_jobs")
    assert not Query(b"").flag("delete_jobs")
    with pytest.raises(BadRequest):
        Query(b"delete_jobs=maybe").flag("delete_jobs")


def test_times_are_read_with_their_encoded_offset():
    query = Query(b"created_after=2026-10-01T09%3A00%3A00%2B02%3A00")

    assert query.timestamp("created_after") == datetime(2026, 10, 1, 7, tzinfo=UTC)
    with pytest.raises(BadRequest):
        Query(b"created_after=yesterday").timestamp("created_after")


@pytest.mark.parametrize(
    "query", [b"q=%ff", b"q=a%00b", b"q=" + b"x" * 300, b"a=1&" * 300, b"q=" + b"x" * 20_000]
)
def test_what_no_filter_can_mean_is_refused(query):
    with pytest.raises(BadRequest):
        Query(query).text("q", 255)


@given(st.binary())
def test_no_query_string_makes_the_reader_raise_anything_but_a_refusal(data):
    try:
        query = Query(data)
        query.text("a", 10)
        query.clamped("a", 0, 0, 1)
    except BadRequest:
        pass
