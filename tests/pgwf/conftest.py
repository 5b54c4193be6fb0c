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


@pytest.fixture(scope="session")
def shared_flow(shared_dsn: str) -> Iterator[Flow]:
    """An installation that tests share one after the other."""
    opened = Flow(shared_dsn, f"flow_{secrets.token_hex(6)}")
    yield opened
    opened.close()


@pytest.fixture
def emptied(shared_flow: Flow) -> Flow:
    """The shared installation without jobs, and with the switches as they come."""
    shared_flow.rows("truncate pgwf.jobs, pgwf.jobs_archive, pgwf.jobs_trace")
    shared_flow.rows(
        "select pgwf.set_trace(true), pgwf.set_notify(false), pgwf.set_crash_concern_threshold(5)"
    )
    return shared_flow
