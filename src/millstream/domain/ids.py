"""Identifiers: time-ordered UUIDs that never go backwards within a process."""

import hashlib
import os
import re
import struct
import time
from uuid import UUID

from millstream.domain.clock import Clock

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_COUNTER_BITS = 42
_RANDOM_BITS = 32
_ID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORDS = struct.Struct("1024I")


class IdSource:
    """Makes version 7 UUIDs, each greater than the one before.

    48 bits of milliseconds, then a 42-bit counter that starts anywhere in its lower half each
    millisecond (spread over the fields `rand_a` and the head of `rand_b`), then 32 random bits.
    A clock that steps back does not: the last millisecond is kept until time has caught up. A steered
    clock steers the ids too.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._millisecond = 0
        self._counter = 0
        self._noise: list[int] = []

    def next(self) -> UUID:
        """Return the next id."""
        now = self._clock.now()
        millisecond = time.time_ns() // 1_000_000 if now is None else int(now.timestamp() * 1000)
        if millisecond > self._millisecond:
            self._millisecond = millisecond
            self._counter = (self._draw() << 9) & ((1 << (_COUNTER_BITS - 1)) - 1)
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._millisecond += 1
                self._counter = 0
        tail = (self._counter << _RANDOM_BITS) | self._draw()
        high, low = tail >> 62, tail & ((1 << 62) - 1)
        return UUID(int=(self._millisecond << 80) | (high << 64) | low | _VERSION_AND_VARIANT)

    def _draw(self) -> int:
        """Return 32 random bits."""
        if not self._noise:
            # One system call fetches the randomness of about a thousand ids.
            self._noise = list(_WORDS.unpack(os.urandom(_WORDS.size)))
        return self._noise.pop()


def parse_id(text: str) -> UUID | None:
    """Return the UUID that `text` spells in the usual 36 characters, else None.

    Other spellings that Python accepts (braces, URN, no hyphens) are ordinary unknown ids to clients.
    """
    if _ID.fullmatch(text) is None:
        return None
    return UUID(int=int(text.replace("-", ""), 16))


def derived_id(job_id: UUID, event: str) -> UUID:
    """Return the stable id of something that is told by the job `job_id` itself, such as its creation."""
    digest = hashlib.blake2b(event.encode(), key=job_id.bytes, digest_size=16).digest()
    return UUID(bytes=digest, version=5)
