"""Connections to checked addresses only. Contract: spooled-tenancy 10.8.

A name is resolved once, every address that it resolves to is checked, and the connection is made to one of those.
Nothing between the check and the connection looks at the name again; TLS and the Host header still use it.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore2

from millstream.domain.webhook_url import LOCAL_ADDRESSES, LOCAL_HOSTS, Address, is_public
from millstream.outbound.stream import DirectNetwork

# Look-ups are blocking calls of the C library, seconds long when a name server is away: in threads of their own they
# hold up nothing else.
RESOLVER_THREADS = 16

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""Returns the addresses of a host, in the order in which they are to be tried."""

_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class RefusedAddress(Exception):
    """The host is, or is also, at an address that must not be called"""


class Resolver:
    """Resolves names as the system does."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return the addresses of `host`. Raises OSError when it has none."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        # The address as it is, with its zone if it has one.
        return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Let the threads go; a look-up that hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to hosts of the public internet, and to receivers on this machine where they are meant.

    That they are meant is the address's text to say (`http://localhost`), which is checked before: no other text
    that names these hosts gets here. `dial` makes the connection to an address.
    """

    def __init__(self, resolve: Resolve, dial: httpcore2.AsyncNetworkBackend | None = None) -> None:
        self._resolve = resolve
        self._dial = dial or DirectNetwork()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the host's addresses. Raises RefusedAddress, or the library's ConnectError."""
        deadline = time.monotonic() + (timeout or 0.0)
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError from error
        failure: Exception = httpcore2.ConnectError()
        for address in checked(host, addresses):
            left = None if timeout is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                return await self._dial.connect_tcp(
                    str(address), port, left, local_address=local_address, socket_options=socket_options
                )
            except httpcore2.ConnectError as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[_SocketOption] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: nothing that users name is a file."""
        raise RefusedAddress

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await asyncio.sleep(seconds)


def checked(host: str, addresses: Sequence[Address]) -> Sequence[Address]:
    """Return `addresses` in the order of trying. Raises RefusedAddress if any of them must not be called."""
    if host in LOCAL_HOSTS:
        if any(address not in LOCAL_ADDRESSES for address in addresses):
            raise RefusedAddress
        return sorted(addresses, key=lambda address: address.version)
    if not all(is_public(address) for address in addresses):
        raise RefusedAddress
    return addresses
