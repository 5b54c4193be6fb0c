"""uvicorn's HTTP protocol with less to do per request, and with an eye on request heads that never arrive.

* ASGI sends an answer as a list of headers and then a body: a check of each header and two writes to the socket,
  a quarter of the server's time on `jobs-create`. An application that finds `millstream.answer` among the
  extensions of its scope may call it once, instead of `send`, with the answer as bytes of the wire. It returns
  False when the client has gone.
* A timer is set and cancelled per request for the keep-alive limit. Here each connection notes since when it
  waits, and the server looks at all of them every few seconds.
"""

from typing import cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

WHOLE_ANSWER = "millstream.answer"
# What slow but honest clients get to send the head of a request.
HEAD_SECONDS_MAX = 30.0

_CLOSE = b"connection: close\r\n"


class HttpProtocol(HttpToolsProtocol):
    """One connection. `close_if_overdue` is called for it from time to time."""

    _waiting_since = 0.0
    _head_began = False
    _is_waiting = True
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
        """Close a connection that has been idle, or in the middle of a request's head, for too long."""
        if self._is_waiting and not self.transport.is_closing():
            seconds = HEAD_SECONDS_MAX if self._head_began else self.timeout_keep_alive
            if now - self._waiting_since > seconds:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Note that a head has begun, from when on it has a time of its own to end."""
        super().on_message_begin()
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
