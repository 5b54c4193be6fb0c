"""The embedded PostgreSQL server as its users see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

import structlog

from millstream.embedded.account import choose_account
from millstream.embedded.binaries import Binaries, find_binaries
from millstream.embedded.cluster import Cluster, make_data_dir
from millstream.embedded.errors import ServerClosed
from millstream.embedded.installation import SYSTEM_CACHE, make_reachable
from millstream.embedded.lock import ServerLock, StartRecord
from millstream.embedded.patience import Patience
from millstream.embedded.postmaster import Answer, Postmaster, Status, find_postmaster
from millstream.embedded.socket_directory import PORT
from millstream.embedded.start import await_ready, clear_leftovers, start_server, stop_server

_log = structlog.stdlib.get_logger(__name__)


class EmbeddedServer:
    """One user's hold on the PostgreSQL server of a data directory, made by `open` and given up by `close`.

    Any number of processes may hold the same server. It runs in a session of its own, survives the death
    of each of them and is stopped by the last one that closes. A server that was started by other means is
    used but never stopped.

    `pid` and `socket_dir` are those of the running server; they change only in `ensure_running`.
    `started_by_us` tells whether this object started it.
    """

    def __init__(self, cluster: Cluster, lock: ServerLock) -> None:
        self._cluster = cluster
        self._lock = lock
        self._turn = asyncio.Lock()
        self._postmaster: Postmaster | None = None
        self.data_dir: Path = cluster.pgdata.parent
        self.binaries: Binaries = cluster.binaries
        self.started_by_us: bool = False

    @classmethod
    async def open(cls, data_dir: Path, *, binaries: Binaries | None = None) -> Self:
        """Use the server of `data_dir`: attach to it if it runs, else start it, after making it if need be.

        `binaries` defaults to those of `find_binaries`. Returns when connections are accepted, which after a
        crash is when recovery has ended. Raises EmbeddedError, whose message says what to do.
        """
        server = await asyncio.to_thread(cls._prepare, data_dir, binaries)
        try:
            await _in_thread(server._bring_up)
        except BaseException:
            # Also when the caller was cancelled: a server that nobody holds must not stay behind.
            await _in_thread(server._detach)
            raise
        return server

    @property
    def pid(self) -> int:
        """The process id of the server's main process. Raises ServerClosed."""
        return self._running.pid

    @property
    def socket_dir(self) -> Path:
        """The directory of the server's Unix socket. Raises ServerClosed."""
        return _socket_directory_of(self._running)

    def dsn(self, *, user: str = "postgres", database: str = "postgres") -> str:
        """The URL of a database, for asyncpg, psycopg and psql alike. Raises ServerClosed."""
        running = self._running
        options = {"host": str(_socket_directory_of(running))}
        if running.port != PORT:
            options["port"] = str(running.port)
        return (
            f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{urlencode(options, safe='/')}"
        )

    async def ensure_running(self) -> bool:
        """Start the server again if it died, or lost its socket; waits until it accepts connections.

        True if it is another one than before, whoever started it: connections to the old one are gone, and
        `dsn` may have changed. Raises EmbeddedError.
        """
        async with self._turn:
            before = self._running
            if await asyncio.to_thread(self._is_well, before):
                return False
            await _in_thread(self._bring_up)
            return self._running != before

    async def close(self) -> None:
        """Stop using the server; the last user stops it. May be called again. Raises StopFailed."""
        async with self._turn:
            await _in_thread(self._detach)

    @property
    def _running(self) -> Postmaster:
        if self._postmaster is None:
            raise ServerClosed(f"The server of {self.data_dir} was closed by this program; open it again.")
        return self._postmaster

    @classmethod
    def _prepare(cls, data_dir: Path, binaries: Binaries | None) -> Self:
        found = find_binaries() if binaries is None else binaries
        absolute = make_data_dir(data_dir)
        pgdata = absolute / "postgres"
        account = choose_account(pgdata)
        caches = (SYSTEM_CACHE, absolute / "binaries")
        cluster = Cluster(pgdata, make_reachable(found, account, cache_directories=caches), account)
        cluster.check()
        return cls(cluster, ServerLock(absolute))

    def _is_well(self, postmaster: Postmaster) -> bool:
        return (
            find_postmaster(self._cluster.pgdata) == postmaster
            and postmaster.has_socket()
            and postmaster.ask(self.binaries, self._cluster.account) is Answer.ACCEPTING
        )

    def _bring_up(self, patience: Patience) -> None:
        with self._lock.section(patience):
            self._lock.join()
            found = self._attach(patience)
            if found is None:
                found = self._start(patience)
            self._postmaster = found

    def _attach(self, patience: Patience) -> Postmaster | None:
        pgdata = self._cluster.pgdata
        found = find_postmaster(pgdata)
        if found is not None and found.status is Status.STOPPING:
            patience.until(lambda: find_postmaster(pgdata) is None, seconds=None)
            return None
        if found is None:
            return None
        ready = await_ready(self._cluster, self._log_path, patience)
        if ready is None or ready.has_socket():
            return ready
        # Nobody can connect to it any more, and it makes its socket only when it starts.
        _log.warning("PostgreSQL has no socket and is started again", pid=ready.pid)
        stop_server(ready, self._cluster)
        return None

    def _start(self, patience: Patience) -> Postmaster:
        clear_leftovers(self._cluster, patience)
        self._cluster.check()
        self._cluster.prepare()
        record = self._lock.read_record()
        started = start_server(
            self._cluster, None if record is None else record.socket_directory, self._log_path, patience
        )
        self._lock.write_record(StartRecord(started.pid, started.started_at, _socket_directory_of(started)))
        self.started_by_us = True
        _log.info(
            "started PostgreSQL", pid=started.pid, version=self.binaries.version, data=str(self.data_dir)
        )
        return started

    def _detach(self, patience: Patience) -> None:
        self._postmaster = None
        if not self._lock.joined:
            return
        with self._lock.section(patience):
            if not self._lock.leave():
                return
            found = find_postmaster(self._cluster.pgdata)
            if found is not None and self._is_started_by_millstream(found):
                stop_server(found, self._cluster)

    def _is_started_by_millstream(self, postmaster: Postmaster) -> bool:
        record = self._lock.read_record()
        return record is not None and (record.pid, record.started_at) == (
            postmaster.pid,
            postmaster.started_at,
        )

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "postgres.log"


def _socket_directory_of(postmaster: Postmaster) -> Path:
    if postmaster.socket_directory is None:
        raise ServerClosed(f"The server with pid {postmaster.pid} has no socket; call ensure_running.")
    return postmaster.socket_directory


async def _in_thread(step: Callable[[Patience], None]) -> None:
    """Run a step that blocks; a cancelled caller ends its waits and leaves only when it has come to its end.

    Were it left behind, it would go on changing the data directory after the lock was given up.
    """
    patience = Patience()
    task = asyncio.ensure_future(asyncio.to_thread(step, patience))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        patience.end()
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        # Marks a failure as seen; the cancellation is what the caller is told.
        task.exception()
        raise
