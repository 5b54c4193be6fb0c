"""Every example of messaging in the published client's README, run as it stands. Contract: goqueue-messaging 19."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients.goqueue import readme
from tests.clients.goqueue.conftest import goqueue_client
from tests.conftest import LiveServer

Client = Any
GoQueueError = goqueue_client.GoQueueError
_PATIENCE_SECONDS = 30.0


class Printed(list[str]):
    """What an example prints."""

    def __call__(self, *words: object) -> None:
        self.append(" ".join(map(str, words)))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until it holds."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in another thread, or the server
            await asyncio.sleep(0.02)


def run_apart(heading: str, printed: Printed, url: str) -> asyncio.Future[None]:
    """Run an example that has an event loop of its own."""
    code = readme.example(heading).replace(readme.ADDRESS, url)
    names = {"print": printed, "__name__": "example"}
    return asyncio.ensure_future(asyncio.to_thread(exec, compile(code, "README", "exec"), names))


@pytest.mark.slow
async def test_the_quick_start_prints_what_it_published(fresh_url: str, fresh_client: Client) -> None:
    printed = Printed()
    await run_apart("Quick Start", printed, fresh_url)
    assert printed == ['Received: {"orderId": "12345", "amount": 99.99}']
    assert (await fresh_client.topics.get("orders"))["partitions"] == 3
    page = await fresh_client.messages.consume("orders", partition=0)
    assert [message["offset"] for message in page["messages"]] == [0]


@pytest.mark.slow
async def test_three_workers_share_the_partitions_and_process_each_message_once(
    fresh_url: str, fresh_client: Client
) -> None:
    client = fresh_client
    printed = Printed()
    running = run_apart("Consumer Groups", printed, fresh_url)

    async def all_joined() -> bool:
        return sum("joined" in line for line in printed) == 3

    await until(all_joined)
    joined = {
        label: worker
        for line in printed
        if (found := re.fullmatch(r"Worker (\S+) joined with partitions: (.*)", line))
        for worker, labels in [found.groups()]
        for label in json.loads(labels.replace("'", '"'))
    }
    assert sorted(joined) == [f"orders-{number}" for number in range(6)]
    assert sorted(joined.values()) == sorted(["worker-1", "worker-2", "worker-3"] * 2)
    values = [f"message {number}" for number in range(60)]
    await client.messages.publish("orders", [{"value": value} for value in values])

    async def all_settled() -> bool:
        offsets = (await client.groups.get_offsets("order-processors"))["offsets"]
        return offsets == {"orders": {str(number): 10 for number in range(6)}}

    await until(all_settled)
    processed = [line.split(" processing: ")[1] for line in printed if " processing: " in line]
    assert sorted(processed) == sorted(values)
    group = await client.groups.get("order-processors")
    assert group["generation"] == 1
    assert not [line for line in printed if "needs to rejoin" in line]
    # The workers go on for ever; without their group they cannot.
    await client.groups.delete("order-processors")
    with pytest.raises(GoQueueError) as stopped:
        await running
    assert stopped.value.status == 404


async def test_messages_with_a_key_go_to_one_partition_in_order(client: Client) -> None:
    await client.topics.create({"name": "orders"})
    await readme.run(readme.example("With Keys (Ordering)"), {"client": client})
    page = await client.messages.consume("orders", partition=1)
    assert [message["value"] for message in page["messages"]] == [
        '{"event": "order_created"}',
        '{"event": "payment_received"}',
    ]
    assert [message["key"] for message in page["messages"]] == ["user-123"] * 2


@pytest.mark.parametrize("partitions", [1, 3])
async def test_the_critical_alert_is_delivered_before_the_normal_one(client: Client, partitions: int) -> None:
    await client.topics.create({"name": "alerts", "num_partitions": partitions})
    await readme.run(readme.example("Priority Messages"), {"client": client})
    member = (await client.groups.join("g", {"client_id": "w", "topics": ["alerts"]}))["member_id"]
    polled = await client.groups.poll("g", member, timeout="5s")
    assert [message["value"] for message in polled["messages"]] == ["Critical alert!", "Normal alert"]


async def test_delayed_messages_stay_hidden_each_for_itself(client: Client) -> None:
    await client.topics.create({"name": "reminders"})
    results: list[dict[str, Any]] = []

    async def publish(topic: str, messages: list[dict[str, Any]]) -> None:
        results.extend((await client.messages.publish(topic, messages))["results"])

    await readme.run(
        readme.example("Delayed Messages"),
        {"client": SimpleNamespace(messages=SimpleNamespace(publish=publish))},
    )
    assert [result["delayed"] for result in results] == [True, True]
    assert results[0]["deliverAt"] < results[1]["deliverAt"]
    for partition in range(3):
        assert (await client.messages.consume("reminders", partition))["messages"] == []
    member = (await client.groups.join("g", {"client_id": "w", "topics": ["reminders"]}))["member_id"]
    assert (await client.groups.poll("g", member, timeout="0s"))["messages"] == []
    waiting = await client.delayed.list("reminders")
    assert waiting["count"] == 2
    assert [one["deliver_at"] for one in waiting["messages"]] == [one["deliverAt"] for one in results]


async def test_messages_are_acknowledged_nacked_and_rejected(client: Client) -> None:
    class TemporaryError(Exception):
        pass

    class PermanentError(Exception):
        pass

    async def do_work(value: str) -> None:
        if value == "fails for now":
            raise TemporaryError
        if value == "fails for good":
            raise PermanentError("no such customer")
        if value == "fails silently":
            raise PermanentError

    names: dict[str, Any] = {
        "GoQueueClient": goqueue_client.GoQueueClient,
        "do_work": do_work,
        "TemporaryError": TemporaryError,
        "PermanentError": PermanentError,
    }
    await readme.run(readme.example("ACK/NACK/Reject"), names)
    await client.topics.create({"name": "orders", "num_partitions": 1})
    values = ["fine", "fails for now", "fails for good", "fails silently"]
    await client.messages.publish("orders", [{"value": value} for value in values])
    member = (await client.groups.join("g", {"client_id": "w", "topics": ["orders"]}))["member_id"]
    polled = (await client.groups.poll("g", member, timeout="5s"))["messages"]
    assert [message["value"] for message in polled] == values
    for message in polled:
        await names["process_message"](client, message)
    assert (await client.groups.poll("g", member, timeout="0s"))["messages"] == []
    dead = (await client.messages.consume("orders.dlq", 0))["messages"]
    records = [json.loads(message["value"]) for message in dead]
    assert [record["original_value"] for record in records] == ["fails for good", "fails silently"]
    assert records[0]["last_error"] == "no such customer"
    assert {record["reason"] for record in records} == {"REJECTED"}
    statistics = await client.messages.reliability_stats()
    assert (statistics["acks_total"], statistics["nacks_total"], statistics["rejects_total"]) == (1, 1, 2)
    assert statistics["dlq_messages"] == 2
    # What failed for now holds the offset that is reported.
    assert (await client.groups.get_offsets("g"))["offsets"] == {"orders": {"0": 1}}


async def test_a_long_process_keeps_its_message(client: Client) -> None:
    extended = asyncio.Event()

    async def sleep(seconds: float) -> None:
        # The example waits for 20 seconds between its calls; here two of them are enough.
        assert seconds == 20
        statistics = await client.messages.reliability_stats()
        if statistics["visibility_extensions"] >= 2:
            extended.set()
            await asyncio.Event().wait()

    async def do_long_work(_value: str) -> None:
        await extended.wait()

    names: dict[str, Any] = {
        "GoQueueClient": goqueue_client.GoQueueClient,
        "asyncio": SimpleNamespace(sleep=sleep, create_task=asyncio.create_task),
        "do_long_work": do_long_work,
    }
    await readme.run(readme.example("Extending Visibility Timeout"), names)
    await client.topics.create({"name": "orders", "num_partitions": 1})
    await client.messages.publish("orders", [{"value": "long"}])
    member = (await client.groups.join("g", {"client_id": "w", "topics": ["orders"]}))["member_id"]
    [message] = (await client.groups.poll("g", member, timeout="5s"))["messages"]
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await names["long_process"](client, message)
    assert (await client.groups.get_offsets("g"))["offsets"] == {"orders": {"0": 1}}


async def test_an_unknown_topic_is_an_error_with_all_that_is_shown(server: LiveServer) -> None:
    printed = Printed()
    await readme.run(readme.example("Error Handling"), {"print": printed}, server.url)
    assert printed[:2] == ["Error: topic not found", "Status: 404"]
    assert printed[2] == "Body: {'error': 'topic not found', 'status': 404}"


async def test_headers_that_are_made_up_are_ignored(server: LiveServer) -> None:
    names: dict[str, Any] = {"GoQueueClient": goqueue_client.GoQueueClient}
    await readme.run(readme.example("Configuration"), names, server.url)
    async with names["client"] as client:
        assert isinstance((await client.topics.list())["topics"], list)
