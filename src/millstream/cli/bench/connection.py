"""One keep-alive connection in a closed loop: request, answer, next request, until the deadline."""

import asyncio
from collections import defaultdict
from time import perf_counter
from typing import cast

from millstream.cli.bench.conversation import Conversation
from millstream.cli.bench.histogram import LatencyHistogram
from millstream.cli.bench.http_response import ResponseError, ResponseParser
from millstream.cli.bench.unexpected_answer import UnexpectedAnswer

# A connection that only gets errors has shown what it can; going on would measure the error path.
_ERRORS_MAX = 100
_ERROR_EXAMPLES_MAX = 5


class Recorder:
    """What the connections of one process saw since the phase began."""

    def __init__(self) -> None:
        self.items = 0
        self.errors = 0
        self.error_examples: list[str] = []
        self.latencies: defaultdict[str, LatencyHistogram] = defaultdict(LatencyHistogram)

    def failed(self, reason: str) -> None:
        """Count an error and keep the first few reasons."""
        self.errors += 1
        if len(self.error_examples) < _ERROR_EXAMPLES_MAX:
            self.error_examples.append(reason)


class Connection(asyncio.Protocol):
    """Speaks one conversation. Plain callbacks, no task per connection: at tens of thousands of requests a
    second the generator shares two cores with what it measures.
    """

    def __init__(self, conversation: Conversation, host: str, port: int) -> None:
        self._conversation = conversation
        self._address = (host, port)
        self._transport: asyncio.Transport | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._recorder = Recorder()
        self._parser = ResponseParser()
        self._awaiting = False
        # Sockets closed from this side whose `connection_lost` is still to come: it must not be taken for the
        # loss of their successor.
        self._closing = 0
        self._sent_at = 0.0
        self._deadline = 0.0
        self._errors = 0

    async def open(self) -> None:
        """Connect. Raises OSError when the server cannot be reached."""
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    async def run(self, deadline: float, recorder: Recorder) -> None:
        """Talk until `deadline` (of `perf_counter`) or until the conversation ends; the last answer is awaited."""
        self._recorder = recorder
        self._deadline = deadline
        self._idle = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._reopen()
        else:
            self._send_next(perf_counter())
        await self._idle

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._closing += 1
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have asyncio's methods but not its base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            response = self._parser.feed(data)
        except ResponseError as error:
            self._broken(str(error))
            return
        if response is None:
            return
        now = perf_counter()
        self._awaiting = False
        recorder = self._recorder
        recorder.latencies[self._conversation.operation].record(now - self._sent_at)
        try:
            recorder.items += self._conversation.answered(response.status, response.body)
        except UnexpectedAnswer as error:
            self._count_error(f"{self._conversation.operation}: {error}")
        if response.keep_alive:
            self._send_next(now)
        else:
            self._reopen()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing:
            self._closing -= 1
            return
        self._transport = None
        if self._awaiting:
            self._broken(f"the server closed the connection before it answered ({exc or 'no error'})")

    def _send_next(self, now: float) -> None:
        if now >= self._deadline or self._errors >= _ERRORS_MAX:
            self._finish()
            return
        if self._transport is None:
            self._reopen()
            return
        request = self._conversation.next_request()
        if request is None:
            self._finish()
            return
        self._sent_at = now
        self._awaiting = True
        self._transport.write(request)

    def _finish(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _count_error(self, reason: str) -> None:
        self._errors += 1
        self._recorder.failed(reason)

    def _broken(self, reason: str) -> None:
        self._awaiting = False
        self._count_error(reason)
        self._reopen()

    def _reopen(self) -> None:
        self.close()
        self._parser = ResponseParser()
        self._reopening = asyncio.get_running_loop().create_task(self._open_and_go_on())

    async def _open_and_go_on(self) -> None:
        try:
            await self.open()
        except OSError as error:
            self._count_error(f"cannot connect: {error}")
            self._finish()
            return
        self._send_next(perf_counter())
