import asyncio

from millstream import AsyncClient, RunningJob
from millstream.client.worker.dispatcher import Dispatcher
from millstream.client.worker.settlement import Settler


async def _idle(_: RunningJob) -> None:
    return None


async def test_a_claim_that_brings_nothing_makes_room_for_the_others() -> None:
    async with AsyncClient() as client:
        settler = Settler(client, "w", lease_seconds=30)
        dispatcher = Dispatcher(
            client, _idle, settler, "w", asyncio.Event(), concurrency=10, prefetch=20, lease_seconds=30
        )
        assert dispatcher.wanted() == 10
        dispatcher.reserve(10)
        assert dispatcher.wanted() == 0
        dispatcher.room.clear()

        dispatcher.release(10)

        assert dispatcher.room.is_set()
        assert dispatcher.wanted() == 10


async def test_nothing_is_wanted_once_the_worker_stops() -> None:
    async with AsyncClient() as client:
        stop = asyncio.Event()
        settler = Settler(client, "w", lease_seconds=30)
        dispatcher = Dispatcher(
            client, _idle, settler, "w", stop, concurrency=200, prefetch=0, lease_seconds=30
        )
        assert dispatcher.wanted() == 100

        stop.set()

        assert dispatcher.wanted() == 0
