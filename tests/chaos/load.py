"""Clients that create, claim and complete without pause, through whatever happens to the server."""

import asyncio
from contextlib import closing

from tests.chaos.clients import PAUSE_SECONDS, Clients
from tests.chaos.ledger import LEASE_SECONDS, Holding, Ledger
from tests.chaos.line import Line, Unanswered, Unreachable

QUEUE = "chaos"
# Creators wait for workers beyond this: a fault is to meet busy clients, not a mountain of jobs.
BACKLOG_MAX = 200


class Load(Clients[Ledger]):
    """`creators` and `workers` as clients of the servers on `ports`, which may change while it runs."""

    def __init__(self, ports: list[int], api_key: str, *, creators: int = 4, workers: int = 4) -> None:
        super().__init__(ports, api_key, Ledger())
        self._creators = creators
        self._number = 0
        self._creating = True
        self._working = True
        self._clients = [self._create] * creators + [self._work] * workers

    async def progress(self, jobs: int, *, seconds: float = 60) -> None:
        """Go on until that many more jobs were created and completed."""
        created, completed = len(self.ledger.created), len(self.ledger.completed)
        await self.until(
            lambda: (
                len(self.ledger.created) >= created + jobs and len(self.ledger.completed) >= completed + jobs
            ),
            seconds=seconds,
        )

    async def pause(self) -> None:
        """Stop everything, each client after the answer to its last request."""
        self._creating = self._working = False
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def drain(self, *, seconds: float = 90) -> None:
        """Create nothing more and work until no job is left, those of lost workers included; then stop."""
        self._creating = False
        with closing(self._line(0)) as line:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._tasks[: self._creators])
                # Another process does the work: there is no event to wait for.
                while await self._count_unfinished(line):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        await self.pause()

    async def _count_unfinished(self, line: Line) -> int:
        try:
            answer = await line.ask("GET", "/api/v1/jobs/stats")
        except Unanswered:
            return 1
        except Unreachable:
            self._change_port(line)
            return 1
        if answer.status != 200:
            return 1
        return answer.body["pending"] + answer.body["scheduled"] + answer.body["processing"]

    # Creating: odd numbers carry a key and are sent until they are answered, even ones are sent once

    async def _create(self, place: int) -> None:
        with closing(self._line(place)) as line:
            while self._creating:
                if len(self.ledger.created) - len(self.ledger.completed) > BACKLOG_MAX:
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                self._number += 1
                await self._create_one(line, self._number)

    async def _create_one(self, line: Line, number: int) -> None:
        body: dict[str, object] = {"queue_name": QUEUE, "payload": {"number": number}, "max_retries": 100}
        if number % 2:
            body["idempotency_key"] = f"key-{number}"
        self.ledger.unanswered_numbers.add(number)
        while True:
            answer = await self._ask(line, "POST", "/api/v1/jobs", body)
            if answer is not None and answer.status in (200, 201):
                self.ledger.note_created(answer.body["id"], number)
                return
            if not number % 2 or not self._creating:
                return

    # Working: a completion is sent until it is known what became of it

    async def _work(self, place: int) -> None:
        worker_id = f"worker-{place}"
        body = {"queue_name": QUEUE, "worker_id": worker_id, "limit": 5, "lease_duration_secs": LEASE_SECONDS}
        with closing(self._line(place)) as line:
            while self._working:
                answer = await self._ask(line, "POST", "/api/v1/jobs/claim", body)
                if answer is None or answer.status != 200:
                    continue
                holdings = [self.ledger.note_claimed(job, worker_id) for job in answer.body["jobs"]]
                for holding in holdings:
                    await self._complete(line, holding)
                if not holdings:
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _complete(self, line: Line, holding: Holding) -> None:
        self.ledger.sent_completions[holding.job_id].add(holding.lease_id)
        body = {
            "worker_id": holding.worker_id,
            "lease_id": holding.lease_id,
            "result": {"lease": holding.lease_id},
        }
        answer = None
        while answer is None or answer.status == 503:
            answer = await self._ask(line, "POST", f"/api/v1/jobs/{holding.job_id}/complete", body)
            if not self._working:
                break
        if answer is not None and answer.status == 200:
            self.ledger.note_completed(holding)
