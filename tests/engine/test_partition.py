import pytest

from millstream.engine.partition import partition_of

# Contract: goqueue-messaging 4.5.
VECTORS = {
    "a": (1009084850, 2, 2, 2, 2, 2),
    "ab": (2613040991, 2, 3, 5, 7, 11),
    "abc": (3017643002, 2, 2, 2, 2, 2),
    "abcd": (1139631978, 0, 2, 0, 2, 6),
    "alice": (1280413405, 1, 1, 1, 5, 1),
    "user-123": (2674956871, 1, 3, 1, 7, 7),
    "user-456": (500486166, 0, 2, 0, 6, 6),
    "order-123": (2913866941, 1, 1, 1, 5, 1),
    "é": (269551495, 1, 3, 1, 7, 7),
    "日本": (3302619458, 2, 2, 2, 2, 2),
    "x" * 100: (2625171602, 2, 2, 2, 2, 2),
}


@pytest.mark.parametrize("key", VECTORS)
def test_a_key_goes_where_every_other_implementation_puts_it(key: str) -> None:
    whole, *by_count = VECTORS[key]
    assert partition_of(key, 2**32) == whole
    assert [partition_of(key, count) for count in (3, 4, 6, 8, 12)] == by_count


def test_half_of_a_surrogate_pair_has_no_partition() -> None:
    with pytest.raises(UnicodeEncodeError):
        partition_of("\ud800", 3)
