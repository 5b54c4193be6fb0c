"""A caller with a transaction of its own, beside an engine."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine
from tests.conftest import Cluster
from tests.engine.work import Work

LOGIN = "millstream_test_caller"


@pytest.fixture(scope="session")
def caller_login(cluster: Cluster) -> str:
    """A role that may make inline calls, and nothing else."""
    with psycopg.connect(cluster.superuser_dsn, autocommit=True) as connection:
        connection.execute(f"create role {LOGIN} login")
        connection.execute(f"grant millstream_inline to {LOGIN}")
    return LOGIN


@pytest.fixture
def caller_dsn(caller_login: str, database_dsn: str) -> str:
    return _as_user(database_dsn, caller_login)


@pytest.fixture
def connection(caller_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(caller_dsn) as opened:
        yield opened


@pytest.fixture
def other_connection(caller_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(caller_dsn) as opened:
        yield opened


@pytest.fixture
def clock() -> SteeredClock:
    """A clock that agrees with the caller's: inline calls know only the database's."""
    return SteeredClock(datetime.now(UTC))


@pytest.fixture
def work(engine: Engine, principal: Principal, clock: SteeredClock) -> Work:
    """The tenant that inline calls are for: the first one."""
    return Work(engine, principal, clock)


@pytest.fixture
def cluster_stranger(cluster: Cluster, database_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection as a role that was granted nothing."""
    with psycopg.connect(cluster.superuser_dsn, autocommit=True) as connection:
        connection.execute("drop role if exists millstream_test_stranger")
        connection.execute("create role millstream_test_stranger login")
    with psycopg.connect(_as_user(database_dsn, "millstream_test_stranger")) as opened:
        yield opened


def _as_user(dsn: str, user: str) -> str:
    return dsn.replace("://millstream@", f"://{user}@")
