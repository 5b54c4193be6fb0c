"""Request bytes, built once and sent many times."""

from typing import NamedTuple
from urllib.parse import urlsplit


class Endpoint(NamedTuple):
    """Where the load goes and with which key."""

    host: str
    port: int
    api_key: str

    @classmethod
    def parse(cls, url: str, api_key: str) -> "Endpoint":
        """Take apart `http://host[:port]`. Raises ValueError for another scheme, a missing host or a path."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"the server's URL must look like http://host:port, not {url!r}")
        return cls(parts.hostname, parts.port or 80, api_key)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class RequestBuilder:
    """Prepares requests to one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._head = (
            f" HTTP/1.1\r\nhost: {endpoint.host}:{endpoint.port}\r\n"
            f"authorization: Bearer {endpoint.api_key}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()

    def post(self, path: str, body: bytes) -> bytes:
        """Bytes of `POST path` with a JSON body; `path` is already percent-encoded."""
        return b"POST %b%b%d\r\n\r\n%b" % (path.encode(), self._head, len(body), body)

    def get(self, path: str) -> bytes:
        """Bytes of `GET path`; `path` is already percent-encoded."""
        return b"GET %b%b0\r\n\r\n" % (path.encode(), self._head)
