"""What the demo and a member's process tell each other: lines of JSON, over the process's standard streams."""

import msgspec

from millstream.cli.demo.files import FileFacts


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to consume as whom: the one line that a member reads."""

    url: str
    api_key: str
    topic: str
    group: str
    client_id: str
    session_seconds: int
    batch_messages: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where in the topic a message is."""

    partition: int
    offset: int


class Joined(msgspec.Struct, frozen=True, tag=True):
    """The group has the member, under this id."""

    member_id: str


class Taken(msgspec.Struct, frozen=True, tag=True):
    """So many messages were handed to the member, which now works on them."""

    messages: int


class Handled(msgspec.Struct, frozen=True, tag=True):
    """What the member found out about the file of one message. Said before the message is acknowledged."""

    place: Place
    delivery_count: int
    facts: FileFacts


class Acknowledged(msgspec.Struct, frozen=True, tag=True):
    """The server has confirmed that these are done with."""

    places: list[Place]


Said = Joined | Taken | Handled | Acknowledged
