"""What connections are to do with the log of a topic."""

import msgspec


class PublishMessages(msgspec.Struct, frozen=True, tag="publish_messages"):
    """Publishes of `per_request` messages with keys; each connection sends `requests` of them, None for no end."""

    topic: str
    per_request: int
    requests: int | None = None


class ConsumeMessages(msgspec.Struct, frozen=True, tag="consume_messages"):
    """Reads a partition page by page, over and over; an item is a message that was read."""

    topic: str
    partitions: int
    per_page: int
