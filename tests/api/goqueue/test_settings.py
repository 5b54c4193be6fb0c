"""What the settings of topics and groups change for their clients. Contract: goqueue-messaging 16."""

from typing import Any

import httpx2

from millstream.config import Config
from millstream.domain.topic_settings import TopicSettings
from tests.api.goqueue.fresh_server import serving_fresh
from tests.api.goqueue.wire import refused

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


async def test_a_request_too_many_is_refused_in_the_words_of_this_dialect(database_dsn: str) -> None:
    config = Config(topics=TopicSettings(requests_per_second_max=2))
    async with (
        serving_fresh(database_dsn, config) as url,
        httpx2.AsyncClient(base_url=url, timeout=30) as http,
    ):
        created = await http.post("/topics", json={"name": "t0"})
        assert (created.status_code, created.headers["x-ratelimit-limit"]) == (201, "2")
        number = 1
        while (answer := await http.post("/v1/topics", json={"name": f"t{number}"})).status_code == 201:
            number += 1
            assert number < 10_000
        body = refused(answer, 429, "Too many requests")
        assert set(body) == {"error", "status"}
        assert answer.headers["retry-after"] == "1"
        assert (answer.headers["x-ratelimit-remaining"], answer.headers["x-ratelimit-scope"]) == (
            "0",
            "organization",
        )

        # A credential that is not valid counts for its sender's address.
        unknown = {"authorization": "Bearer sk_test_unknown"}
        tried = 0
        while (answer := await http.get("/topics", headers=unknown)).status_code == 401:
            tried += 1
            assert tried < 10_000
        refused(answer, 429, "Too many requests")
        assert answer.headers["x-ratelimit-scope"] == "ip"

        # What is not of this dialect has limits of its own, none here.
        for _ in range(5):
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/api/v1/openapi.json")).status_code == 200

        # What was refused was not done.
        while (answer := await http.get("/topics")).status_code == 429:
            tried += 1
            assert tried < 10_000
        assert len(answer.json()["topics"]) == number
