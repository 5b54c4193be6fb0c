"""Listening sockets, opened before anything else starts, so that a taken port costs nobody a minute."""

import errno
import socket

from millstream.domain.errors import MillstreamError


class CannotListen(MillstreamError):
    """The address cannot be listened on"""

    def __init__(self, host: str, port: int, reason: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"cannot listen on {authority(host, port)}: {reason}")


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind every address of `host` to one port (0: a free one) without listening yet.

    Raises CannotListen.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            bound = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(bound)
            # A restart must not wait for the last run's connections to leave TIME_WAIT.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # The first address chooses the free port, the others follow it.
            bound.bind((address, port or (port_of(sockets) if len(sockets) > 1 else 0)))
    except OSError as error:
        close_all(sockets)
        raise _explained(host, port, error) from error
    return sockets


def port_of(sockets: list[socket.socket]) -> int:
    """Return the port that `sockets` share."""
    return int(sockets[0].getsockname()[1])


def close_all(sockets: list[socket.socket]) -> None:
    """Close this process's hold on `sockets`."""
    for held in sockets:
        held.close()


def authority(host: str, port: int) -> str:
    """Write `host` and `port` as a URL does."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, port: int) -> str:
    """Return the URL at which a program on this machine reaches a listener bound to `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{authority(reachable, port)}"


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _explained(host, port, error) from error
    pairs = [(family, str(address[0])) for family, _, _, _, address in found]
    # A name may stand for an IPv6 address on a machine without IPv6: one address that works is enough.
    usable = [pair for pair in dict.fromkeys(pairs) if len(pairs) == 1 or _exists(*pair)]
    return usable or pairs[:1]


def _exists(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _explained(host: str, port: int, error: OSError) -> CannotListen:
    if isinstance(error, socket.gaierror):
        return CannotListen(host, port, "the host is not known", "Give --host an address of this machine.")
    if error.errno == errno.EADDRINUSE:
        return CannotListen(
            host,
            port,
            "the port is taken",
            "Stop what listens there, or choose another port (0: a free one).",
        )
    if error.errno == errno.EACCES:
        return CannotListen(host, port, "permission denied", "Choose a port above 1023.")
    return CannotListen(
        host, port, (error.strerror or str(error)).lower(), "Give --host an address of this machine."
    )
