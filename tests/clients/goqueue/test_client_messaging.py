"""Every method of the published client that is about messaging. Contract: goqueue-messaging 0.3, 19 (9)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.goqueue.conftest import goqueue_client

Client = Any
GoQueueError = goqueue_client.GoQueueError


async def test_topics_are_created_listed_described_and_deleted(client: Client) -> None:
    assert await client.topics.list() == {"topics": []}
    created = await client.topics.create({"name": "orders", "num_partitions": 6, "retention_hours": 48})
    assert created == {"name": "orders", "partitions": 6, "created": True}
    with pytest.raises(GoQueueError) as taken:
        await client.topics.create({"name": "orders"})
    assert (taken.value.status, taken.value.message) == (409, "topic already exists")
    assert (await client.topics.get("orders"))["partition_offsets"]["5"] == {"earliest": 0, "latest": -1}
    assert await client.topics.delete("orders") == {"deleted": True, "name": "orders"}
    assert await client.topics.list() == {"topics": []}


async def test_messages_are_published_and_consumed(client: Client) -> None:
    await client.topics.create({"name": "orders", "num_partitions": 1})
    messages = [{"value": f"{n}", "key": "k", "priority": "low", "partition": 0} for n in range(5)]
    results = (await client.messages.publish("orders", messages))["results"]
    assert [result["offset"] for result in results] == [0, 1, 2, 3, 4]
    page = await client.messages.consume("orders", 0, offset=1, limit=2)
    assert [(one["offset"], one["value"], one["key"], one["priority"]) for one in page["messages"]] == [
        (1, "1", "k", "low"),
        (2, "2", "k", "low"),
    ]
    assert page["next_offset"] == 3
    assert len((await client.messages.consume("orders", 0, limit=1000))["messages"]) == 5
    for partition, offset, status in ((0, -1, 400), (1, 0, 404)):
        with pytest.raises(GoQueueError) as refused:
            await client.messages.consume("orders", partition, offset=offset)
        assert refused.value.status == status


async def test_delayed_messages_are_listed_fetched_cancelled_and_counted(client: Client) -> None:
    await client.topics.create({"name": "reminders", "num_partitions": 1})
    messages = [{"value": "a", "delay": "2h"}, {"value": "b", "delay": "1h", "priority": "high"}]
    await client.messages.publish("reminders", messages)
    listed = await client.delayed.list("reminders", limit=1)
    assert (listed["count"], listed["messages"][0]["offset"]) == (1, 1)
    entry = await client.delayed.get("reminders", 1)
    assert (entry["topic"], entry["partition"], entry["offset"], entry["priority"]) == (
        "reminders",
        0,
        1,
        "high",
    )
    assert entry["state"] == "pending"
    assert (await client.delayed.cancel("reminders", 0, 1))["cancelled"] is True
    with pytest.raises(GoQueueError) as again:
        await client.delayed.cancel("reminders", 0, 1)
    assert again.value.status == 404
    statistics = await client.delayed.stats()
    assert {name: statistics[name] for name in ("pending_count", "delivered_count", "cancelled_count")} == {
        "pending_count": 1,
        "delivered_count": 0,
        "cancelled_count": 1,
    }
    assert statistics["avg_delay"] == "0s"
    assert (await client.priority.stats())["messages_by_priority"]["normal"] == 1


async def test_groups_are_joined_polled_committed_and_left(client: Client) -> None:
    await client.topics.create({"name": "orders", "num_partitions": 2})
    assert await client.groups.list() == {"groups": [], "group_details": []}
    joined = await client.groups.join("g", {"client_id": "w", "topics": ["orders"], "session_timeout": "30s"})
    member = joined["member_id"]
    assert (joined["leader"], joined["rebalance_required"]) == (True, False)
    assert (await client.groups.list())["groups"] == ["g"]
    details = await client.groups.get("g")
    assert (details["group_id"], details["state"], details["protocol"]) == ("g", "stable", "eager")
    assert details["members"][0]["assigned_partitions"] == ["orders-0", "orders-1"]
    beat = await client.groups.heartbeat("g", {"member_id": member, "generation": joined["generation"]})
    assert (beat["rebalance_required"], beat["state"]) == (False, "stable")
    await client.messages.publish("orders", [{"value": f"{n}"} for n in range(4)])
    polled = (await client.groups.poll("g", member, max_messages=3, timeout="5s"))["messages"]
    assert len(polled) == 3
    assert await client.groups.get_offsets("g", topic="other")
    committed = await client.groups.commit_offsets(
        "g", {"member_id": member, "offsets": {"orders": {"0": 2, "1": 1}}}
    )
    assert committed["committed"] is True
    assert (await client.groups.get_offsets("g", topic="orders"))["offsets"] == {"orders": {"0": 2, "1": 1}}
    assert (await client.groups.get_offsets("g", topic="other"))["offsets"] == {}
    assert (await client.groups.leave("g", {"member_id": member}))["left"] is True
    assert (await client.groups.get("g"))["state"] == "dead"
    assert (await client.groups.delete("g"))["deleted"] is True


async def test_what_was_delivered_is_acknowledged_nacked_rejected_and_extended(client: Client) -> None:
    await client.topics.create({"name": "orders", "num_partitions": 1})
    await client.messages.publish("orders", [{"value": f"{n}"} for n in range(4)])
    member = (await client.groups.join("g", {"client_id": "w", "topics": ["orders"]}))["member_id"]
    acked, nacked, rejected, kept = (await client.groups.poll("g", member))["messages"]
    assert (await client.messages.ack(acked["receipt_handle"], consumer_id="w"))["acknowledged"] is True
    # The client repeats what got no answer by itself.
    assert (await client.messages.ack(acked["receipt_handle"]))["acknowledged"] is True
    assert (await client.messages.nack(nacked["receipt_handle"], delay="0s"))["requeued"] is True
    assert (await client.messages.reject(rejected["receipt_handle"]))["dlq_topic"] == "orders.dlq"
    assert (await client.messages.reject(rejected["receipt_handle"]))["rejected"] is True
    extended = await client.messages.extend_visibility(kept["receipt_handle"], "60s")
    assert extended["extended"] is True
    assert extended["new_deadline"] > kept["visibility_deadline"]
    [again] = (await client.groups.poll("g", member, timeout="5s"))["messages"]
    assert (again["value"], again["delivery_count"]) == ("1", 2)
    with pytest.raises(GoQueueError) as superseded:
        await client.messages.ack(nacked["receipt_handle"])
    assert superseded.value.status in {404, 410}
    statistics = await client.messages.reliability_stats()
    assert statistics == statistics | {
        "acks_total": 1,
        "nacks_total": 1,
        "rejects_total": 1,
        "dlq_messages": 1,
        "visibility_extensions": 1,
    }


async def test_a_held_poll_ends_when_a_message_comes(client: Client) -> None:
    await client.topics.create({"name": "orders", "num_partitions": 1})
    member = (await client.groups.join("g", {"client_id": "w", "topics": ["orders"]}))["member_id"]
    held = asyncio.create_task(client.groups.poll("g", member))
    done, _ = await asyncio.wait({held}, timeout=0.3)
    assert not done
    await client.messages.publish("orders", [{"value": "now"}])
    async with asyncio.timeout(10):
        assert [message["value"] for message in (await held)["messages"]] == ["now"]


async def test_partitions_are_added(client: Client) -> None:
    await client.topics.create({"name": "orders"})
    assert (await client.admin.add_partitions("orders", {"count": 12}))["partitions_added"] == list(
        range(3, 12)
    )
    with pytest.raises(GoQueueError) as refused:
        await client.admin.add_partitions("orders", {"count": 2})
    assert refused.value.status == 400
    assert refused.value.body["success"] is False


async def test_priorities_are_counted_by_their_names(client: Client) -> None:
    await client.topics.create({"name": "alerts", "num_partitions": 1})
    await client.messages.publish("alerts", [{"value": "x", "priority": "critical"}, {"value": "y"}])
    statistics = await client.priority.stats()
    assert statistics["messages_by_priority"] == {
        "critical": 1,
        "high": 0,
        "normal": 1,
        "low": 0,
        "background": 0,
    }
    assert set(statistics["avg_wait_time_by_priority"]) == set(statistics["messages_by_priority"])
    assert statistics["topics"]["alerts"]["partitions"]["0"]["total"] == [1, 0, 1, 0, 0]


async def test_a_base_url_with_a_version_and_the_header_of_a_key_serve_as_well(
    client: Client, fresh_key: tuple[str, str]
) -> None:
    url, key = fresh_key
    async with goqueue_client.GoQueueClient(f"{url}/v1/", headers={"X-API-Key": key}) as versioned:
        await versioned.topics.create({"name": "orders"})
        assert await versioned.topics.list() == await client.topics.list() == {"topics": ["orders"]}
