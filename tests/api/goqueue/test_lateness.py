"""On an idle server polls that wait are answered when a delay or a lease ends. Contract: goqueue-messaging 9.7, 14.4."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.api.goqueue.wire import Topics, answered

MESSAGES = 20
# Between the ends of two delays or leases, and before the first.
STEP_MS = 70
AHEAD_MS = 500
PATIENCE_SECONDS = 20


def ends() -> Iterator[str]:
    return (f"{AHEAD_MS + STEP_MS * number}ms" for number in range(MESSAGES))


def lateness(api: Topics, member: str, due: dict[int, datetime]) -> list[float]:
    """Poll until everything has come; returns how many seconds after its time each did, the earliest first."""
    late: dict[int, float] = {}
    began = datetime.now(UTC)
    while late.keys() != due.keys():
        messages = api.poll("g", member, "5s")
        now = datetime.now(UTC)
        assert (now - began).total_seconds() < PATIENCE_SECONDS
        for message in messages:
            offset = message["offset"]
            assert offset not in late
            late[offset] = (now - due[offset]).total_seconds()
    return sorted(late.values())


def tell(what: str, late: list[float]) -> None:
    median, worst = late[len(late) // 2] * 1_000, late[-1] * 1_000
    sys.stdout.write(f"{what}: half within {median:.0f} ms, p99 of {len(late)}: {worst:.0f} ms\n")


@pytest.mark.slow
def test_a_waiting_poll_is_answered_when_delays_end(own: Topics) -> None:
    topic = own.create()
    member = own.join("g", topic)["member_id"]
    results = own.publish(topic, *({"value": "v", "delay": delay} for delay in ends()))
    due = {result["offset"]: datetime.fromisoformat(result["deliverAt"]) for result in results}
    late = lateness(own, member, due)
    tell("delayed messages", late)
    assert late[0] >= 0


@pytest.mark.slow
def test_a_waiting_poll_is_answered_when_leases_end(own: Topics) -> None:
    topic = own.create()
    member = own.join("g", topic)["member_id"]
    own.publish(topic, *["v"] * MESSAGES)
    due: dict[int, datetime] = {}
    for message, seconds in zip(own.poll("g", member), ends(), strict=True):
        body = {"receipt_handle": message["receipt_handle"], "timeout": seconds}
        extended = answered(own.post("/messages/visibility", body))
        due[message["offset"]] = datetime.fromisoformat(extended["new_deadline"])
    late = lateness(own, member, due)
    tell("ended leases", late)
    assert late[0] >= 0
