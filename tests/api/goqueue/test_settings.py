"""What the settings of topics and groups change for their clients. Contract: goqueue-messaging 16."""

from typing import Any

import httpx2

from millstream.config import Config
from millstream.domain.topic_settings import TopicSettings
from tests.api.goqueue.fresh_server import serving_fresh

OWN = TopicSettings(
    node_id="mill-7",
    default_partitions=2,
    poll_wait_seconds=0.0,
    poll_messages=2,
    poll_messages_max=3,
    gathering_seconds=0.0,
    deliveries_max=1,
    dead_letter_suffix=".dead",
)


async def test_settings_reach_the_wire(database_dsn: str) -> None:
    async with (
        serving_fresh(database_dsn, Config(topics=OWN)) as url,
        httpx2.AsyncClient(base_url=url, timeout=30) as http,
    ):

        async def call(method: str, path: str, **options: Any) -> Any:
            answer = await http.request(method, path, **options)
            assert answer.is_success, answer.text
            return answer.json()

        await call("POST", "/topics", json={"name": "orders"})
        described = await call("GET", "/topics/orders")
        assert described["partitions"] == 2
        places = await call("GET", "/topics/orders/partitions")
        assert {place["leader"] for place in places["partitions"]} == {"mill-7"}
        messages = [{"value": str(number), "partition": 0} for number in range(6)]
        await call("POST", "/topics/orders/messages", json={"messages": messages})
        joined = await call("POST", "/groups/g/join", json={"client_id": "c", "topics": ["orders"]})
        poll = {"member_id": joined["member_id"]}
        first = await call("GET", "/groups/g/poll", params=poll)
        assert len(first["messages"]) == 2
        assert len((await call("GET", "/groups/g/poll", params=poll | {"max_messages": 9}))["messages"]) == 3
        await call("POST", "/messages/nack", json={"receipt_handle": first["messages"][0]["receipt_handle"]})
        assert (await call("GET", "/topics/orders.dead"))["name"] == "orders.dead"
