"""An HTTP server that gives prepared answers: the ones a healthy server gives too rarely to wait for."""

import asyncio
from dataclasses import dataclass, field

from tests.client_sdk.listener import Listener


@dataclass(frozen=True)
class Answer:
    """One answer; without a status the connection is closed instead."""

    status: int | None = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class ScriptedServer(Listener):
    """Gives `answers` in order, the last one for ever, and remembers the requests."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, bytes]] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append((lines[0].removesuffix(" HTTP/1.1"), body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer.status is None:
                return
            writer.write(_rendered(answer))
            await writer.drain()


def _rendered(answer: Answer) -> bytes:
    headers = {
        "content-type": "application/json",
        "content-length": str(len(answer.body)),
        **answer.headers,
    }
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body
