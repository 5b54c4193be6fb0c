"""What processes tell each other, and how it is packed into messages. Any of it may be lost."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from millstream.domain import limits


class Ready(Struct, frozen=True, array_like=True, tag="r"):
    """Jobs of a queue became claimable, more than waited for in the sender."""

    tenant_id: int
    queue: str
    jobs: int


class Waits(Struct, frozen=True, array_like=True, tag="w"):
    """A claim waits for jobs of a queue."""

    tenant_id: int
    queue: str


class Listens(Struct, frozen=True, array_like=True, tag="l"):
    """Somebody listens to a tenant's events."""

    tenant_id: int


class Changed(Struct, frozen=True, array_like=True, tag="c"):
    """Something of a tenant has changed: forget it, and acknowledge `number`."""

    number: int
    tenant_id: int


class Acknowledged(Struct, frozen=True, array_like=True, tag="a"):
    """What `process_id` numbered `number` has been forgotten."""

    process_id: UUID
    number: int


class Written(Struct, frozen=True, array_like=True, tag="e"):
    """The sender has written the events from `first` to `last` to the log."""

    first: int
    last: int


class Hello(Struct, frozen=True, array_like=True, tag="h"):
    """The sender hears from now on: what it may have missed is told again."""


class Ping(Struct, frozen=True, array_like=True, tag="p"):
    """Shows the sender that its own messages come back."""


Hint = Ready | Waits | Listens | Changed | Acknowledged | Written | Hello | Ping


class Message(NamedTuple):
    """What one process tells the others."""

    sender: UUID
    hints: list[Hint]


_encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(tuple[UUID, list[Raw]]).decode
_decode_hint: msgspec.json.Decoder[Hint] = msgspec.json.Decoder(Hint)


def parse_message(text: str) -> Message | None:
    """Return what a message says, without what this version does not know; None when it is not one of ours."""
    try:
        sender, parts = _decode_message(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    hints: list[Hint] = []
    for part in parts:
        try:
            hints.append(_decode_hint.decode(part))
        except (msgspec.MsgspecError, RecursionError):
            continue
    return Message(sender, hints)


def pack(sender: UUID, hints: Sequence[Hint], bytes_max: int) -> list[str]:
    """Return `hints` as messages of at most `bytes_max` bytes each."""
    head = b'["%b",[' % str(sender).encode()
    messages: list[str] = []
    parts: list[bytes] = []
    size = 0
    for hint in hints:
        part = _encode(hint)
        if parts and size + len(part) + 1 > bytes_max:
            messages.append(_message(head, parts))
            parts = []
        if not parts:
            # The head and the brackets at the end.
            size = len(head) + 2
        parts.append(part)
        size += len(part) + 1
    if parts:
        messages.append(_message(head, parts))
    return messages


def _message(head: bytes, parts: Sequence[bytes]) -> str:
    return (head + b",".join(parts) + b"]]").decode()


class Outbox:
    """Hints on their way: equal ones become one, and what does not fit is dropped."""

    def __init__(self, sender: UUID) -> None:
        self.filled = asyncio.Event()
        self._sender = sender
        self._ready: dict[tuple[int, str], int] = {}
        self._others: dict[Hint, None] = {}

    def put_ready(self, tenant_id: int, queue: str, jobs: int) -> None:
        """Tell of claimable jobs; numbers of the same queue are added up."""
        key = (tenant_id, queue)
        if key in self._ready or len(self._ready) < limits.RELAY_HINTS_MAX:
            self._ready[key] = self._ready.get(key, 0) + jobs
            self.filled.set()

    def put(self, hint: Hint) -> None:
        """Tell something else."""
        if len(self._others) < limits.RELAY_HINTS_MAX:
            self._others[hint] = None
            self.filled.set()

    def take(self, bytes_max: int) -> list[str]:
        """Empty the box into messages of at most `bytes_max` bytes each."""
        self.filled.clear()
        hints: list[Hint] = [*self._others]
        hints += [Ready(tenant_id, queue, jobs) for (tenant_id, queue), jobs in self._ready.items()]
        self.clear()
        return pack(self._sender, hints, bytes_max)

    def clear(self) -> None:
        """Drop what was not taken."""
        self._ready.clear()
        self._others.clear()
