"""Waiting until there is work. Contract: pgwf 3, `await_work`."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from millstream.pgwf._sync.calls import run
from millstream.pgwf._sync.lease import Lease
from millstream.pgwf.background import Stop, pause
from millstream.pgwf.backoff import Backoff
from millstream.pgwf.channels import unlisten_to
from millstream.pgwf.classification import is_transient
from millstream.pgwf.hold import Hold
from millstream.pgwf.listening import Listener, listening
from millstream.pgwf.sources import Opener, driver_connection, run_plain, transaction
from millstream.pgwf.statements.leases import LeasedJob
from millstream.pgwf.statements.statement import Statement

# How long a wait for announcements goes on before `stop` is looked at.
_SLICE_SECONDS: Final = 0.2

_log = logging.getLogger("millstream.pgwf")


@dataclass(frozen=True)
class Awaiting:
    """One wait for a job of some capabilities."""

    open: Opener
    statement: Statement[list[LeasedJob]]
    schema: str
    worker_id: str
    lease_seconds: int
    channels: list[str]
    backoff: Backoff
    deadline: float
    stop: Stop | None

    def poll_until_found(self) -> Lease | None:
        """Poll, less and less often."""
        return self._repeat(listen=False)

    def listen_until_found(self) -> Lease | None:
        """Poll whenever something is announced, and at the ceiling of the back-off."""
        return self._repeat(listen=True)

    def _repeat(self, *, listen: bool) -> Lease | None:
        delays = self.backoff.delays()
        while not self._is_stopped():
            try:
                lease = self._attend() if listen else self._visit()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("looking for work failed, and is repeated: %r", error)
                lease = None
            if lease is not None or not self._pause(delays):
                return lease
        return None

    def _visit(self) -> Lease | None:
        with self.open() as connection, self._transaction(connection):
            lease = self._poll(connection)
            if lease is None:
                # The poll has begun to listen where notifying is on; the next user of the connection did not ask for it.
                run_plain(connection, unlisten_to(self.channels))
            return lease

    def _attend(self) -> Lease | None:
        with self.open() as wrapped:
            connection = driver_connection(wrapped)
            with self._transaction(connection):
                lease = self._poll(connection)
            if lease is not None:
                return lease
            with listening(connection, self.channels) as listener:
                while True:
                    # Before the first wait too: what was submitted before the LISTEN took effect was not announced to us.
                    with self._transaction(connection):
                        lease = self._poll(connection)
                    if lease is not None or not self._hear(listener):
                        return lease

    def _transaction(self, connection: object) -> AbstractContextManager[object]:
        return transaction(connection)

    def _poll(self, connection: object) -> Lease | None:
        asked_at = monotonic()
        for leased in run(connection, self.statement):
            return Lease(Hold(self.schema, self.worker_id, self.lease_seconds, leased, asked_at=asked_at))
        return None

    def _hear(self, listener: Listener) -> bool:
        """Wait for an announcement, or until it is time to poll anyway; False when waiting is over."""
        until = min(self.deadline, monotonic() + self.backoff.varied(self.backoff.maximum))
        while not self._is_stopped() and (left := until - monotonic()) > 0:
            if listener.wait(min(left, _SLICE_SECONDS)):
                break
        return not self._is_stopped() and monotonic() < self.deadline

    def _pause(self, delays: Iterator[float]) -> bool:
        left = self.deadline - monotonic()
        if left <= 0:
            return False
        pause(min(next(delays), left), self.stop)
        return monotonic() < self.deadline

    def _is_stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()
