"""Clients that go on through whatever happens to the server."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

from tests.chaos.line import Answer, Line, Unanswered, Unreachable

# Between attempts to reach a server that is away.
PAUSE_SECONDS = 0.05


class Notes(Protocol):
    """Where clients write down what they were told."""

    unanswered: int
    unreachable: int

    def note(self, answer: Answer) -> None:
        """Note an answer."""
        ...


N = TypeVar("N", bound=Notes)


class Clients(Generic[N]):
    """Clients of the servers on `ports`, which may change while they run; each of `_clients` runs with its number."""

    _clients: Sequence[Callable[[int], Coroutine[Any, Any, None]]]

    def __init__(self, ports: list[int], api_key: str, ledger: N) -> None:
        self.ports = ports
        self.ledger = ledger
        self._api_key = api_key
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(client(place)) for place, client in enumerate(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], object], *, seconds: float = 60) -> None:
        """Go on until `condition` holds; fails when it does not within `seconds`, or when a client failed."""
        async with asyncio.timeout(seconds):
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    def _line(self, place: int) -> Line:
        return Line(self.ports[place % len(self.ports)], self._api_key)

    async def _ask(
        self,
        line: Line,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Return the answer, None when there was none."""
        try:
            answer = await line.ask(method, path, body, headers)
        except Unreachable:
            self.ledger.unreachable += 1
            self._change_port(line)
            await asyncio.sleep(PAUSE_SECONDS)
            return None
        except Unanswered:
            self.ledger.unanswered += 1
            return None
        self.ledger.note(answer)
        if answer.status == 503:
            await asyncio.sleep(PAUSE_SECONDS)
        return answer

    def _change_port(self, line: Line) -> None:
        # Whoever served it may be gone for good: another one of those known does as well.
        line.port = next((port for port in self.ports if port != line.port), line.port)
