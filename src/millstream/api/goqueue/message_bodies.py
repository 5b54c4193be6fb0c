"""What is said and answered of messages. Contract: goqueue-messaging 4, 5."""

from collections.abc import Mapping

from msgspec import UNSET, Struct, UnsetType


class PublishMessage(Struct, frozen=True, gc=False):
    """A message to publish. `deliver_at` is read where `deliverAt` is absent; a priority is a word or 0 to 4."""

    value: str | None = None
    key: str | None = None
    partition: int | None = None
    priority: str | int | None = None
    delay: str | None = None
    deliverAt: str | None = None  # noqa: N815 - the name on the wire
    deliver_at: str | None = None
    headers: dict[str, str] | None = None


class Publish(Struct, frozen=True):
    """Messages to publish."""

    messages: list[PublishMessage] | None = None


class PublishResult(Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one message; with an `error` nothing but that counts."""

    partition: int
    offset: int
    priority: str | UnsetType = UNSET
    delayed: bool | UnsetType = UNSET
    deliverAt: str | UnsetType = UNSET  # noqa: N815 - the name on the wire
    error: str | UnsetType = UNSET


class Published(Struct, frozen=True, gc=False):
    """What became of each message, in their order."""

    results: list[PublishResult]


class ReadMessage(Struct, frozen=True, gc=False, omit_defaults=True):
    """A message as it is read without a group."""

    topic: str
    partition: int
    offset: int
    timestamp: str
    value: str
    priority: str
    key: str | UnsetType = UNSET
    headers: Mapping[str, str] | UnsetType = UNSET


class ReadPage(Struct, frozen=True, gc=False, omit_defaults=True):
    """A page, and where the next one begins. `pending_delayed_from` is the lowest offset that was skipped as not due."""

    messages: list[ReadMessage]
    next_offset: int
    pending_delayed_from: int | UnsetType = UNSET
