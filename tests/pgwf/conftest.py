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


@pytest.fixture(scope="session")
def shared_schema(shared_dsn: str) -> str:
    """An installation that the tests of a process share, one after the other."""
    flow = Flow.installed(shared_dsn)
    flow.close()
    return flow.schema


@pytest.fixture
def flow(shared_dsn: str, shared_schema: str) -> Iterator[Flow]:
    """An installation as if it were fresh, and a session on it."""
    opened = Flow(shared_dsn, shared_schema)
    opened.rows("truncate pgwf.jobs, pgwf.jobs_archive, pgwf.jobs_trace")
    opened.rows("select pgwf.set_trace(true), pgwf.set_notify(false), pgwf.set_crash_concern_threshold(5)")
    yield opened
    opened.close()


@pytest.fixture
def own_flow(shared_dsn: str) -> Iterator[Flow]:
    """An installation of the test's own, which it may change, and a session on it."""
    opened = Flow.installed(shared_dsn)
    yield opened
    opened.close()
