"""Requests written to the socket byte by byte, for what no HTTP client would send."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from tests.api.spooled.wire import Api


def connect(api: Api) -> socket.socket:
    address = urlsplit(api.url)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=60)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status of the one answer on the connection and all that came; 0 when it was closed without one."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
            head, separator, body = received.partition(b"\r\n\r\n")
            if separator and complete(head, body):
                break
    except ConnectionError:
        pass
    if not received.startswith(b"HTTP/1.1 "):
        return 0, received
    return int(received.split(b" ", 2)[1]), received


def complete(head: bytes, body: bytes) -> bool:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return b"transfer-encoding: chunked" in head.lower() and body.endswith(b"0\r\n\r\n")


def exchange(api: Api, *lines: str | bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Send exactly these lines and read the answer."""
    sent = [line if isinstance(line, bytes) else line.encode() for line in lines]
    sent += [f"Host: {urlsplit(api.url).netloc}".encode(), f"Authorization: Bearer {api.api_key}".encode()]
    with connect(api) as connection:
        connection.sendall(b"\r\n".join(sent) + b"\r\n\r\n" + body)
        return read_answer(connection)
