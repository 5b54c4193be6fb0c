import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.docs.page_runner import Surroundings, surroundings_of


class LiveServer(Protocol):
    url: str
    metrics_url: str
    data_dir: Path


@pytest.fixture
def surroundings(server: LiveServer) -> Iterator[Surroundings]:
    """A fresh directory beside the live server's data."""
    # PostgreSQL, which an example may start, runs as another user when the tests run as root.
    within = "/tmp" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="millstream-test-", dir=within) as made:
        place = Path(made)
        place.chmod(0o711)
        yield surroundings_of(place, url=server.url, metrics_url=server.metrics_url, data_dir=server.data_dir)
