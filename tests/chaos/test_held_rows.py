"""Somebody's open transaction holds rows that clients want: they are told so, everybody else goes on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from millstream.store import installation
from tests.chaos.conftest import ChaosServer
from tests.chaos.line import Line

Start = Callable[..., ChaosServer]

CREATE = "/api/v1/jobs"
CLAIM = "/api/v1/jobs/claim"


@asynccontextmanager
async def _holding(dsn: str, sql: str, *arguments: object) -> AsyncGenerator[None]:
    async with installation.direct_session(dsn) as session:
        await session.run("begin")
        await session.many(sql, *arguments)
        yield
        await session.run("rollback")


@pytest.mark.slow
async def test_completions_of_held_jobs_are_refused_and_all_others_go_on(start: Start) -> None:
    server = start()
    line = Line(server.port, server.api_key)
    for number in range(6):
        await line.ask("POST", CREATE, {"queue_name": "held", "payload": {"number": -number}})
    claimed = await line.ask("POST", CLAIM, {"queue_name": "held", "worker_id": "w", "limit": 6})
    jobs = claimed.body["jobs"]
    held, free = jobs[:3], jobs[3:]
    lines = [Line(server.port, server.api_key) for _ in jobs]

    async def complete(place: int) -> int:
        body = {"worker_id": "w", "lease_id": jobs[place]["lease_id"]}
        return (await lines[place].ask("POST", f"/api/v1/jobs/{jobs[place]['id']}/complete", body)).status

    async with server.load() as load:
        await load.progress(50)
        query = "select id from millstream.jobs where id = any($1::uuid[]) for update"
        async with _holding(server.dsn, query, [job["id"] for job in held]):
            blocked = [asyncio.create_task(complete(place)) for place in range(len(held))]
            # Neither the free jobs beside them nor the rest of the world waits for the holder.
            others = await asyncio.gather(*(complete(len(held) + place) for place in range(len(free))))
            await load.progress(50)
            assert not any(task.done() for task in blocked)
            assert others == [200] * len(free)
            # Answered although the holder never lets go.
            assert await asyncio.gather(*blocked) == [503] * len(held)
        assert await asyncio.gather(*(complete(place) for place in range(len(held)))) == [200] * len(held)
        await load.drain()
    assert set(load.ledger.statuses) <= {200, 201}
    for one in [line, *lines]:
        one.close()


@pytest.mark.slow
async def test_a_create_whose_key_is_held_is_refused_and_all_others_go_on(start: Start) -> None:
    server = start()
    lines = [Line(server.port, server.api_key) for _ in range(3)]

    async def create(line: Line) -> int:
        body = {"queue_name": "held", "payload": {"number": -1}, "idempotency_key": "held"}
        return (await line.ask("POST", CREATE, body)).status

    async with server.load() as load:
        await load.progress(50)
        hold = (
            "insert into millstream.idempotency_keys (tenant_id, key, job_id)"
            " select id, 'held', gen_random_uuid() from millstream.tenants"
        )
        async with _holding(server.dsn, hold):
            blocked = [asyncio.create_task(create(line)) for line in lines]
            await load.progress(50)
            assert await asyncio.gather(*blocked) == [503] * len(lines)
        assert sorted(await asyncio.gather(*(create(line) for line in lines))) == [200, 200, 201]
        await load.pause()
    assert set(load.ledger.statuses) <= {200, 201}
    for line in lines:
        line.close()


@pytest.mark.slow
async def test_a_cancel_of_a_held_job_is_refused(start: Start) -> None:
    server = start()
    line = Line(server.port, server.api_key)
    created = await line.ask("POST", CREATE, {"queue_name": "held", "payload": 1})
    path = f"/api/v1/jobs/{created.body['id']}"
    async with _holding(server.dsn, "select id from millstream.jobs for update"):
        refused = await line.ask("DELETE", path)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.body["code"] == "SERVICE_UNAVAILABLE"
    assert (await line.ask("DELETE", path)).status == 204
    line.close()
