"""Which partition of its topic a message goes to. Not in `domain`, which the SDK has without the server's libraries."""

import mmh3


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of messages with `key`, which is not empty: murmur3 (x86, 32 bits, seed 0) modulo their number.

    Raises UnicodeEncodeError for a lone surrogate. Contract: goqueue-messaging 4.5.
    """
    # Encoded here: given such a string itself, the library ends the process.
    return mmh3.mmh3_32_uintdigest(key.encode()) % partitions
