"""The public worker: its options, its start, and its graceful end."""

import asyncio
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import TypeVar

from millstream.client._async.client import AsyncClient
from millstream.client.errors import ApiError, ConnectionFailed, NotFound
from millstream.client.worker.claims import FOLLOWERS_MAX, Claims
from millstream.client.worker.dispatcher import CLAIM_JOBS_MAX, Dispatcher
from millstream.client.worker.running_job import Handler
from millstream.client.worker.settlement import Settler

logger = logging.getLogger("millstream.worker")

AnyHandler = TypeVar("AnyHandler", bound=Handler)

# Contract: spooled-jobs 5.1 and 5.4.
REGISTERED_CONCURRENCY_MAX = 100
CURRENT_JOBS_MAX = 1000

# A claim sent this recently may be answered with jobs at any moment: better to wait for it than to leave
# them to their leases.
CLAIM_GRACE_SECONDS = 0.5

# For the last settlements, after the handlers' own time is over.
FLUSH_SECONDS = 10.0


class Worker:
    """Runs a coroutine for every job of a queue.

    ```python
    from millstream import AsyncClient, RetryLater, RunningJob, Worker

    async with AsyncClient.from_credentials("./data") as client:
        worker = Worker(client, "emails", concurrency=50)

        @worker.handler
        async def send(job: RunningJob) -> dict[str, str]:
            if not await mail_server.is_ready():
                raise RetryLater(seconds=60)
            return {"message_id": await mail_server.send(job.payload)}

        await worker.run(handle_signals=True)
    ```

    What the handler returns (any JSON) is the job's result. What it raises is a failed attempt, retried as
    the job and its queue say. A job may run more than once (a worker can die after the work and before
    its settlement), so handlers should bear repetition.

    `concurrency` handlers run at once; up to `prefetch` (twice that unless given) further jobs wait
    inside the worker, but no more than it finishes in a fifth of a second. Each job is held under a lease
    of `lease_seconds` (5 to 3600), renewed as long as it is held; when a lease is lost, its handler is
    cancelled. A handler that exceeds its job's `timeout_seconds` is cancelled and counts as failed. With
    nothing to do the worker waits at the server, `wait_seconds` (0 to 25) a request.

    Handlers share one event loop: blocking work belongs into `asyncio.to_thread`.
    """

    def __init__(
        self,
        client: AsyncClient,
        queue: str,
        handler: Handler | None = None,
        *,
        concurrency: int = 10,
        worker_id: str | None = None,
        lease_seconds: int = 30,
        prefetch: int | None = None,
        wait_seconds: int = 20,
        shutdown_seconds: float = 30.0,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        self.queue = queue
        self.worker_id = worker_id or _own_id()
        self._client = client
        self._handler = handler
        self._concurrency = concurrency
        self._prefetch = 2 * concurrency if prefetch is None else prefetch
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds
        self._shutdown_seconds = shutdown_seconds
        self._stop: asyncio.Event | None = None

    def handler(self, handler: AnyHandler) -> AnyHandler:
        """Make the decorated coroutine function the one that runs the jobs."""
        self._handler = handler
        return handler

    def stop(self) -> None:
        """Make `run` end gracefully; does nothing when it does not run. Call it from the event loop."""
        if self._stop is not None:
            self._stop.set()

    async def run(self, *, until_idle: bool = False, handle_signals: bool = False) -> None:
        """Work until `stop`, or with `until_idle` until the queue has nothing left to claim.

        The end is graceful: no more claims, `shutdown_seconds` for the handlers and the jobs already
        taken, then what is left is cancelled and given back, outcomes are sent and the worker
        deregisters. With `handle_signals` SIGTERM and SIGINT call `stop`, a second one cancels handlers
        at once. Cancelling `run` itself ends it the same way without waiting for handlers.

        Raises what registering or claiming raises for good (Unauthorized, AccessDenied, …), after the
        graceful end; connection failures after registering are waited out.
        """
        if self._handler is None:
            raise ValueError("the worker has no handler")
        if self._stop is not None:
            raise RuntimeError("the worker is already running")
        self._stop = asyncio.Event()
        hurry = asyncio.Event()
        signals = self._catch_signals(hurry) if handle_signals else []
        try:
            await self._work(self._handler, self._stop, hurry, until_idle=until_idle)
        finally:
            self._stop = None
            for number in signals:
                asyncio.get_running_loop().remove_signal_handler(number)

    async def _work(
        self, handler: Handler, stop: asyncio.Event, hurry: asyncio.Event, *, until_idle: bool
    ) -> None:
        heartbeat_seconds = await self._register()
        settler = Settler(self._client, self.worker_id, self._lease_seconds)
        dispatcher = Dispatcher(
            self._client,
            handler,
            settler,
            self.worker_id,
            stop,
            concurrency=self._concurrency,
            prefetch=self._prefetch,
            lease_seconds=self._lease_seconds,
        )
        claims = Claims(
            self._client,
            dispatcher,
            settler,
            self.queue,
            self.worker_id,
            lease_seconds=self._lease_seconds,
            wait_seconds=self._wait_seconds,
        )
        followers = min(FOLLOWERS_MAX, 1 + (self._concurrency + self._prefetch) // CLAIM_JOBS_MAX)
        lead = _task("claim", claims.drain() if until_idle else claims.lead())
        claiming = [lead, *(_task("claim", claims.follow()) for _ in range(followers))]
        settling = _task("settle", settler.run())
        keeping = [
            settling,
            _task("leases", dispatcher.leases.run()),
            _task("heartbeat", self._send_heartbeats(dispatcher, heartbeat_seconds)),
        ]
        stopped = _task("stop", _wait(stop))
        try:
            await asyncio.wait({stopped, *claiming, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await self._finish_claims(claims, claiming, dispatcher)
            await self._finish_handlers(dispatcher, settling, hurry)
        finally:
            stop.set()
            await _cancel([stopped, *claiming])
            dispatcher.return_buffered()
            await dispatcher.interrupt_running()
            dispatcher.close()
            await _first(settler.idle.wait(), settling, timeout_seconds=FLUSH_SECONDS)
            await _cancel(keeping)
            await self._deregister()
        for task in [*claiming, *keeping]:
            if not task.cancelled():
                task.result()

    async def _finish_claims(
        self, claims: Claims, claiming: list[asyncio.Task[None]], dispatcher: Dispatcher
    ) -> None:
        dispatcher.room.set()
        claims.release()
        age = asyncio.get_running_loop().time() - claims.last_sent_at
        if dispatcher.asked and age < CLAIM_GRACE_SECONDS:
            await asyncio.wait(claiming, timeout=CLAIM_GRACE_SECONDS - age)
        await _cancel(claiming)

    async def _finish_handlers(
        self, dispatcher: Dispatcher, settling: asyncio.Task[None], hurry: asyncio.Event
    ) -> None:
        """Give the jobs already taken their time, unless nothing they achieve can be settled."""
        idle = _task("idle", _wait(dispatcher.idle))
        hurried = _task("hurry", _wait(hurry))
        await asyncio.wait(
            {idle, hurried, settling},
            timeout=self._shutdown_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        await _cancel([idle, hurried])

    async def _register(self) -> int:
        registered = await self._client.workers.register(
            self.queue,
            hostname=_hostname(),
            worker_id=self.worker_id,
            worker_type="python",
            concurrency=min(self._concurrency, REGISTERED_CONCURRENCY_MAX),
        )
        return registered.heartbeat_seconds

    async def _send_heartbeats(self, dispatcher: Dispatcher, every_seconds: int) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            running = min(dispatcher.running, CURRENT_JOBS_MAX)
            try:
                try:
                    await self._client.workers.heartbeat(self.worker_id, current_jobs=running)
                except NotFound:
                    # The server forgot this worker, after a restored backup for example.
                    await self._register()
            except (ApiError, ConnectionFailed) as error:
                logger.warning("cannot send a heartbeat: %s", error)

    async def _deregister(self) -> None:
        try:
            await self._client.workers.deregister(self.worker_id)
        except (ApiError, ConnectionFailed) as error:
            logger.warning("cannot deregister, the server will notice by itself: %s", error)

    def _catch_signals(self, hurry: asyncio.Event) -> list[signal.Signals]:
        stop = self._stop

        def caught() -> None:
            if stop is not None and not stop.is_set():
                stop.set()
            else:
                hurry.set()

        signals = [signal.SIGTERM, signal.SIGINT]
        for number in signals:
            asyncio.get_running_loop().add_signal_handler(number, caught)
        return signals


def _task(name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=f"millstream worker: {name}")


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _first(
    wanted: Coroutine[object, object, object], task: asyncio.Task[None], *, timeout_seconds: float
) -> None:
    """Wait for `wanted`, but not when `task`, which has to bring it about, ends first."""
    waiting = asyncio.ensure_future(wanted)
    await asyncio.wait({waiting, task}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting


def _hostname() -> str:
    """This machine's name in the alphabet of spooled-jobs 5.1."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip(".-")[:255] or "unknown"


def _own_id() -> str:
    return f"{_hostname()[:80]}-{os.getpid()}-{secrets.token_hex(4)}"
