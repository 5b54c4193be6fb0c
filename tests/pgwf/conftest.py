import secrets
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import TEMPLATE, Cluster
from tests.pgwf.flow import Flow


@pytest.fixture(scope="session")
def shared_dsn(cluster: Cluster) -> str:
    """One database for all tests of a process: each installs under a name of its own."""
    with psycopg.connect(cluster.template_dsn, autocommit=True) as connection:
        connection.execute("create database workflows template template0")
    return cluster.template_dsn.replace(TEMPLATE, "workflows")


@pytest.fixture
def flow(shared_dsn: str) -> Iterator[Flow]:
    """A fresh installation and a session on it."""
    opened = Flow(shared_dsn, f"flow_{secrets.token_hex(6)}")
    yield opened
    opened.close()
