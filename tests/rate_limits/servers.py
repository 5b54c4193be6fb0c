"""Servers that limit requests, tenants of theirs, and callers from addresses of their own."""

import itertools
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from millstream.cli.embedded_database import find_dsn
from millstream.store import installation
from tests.cli.server_process import ServerProcess
from tests.live_tenants import LiveTenant, making_tenants

ADDRESS_BURST = 20
LIMITED = {
    "MILLSTREAM_RATE_LIMIT_ENABLED": "true",
    # So slow that nothing comes back during a test.
    "RATE_LIMIT_REQUESTS_PER_SECOND": "1",
    "RATE_LIMIT_BURST": str(ADDRESS_BURST),
}

# Every loopback address is a machine of its own to the server.
_ADDRESSES = itertools.count(2)


@contextmanager
def running(environment: Mapping[str, str] = LIMITED, *arguments: str) -> Generator[ServerProcess]:
    """A server on a data directory of its own."""
    with tempfile.TemporaryDirectory(prefix="millstream-test-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        server = ServerProcess(directory / "data", directory / "log", arguments, environment)
        try:
            yield server.wait_ready()
        finally:
            code = server.stop()
        assert code == 0, server.log.read_text()


def make_tenant(
    server: ServerProcess, *, plan_tier: str = "free", rate_limit: int | None = None
) -> LiveTenant:
    """A fresh tenant of the server, whose key may have a limit of its own."""
    dsn = find_dsn(server.data_dir, user=installation.EMBEDDED_LOGIN)
    assert dsn is not None

    with making_tenants(server.url, dsn) as maker:
        return maker.make(plan_tier, rate_limit=rate_limit)


@contextmanager
def calling(url: str, api_key: str | None = None) -> Generator[httpx2.Client]:
    """A caller of the API from an address that no other caller has."""
    number = next(_ADDRESSES)
    transport = httpx2.HTTPTransport(local_address=f"127.0.{number // 250}.{number % 250 + 1}")
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    with httpx2.Client(base_url=f"{url}/api/v1", headers=headers, transport=transport, timeout=40) as client:
        yield client


def rate(response: httpx2.Response) -> tuple[int, int, str]:
    """Limit, remaining and scope, as an answer names them."""
    headers = response.headers
    return (
        int(headers["x-ratelimit-limit"]),
        int(headers["x-ratelimit-remaining"]),
        headers["x-ratelimit-scope"],
    )


def is_limited(response: httpx2.Response) -> bool:
    """Whether this is the refusal of a request too many, complete in every part."""
    if response.status_code != 429:
        return False
    body = response.json()
    assert (body["code"], body["error"]) == ("RATE_LIMIT_EXCEEDED", "rate_limit_exceeded")
    assert body["message"]
    wait = int(response.headers["retry-after"])
    assert wait >= 1
    assert body["details"] == {"retry_after_seconds": wait}
    # These three together would make clients take it for a quota.
    assert not {"resource", "limit", "plan"} <= set(body)
    assert rate(response)[1] == 0
    return True
