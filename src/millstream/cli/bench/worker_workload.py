"""The client's worker runtime under load: no-op handlers until nothing is left."""

import asyncio

from millstream.cli.bench.connection import Recorder
from millstream.cli.bench.plan import WorkerLoad
from millstream.client import AsyncClient
from millstream.client.worker import RunningJob, Worker


class WorkerWorkload:
    """One `Worker` with `concurrency` no-op handlers; the rate is that of handled and settled jobs."""

    def __init__(self, plan: WorkerLoad) -> None:
        self._plan = plan
        self._client = AsyncClient(plan.url, plan.api_key)

    async def prepare(self) -> None:
        # Opens the client's first connection and has the key checked, which is not what is measured.
        await self._client.jobs.list(limit=1)

    async def run(self, seconds: float, recorder: Recorder) -> None:
        """Run until the queue is empty; every settlement has been answered by then."""

        async def handle(job: RunningJob) -> None:
            recorder.items += 1

        worker = Worker(self._client, self._plan.queue, handle, concurrency=self._plan.concurrency)
        async with asyncio.timeout(seconds):
            await worker.run(until_idle=True)
        if recorder.items != self._plan.jobs:
            recorder.failed(f"{recorder.items} jobs were handled instead of {self._plan.jobs}")

    async def close(self) -> None:
        await self._client.aclose()
