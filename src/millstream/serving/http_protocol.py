"""uvicorn's HTTP protocol, with a way to answer in one piece.

ASGI sends an answer as a list of headers and then a body: a check of each header and two writes to the socket.
Measured on `jobs-create`, that was a quarter of the server's time. An application that finds the extension
`millstream.answer` in its scope may call it once, instead of `send`, with the answer as the bytes of the wire.
"""

from collections.abc import Callable

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

ANSWER = "millstream.answer"

_CLOSE = b"connection: close\r\n"


class HttpProtocol(HttpToolsProtocol):
    """Offers every request the extension `millstream.answer`."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.scope["extensions"] = {ANSWER: self._answer_of(cycle)}
        super()._start_asgi_task(cycle, app)

    def _answer_of(self, cycle: RequestResponseCycle) -> Callable[[bytes, bytes], None]:
        def answer(head: bytes, body: bytes) -> None:
            """Write status line and headers (`head`, each line ended) and the body; the blank line is added here."""
            if cycle.disconnected:
                return
            cycle.response_started = True
            cycle.waiting_for_100_continue = False
            defaults = b"".join(
                [b"%b: %b\r\n" % (name, value) for name, value in self.server_state.default_headers]
            )
            closing = b"" if cycle.keep_alive else _CLOSE
            self.transport.write(b"%b%b%b\r\n%b" % (head, defaults, closing, body))
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:
                self.transport.close()
            cycle.on_response()

        return answer
