"""Requests with invented API keys at a fixed rate, whatever the server answers."""

import asyncio
import secrets
from time import perf_counter

from millstream.cli.bench.connection import Recorder
from millstream.cli.bench.http_request import Endpoint, RequestBuilder
from millstream.cli.bench.http_response import ResponseError, ResponseParser
from millstream.cli.bench.plan import FloodLoad

_READ_BYTES = 64 * 1024


class FloodWorkload:
    """`connections` senders that share a timetable: each takes its next place in it, early enough or late."""

    def __init__(self, plan: FloodLoad) -> None:
        self._plan = plan
        self._senders: list[_Sender] = []
        self._places = 0

    async def prepare(self) -> None:
        """Connect."""
        endpoint = Endpoint(self._plan.host, self._plan.port, "")
        self._senders = [_Sender(endpoint) for _ in range(self._plan.connections)]
        for sender in self._senders:
            await sender.open()

    async def run(self, seconds: float, recorder: Recorder) -> None:
        """Send for `seconds`; an item is a request that was refused as it should be."""
        self._places = 0
        started_at = perf_counter()
        await asyncio.gather(*(self._send(sender, started_at, seconds, recorder) for sender in self._senders))

    async def close(self) -> None:
        """Hang up."""
        for sender in self._senders:
            sender.close()

    async def _send(self, sender: "_Sender", started_at: float, seconds: float, recorder: Recorder) -> None:
        while True:
            place = self._places / self._plan.per_second
            if place >= seconds or perf_counter() - started_at >= seconds:
                return
            self._places += 1
            await asyncio.sleep(max(0.0, started_at + place - perf_counter()))
            sent_at = perf_counter()
            try:
                status = await sender.ask()
            except (OSError, ResponseError) as error:
                recorder.failed(f"flood: {error}")
                await sender.open()
                continue
            recorder.latencies["flood"].record(perf_counter() - sent_at)
            if status in {401, 429}:
                recorder.items += 1
            else:
                recorder.failed(f"flood: status {status} for an invented key")


class _Sender:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._parser = ResponseParser()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        self.close()
        self._parser = ResponseParser()
        self._streams = await asyncio.open_connection(self._endpoint.host, self._endpoint.port)

    async def ask(self) -> int:
        """Send one request with a key that nobody has; return the status."""
        assert self._streams is not None
        reader, writer = self._streams
        endpoint = self._endpoint._replace(api_key=f"sk_live_{secrets.token_urlsafe(32)}")
        writer.write(RequestBuilder(endpoint).get("/api/v1/jobs/stats"))
        while data := await reader.read(_READ_BYTES):
            response = self._parser.feed(data)
            if response is not None:
                return response.status
        raise ResponseError("the connection ended before the response did")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
