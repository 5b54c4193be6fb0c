"""A running server: database, processes, ports and credentials file, from the first step to the last."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import uvloop

from millstream.app import prepare
from millstream.config import Config
from millstream.observe.logging import get_logger
from millstream.observe.metrics import render_metrics
from millstream.serving import credentials_file, database_watch
from millstream.serving.credentials_file import Credentials, credentials_of
from millstream.serving.family import Family
from millstream.serving.http import HttpListener
from millstream.serving.metrics_endpoint import MetricsEndpoint
from millstream.serving.node import Node
from millstream.serving.signals import ShutdownSignals
from millstream.serving.sockets import bind, close_all, port_of, url_of

_log = get_logger(__name__)

# A scrape takes milliseconds; nothing is lost with one that is cut off.
_METRICS_SHUTDOWN_SECONDS = 1


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a server when it answers. `first_keys` only at the very first start of a data directory."""

    url: str
    metrics_url: str
    grpc_url: str | None
    processes: int
    credentials_path: Path | None
    first_keys: Credentials | None


def run(config: Config, announce: Callable[[Serving], None]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when the end was forced by a second signal.

    `announce` is called once, when requests are answered. With several processes `share_metrics` must have been
    called. Raises CannotListen, ChildFailed, EmbeddedError, MillstreamError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, announce))


async def _serve(config: Config, announce: Callable[[Serving], None]) -> int:
    with ShutdownSignals() as signals:
        async with AsyncExitStack() as ending:
            # Starting may take long (recovery after a crash); it must not be deaf to signals meanwhile.
            starting = asyncio.create_task(_start(config, signals, ending))
            asked = asyncio.create_task(signals.requested.wait())
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
            if not starting.cancelled():
                announce(starting.result())
            await asked
            _log.info("shutting down")
        return 1 if signals.forced.is_set() else 0


async def _start(config: Config, signals: ShutdownSignals, ending: AsyncExitStack) -> Serving:
    server = config.server
    sockets = bind(server.host, server.port)
    ending.callback(close_all, sockets)
    metrics_sockets = bind(server.host, server.metrics_port)
    ending.callback(close_all, metrics_sockets)

    prepared = await prepare(config)
    ending.push_async_callback(prepared.close)
    first_keys = None if prepared.credentials is None else credentials_of(prepared.credentials)
    if prepared.embedded is not None:
        if first_keys is not None:
            credentials_file.keep_keys(prepared.embedded.data_dir, first_keys)
        watching = asyncio.create_task(database_watch.watch(prepared.embedded), name="database-watch")
        ending.push_async_callback(_cancel, watching)

    processes = Node if server.processes == 1 else Family
    serving_processes = processes(config, prepared.dsn, sockets)
    await serving_processes.start()
    ending.push_async_callback(serving_processes.stop, signals)

    endpoint = MetricsEndpoint(
        render_metrics, serving_processes.is_ready, token=config.security.metrics_token
    )
    metrics_url = url_of(server.host, port_of(metrics_sockets))
    metrics_listener = HttpListener(endpoint, metrics_sockets, shutdown_seconds=_METRICS_SHUTDOWN_SECONDS)
    await metrics_listener.start()
    ending.push_async_callback(metrics_listener.stop)

    url = url_of(server.host, port_of(sockets))
    path = None
    if prepared.embedded is not None:
        data_dir = prepared.embedded.data_dir
        credentials_file.publish(data_dir, url=url, metrics_url=metrics_url, grpc_url=None)
        path = data_dir / credentials_file.NAME
    return Serving(
        url=url,
        metrics_url=metrics_url,
        grpc_url=None,
        processes=server.processes,
        credentials_path=path,
        first_keys=first_keys,
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
