"""A receiver of webhooks on this machine, as users write them: the standard library's HTTP server in a thread."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request: `headers` by their lower-case names, `body` as the bytes that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def event(self) -> str:
        return self.headers["x-spooled-event"]

    @property
    def delivery_id(self) -> str:
        return self.headers["x-spooled-delivery-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["x-spooled-delivery-attempt"])

    def is_signed_with(self, secret: str) -> bool:
        message = self.headers["x-spooled-timestamp"].encode() + b"." + self.body
        expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
        return self.headers.get("x-spooled-signature") == f"sha256={expected}"


@dataclass
class Receiver:
    """Answers `status` with `answer` and keeps what came; `respond` takes over the whole answer if it is set."""

    port: int = 0
    status: int = 200
    answer: bytes = b"thanks"
    headers: dict[str, str] = field(default_factory=dict)
    respond: Callable[[BaseHTTPRequestHandler], None] | None = None
    received: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    most_at_once: int = 0
    at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def events(self) -> list[str]:
        return [request.event for request in self.received]

    def wait(self, count: int, *, seconds: float = 30) -> list[Received]:
        """Return what came, once there were so many."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while len(self.received) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.received)} of {count} requests came: {self.events()}"
                self.changed.wait(left)
            return list(self.received)

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        assert "transfer-encoding" not in handler.headers
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self.changed:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.received.append(Received(handler.path, headers, body))
            self.changed.notify_all()
        try:
            (self.respond or self._respond)(handler)
        finally:
            with self.changed:
                self.at_once -= 1

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(self.answer)))
        handler.end_headers()
        handler.wfile.write(self.answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        # A sender that hangs up is nothing to print.
        return


@contextmanager
def listening(port: int = 0) -> Generator[Receiver]:
    """Run a receiver, on a free port unless one is given."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.take(self)

        def do_GET(self) -> None:
            receiver.received.append(Received(self.path, {"x-spooled-event": "GET"}, b""))
            self.send_error(404)

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return

    with _Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
