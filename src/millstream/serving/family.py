"""The parent's side of `--processes N`: starts children on shared sockets, restarts the crashed, ends them all."""

import asyncio
import contextlib
import signal
import socket
import sys
from asyncio.subprocess import Process

from millstream.config import Config
from millstream.domain.errors import MillstreamError
from millstream.observe.logging import get_logger
from millstream.observe.metrics import forget_process
from millstream.serving.channel import Channel, Failed, Orders, Probe, Ready, Report
from millstream.serving.signals import ShutdownSignals
from millstream.serving.sockets import close_all

_log = get_logger(__name__)

_RESTART_SECONDS_MIN = 0.5
_RESTART_SECONDS_MAX = 30.0
# A child that lived this long did not fail because of how it starts: the next one comes at once again.
_SETTLED_SECONDS = 60.0
_START_SECONDS_MAX = 120.0
_PROBE_SECONDS_MAX = 5.0
# For children of a start that failed: they have no requests to finish.
_ABANDON_SECONDS_MAX = 5.0


class ChildFailed(MillstreamError):
    """A server process did not start"""


class Family:
    """`config.server.processes` children that serve `sockets` from the database at `dsn`."""

    def __init__(self, config: Config, dsn: str, sockets: list[socket.socket]) -> None:
        self._config = config
        self._sockets = sockets
        orders = Orders(config=config, dsn=dsn, socket_fds=[held.fileno() for held in sockets])
        self._children = [_Child(index, orders) for index in range(config.server.processes)]
        self._tending: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every child; returns when all of them accept connections. Raises ChildFailed."""
        self._tending = [
            asyncio.create_task(child.tend(), name=f"child-{child.index}") for child in self._children
        ]
        accepting = [child.first_ready for child in self._children]
        try:
            await asyncio.gather(*accepting)
        except BaseException:
            await self._end(_ABANDON_SECONDS_MAX)
            raise

    async def is_ready(self) -> bool:
        """Return whether at least one child can do its work: a caller is answered by any of them."""
        answers = await asyncio.gather(*(child.probe() for child in self._children))
        return any(answer.is_ready for answer in answers if answer is not None)

    async def stop(self, signals: ShutdownSignals) -> None:
        """Pass the end on to every child and wait; what is left after `shutdown_seconds` is killed."""
        # The children hold the sockets too. Kept open here, they would let callers connect to nobody.
        close_all(self._sockets)
        ending = asyncio.create_task(self._end(self._config.server.shutdown_seconds))
        forced = asyncio.create_task(signals.forced.wait())
        await asyncio.wait({ending, forced}, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not ending.done():
            for child in self._children:
                child.signal(signal.SIGTERM)
        await ending

    async def _end(self, seconds: float) -> None:
        for child in self._children:
            child.end()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(child.gone.wait() for child in self._children))
        except TimeoutError:
            for child in self._children:
                child.signal(signal.SIGKILL)
        await asyncio.gather(*self._tending, return_exceptions=True)


class _Child:
    def __init__(self, index: int, orders: Orders) -> None:
        self.index = index
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.gone.set()
        self._orders = orders
        self._ending = asyncio.Event()
        self._process: Process | None = None
        self._channel: Channel | None = None
        self._probes: dict[int, asyncio.Future[Report]] = {}
        self._probe_id = 0

    async def tend(self) -> None:
        """Keep one process running until `end`."""
        pause = _RESTART_SECONDS_MIN
        while not self._ending.is_set():
            started_at = asyncio.get_running_loop().time()
            reason = await self._live()
            if self._ending.is_set():
                break
            if not self.first_ready.done():
                self.first_ready.set_exception(ChildFailed(f"server process {self.index} {reason}"))
                break
            if asyncio.get_running_loop().time() - started_at >= _SETTLED_SECONDS:
                pause = _RESTART_SECONDS_MIN
            _log.error(
                "a server process ended, restarting it", child=self.index, reason=reason, seconds=pause
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(pause * 2, _RESTART_SECONDS_MAX)
        if not self.first_ready.done():
            self.first_ready.cancel()

    async def probe(self) -> Report | None:
        """Return the process's answer; None when it has none in time, or nobody is there to answer."""
        if self._channel is None:
            return None
        self._probe_id += 1
        probe = Probe(self._probe_id)
        answer: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._probes[probe.id] = answer
        self._channel.send(probe)
        await asyncio.wait([answer], timeout=_PROBE_SECONDS_MAX)
        del self._probes[probe.id]
        return answer.result() if answer.done() else None

    def end(self) -> None:
        """Ask the process to finish, and start no other."""
        self._ending.set()
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _live(self) -> str:
        """Run one process from its start to its end; returns how it ended."""
        ours, theirs = socket.socketpair()
        self.gone.clear()
        try:
            with theirs:
                process = self._process = await self._spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            self.gone.set()
            return f"could not start: {error.strerror}"
        try:
            if self._ending.is_set():
                self.signal(signal.SIGTERM)
            reason = await self._converse(ours)
            code = await process.wait()
            return reason or _how_it_ended(code)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            forget_process(process.pid)
            self._process = None
            self.gone.set()

    async def _spawn(self, channel_fd: int) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # The working directory must not get in the way of the standard library.
            "-P",
            "-m",
            "millstream.serving.child",
            str(channel_fd),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[channel_fd, *self._orders.socket_fds],
            # Ctrl-C goes to the whole foreground group; the children hear of it once, from the parent.
            start_new_session=True,
        )

    async def _converse(self, ours: socket.socket) -> str | None:
        channel = self._channel = await Channel.over(ours)
        channel.send(self._orders)
        reason = None
        starting = asyncio.get_running_loop().call_later(_START_SECONDS_MAX, self.signal, signal.SIGKILL)
        try:
            while (message := await channel.receive()) is not None:
                match message:
                    case Ready():
                        starting.cancel()
                        if not self.first_ready.done():
                            self.first_ready.set_result(None)
                    case Report():
                        waiting = self._probes.get(message.id)
                        if waiting is not None and not waiting.done():
                            waiting.set_result(message)
                    case Failed():
                        reason = f"could not start: {message.reason}"
                    case Orders() | Probe():
                        reason = "spoke out of turn"
                        self.signal(signal.SIGKILL)
        finally:
            starting.cancel()
            self._channel = None
            await channel.close()
        return reason


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
