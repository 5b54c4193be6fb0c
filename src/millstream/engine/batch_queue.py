"""What waits for a statement of group commit, and how rows are taken from it: in turn, within bounds, no key twice."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from millstream.domain.errors import MillstreamError, Overloaded
from millstream.engine.poison import PoisonRecord

R = TypeVar("R")
A = TypeVar("A")


class Request(Generic[R, A]):
    """What one caller handed in: its rows, how far they are taken, and their answers."""

    __slots__ = ("answers", "future", "open", "rows", "size_bytes", "taken", "tenant_id")

    def __init__(
        self, tenant_id: int, rows: Sequence[R], size_bytes: int, future: "asyncio.Future[None]"
    ) -> None:
        self.tenant_id = tenant_id
        self.rows = rows
        self.size_bytes = size_bytes
        self.taken = 0
        self.open = len(rows)
        self.answers: list[A | MillstreamError | None] = [None] * len(rows)
        self.future = future


Place = tuple[Request[R, A], int]
"""One row of a request."""


class BatchQueue(Generic[R, A]):
    """Requests that wait. Those of one tenant are taken in their order; tenants take turns.

    A statement gets at most `rows_max` rows, and no further request once it holds `bytes_max`. With `whole`, the
    rows of a request are never spread over several statements. With `key_of`, no two rows with the same key are
    under way at once. Who is apart in `poison` shares no statement.
    """

    def __init__(
        self,
        poison: PoisonRecord,
        *,
        key_of: Callable[[R], Hashable] | None,
        whole: bool,
        rows_max: int,
        bytes_max: int,
        queue_rows_max: int,
        queue_bytes_max: int,
    ) -> None:
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self._poison = poison
        self._key_of = key_of
        self._whole = whole
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._queue_rows_max = queue_rows_max
        self._queue_bytes_max = queue_bytes_max
        self._tenants: OrderedDict[int, deque[Request[R, A]]] = OrderedDict()
        self._keys_under_way: set[Hashable] = set()

    def add(self, request: Request[R, A]) -> None:
        """Let a request wait for its turn. Raises Overloaded when too much waits already."""
        rows = len(request.rows)
        if (
            self.waiting_rows + rows > self._queue_rows_max
            or self.waiting_bytes + request.size_bytes > self._queue_bytes_max
        ):
            raise Overloaded
        queue = self._tenants.get(request.tenant_id)
        if queue is None:
            queue = self._tenants[request.tenant_id] = deque()
        queue.append(request)
        self.waiting_rows += rows
        self.waiting_bytes += request.size_bytes

    def take(self) -> list[Place[R, A]]:
        """Take rows for one statement, tenants in turn, a poisonous tenant by itself.

        Their keys are under way until `release`.
        """
        batch: list[Place[R, A]] = []
        if not self._tenants:
            return batch
        keys = set(self._keys_under_way)
        size = 0
        now = time.monotonic()
        stopped: set[int] = set()
        while len(batch) < self._rows_max and size < self._bytes_max:
            tenant_id = next((tenant for tenant in self._tenants if tenant not in stopped), None)
            if tenant_id is None:
                break
            apart = bool(self._poison.tenants) and self._poison.is_apart(tenant_id, now)
            if apart and batch:
                stopped.add(tenant_id)
                continue
            size += self._take_from(tenant_id, batch, keys, stopped)
            # Nothing was taken when its caller had left: then the others go on.
            if apart and batch:
                break
        self._keys_under_way = keys
        return batch

    def release(self, batch: list[Place[R, A]]) -> None:
        """Let rows with the keys of `batch` be taken again."""
        if self._key_of is not None:
            self._keys_under_way.difference_update(
                [self._key_of(request.rows[place]) for request, place in batch]
            )

    def _take_from(
        self, tenant_id: int, batch: list[Place[R, A]], keys: set[Hashable], stopped: set[int]
    ) -> int:
        """Move the tenant's next request, as far as it fits, to `batch`; returns its size."""
        queue = self._tenants[tenant_id]
        request = queue[0]
        size = 0
        if request.future.done():
            # Its caller has left.
            self.waiting_rows -= len(request.rows) - request.taken
            self.waiting_bytes -= request.size_bytes
            queue.popleft()
        elif self._whole and batch and len(batch) + len(request.rows) > self._rows_max:
            stopped.add(tenant_id)
        else:
            first = request.taken
            self._take_rows(request, batch, keys, stopped)
            if request.taken == len(request.rows):
                queue.popleft()
                size = request.size_bytes
                self.waiting_bytes -= size
            self.waiting_rows -= request.taken - first
        if not queue:
            del self._tenants[tenant_id]
        else:
            self._tenants.move_to_end(tenant_id)
        return size

    def _take_rows(
        self, request: Request[R, A], batch: list[Place[R, A]], keys: set[Hashable], stopped: set[int]
    ) -> None:
        rows_max = len(batch) + len(request.rows) if self._whole else self._rows_max
        while request.taken < len(request.rows) and len(batch) < rows_max:
            if self._key_of is not None:
                key = self._key_of(request.rows[request.taken])
                if key in keys:
                    # The same row twice in one statement would be changed once: the second waits its turn.
                    stopped.add(request.tenant_id)
                    return
                keys.add(key)
            batch.append((request, request.taken))
            request.taken += 1
