"""What a generator process does in a phase: the HTTP load. The other workloads have modules of their own."""

import asyncio
from time import perf_counter
from typing import Protocol

from millstream.cli.bench.connection import Connection, Recorder
from millstream.cli.bench.conversation import start_conversation
from millstream.cli.bench.http_request import Endpoint, RequestBuilder
from millstream.cli.bench.plan import HttpLoad


class Workload(Protocol):
    """One kind of load. `prepare` once, `run` once per phase, `close` once."""

    async def prepare(self) -> None:
        """Connect; nothing of this is measured."""
        ...

    async def run(self, seconds: float, recorder: Recorder) -> None:
        """Work for `seconds` or until there is nothing left to do, and write down what happened."""
        ...

    async def close(self) -> None:
        """Let go of everything that `prepare` took."""
        ...


class HttpWorkload:
    """Closed loops over keep-alive connections."""

    def __init__(self, plan: HttpLoad) -> None:
        requests = RequestBuilder(Endpoint(plan.host, plan.port, plan.api_key))
        self._connections = [
            Connection(start_conversation(plan.conversation, requests), plan.host, plan.port)
            for _ in range(plan.connections)
        ]

    async def prepare(self) -> None:
        for connection in self._connections:
            await connection.open()

    async def run(self, seconds: float, recorder: Recorder) -> None:
        deadline = perf_counter() + seconds
        await asyncio.gather(*(connection.run(deadline, recorder) for connection in self._connections))

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()
