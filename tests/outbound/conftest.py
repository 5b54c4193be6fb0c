"""An internet of the tests' own: names that resolve as told, public addresses that lead to ports of this machine."""

import ipaddress
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpcore2
import pytest

from millstream.domain.webhook_url import Address
from millstream.outbound.client import WebhookClient
from millstream.outbound.network import GuardedNetwork
from millstream.outbound.stream import DirectNetwork


@dataclass
class Internet(httpcore2.AsyncNetworkBackend):
    """`names` resolve in order, one answer a look-up, the last one again; `ports` are where addresses lead."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    looked_up: list[str] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        self.looked_up.append(host)
        answers = self.names.get(host)
        if answers is None:
            return [ipaddress.ip_address(host)]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(text) for text in found]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.dialled.append(host)
        if host not in self.ports:
            raise httpcore2.ConnectError
        return await DirectNetwork().connect_tcp("127.0.0.1", self.ports[host], timeout)

    def client(self, trust: ssl.SSLContext | None = None) -> WebhookClient:
        return WebhookClient(local_http=True, network=GuardedNetwork(self.resolve, self), trust=trust)


@pytest.fixture
def internet() -> Internet:
    return Internet()


@dataclass(frozen=True)
class Identity:
    """A certificate of `hooks.example`, and a trust in it."""

    server: ssl.SSLContext
    trust: ssl.SSLContext


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    place: Path = tmp_path_factory.mktemp("identity")
    certificate, key = place / "certificate.pem", place / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return Identity(server, ssl.create_default_context(cafile=str(certificate)))


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    """The client as a development server has it, on the real network."""
    opened = WebhookClient(local_http=True)
    yield opened
    await opened.close()
