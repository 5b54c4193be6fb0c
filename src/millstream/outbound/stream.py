"""Connections of the event loop itself, as the HTTP library wants them."""

import asyncio
import select
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import cast

import httpcore2

# What is read ahead of whoever takes it, and what is gathered before it is sent.
BUFFERED_BYTES = 64 * 1024

_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class DirectNetwork(httpcore2.AsyncNetworkBackend):
    """Connects as the event loop does.

    The library's own way goes through a layer that serves other event loops as well and costs a third of a short
    request.
    """

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect. Raises the library's ConnectError or ConnectTimeout."""
        loop = asyncio.get_running_loop()
        async with _connecting(timeout):
            _, stream = await loop.create_connection(DirectStream, host, port)
        return stream

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[_SocketOption] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: nobody is called that way."""
        raise httpcore2.UnsupportedProtocol

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await asyncio.sleep(seconds)


class DirectStream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One connection. What is written leaves with the next read: head and body of a short request as one packet."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._unsent = bytearray()
        self._received = bytearray()
        self._ended = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What the library calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, or nothing after the end. Raises the library's ReadTimeout."""
        self._send()
        try:
            async with asyncio.timeout(timeout):
                while not self._received and not self._ended:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise httpcore2.ReadTimeout from error
        taken = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if self._transport is not None and not self._ended and len(self._received) < BUFFERED_BYTES:
            self._transport.resume_reading()
        return taken

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Take what is to be sent. Raises the library's WriteTimeout."""
        self._unsent += buffer
        if len(self._unsent) < BUFFERED_BYTES:
            return
        self._send()
        try:
            async with asyncio.timeout(timeout):
                await self._writable.wait()
        except TimeoutError as error:
            raise httpcore2.WriteTimeout from error

    async def aclose(self) -> None:
        """Close, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Go on under TLS. Raises the library's ConnectError or ConnectTimeout."""
        assert self._transport is not None
        plain = self._transport
        try:
            async with _connecting(timeout):
                self._transport = cast(
                    "asyncio.Transport",
                    await asyncio.get_running_loop().start_tls(
                        plain, self, ssl_context, server_hostname=server_hostname
                    ),
                )
        except BaseException:
            plain.abort()
            raise
        return self

    def get_extra_info(self, info: str) -> object:
        """Return what the library asks for: the TLS side, and whether there is anything to read (as after the end)."""
        if info == "is_readable":
            return self._ended or bool(self._received) or self._is_socket_readable()
        if info == "ssl_object" and self._transport is not None:
            return self._transport.get_extra_info("ssl_object")
        return None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._changed.set()
        if len(self._received) >= BUFFERED_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._ended = True
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _is_socket_readable(self) -> bool:
        # The loop may not have heard yet that the receiver has closed.
        if self._transport is None:
            return False
        looking = select.poll()
        looking.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(looking.poll(0))

    def _send(self) -> None:
        if self._unsent and self._transport is not None and not self._ended:
            self._transport.write(bytes(self._unsent))
        self._unsent.clear()


@asynccontextmanager
async def _connecting(timeout: float | None) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout from error
    except (OSError, ssl.SSLError) as error:
        raise httpcore2.ConnectError from error
