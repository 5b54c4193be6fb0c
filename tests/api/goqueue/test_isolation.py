"""Every route of topics that is served, called with another tenant's credential: its topics, groups and receipts are 404.

The walk goes over the endpoints as they are registered, so that none can be forgotten: one with a parameter or a
field that the tables do not know fails until they do. Contract: goqueue-platform 10.5.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, cast

import httpx2
import msgspec
import pytest
from msgspec import Struct

from millstream.api.goqueue.rest import goqueue_endpoints
from millstream.api.http.endpoint import Auth, Endpoint
from millstream.api.http.settings import HttpSettings
from millstream.engine.engine import Engine
from tests.api.goqueue.wire import Topics, answered
from tests.api.spooled.test_isolation import Declared
from tests.api.spooled.wire import JsonObject
from tests.conftest import LiveServer
from tests.live_tenants import LiveTenant

ENDPOINTS = goqueue_endpoints(cast("Engine", Declared()), HttpSettings())
_PARAMETER = re.compile(r"\{([a-z_]+)\}")


class Estate(Struct, kw_only=True):
    """What a tenant owns; `mark` is in everything that nobody else may read."""

    api: Topics
    mark: str
    topic: str
    group: str
    member: str
    receipts: list[str]
    delayed_offset: int

    @classmethod
    def build(cls, api: Topics) -> Estate:
        mark = f"mark{uuid.uuid4().hex}"
        topic = api.create()
        api.publish(topic, *({"value": f"{mark} {n}", "key": mark, "headers": {"h": mark}} for n in range(4)))
        [delayed] = api.publish(topic, {"value": mark, "delay": "5h"})
        joined = api.join(f"{topic}-group", topic, client_id=mark)
        member = joined["member_id"]
        polled = api.poll(f"{topic}-group", member, max_messages=3)
        api.ack(polled[0])
        return cls(
            api=api,
            mark=mark,
            topic=topic,
            group=f"{topic}-group",
            member=member,
            receipts=[message["receipt_handle"] for message in polled],
            delayed_offset=delayed["offset"],
        )

    def state(self) -> list[JsonObject]:
        """All that the owner sees, but for times of heartbeats."""
        paths = [
            "/topics",
            f"/topics/{self.topic}",
            f"/topics/{self.topic}/partitions/0/messages",
            f"/groups/{self.group}",
            f"/groups/{self.group}/offsets",
            "/reliability/stats",
            "/delay/stats",
        ]
        seen = [answered(self.api.get(path)) for path in paths]
        for member in seen[3]["members"]:
            del member["last_heartbeat"]
        return seen


PARAMETERS: dict[str, Callable[[Estate], str]] = {
    "topic": lambda owner: owner.topic,
    "group": lambda owner: owner.group,
    "partition": lambda _: "0",
    "offset": lambda owner: str(owner.delayed_offset),
}

FIELDS: dict[str, Callable[[Estate], object]] = {
    "auto_offset_reset": lambda _: "earliest",
    "client_id": lambda _: "intruder",
    "consumer_id": lambda owner: owner.member,
    "count": lambda _: 5,
    "delay": lambda _: "0s",
    "dry_run": lambda _: False,
    "extension_seconds": lambda _: 60,
    "generation": lambda _: 1,
    "limit": lambda _: 10,
    "max": lambda _: 10,
    "max_messages": lambda _: 10,
    "member_id": lambda owner: owner.member,
    "messages": lambda _: [{"value": "intruded"}],
    "name": lambda owner: owner.topic,
    "num_partitions": lambda _: 2,
    "offset": lambda _: 0,
    "offsets": lambda owner: {owner.topic: {"0": 4}},
    "order": lambda _: "offset",
    "partition": lambda _: 0,
    "partitions": lambda _: None,
    "protocol": lambda _: None,
    "reason": lambda _: "intruded",
    "receipt_handle": lambda owner: owner.receipts[1],
    "receipt_handles": lambda owner: owner.receipts,
    "replica_assignments": lambda _: None,
    "retention_hours": lambda _: 1,
    "revoked_partitions": lambda owner: [{"topic": owner.topic, "partition": 0}],
    "session_timeout": lambda _: "30s",
    "skip": lambda _: 0,
    "strategy": lambda _: "latest",
    "timeout": lambda _: "10s",
    "timestamp": lambda _: "2026-01-01T00:00:00Z",
    "from_time": lambda _: "2026-01-01T00:00:00Z",
    "to_time": lambda _: "2100-01-01T00:00:00Z",
    "topic": lambda owner: owner.topic,
    "topics": lambda owner: [owner.topic],
    "wait": lambda _: "0s",
    "wait_ms": lambda _: 0,
}

# Without a word here: 404, as what is unknown to everybody.
STATUSES: dict[str, int] = {
    # Names are each tenant's own.
    "POST /topics": 201,
    "GET /topics": 200,
    "GET /groups": 200,
    # Nothing of a topic or group that is unknown.
    "GET /topics/{topic}/delayed": 200,
    "GET /groups/{group}/offsets": 200,
    "GET /delay/stats": 200,
    "GET /reliability/stats": 200,
    "GET /priority/stats": 200,
    "GET /rebalance/stats": 200,
    # Each receipt is refused by itself.
    "POST /messages/ack/batch": 200,
}


def key_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def fields_of(endpoint: Endpoint) -> list[str]:
    kind = None if endpoint.body is None else endpoint.body.type
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return []
    return [field.encode_name for field in msgspec.structs.fields(kind)]


# The one that makes a topic of the same name comes last: from then on the name is the intruder's too.
WALKED = sorted(ENDPOINTS, key=lambda endpoint: key_of(endpoint) == "POST /topics")


@pytest.fixture(scope="module")
def owner(http: httpx2.Client, server: LiveServer) -> Estate:
    """The tenant whose objects are asked for."""
    return Estate.build(Topics(http, server.url, server.tenants.make().api_key))


@pytest.fixture(scope="module")
def intruder(http: httpx2.Client, server: LiveServer) -> Topics:
    """Another tenant."""
    return Topics(http, server.url, server.tenants.make().api_key)


def test_the_tables_know_every_route() -> None:
    unknown = [
        f"{key_of(endpoint)}: {name}"
        for endpoint in ENDPOINTS
        for name in [
            *(one for one in _PARAMETER.findall(endpoint.path) if one not in PARAMETERS),
            *(one for one in fields_of(endpoint) if one not in FIELDS),
            *(one.name for one in endpoint.query if one.name not in FIELDS),
        ]
    ]
    assert not unknown
    assert set(STATUSES) <= {key_of(endpoint) for endpoint in ENDPOINTS}
    assert {endpoint.auth for endpoint in ENDPOINTS} == {Auth.BEARER}


@pytest.mark.parametrize("endpoint", WALKED, ids=key_of)
def test_a_route_gives_nothing_of_another_tenant(owner: Estate, intruder: Topics, endpoint: Endpoint) -> None:
    before = owner.state()
    path = _PARAMETER.sub(lambda found: PARAMETERS[found[1]](owner), endpoint.path)
    body: dict[str, Any] | None = None
    if endpoint.body is not None:
        body = {name: FIELDS[name](owner) for name in fields_of(endpoint)}
    query = {one.name: str(FIELDS[one.name](owner)) for one in endpoint.query}
    answer = intruder.call(endpoint.method, path, body, params=query)
    assert answer.status_code == STATUSES.get(key_of(endpoint), 404), answer.text
    assert owner.mark not in answer.text
    if key_of(endpoint) == "POST /messages/ack/batch":
        assert [failure["status"] for failure in answer.json()["failures"]] == [404] * 3
    elif answer.status_code == 200:
        assert owner.topic not in answer.text.replace(f'"topic":"{owner.topic}"', "").replace(owner.group, "")
    assert owner.state() == before


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=key_of)
def test_a_route_is_closed_to_keys_that_are_limited_to_queues(
    owner: Estate, limited: Topics, endpoint: Endpoint
) -> None:
    path = _PARAMETER.sub(lambda found: PARAMETERS[found[1]](owner), endpoint.path)
    body = None if endpoint.body is None else {}
    assert limited.call(endpoint.method, path, body).status_code == 403


@pytest.fixture(scope="module")
def limited(http: httpx2.Client, server: LiveServer) -> Topics:
    """A key of the kind, of a tenant of its own."""
    tenant: LiveTenant = server.tenants.make(queues=("emails",))
    return Topics(http, server.url, tenant.api_key)
