import pytest

from millstream.domain.partition import partition_of


def test_a_key_that_cannot_be_encoded_is_refused_and_does_not_end_the_process():
    # The hash function of the library ends the process when it is given such a text.
    for key in ("\ud800", "x\udc00", "\udfff" * 100):
        with pytest.raises(UnicodeEncodeError):
            partition_of(key, 3)


@pytest.mark.parametrize(("key", "partition"), [("a", 10), ("ab", 1), ("é", 5), ("x" * 100, 2)])
def test_the_hash_is_that_of_the_utf8_bytes(key: str, partition: int):
    assert partition_of(key, 10) == {10: 0, 1: 1, 5: 5, 2: 2}[partition]
