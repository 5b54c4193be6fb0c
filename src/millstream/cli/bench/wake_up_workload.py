"""How soon a waiting worker starts on a job: one producer, one worker, an idle queue."""

import asyncio
from time import perf_counter

from millstream.cli.bench.connection import Recorder
from millstream.cli.bench.http_request import Endpoint
from millstream.cli.bench.plan import WakeUpLoad
from millstream.client import AsyncClient
from millstream.client.worker import RunningJob, Worker

# Time for the worker to settle the job before and to wait at the server again: the queue is idle by then.
_IDLE_SECONDS = 0.02
_JOB_SECONDS_MAX = 5.0


class WakeUpWorkload:
    """Enqueues one job at a time and notes when its handler starts."""

    def __init__(self, plan: WakeUpLoad) -> None:
        self._queue = plan.queue
        endpoint = Endpoint(plan.host, plan.port, plan.api_key)
        # Two clients, as producer and worker are two programs: neither waits for the other's connections.
        self._producer = AsyncClient(endpoint.url, plan.api_key)
        self._consumer = AsyncClient(endpoint.url, plan.api_key)
        self._started: asyncio.Future[float] | None = None
        self._worker = Worker(self._consumer, plan.queue, self._handle, concurrency=1)
        self._working: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        self._working = asyncio.create_task(self._worker.run())
        await self._wake_up()

    async def run(self, seconds: float, recorder: Recorder) -> None:
        latencies = recorder.latencies["enqueue to handler"]
        deadline = perf_counter() + seconds
        while perf_counter() < deadline:
            await asyncio.sleep(_IDLE_SECONDS)
            try:
                latencies.record(await self._wake_up())
            except TimeoutError:
                recorder.failed(f"a job had not started after {_JOB_SECONDS_MAX:.0f} s")
            else:
                recorder.items += 1

    async def close(self) -> None:
        self._worker.stop()
        if self._working is not None:
            await self._working
        await self._producer.aclose()
        await self._consumer.aclose()

    async def _wake_up(self) -> float:
        self._started = asyncio.get_running_loop().create_future()
        enqueued_at = perf_counter()
        async with asyncio.timeout(_JOB_SECONDS_MAX):
            await self._producer.jobs.enqueue(self._queue, {"note": "wake up"})
            return await self._started - enqueued_at

    async def _handle(self, job: RunningJob) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_result(perf_counter())
