"""A live server and a caller of it, for the suites of bad input."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.spooled.wire import Api, LiveServer, a_queue


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=40) as client:
        yield client


@pytest.fixture(scope="module")
def api(http: httpx2.Client, server: LiveServer) -> Iterator[Api]:
    """A caller whose server is seen to work when all of the module's input has gone in."""
    caller = Api(http, server.url, server.api_key)
    yield caller
    assert caller.job(caller.enqueue(a_queue(), "still here"))["payload"] == "still here"
