"""`millstream topic`."""

import asyncio
import sys
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter
from msgspec import UNSET

from millstream.api.goqueue.message_bodies import ReadMessage
from millstream.api.goqueue.topic_bodies import TopicDetails
from millstream.cli.failure import CommandFailed
from millstream.cli.output import Json, console, print_fields, print_json, print_table
from millstream.cli.target import Target, ask_topics
from millstream.cli.topics_api import TopicsApi

commands = App(name="topic", help="Create topics, publish to them and read them.")

PriorityName = Literal["critical", "high", "normal", "low", "background"]
OrderName = Literal["offset", "priority"]

_COLUMNS: Final = ["offset", "time", "priority", "key", "value"]
_READ_MESSAGES_MAX: Final = 1_000
_TAIL_WAIT_SECONDS: Final = 20
# Each is a connection that waits.
_TAIL_PARTITIONS_MAX: Final = 64


@commands.command(name="list")
def list_topics(*, server: Target | None = None, json: Json = False) -> None:
    """List topics by name."""
    names = ask_topics(server, TopicsApi.list_names)
    if json:
        print_json(names)
    else:
        print_table(["topic"], [(name,) for name in names], empty="No topics.")


@commands.command
def create(
    name: str,
    /,
    *,
    partitions: Annotated[int | None, Parameter(help="How many (default: 3).")] = None,
    retention_hours: Annotated[
        int | None, Parameter(help="How long messages are kept (default: 168).")
    ] = None,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Create a topic."""
    created = ask_topics(server, lambda api: api.create(name, partitions, retention_hours))
    if json:
        print_json(created)
    else:
        console.print(f"{created.name} has {created.partitions} partitions")


@commands.command
def describe(name: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show a topic and how far its partitions reach."""
    topic = ask_topics(server, lambda api: api.describe(name))
    if json:
        print_json(topic)
        return
    print_fields(
        [
            ("topic", topic.name),
            ("messages", topic.total_messages),
            ("bytes", topic.total_size_bytes),
            ("retention (h)", topic.retention_hours),
            ("created", topic.created_at),
        ]
    )
    print_table(
        ["partition", "earliest", "latest"],
        [(number, reach.earliest, reach.latest) for number, reach in topic.partition_offsets.items()],
        empty="No partitions.",
    )


@commands.command
def publish(
    name: str,
    value: str,
    /,
    *,
    key: Annotated[str | None, Parameter(help="Messages of one key keep their order.")] = None,
    partition: Annotated[int | None, Parameter(help="Into this partition, whatever the key.")] = None,
    priority: Annotated[PriorityName, Parameter(help="More urgent ones are read first.")] = "normal",
    delay: Annotated[str | None, Parameter(help="Hidden for so long: 30s, 1h30m.")] = None,
    header: Annotated[
        list[str] | None, Parameter(help="NAME=TEXT to go with the message; repeat it.", negative=())
    ] = None,
    lines: Annotated[
        bool, Parameter(help="Each line of the value is a message of its own.", negative=())
    ] = False,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Publish a message. VALUE is text, or - for standard input."""
    text = sys.stdin.read() if value == "-" else value
    common: dict[str, object] = {
        "key": key,
        "partition": partition,
        "priority": priority,
        "delay": delay,
        "headers": _headers(header or []),
    }
    values = [line for line in text.splitlines() if line] if lines else [text]
    if not values:
        raise CommandFailed("there is no line to publish")
    messages = [{"value": one, **common} for one in values]
    published = ask_topics(server, lambda api: api.publish(name, messages))
    refused = [result.error for result in published.results if result.error is not UNSET]
    if json:
        print_json(published)
    else:
        for result in published.results:
            if result.error is UNSET:
                later = "" if result.deliverAt is UNSET else f", hidden until {result.deliverAt}"
                console.print(f"partition {result.partition}, offset {result.offset}{later}")
    if refused:
        raise CommandFailed(f"{len(refused)} of {len(values)} messages were refused: {refused[0]}")


@commands.command
def consume(
    name: str,
    /,
    *,
    partition: Annotated[int, Parameter(help="Which partition.")] = 0,
    offset: Annotated[int, Parameter(help="From this offset on.")] = 0,
    limit: Annotated[int, Parameter(help="Messages, up to 1000.")] = 100,
    order: Annotated[OrderName, Parameter(help="In log order, or the most urgent first.")] = "offset",
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Read messages of one partition; nothing is marked as read."""
    page = ask_topics(server, lambda api: api.read(name, partition, offset=offset, limit=limit, order=order))
    if json:
        print_json(page)
        return
    print_table(_COLUMNS, [_row(message) for message in page.messages], empty="No messages.")
    if len(page.messages) == min(limit, _READ_MESSAGES_MAX):
        console.print(f"More: --offset {page.next_offset}")


@commands.command
def tail(
    name: str,
    /,
    *,
    partition: Annotated[int | None, Parameter(help="Only this partition.")] = None,
    from_beginning: Annotated[bool, Parameter(help="Show what is there already too.", negative=())] = False,
    limit: Annotated[int | None, Parameter(help="End after so many messages.")] = None,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Show messages as they are published, until Ctrl-C."""
    ask_topics(
        server,
        lambda api: _tail(api, name, partition, from_beginning=from_beginning, limit=limit, as_json=json),
    )


@commands.command
def delete(
    name: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Delete a topic with all its messages."""
    if not yes:
        raise CommandFailed(
            f"this deletes every message of {name} for good", "Give --yes as well if that is what you want."
        )
    deleted = ask_topics(server, lambda api: api.delete(name))
    if json:
        print_json(deleted)
    else:
        console.print(f"{deleted.name} is deleted")


async def _tail(
    api: TopicsApi,
    name: str,
    partition: int | None,
    *,
    from_beginning: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    offsets = _beginnings(await api.describe(name), partition, from_beginning=from_beginning)
    arrived: asyncio.Queue[list[ReadMessage]] = asyncio.Queue(maxsize=1)
    shown = 0
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(_follow(api, name, *place, arrived)) for place in offsets.items()]
        while limit is None or shown < limit:
            for message in (await arrived.get())[: None if limit is None else limit - shown]:
                shown += 1
                _show(message, as_json=as_json)
        for reader in readers:
            reader.cancel()


async def _follow(
    api: TopicsApi, name: str, partition: int, offset: int, arrived: "asyncio.Queue[list[ReadMessage]]"
) -> None:
    while True:
        page = await api.read(
            name,
            partition,
            offset=offset,
            limit=_READ_MESSAGES_MAX,
            order="offset",
            wait_seconds=_TAIL_WAIT_SECONDS,
        )
        offset = page.next_offset
        if page.messages:
            await arrived.put(page.messages)


def _beginnings(topic: TopicDetails, partition: int | None, *, from_beginning: bool) -> dict[int, int]:
    """Return from which offset on each partition is shown."""
    beginnings = {
        int(number): reach.earliest if from_beginning else reach.latest + 1
        for number, reach in topic.partition_offsets.items()
        if partition is None or int(number) == partition
    }
    if not beginnings:
        raise CommandFailed(f"{topic.name} has no partition {partition}")
    if len(beginnings) > _TAIL_PARTITIONS_MAX:
        raise CommandFailed(
            f"{topic.name} has {len(beginnings)} partitions, too many to watch at once", "Give --partition."
        )
    return beginnings


def _show(message: ReadMessage, *, as_json: bool) -> None:
    if as_json:
        print_json(message)
        return
    key = "" if message.key is UNSET else f" {message.key}"
    print(f"{message.partition}:{message.offset} {message.timestamp}{key} {message.value}", flush=True)


def _row(message: ReadMessage) -> tuple[object, ...]:
    key = None if message.key is UNSET else message.key
    return message.offset, message.timestamp, message.priority, key, message.value


def _headers(given: list[str]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for header in given:
        name, separator, text = header.partition("=")
        if not name or not separator:
            raise CommandFailed(f"{header!r} is no header", "Write it as NAME=TEXT.")
        headers[name] = text
    return headers or None
