"""Which partition of its topic a message goes to."""

import mmh3


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of messages with `key`, which is not empty: murmur3 (x86, 32 bits, seed 0) modulo their number.

    Raises UnicodeEncodeError for a lone surrogate. Contract: goqueue-messaging 4.5.
    """
    return mmh3.hash(key, 0, False) % partitions
