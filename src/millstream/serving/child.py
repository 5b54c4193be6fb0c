"""A child process: `python -m millstream.serving.child FD`, where FD is its end of the channel to the parent."""

import asyncio
import socket
import sys

import uvloop

from millstream.domain.errors import MillstreamError
from millstream.observe.logging import configure_logging, get_logger
from millstream.serving.channel import Channel, Failed, Orders, Probe, Ready, Report
from millstream.serving.node import Node
from millstream.serving.signals import ShutdownSignals

_log = get_logger("millstream.serving.child")


def main() -> int:
    """Serve until the parent says so, or is gone. Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(int(sys.argv[1])))


async def _run(channel_fd: int) -> int:
    # Signals are caught from the first moment: one that comes during the start must not kill a half-started pool.
    with ShutdownSignals() as signals:
        channel = await Channel.over(socket.socket(fileno=channel_fd))
        try:
            orders = await channel.receive()
            if not isinstance(orders, Orders):
                return 1
            configure_logging(orders.config.log)
            return await _serve(orders, channel, signals)
        finally:
            await channel.close()


async def _serve(orders: Orders, channel: Channel, signals: ShutdownSignals) -> int:
    sockets = [socket.socket(fileno=descriptor) for descriptor in orders.socket_fds]
    try:
        node = Node(orders.config, orders.dsn, sockets)
        await node.start()
    except (MillstreamError, OSError) as error:
        channel.send(Failed(str(error)))
        return 1
    channel.send(Ready())
    answering = asyncio.create_task(_answer_parent(node, channel, signals))
    await signals.requested.wait()
    await node.stop(signals)
    answering.cancel()
    return 0


async def _answer_parent(node: Node, channel: Channel, signals: ShutdownSignals) -> None:
    while (message := await channel.receive()) is not None:
        if isinstance(message, Probe):
            channel.send(Report(message.id, is_ready=await node.is_ready()))
    # The parent was killed: nobody would ever stop this process, and nobody restarts the database.
    if not signals.requested.is_set():
        _log.warning("the parent process is gone, shutting down")
        signals.ask()


if __name__ == "__main__":
    sys.exit(main())
