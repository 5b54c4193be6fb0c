"""Claims that wait for a job to appear, polls that wait for a message. A wake-up is a hint: whoever is woken looks."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final

from millstream.domain import limits
from millstream.domain.errors import Overloaded

_Key = tuple[int, str]
# As many as could wait: a message is for each group, and for each reader.
EVERYONE: Final = 2**31 - 1


def topic_bell(topic_id: int) -> str:
    """Return the name that waits for messages of a topic go by. No queue is called so."""
    return f"\ttopic {topic_id}"


def group_bell(group_id: int) -> str:
    """Return the name that waits of a consumer group's members go by. No queue is called so."""
    return f"\tgroup {group_id}"


def member_bell(group_id: int, member_id: str) -> str:
    """Return the name that polls of a member go by that holds as much as it may. No queue is called so."""
    return f"\tmember {group_id} {member_id}"


class Wakeups:
    """Wakes as many waiters of a queue as jobs became claimable there."""

    def __init__(self) -> None:
        self._waiters: dict[_Key, deque[asyncio.Future[None]]] = {}
        self._count = 0
        self._spare: Callable[[int, str, int], None] | None = None
        self._waits: Callable[[int, str], None] | None = None

    def tell_others(
        self, *, spare: Callable[[int, str, int], None] | None, waits: Callable[[int, str], None] | None
    ) -> None:
        """Have other processes told: `spare` of jobs that nobody waits for here, `waits` of queues waited for."""
        self._spare = spare
        self._waits = waits

    def waiting_queues(self) -> list[_Key]:
        """Return the (tenant, queue) pairs that somebody waits for."""
        return list(self._waiters)

    def wake(self, tenant_id: int, queue: str, jobs: int = 1) -> None:
        """Wake up to `jobs` of those who wait for the queue, the longest waiting first, here and then elsewhere."""
        left = self.wake_here(tenant_id, queue, jobs)
        if left and self._spare is not None:
            self._spare(tenant_id, queue, left)

    def wake_here(self, tenant_id: int, queue: str, jobs: int = 1) -> int:
        """Wake up to `jobs` of those who wait in this process; returns how many jobs nobody was woken for."""
        waiters = self._waiters.get((tenant_id, queue))
        while waiters and jobs:
            future = waiters.popleft()
            if not future.done():
                future.set_result(None)
                jobs -= 1
        return jobs

    def wake_all(self, queues: Iterable[_Key]) -> None:
        """Wake one waiter of this process for each of `queues`."""
        for tenant_id, queue in queues:
            self.wake_here(tenant_id, queue)

    async def wait(self, tenant_id: int, queues: Sequence[str], seconds: float) -> bool:
        """Wait until woken for one of `queues`; returns False when `seconds` have passed first.

        Raises Overloaded when too many wait already.
        """
        with self.listening(tenant_id, queues) as woken:
            return await until(woken, seconds)

    @contextmanager
    def listening(self, tenant_id: int, queues: Sequence[str]) -> Generator["asyncio.Future[None]"]:
        """Hear of `queues` from now on; the future is done once woken. Raises Overloaded when too many wait already.

        Whoever looks for itself within misses nothing between its look and its wait.
        """
        if self._count >= limits.CLAIM_WAITERS_MAX:
            raise Overloaded
        keys = [(tenant_id, queue) for queue in queues]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for key in keys:
            self._waiters.setdefault(key, deque()).append(future)
            if self._waits is not None:
                self._waits(*key)
        self._count += 1
        try:
            yield future
        finally:
            self._count -= 1
            for key in keys:
                self._leave(key, future)

    def _leave(self, key: _Key, future: "asyncio.Future[None]") -> None:
        waiters = self._waiters.get(key)
        if waiters is None:
            return
        if future in waiters:
            waiters.remove(future)
        if not waiters:
            del self._waiters[key]


async def until(woken: "asyncio.Future[None]", seconds: float) -> bool:
    """Wait until a future of `listening` is done; returns False when `seconds` have passed first."""
    try:
        async with asyncio.timeout(seconds):
            await woken
    except TimeoutError:
        return False
    return True
