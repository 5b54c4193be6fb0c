"""Claims whose client has gone before the answer: nobody holds what nobody was told of. Contract: spooled-jobs 3.11."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
import pytest

from tests.api.raw_connection import connect, read_answer
from tests.api.spooled.wire import Api, LiveServer

_WAITING = """select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'millstream' and wait_event_type = 'Lock'"""


@contextmanager
def held_up(server: LiveServer) -> Generator[psycopg.Connection]:
    """Hold a lock that every claim needs, until the end."""
    with psycopg.connect(server.dsn) as holder:
        holder.execute("lock table millstream.queues in access exclusive mode")
        yield holder
        holder.rollback()


def until_it_waits(holder: psycopg.Connection) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        holder.execute("select pg_stat_clear_snapshot()")
        row = holder.execute(_WAITING).fetchone()
        if row is not None and row[0]:
            return
    pytest.fail("no claim waits for the lock")


def send_claim(api: Api, queue: str, *lines: str, times: int = 1) -> socket.socket:
    body = json.dumps({"queue_name": queue, "worker_id": "gone"})
    head = [
        "POST /api/v1/jobs/claim HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {api.api_key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    connection = connect(api)
    connection.sendall(("\r\n".join([*head, "", ""]) + body).encode() * times)
    return connection


def leave(connection: socket.socket) -> None:
    """Close the connection, and return when the server has noticed."""
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""
    connection.close()


def claim_soon(api: Api, queue: str) -> list[str]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = api.post("/jobs/claim", {"queue_name": queue, "worker_id": "next"}).json()["jobs"]
        if found:
            return [job["id"] for job in found]
    return []


# With an Origin the answer does not go out in one piece.
@pytest.mark.parametrize("lines", [(), ("Origin: http://page.example",)])
def test_jobs_of_a_client_that_left_before_its_answer_are_claimable_at_once(
    own: Api, server: LiveServer, lines: tuple[str, ...]
) -> None:
    created = own.post("/jobs", {"queue_name": "left", "payload": {}}).json()["id"]
    with held_up(server) as holder:
        connection = send_claim(own, "left", *lines)
        until_it_waits(holder)
        leave(connection)
    assert claim_soon(own, "left") == [created]
    job = own.get(f"/jobs/{created}").json()
    assert (job["status"], job["retry_count"]) == ("processing", 0)


def test_a_pipelined_claim_whose_client_left_gives_back_too(own: Api, server: LiveServer) -> None:
    created = own.post("/jobs", {"queue_name": "left", "payload": {}}).json()["id"]
    with held_up(server) as holder:
        connection = send_claim(own, "left", times=2)
        until_it_waits(holder)
        leave(connection)
    assert claim_soon(own, "left") == [created]


@pytest.mark.parametrize("lines", [(), ("Origin: http://page.example",)])
def test_a_client_that_stays_keeps_what_it_was_told(
    own: Api, server: LiveServer, lines: tuple[str, ...]
) -> None:
    created = own.post("/jobs", {"queue_name": "stays", "payload": {}}).json()["id"]
    with held_up(server) as holder:
        connection = send_claim(own, "stays", *lines)
        until_it_waits(holder)
    status, answer = read_answer(connection)
    connection.close()
    assert status == 200
    assert created.encode() in answer
    assert own.get(f"/jobs/{created}").json()["assigned_worker_id"] == "gone"
