"""The job lifecycle over the engine, inside this process: what the server does without its HTTP."""

import asyncio
import uuid
from time import perf_counter

from millstream.app import App, build
from millstream.cli.bench.connection import Recorder
from millstream.cli.bench.conversation import CLAIM_LIMIT, PAYLOAD
from millstream.cli.bench.plan import EngineLoad
from millstream.cli.settings import load_settings
from millstream.domain.errors import MillstreamError
from millstream.domain.job import ClaimRequest, Completion, Lease, NewJob
from millstream.domain.tenant import Principal

_LEASE_SECONDS = 300


class EngineWorkload:
    """`concurrency` callers, each of which enqueues ten jobs, claims ten and completes them, one by one."""

    def __init__(self, plan: EngineLoad) -> None:
        self._plan = plan
        self._app: App = build(load_settings({}, isolated=True), plan.dsn)
        self._principal: Principal | None = None
        self._job = NewJob(queue=plan.queue, payload=PAYLOAD.decode())

    async def prepare(self) -> None:
        # The loops run in the server beside this process.
        await self._app.start(loops=False)
        self._principal = await self._app.engine.credentials.authenticate(self._plan.api_key)

    async def run(self, seconds: float, recorder: Recorder) -> None:
        assert self._principal is not None
        deadline = perf_counter() + seconds
        callers = (self._call(self._principal, deadline, recorder) for _ in range(self._plan.concurrency))
        await asyncio.gather(*callers)

    async def close(self) -> None:
        await self._app.stop()

    async def _call(self, principal: Principal, deadline: float, recorder: Recorder) -> None:
        request = ClaimRequest(
            queue=self._plan.queue,
            worker_id=f"bench-{uuid.uuid4().hex}",
            limit=CLAIM_LIMIT,
            lease_seconds=_LEASE_SECONDS,
        )
        try:
            while perf_counter() < deadline:
                await self._round(principal, request, recorder)
        except MillstreamError as error:
            recorder.failed(f"{type(error).__name__}: {error}")

    async def _round(self, principal: Principal, request: ClaimRequest, recorder: Recorder) -> None:
        jobs, latencies = self._app.engine.jobs, recorder.latencies
        before = perf_counter()
        for _ in range(CLAIM_LIMIT):
            await jobs.enqueue(principal, self._job)
            after = perf_counter()
            latencies["create"].record(after - before)
            before = after
        claimed = await jobs.claim(principal, request)
        after = perf_counter()
        latencies["claim"].record(after - before)
        before = after
        for job in claimed:
            lease = Lease(job_id=job.id, worker_id=request.worker_id, lease_id=job.lease_id)
            await jobs.complete(principal, Completion(lease=lease))
            after = perf_counter()
            latencies["complete"].record(after - before)
            before = after
            recorder.items += 1
