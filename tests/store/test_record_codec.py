import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.store.record_codec import (
    PLAIN,
    ZSTANDARD,
    StoredRecord,
    decode_offsets,
    decode_records,
    encode_chunk,
    encode_offsets,
    encode_records,
    join_chunks,
)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(
    ["", "\0", "x" * 5_000]
)
headers = st.dictionaries(texts, texts, min_size=1, max_size=3)
records = st.builds(
    StoredRecord,
    value=texts,
    key=st.none() | texts,
    headers=st.none() | headers,
    priority=st.none() | st.integers(0, 4),
    deliver_at_us=st.none() | st.integers(0, 2**60),
)


@given(st.lists(st.none() | records, max_size=40))
def test_what_is_encoded_is_decoded(given_: list[StoredRecord | None]) -> None:
    codec, stored, size_bytes = encode_records(given_)
    assert decode_records(codec, stored) == given_
    assert len(stored) <= size_bytes
    assert codec in (PLAIN, ZSTANDARD)


@given(st.lists(st.lists(records, min_size=1, max_size=20), min_size=1, max_size=5))
def test_chunks_are_joined_in_their_order(chunks: list[list[StoredRecord]]) -> None:
    encoded = [
        encode_chunk(
            [
                (one.value, one.key, one.headers, one.priority or 0, one.deliver_at_us or 0)
                if one.priority is not None
                else (one.value, one.key)
                for one in chunk
            ]
        )
        for chunk in chunks
    ]
    whole = [one for chunk in chunks for one in chunk]
    codec, stored, _ = join_chunks(len(whole), encoded)
    assert decode_records(codec, stored) == [
        StoredRecord(one.value, one.key, one.headers, one.priority, one.deliver_at_us or 0)
        if one.priority is not None
        else StoredRecord(one.value, one.key)
        for one in whole
    ]


@pytest.mark.parametrize("count", [1, 15, 16, 1_000, 2_000])
def test_a_batch_of_any_size_says_how_many_it_has(count: int) -> None:
    halves = [
        [(str(number),) for number in range(count // 2)],
        [(str(number),) for number in range(count // 2, count)],
    ]
    codec, stored, _ = join_chunks(count, [encode_chunk(half) for half in halves if half])
    assert [one and one.value for one in decode_records(codec, stored)] == [
        str(number) for number in range(count)
    ]


@given(st.integers(0, 2**40), st.lists(st.integers(1, 2**20), max_size=50))
def test_offsets_are_their_distances(base: int, steps: list[int]) -> None:
    offsets = [base]
    for step in steps:
        offsets.append(offsets[-1] + step)
    encoded = encode_offsets(base, offsets)
    assert (encoded is None) == all(step == 1 for step in steps)
    assert list(decode_offsets(base, encoded, len(offsets))) == offsets


def test_half_of_a_surrogate_pair_is_not_encoded() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_chunk([("\ud800",)])


def test_only_what_becomes_smaller_is_compressed() -> None:
    assert encode_records([StoredRecord("a" * 10_000)])[0] == ZSTANDARD
    assert encode_records([StoredRecord("a" * 100)])[0] == PLAIN
