"""Messages: what is published, what became of it, and what is read."""

from collections.abc import Mapping
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
