"""One face for the published client's two flavours, so that each scenario is written once.

The scenarios speak to `AsyncSpooledClient`. `awaitable` gives the synchronous client that face: each of its methods
runs, unmodified, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, cast

from spooled import AsyncSpooledClient, AsyncSpooledWorker, SpooledClient, SpooledWorker
from spooled.resources.base import BaseResource
from spooled.resources.jobs import DlqResource
from spooled.resources.workflows import WorkflowJobsResource
from spooled.worker.types import AsyncJobContext, JobContext, WorkerEvent

Context: TypeAlias = JobContext | AsyncJobContext
Handler: TypeAlias = Callable[[Context], Awaitable[Any]]


class InThreads:
    """A synchronous object whose methods are awaited: resources become such objects too, values stay values."""

    def __init__(self, target: object) -> None:
        self.target = target

    def __getattr__(self, name: str) -> object:
        found = getattr(self.target, name)
        if isinstance(found, BaseResource | DlqResource | WorkflowJobsResource):
            return InThreads(found)
        if not callable(found):
            return found

        async def call(*args: object, **kwargs: object) -> object:
            return await asyncio.to_thread(found, *args, **kwargs)

        return call


def awaitable(client: SpooledClient) -> AsyncSpooledClient:
    return cast("AsyncSpooledClient", InThreads(client))


class Seen:
    """The events that a worker announced, with what came with each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.events: list[tuple[str, Any]] = []
        self.changed = asyncio.Event()

    def note(self, name: str, data: object) -> None:
        """May be called from any thread."""
        self.loop.call_soon_threadsafe(self.take, name, data)

    def take(self, name: str, data: object) -> None:
        self.events.append((name, data))
        self.changed.set()

    def of(self, name: str) -> list[Any]:
        return [data for event, data in self.events if event == name]

    async def times(self, name: str, count: int = 1) -> list[Any]:
        """What came with the events of that name once there were so many."""
        async with asyncio.timeout(30):
            while len(self.of(name)) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.of(name)


EVENTS: tuple[WorkerEvent, ...] = (
    "started",
    "stopped",
    "error",
    "job:claimed",
    "job:started",
    "job:completed",
    "job:failed",
    "job:lease_lost",
)


class Runtime:
    """A worker runtime of either flavour; its handler is a coroutine function that runs in the test's loop."""

    def __init__(
        self, client: SpooledClient | AsyncSpooledClient, queue: str, handler: Handler, **options: Any
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.seen = Seen(self.loop)
        options = {"poll_interval": 0.05, "hostname": "test-host", **options}
        self.worker: SpooledWorker | AsyncSpooledWorker
        if isinstance(client, SpooledClient):
            self.worker = SpooledWorker(client, queue, **options)
            self.worker.process(self.from_thread(handler))
        else:
            self.worker = AsyncSpooledWorker(client, queue, **options)
            self.worker.process(cast("Callable[[AsyncJobContext], Coroutine[Any, Any, Any]]", handler))
        for event in EVENTS:
            self.worker.on(event, self.noting(event))
        self.running: asyncio.Task[None] | None = None

    def from_thread(self, handler: Handler) -> Callable[[JobContext], Any]:
        async def run(context: JobContext) -> object:
            return await handler(context)

        def call(context: JobContext) -> Any:
            return asyncio.run_coroutine_threadsafe(run(context), self.loop).result()

        return call

    def noting(self, event: WorkerEvent) -> Callable[[object], None]:
        return lambda data: self.seen.note(event, data)

    @property
    def worker_id(self) -> str:
        assert self.worker.worker_id is not None
        return self.worker.worker_id

    async def __aenter__(self) -> Runtime:
        if isinstance(self.worker, SpooledWorker):
            self.running = asyncio.create_task(asyncio.to_thread(self.worker.start))
        else:
            self.running = asyncio.create_task(self.worker.start())
        await self.seen.times("started")
        return self

    async def stop(self) -> None:
        if isinstance(self.worker, SpooledWorker):
            await asyncio.to_thread(self.worker.stop)
        else:
            await self.worker.stop()

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()
        assert self.running is not None
        async with asyncio.timeout(30):
            await self.running
        assert self.worker.state == "stopped"
