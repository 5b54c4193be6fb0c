"""What was promised to a webhook arrives although the server is killed, under the id that it was promised by."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from threading import Event

import asyncpg
import httpx2
import pytest

from tests.chaos.conftest import ChaosServer
from tests.receiver import Receiver, listening

# Longer than the quick suite has time for.
pytestmark = pytest.mark.slow

Start = Callable[..., ChaosServer]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as opened:
        yield opened


def client_of(server: ChaosServer) -> httpx2.Client:
    return httpx2.Client(base_url=f"{server.url}/api/v1", headers=server.headers, timeout=30)


def complete_one(client: httpx2.Client, **options: object) -> str:
    """Enqueue, claim and complete a job; returns its id."""
    client.post("/jobs", json={"queue_name": "q", "payload": {}, **options}).raise_for_status()
    claim = client.post("/jobs/claim", json={"queue_name": "q", "worker_id": "w"}).raise_for_status()
    [job] = claim.json()["jobs"]
    body = {"worker_id": "w", "lease_id": job["lease_id"]}
    client.post(f"/jobs/{job['id']}/complete", json=body).raise_for_status()
    return job["id"]


async def noted_ids(server: ChaosServer) -> list[str]:
    connection = await asyncpg.connect(server.dsn)
    try:
        rows = await connection.fetch("select id::text from millstream.outgoing_deliveries order by id")
    finally:
        await connection.close()
    return [row["id"] for row in rows]


async def test_a_completion_that_nobody_had_been_told_of_is_told_after_the_restart(start: Start) -> None:
    with listening() as gone:
        port = gone.port
    server = start()
    with client_of(server) as client:
        url = f"http://127.0.0.1:{port}/hook"
        hook = {"name": "h", "url": url, "events": ["job.completed"]}
        client.post("/outgoing-webhooks", json=hook).raise_for_status()
        job_id = complete_one(client, completion_webhook=f"{url}/own")
        server.signal(signal.SIGKILL)
    with listening(port) as receiver:
        again = await asyncio.to_thread(start)
        promised = await noted_ids(again)
        received = await asyncio.to_thread(receiver.wait, 2, seconds=60)
    assert len({request.path for request in received}) == 2
    for request in received:
        assert (request.event, job_id in request.body.decode()) == ("job.completed", True)
    # Those that had arrived at an address of the job alone are not kept.
    assert set(promised) <= {request.delivery_id for request in received}
    assert promised


@pytest.mark.slow
async def test_a_delivery_that_was_under_way_is_sent_again_under_its_id(
    start: Start, receiver: Receiver
) -> None:
    over = Event()

    def keep_waiting(handler: BaseHTTPRequestHandler) -> None:
        over.wait(60)
        handler.close_connection = True

    receiver.respond = keep_waiting
    server = start()
    with client_of(server) as client:
        complete_one(client, completion_webhook=receiver.url)
    [first] = await asyncio.to_thread(receiver.wait, 1)
    server.signal(signal.SIGKILL)
    receiver.respond = None
    over.set()
    await asyncio.to_thread(start)
    # The claim of the killed process has to run out first.
    first, second = await asyncio.to_thread(receiver.wait, 2, seconds=90)
    assert second.delivery_id == first.delivery_id
    assert (first.attempt, second.attempt) == (1, 1)
    assert second.body == first.body
