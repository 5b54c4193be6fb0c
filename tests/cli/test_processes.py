"""`serve --processes 2`: one parent, two servers on one port."""

import os
import signal
from collections.abc import Callable

import httpx2
import pytest

from tests.cli.deadline import wait_until
from tests.cli.server_process import ServerProcess, is_alive

Start = Callable[..., ServerProcess]


def _counted_requests(server: ServerProcess) -> float:
    text = httpx2.get(f"{server.metrics_url}/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("spooled_api_requests_total "))
    return float(line.split()[1])


@pytest.mark.slow
def test_two_processes_serve_one_port_and_count_together(start: Start) -> None:
    server = start("--processes", "2")
    children = server.children()
    assert len(children) == 2
    before = _counted_requests(server)
    for _ in range(40):
        # A connection each, so that both processes get some.
        created = httpx2.post(
            f"{server.url}/api/v1/jobs", headers=server.headers, json={"queue_name": "q", "payload": {}}
        )
        assert created.status_code == 201
    assert _counted_requests(server) == before + 40
    assert httpx2.get(f"{server.metrics_url}/ready").status_code == 200
    assert server.stop() == 0
    assert not any(is_alive(pid) for pid in children)
    assert server.postmaster_pid() is None


@pytest.mark.slow
def test_a_killed_child_is_replaced_and_its_counts_stay(start: Start) -> None:
    server = start("--processes", "2")
    for _ in range(10):
        httpx2.get(f"{server.url}/api/v1/jobs", headers=server.headers)
    counted = _counted_requests(server)
    killed, kept = server.children()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(server.children()) == 2 and killed not in server.children())
    assert kept in server.children()
    assert _counted_requests(server) >= counted
    assert server.is_healthy()


@pytest.mark.slow
def test_children_end_when_their_parent_is_killed(start: Start) -> None:
    server = start("--processes", "2")
    children = server.children()
    server.signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in children))
    # The database has outlived its user; the next server takes it over and, being the last one, stops it.
    again = start()
    assert again.is_healthy()
    assert again.stop() == 0
    assert again.postmaster_pid() is None
