"""uvicorn's HTTP protocol with less to do per request, and with an eye on clients that neither ask nor read.

* ASGI sends an answer as a list of headers and then a body: a check of each header and two writes to the socket,
  a quarter of the server's time on `jobs-create`. An application that finds `millstream.answer` among the
  extensions of its scope may call it once, instead of `send`, with the answer as bytes of the wire. It returns
  False when the client has gone.
* A timer is set and cancelled per request for the keep-alive limit. Here each connection notes since when it
  waits, and the server looks at all of them every few seconds.
"""

from typing import cast

import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from millstream.domain import limits
from millstream.domain.errors import BadRequest
from millstream.domain.problems import problem_of

WHOLE_ANSWER = "millstream.answer"
# What slow but honest clients get to send the head of a request.
HEAD_SECONDS_MAX = 30.0

_CLOSE = b"connection: close\r\n"


class HttpProtocol(HttpToolsProtocol):
    """One connection. `close_if_overdue` is called for it from time to time."""

    _waiting_since = 0.0
    _head_began = False
    _is_silent = True
    _is_waiting = True
    _unread_bytes = 0
    _unread_since = 0.0
    _is_held = False
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: object) -> None:
        """Note the connection; it waits for its first request."""
        extensions: dict[str, dict[object, object]] = {}
        cast("dict[str, object]", extensions)[WHOLE_ANSWER] = self._answer
        self._extensions = extensions
        super().connection_made(transport)  # pyright: ignore[reportArgumentType] - uvicorn narrows asyncio's type
        self._waiting_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client has gone, also when the request under way is not the last one it sent."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
        super().connection_lost(exc)

    def close_if_overdue(self, now: float) -> None:
        """Close a connection that has been silent, idle, in the middle of a head, or left unread for too long."""
        if self._is_left_unread(now):
            # Closing it would wait for the rest to be read.
            self.transport.abort()
        elif (
            self._is_waiting
            and not self.transport.is_closing()
            and now - self._waiting_since > self._patience_seconds()
        ):
            self.transport.close()

    def _patience_seconds(self) -> float:
        if self._head_began:
            return HEAD_SECONDS_MAX
        return limits.SILENT_CONNECTION_SECONDS_MAX if self._is_silent else self.timeout_keep_alive

    def _is_left_unread(self, now: float) -> bool:
        """Tell whether the client has read next to nothing of what waits for it, since it was last seen to read."""
        unread_bytes = self.transport.get_write_buffer_size()
        has_read = unread_bytes <= self._unread_bytes - limits.UNREAD_ANSWER_BYTES_MIN
        if not unread_bytes or not self._unread_bytes or has_read:
            self._unread_bytes = unread_bytes
            self._unread_since = now
            return False
        self._unread_bytes = max(self._unread_bytes, unread_bytes)
        return now - self._unread_since > limits.UNREAD_ANSWER_SECONDS_MAX

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read as a request, in the form that every dialect's clients read."""
        problem = problem_of(BadRequest)
        body = msgspec.json.encode(
            {"code": problem.code, "message": msg, "error": problem.error, "status": problem.http_status}
        )
        status_line = b"HTTP/1.1 400 Bad Request\r\n"
        head = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n" % (status_line, len(body))
        defaults = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        self.transport.write(b"%b%b%b\r\n%b" % (head, defaults, _CLOSE, body))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Note that a head has begun, from when on it has a time of its own to end."""
        super().on_message_begin()
        self._is_silent = False
        self._head_began = True
        self._waiting_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Note that the head is complete; the body's time is the application's to limit."""
        self._head_began = False
        self._is_waiting = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Go on with the next pipelined request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            # Whoever sends requests without reading answers waits for itself, and costs no more memory.
            self._is_held = True
            self.flow.pause_reading()
            return
        self._go_on()

    def resume_writing(self) -> None:
        """Go on with a connection whose client has read enough of its answers."""
        super().resume_writing()
        if self._is_held and not self.transport.is_closing():
            self._is_held = False
            self._go_on()

    def _go_on(self) -> None:
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._is_waiting = True
            self._waiting_since = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # One callable for all requests of the connection: one each would tie every request into a reference cycle.
        self._answering = cycle
        cycle.scope["extensions"] = self._extensions
        super()._start_asgi_task(cycle, app)

    def _answer(self, head: bytes, body: bytes) -> bool:
        # `head` is the status line and header lines; what the server adds and the blank line follow here.
        cycle = self._answering
        if cycle is None or cycle.disconnected:
            return False
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        if cycle.scope["method"] == "HEAD":
            body = b""
        defaults = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        self.transport.write(b"%b%b%b\r\n%b" % (head, defaults, b"" if cycle.keep_alive else _CLOSE, body))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True
