"""A tenant at work, as the engine's tests have it."""

import pytest

from millstream.domain.clock import SteeredClock
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine
from tests.engine.work import Work


@pytest.fixture
def work(engine: Engine, principal: Principal, clock: SteeredClock) -> Work:
    """A tenant with the top plan, under a steered clock."""
    return Work(engine, principal, clock)
