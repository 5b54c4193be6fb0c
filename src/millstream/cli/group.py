"""`millstream group`."""

from typing import Annotated, Literal

from cyclopts import App, Parameter
from msgspec import Struct

from millstream.cli.failure import CommandFailed
from millstream.cli.output import Json, console, print_fields, print_json, print_table
from millstream.cli.target import Target, ask_topics
from millstream.cli.topics_api import TopicsApi

commands = App(name="group", help="See how far consumer groups are, and send them back.")

StrategyName = Literal["earliest", "latest"]


class PartitionLag(Struct, frozen=True, kw_only=True):
    """How far a group is in a partition: `position` is the next offset, `end` the one that will be written next."""

    topic: str
    partition: int
    position: int | None
    end: int
    lag: int


@commands.command(name="list")
def list_groups(*, server: Target | None = None, json: Json = False) -> None:
    """List consumer groups by name."""
    groups = ask_topics(server, TopicsApi.list_groups)
    if json:
        print_json(groups.group_details)
        return
    print_table(
        ["group", "state", "members", "generation", "topics"],
        [
            (group.id, group.state, group.members, group.generation, ", ".join(group.topics))
            for group in groups.group_details
        ],
        empty="No groups.",
    )


@commands.command
def describe(name: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show a group and what its members consume."""
    group = ask_topics(server, lambda api: api.describe_group(name))
    if json:
        print_json(group)
        return
    print_fields(
        [
            ("group", group.group_id),
            ("state", group.state),
            ("generation", group.generation),
            ("protocol", group.protocol),
            ("topics", ", ".join(group.topics)),
        ]
    )
    print_table(
        ["member", "client", "partitions", "last heartbeat"],
        [
            (member.member_id, member.client_id, ", ".join(member.assigned_partitions), member.last_heartbeat)
            for member in group.members
        ],
        empty="No members.",
    )


@commands.command
def lag(name: str, /, *, server: Target | None = None, json: Json = False) -> None:
    """Show how many messages a group has yet to consume, by partition."""
    partitions = ask_topics(server, lambda api: list_lags(api, name))
    if json:
        print_json(partitions)
        return
    print_table(
        ["topic", "partition", "position", "end", "lag"],
        [(one.topic, one.partition, one.position, one.end, one.lag) for one in partitions],
        empty="The group has no topics.",
    )
    if partitions:
        console.print(f"{sum(one.lag for one in partitions)} messages behind")


@commands.command
def reset(
    name: str,
    topic: str,
    /,
    *,
    to: Annotated[StrategyName | None, Parameter(help="To the oldest message, or past the newest.")] = None,
    to_time: Annotated[str | None, Parameter(help="To the first message of this time (RFC 3339).")] = None,
    to_offset: Annotated[int | None, Parameter(help="To this offset.")] = None,
    partition: Annotated[int | None, Parameter(help="Only this partition (default: all).")] = None,
    dry_run: Annotated[bool, Parameter(negative=(), help="Only say what would be done.")] = False,
    server: Target | None = None,
    json: Json = False,
) -> None:
    """Set where a group goes on reading a topic; what it holds leased is dropped."""
    if (to is not None) + (to_time is not None) + (to_offset is not None) != 1:
        raise CommandFailed("say where to: give one of --to, --to-time and --to-offset")
    strategy = to or ("timestamp" if to_time is not None else "offset")
    body = {
        "topic": topic,
        "partition": -1 if partition is None else partition,
        "strategy": strategy,
        "timestamp": to_time,
        "offset": to_offset,
        "dry_run": dry_run,
    }
    done = ask_topics(server, lambda api: api.reset(name, body))
    if json:
        print_json(done)
        return
    print_table(
        ["topic", "partition", "position"],
        [(place.topic, place.partition, place.offset) for place in done.new_offsets],
        empty="No partitions.",
    )


async def list_lags(api: TopicsApi, name: str) -> list[PartitionLag]:
    """Return how far a group is in each partition of its topics."""
    group = await api.describe_group(name)
    offsets = (await api.positions(name)).offsets
    partitions: list[PartitionLag] = []
    for topic in sorted({*group.topics, *offsets}):
        reaches = (await api.describe(topic)).partition_offsets
        for number, reach in reaches.items():
            position = offsets.get(topic, {}).get(number)
            end = reach.latest + 1
            # What was removed before it was read is not to be read any more.
            beginning = max(reach.earliest, position or 0)
            partitions.append(
                PartitionLag(
                    topic=topic,
                    partition=int(number),
                    position=position,
                    end=end,
                    lag=max(0, end - beginning),
                )
            )
    return partitions
