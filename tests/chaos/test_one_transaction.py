"""One transaction over a row, a job, a message and workflow steps: PostgreSQL is killed under it, and no half is left."""

import json
import os
import random
import signal
from collections.abc import Callable

import httpx2
import psycopg
import pytest

from millstream import inline, pgwf
from tests.chaos.conftest import ChaosServer
from tests.cli.deadline import wait_until

KILLS = 20
STEPS = 7
TOPIC = "orders"
SCHEMA = "flow"


class Stream:
    """Orders, each in one transaction; `acknowledged` are those whose commit was answered."""

    def __init__(self, server: ChaosServer) -> None:
        self.server = server
        self.dsn = server.dsn
        self.flow = pgwf.Workflow(schema=SCHEMA)
        self.acknowledged: list[int] = []
        self.number = 0

    def prepare(self) -> None:
        pgwf.Installer(self.dsn, schema=SCHEMA).apply()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("create table orders (id int primary key, completed text)")
        body = {"name": TOPIC, "num_partitions": 1}
        httpx2.post(f"{self.server.url}/topics", json=body, headers=self.server.headers).raise_for_status()

    def run(self, kill_before: int, orders: int) -> None:
        """Commit `orders` of them, then begin one that PostgreSQL does not live to see the end of."""
        with psycopg.connect(self.dsn) as connection:
            for _ in range(orders):
                self._order(connection, kill_before=None)
            with pytest.raises((psycopg.OperationalError, pgwf.TransientError)):
                self._order(connection, kill_before=kill_before)

    def _order(self, connection: psycopg.Connection, *, kill_before: int | None) -> None:
        self.number += 1
        number = self.number
        steps: list[Callable[[], object]] = [
            lambda: connection.execute("insert into orders values (%s)", [number]),
            lambda: inline.enqueue(connection, "orders", {"order": number}),
            lambda: inline.publish(connection, TOPIC, str(number)),
            lambda: self.flow.submit_job(connection, f"step-{number}", pgwf.JobDependencies("next"), "shop"),
            lambda: self._complete_another(connection, number),
            connection.commit,
        ]
        for place, step in enumerate(steps):
            if place == kill_before:
                self._kill(connection)
            step()
        self.acknowledged.append(number)
        if kill_before == len(steps):
            self._kill(connection)
            connection.execute("select 1")

    def _kill(self, connection: psycopg.Connection) -> None:
        # A session may outlive its postmaster by a moment, long enough for one more step.
        session, postmaster = connection.info.backend_pid, self.server.postgres_pid
        os.kill(session, signal.SIGKILL)
        os.kill(postmaster, signal.SIGKILL)

    def _complete_another(self, connection: psycopg.Connection, number: int) -> None:
        lease = self.flow.get_work(connection, "shop", ["next"])
        if lease is not None:
            lease.complete(connection)
            connection.execute("update orders set completed = %s where id = %s", [lease.job_id, number])

    def check(self) -> None:
        """Fail unless everything of each order exists, or nothing of it."""
        with psycopg.connect(self.dsn) as connection:
            rows = dict(connection.execute("select id, completed from orders").fetchall())
            payloads = connection.execute(
                "select payload from millstream.all_jobs where queue = 'orders'"
            ).fetchall()
            live = connection.execute(f"select job_id from {SCHEMA}.jobs").fetchall()
            done = connection.execute(f"select job_id from {SCHEMA}.jobs_archive").fetchall()
        assert set(self.acknowledged) <= set(rows), "a committed order is gone"
        assert sorted(json.loads(payload)["order"] for (payload,) in payloads) == sorted(rows)
        assert sorted(int(job_id.removeprefix("step-")) for (job_id,) in [*live, *done]) == sorted(rows)
        assert sorted(done) == sorted((completed,) for completed in rows.values() if completed is not None)
        assert sorted(self.published()) == sorted(rows)
        assert self.published() == sorted(rows), "what was committed later was published earlier"

    def published(self) -> list[int]:
        found: list[int] = []
        offset = 0
        while True:
            page = httpx2.get(
                f"{self.server.url}/topics/{TOPIC}/partitions/0/messages",
                params={"offset": offset, "limit": 1000},
                headers=self.server.headers,
            ).json()
            if not page["messages"]:
                return found
            found += [int(message["value"]) for message in page["messages"]]
            offset = page["next_offset"]

    def staged(self) -> int:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("select count(*) from millstream.staged_messages").fetchone()
        assert row is not None
        return row[0]


@pytest.mark.slow
def test_no_half_of_an_order_is_left_however_often_the_database_is_killed(
    start: Callable[..., ChaosServer],
) -> None:
    server = start()
    stream = Stream(server)
    stream.prepare()
    chance = random.Random(7)
    for kill in range(KILLS):
        # Each step of the transaction is a failpoint in its turn; how much goes before it is left to chance.
        stream.run(kill % STEPS, chance.randrange(12))
        wait_until(server.is_healthy)
    wait_until(lambda: not stream.staged())
    assert len(stream.acknowledged) > KILLS
    stream.check()
