"""A tenant at work on an engine of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine, open_engine
from millstream.store import installation
from millstream.store.database import Database
from tests.engine.work import Work
from tests.receiver import Receiver, listening


@pytest.fixture
def work(engine: Engine, principal: Principal, clock: SteeredClock) -> Work:
    """A tenant with the top plan, under a steered clock."""
    return Work(engine, principal, clock)


@pytest.fixture
async def second_engine(database_dsn: str, clock: SteeredClock) -> AsyncIterator[Engine]:
    """Another engine on the same database, with connections of its own: what a second process is."""
    database = await Database.open(database_dsn, min_size=1, max_size=10)
    opened = await open_engine(
        database, direct=lambda: installation.direct_session(database_dsn), clock=clock
    )
    yield opened
    await opened.close()
    await database.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks that is content with everything."""
    with listening() as opened:
        yield opened
