"""Messages: what is published, what became of it, and what is read."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millstream.domain.topic import Priority


class NewMessage(Struct, frozen=True, gc=False):
    """A message to publish. At most one of `delay_seconds` (above 0) and `deliver_at` is given."""

    value: str
    key: str | None = None
    partition: int | None = None
    priority: Priority = Priority.NORMAL
    delay_seconds: float | None = None
    deliver_at: datetime | None = None
    headers: Mapping[str, str] | None = None


class RefusedMessage(Struct, frozen=True, gc=False):
    """A message that is not published, and why; its neighbours are. Contract: goqueue-messaging 4.3."""

    error: str


class PublishedMessage(Struct, frozen=True, gc=False):
    """Where a message went; `deliver_at` is given while it is hidden."""

    partition: int
    offset: int
    priority: Priority
    deliver_at: datetime | None = None


class Message(Struct, frozen=True, gc=False):
    """A message as it is read."""

    partition: int
    offset: int
    published_at: datetime
    value: str
    key: str | None
    priority: Priority
    headers: Mapping[str, str] | None = None


class ReadRequest(Struct, frozen=True, kw_only=True):
    """Which messages of a partition to read: from `offset` or `from_time` on, whichever is later, until `to_time`.

    `by_priority` sorts within the page. `wait_seconds` holds an empty page. Contract: goqueue-messaging 5.
    """

    offset: int = 0
    limit: int = 100
    by_priority: bool = True
    from_time: datetime | None = None
    to_time: datetime | None = None
    wait_seconds: float = 0.0


class Page(Struct, frozen=True, kw_only=True):
    """Messages of a partition, and the offset to go on from.

    `pending_delayed_from` is the lowest offset that was passed although its message is still to be delivered.
    """

    messages: Sequence[Message]
    next_offset: int
    pending_delayed_from: int | None = None
