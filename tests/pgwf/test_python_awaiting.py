"""Waiting for work, with and without announcements, over every source of connections."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Generator
from functools import partial
from typing import Any

import asyncpg
import psycopg
import pytest

from millstream.pgwf import AsyncWorkflow, Backoff, InvalidArgument, Workflow
from tests.pgwf.callers import SOURCES, open_source, until, workflow_for
from tests.pgwf.flow import Flow, Session

QUICK = Backoff(initial=0.02, maximum=0.05)
# Longer than any test: who wakes up was woken.
NEVER = Backoff(initial=600, maximum=600)
CAPABILITY = 'a:b%s "c'


def _start(workflow: Any, *arguments: object, **named: object) -> "asyncio.Task[Any]":
    """Begin to wait, in a task or in a thread."""
    call = partial(workflow.await_work, *arguments, **named)
    if inspect.iscoroutinefunction(workflow.await_work):
        return asyncio.create_task(call())
    return asyncio.create_task(asyncio.to_thread(call))


async def _until_someone_waits(flow: Flow) -> None:
    # No query for a while: the waiter has polled, and polled again after it began to listen.
    idle = (
        "select exists (select from pg_stat_activity where datname = current_database() and state = 'idle'"
        " and backend_type = 'client backend' and query ilike 'commit%%'"
        " and state_change < clock_timestamp() - interval '150 ms')"
    )
    await until(lambda: flow.value(idle))


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_job_that_is_submitted_later_is_found(kind: str, flow: Flow) -> None:
    workflow = workflow_for(kind, flow.schema)
    flow.rows("select pgwf.set_notify(true)")
    async with open_source(kind, flow.dsn) as source:
        waiting = _start(workflow, source, "w", [CAPABILITY], backoff=QUICK, timeout=20, lease_seconds=33)
        await asyncio.sleep(0)
        flow.submit("a", CAPABILITY)
        lease = await waiting
        assert lease.job_id == "a"
        assert 20 < lease.remaining <= 33
        # Committed: everybody sees it.
        assert flow.status("a") == "ACTIVE"


@pytest.mark.parametrize("kind", SOURCES)
async def test_an_announcement_wakes_who_listens(kind: str, flow: Flow) -> None:
    workflow = workflow_for(kind, flow.schema)
    flow.rows("select pgwf.set_notify(true)")
    async with open_source(kind, flow.dsn) as source:
        waiting = _start(
            workflow, source, "w", ["x" * 80, CAPABILITY], backoff=NEVER, timeout=20, listen=True
        )
        await _until_someone_waits(flow)
        flow.submit("a", CAPABILITY)
        lease = await waiting
        assert lease.job_id == "a"
        assert flow.status("a") == "ACTIVE"


async def test_what_is_submitted_just_before_listening_begins_is_found(flow: Flow) -> None:
    other: Session = flow.other()

    class Late(psycopg.Connection[Any]):
        def execute(self, query: Any, *arguments: Any, **named: Any) -> Any:
            if bytes(query).startswith(b"listen"):
                # Nothing is announced: notifying is off.
                other.submit("a")
            return super().execute(query, *arguments, **named)

    workflow = Workflow(schema=flow.schema)
    lease = workflow.await_work(
        partial(Late.connect, flow.dsn), "w", ["cap"], backoff=NEVER, timeout=20, listen=True
    )
    assert lease is not None
    assert lease.job_id == "a"


@pytest.mark.parametrize("listen", [False, True])
@pytest.mark.parametrize("kind", ["dsn", "async dsn"])
async def test_waiting_ends_with_its_time_and_when_it_is_told_to(kind: str, listen: bool, flow: Flow) -> None:
    workflow = workflow_for(kind, flow.schema)
    assert await _start(workflow, flow.dsn, "w", ["cap"], timeout=0, listen=listen) is None
    assert await _start(workflow, flow.dsn, "w", ["cap"], timeout=0.05, listen=listen) is None
    stop: Any = threading.Event() if kind == "dsn" else asyncio.Event()
    waiting = _start(workflow, flow.dsn, "w", ["cap"], stop=stop, backoff=NEVER, listen=listen)
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is None
    flow.submit("a")
    assert await _start(workflow, flow.dsn, "w", ["cap"], stop=stop, listen=listen) is None
    found = await _start(workflow, flow.dsn, "w", ["cap"], timeout=0, listen=listen)
    assert found.job_id == "a"


@pytest.mark.parametrize("listen", [False, True])
@pytest.mark.parametrize("kind", ["dsn", "async dsn", "async engine"])
async def test_a_lost_connection_counts_as_nothing_found(kind: str, listen: bool, flow: Flow) -> None:
    workflow = workflow_for(kind, flow.schema)
    doomed = f"{flow.dsn}{'&' if '?' in flow.dsn else '?'}application_name=doomed"
    async with open_source(kind, doomed) as source:
        waiting = _start(workflow, source, "w", ["cap"], backoff=QUICK, timeout=20, listen=listen)
        end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'doomed'"
        await until(lambda: flow.rows(end))
        flow.submit("a")
        assert (await waiting).job_id == "a"


@pytest.mark.parametrize("listen", [False, True])
@pytest.mark.parametrize("kind", ["dsn", "async dsn"])
async def test_what_would_fail_again_ends_the_waiting(kind: str, listen: bool, flow: Flow) -> None:
    workflow = workflow_for(kind, "nowhere")
    with pytest.raises((psycopg.errors.InvalidSchemaName, asyncpg.InvalidSchemaNameError)):
        await _start(workflow, flow.dsn, "w", ["cap"], listen=listen)


async def test_connections_go_back_to_their_pool_without_listening(flow: Flow) -> None:
    flow.rows("select pgwf.set_notify(true)")
    with psycopg.connect(flow.dsn) as connection:

        @contextlib.contextmanager
        def lent() -> Generator[psycopg.Connection]:
            yield connection

        workflow = Workflow(schema=flow.schema)
        for listen in (False, True):
            assert workflow.await_work(lent, "w", ["a", CAPABILITY], timeout=0.01, listen=listen) is None
            assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
            assert connection.execute("select pg_listening_channels()").fetchall() == []
            connection.rollback()
        # Of a caller's own connection nothing is changed but what the SQL does.
        assert workflow.get_work(connection, "w", ["a"]) is None
        connection.commit()
        assert len(connection.execute("select pg_listening_channels()").fetchall()) == 1


async def test_arguments_are_looked_at_before_anything_is_opened() -> None:
    for workflow in (Workflow(), AsyncWorkflow()):
        for source, worker, capabilities, named, error in (
            (None, "w", ["cap"], {}, TypeError),
            (3, "w", ["cap"], {}, TypeError),
            ("", "", ["cap"], {}, InvalidArgument),
            ("", "w", [], {}, InvalidArgument),
            ("", "w", [""], {}, InvalidArgument),
            ("", "w", "cap", {}, InvalidArgument),
            ("", "w", None, {}, InvalidArgument),
            ("", "w", iter(["cap"]), {}, InvalidArgument),
            ("", "w", ["cap"], {"lease_seconds": 0}, InvalidArgument),
            ("", "w", ["cap"], {"timeout": -1}, InvalidArgument),
            ("", "w", ["cap"], {"timeout": float("nan")}, InvalidArgument),
            ("", "w", ["cap"], {"timeout": "5"}, InvalidArgument),
        ):
            with pytest.raises(error):
                await _start(workflow, source, worker, capabilities, **named)
