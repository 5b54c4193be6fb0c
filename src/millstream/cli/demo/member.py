"""A member of the demo's group, as a process of its own: `python -m millstream.cli.demo.member`.

Takes messages, finds out about the file that each names, says so on standard output, then acknowledges. What to
do and with which key it reads from standard input, since arguments are for all to see; and it ends when standard
input does, so that it does not outlive whoever started it.
"""

import asyncio
import sys
from contextlib import aclosing, suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from millstream.cli.demo.files import facts_of
from millstream.cli.demo.said import Acknowledged, Handled, Joined, Order, Place, Said, Taken
from millstream.cli.topics_api import TopicsApi
from millstream.client import MillstreamError

_POLL_SECONDS = 10


def main() -> int:
    """Be a member until standard input ends; returns the exit code."""
    try:
        asyncio.run(_serve())
    except MillstreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve() -> None:
    parent = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(parent), sys.stdin
    )
    order = msgspec.json.decode(await parent.readline(), type=Order)
    async with aclosing(TopicsApi(order.url, order.api_key)) as api:
        joined = await api.join(
            order.group, order.client_id, [order.topic], session_seconds=order.session_seconds
        )
        _say(Joined(joined.member_id))
        consuming = asyncio.create_task(_consume(api, order, joined.member_id))
        farewell = asyncio.create_task(parent.read())
        await asyncio.wait({consuming, farewell}, return_when=asyncio.FIRST_COMPLETED)
        if farewell.done():
            consuming.cancel()
        with suppress(asyncio.CancelledError):
            await consuming
        await api.leave(order.group, joined.member_id)


async def _consume(api: TopicsApi, order: Order, member_id: str) -> NoReturn:
    while True:
        polled = await api.poll(
            order.group, member_id, max_messages=order.batch_messages, wait_seconds=_POLL_SECONDS
        )
        if not polled.messages:
            continue
        _say(Taken(len(polled.messages)))
        places: list[Place] = []
        for message in polled.messages:
            place = Place(message.partition, message.offset)
            _say(Handled(place, message.delivery_count, facts_of(Path(message.value))))
            places.append(place)
        acknowledged = await api.acknowledge([message.receipt_handle for message in polled.messages])
        refused = {failure.receipt_handle for failure in acknowledged.failures}
        _say(
            Acknowledged(
                [
                    place
                    for place, message in zip(places, polled.messages, strict=True)
                    if message.receipt_handle not in refused
                ]
            )
        )


def _say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
