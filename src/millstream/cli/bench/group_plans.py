"""What connections are to do as members of a consumer group."""

import msgspec


class SettleMessages(msgspec.Struct, frozen=True, tag="settle_messages"):
    """A member of `group`: polls of `per_poll`, acknowledged together or `singly`, until nothing is left.

    An item is an acknowledged message.
    """

    topic: str
    group: str
    per_poll: int
    singly: bool
