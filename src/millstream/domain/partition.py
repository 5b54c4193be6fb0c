"""Which partition of its topic a message goes to."""

import mmh3


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of messages with `key`, which is not empty: murmur3 (x86, 32 bits, seed 0) modulo their number.

    Raises UnicodeEncodeError for a lone surrogate. Contract: goqueue-messaging 4.5.
    """
    # Encoded here: the library, given a text, reads past it for one that cannot be encoded.
    return mmh3.hash(key.encode(), 0, False) % partitions
