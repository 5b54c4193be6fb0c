"""Every route that is served, called with another organization's credential. Contract: spooled-tenancy 19.3.

The walk goes over the endpoints as they are registered, so that none can be forgotten. A route with a parameter,
field or kind of access that the tables below do not know fails until they do.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import quote

import asyncpg
import httpx2
import msgspec
import pytest
from msgspec import NODEFAULT, Struct

from millstream.api.http.endpoint import Auth, Endpoint
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.rest import spooled_endpoints
from millstream.engine.engine import Engine
from tests.api.spooled.estate import Estate
from tests.api.spooled.wire import UNKNOWN_ID, Api, LiveTenant, answered
from tests.conftest import LiveServer

PREFIX = "/api/v1"
_PARAMETER = re.compile(r"\{([a-z_]+)\}")


class Declared:
    """Stands for an engine where endpoints are only listed: whatever is asked of it is there, none of it works."""

    def __getattr__(self, name: str) -> Declared:
        return self


ENDPOINTS = [
    endpoint
    for endpoint in spooled_endpoints(cast("Engine", Declared()), HttpSettings())
    if endpoint.path != f"{PREFIX}/openapi.json"
]

# What stands in the place of a path's parameter: the owner's objects, one call for each. The key is the path up to
# the parameter and the parameter itself; `same` says that each organization has an object of that name of its own.
Kind = Literal["object", "same"]
OBJECTS: dict[str, tuple[Kind, Callable[[Estate], tuple[str, ...]]]] = {
    "/jobs/{job_id}": ("object", lambda owner: owner.jobs),
    "/workers/{worker_id}": ("object", lambda owner: (owner.worker_id,)),
    "/queues/{name}": ("same", lambda owner: (owner.queue,)),
    "/webhooks/{organization_id}": ("object", lambda owner: (owner.tenant.organization_id,)),
}

# What fields of bodies and queries say, wherever they stand: the owner's again, where there is such a thing.
FIELDS: dict[str, Callable[[Estate], object]] = {
    "confirm": lambda _: True,
    "current_jobs": lambda _: 1,
    "data": lambda _: {"object": {}},
    "default_timeout": lambda _: 60,
    "error": lambda _: "e",
    "hostname": lambda _: "h",
    "id": lambda owner: owner.running["id"],
    "ids": lambda owner: ",".join(owner.jobs),
    "items": lambda owner: [
        {"action": action, "job_id": job, "lease_id": owner.running["lease_id"], "error": "e"}
        for job in owner.jobs
        for action in ("complete", "fail")
    ],
    "job_id": lambda owner: owner.running["id"],
    "job_ids": lambda owner: list(owner.jobs),
    "jobs": lambda _: [{"payload": 1}],
    "lease_id": lambda owner: owner.running["lease_id"],
    "created": lambda _: 1,
    "name": lambda _: "A walker",
    "parent_job_id": lambda owner: owner.jobs[0],
    "payload": lambda _: {},
    "priority": lambda _: 9,
    "q": lambda owner: owner.mark,
    "queue_name": lambda owner: owner.queue,
    "slug": lambda owner: f"walker-{owner.mark}",
    "tag": lambda owner: owner.mark,
    "type": lambda _: "t",
    "worker_id": lambda owner: owner.worker_id,
}

# Without a word here: a foreign object is 404, what names no object succeeds.
STATUSES: dict[str, set[int]] = {
    # The parent is another organization's: nothing is linked (C17).
    "POST /jobs": {400},
    # Unknown and foreign are one answer (ruling R4).
    "POST /jobs/{job_id}/retry": {409},
    # Ids of workers are unique over all organizations (ruling R8).
    "POST /workers/register": {409},
    # The caller's own queue of that name, which may not be there (C7).
    "GET /queues/{name}": {404},
    "DELETE /queues/{name}": {404},
    "POST /queues/{name}/resume": {200, 404},
    "GET /queues/{name}/stats": {200},
}
# Who may call, where an API key is not what opens the door: a foreign key does not either.
STATUS_BY_ACCESS: dict[Auth, set[int] | None] = {
    Auth.BEARER: None,
    Auth.OPEN: None,
    Auth.REGISTRATION: None,
    # The caller's own webhook token opens its own organization only.
    Auth.WEBHOOK: {401},
}


class Call(NamedTuple):
    """One request, and what it may be answered with (None: as any success of the endpoint)."""

    path: str
    body: dict[str, Any] | None
    query: dict[str, str]
    statuses: set[int]

    @property
    def text(self) -> str:
        return f"{self.path} {self.body} {self.query}"


def key_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path.removeprefix(PREFIX)}"


def parameters_of(endpoint: Endpoint) -> list[str]:
    """The keys of a path's parameters: all of the path up to each, without what filled the ones before."""
    path = endpoint.path.removeprefix(PREFIX)
    return [path[: found.end()] for found in _PARAMETER.finditer(path)]


def unknown_of(endpoint: Endpoint) -> list[str]:
    """What of an endpoint the tables do not know."""
    unknown = [
        f"parameter {key}: say in OBJECTS which of the owner's objects it names"
        for key in parameters_of(endpoint)
        if key not in OBJECTS
    ]
    if endpoint.auth not in STATUS_BY_ACCESS:
        unknown.append(f"access {endpoint.auth}: say in STATUS_BY_ACCESS how a foreign API key is answered")
    required = [parameter.name for parameter in endpoint.query if parameter.required]
    unknown += [
        f"field {name}: say in FIELDS what the owner's would be"
        for name in [*required, *_required_fields(endpoint)]
        if name not in FIELDS
    ]
    return unknown


def _body_type(endpoint: Endpoint) -> type[Struct] | None:
    kind = None if endpoint.body is None else endpoint.body.type
    return kind if isinstance(kind, type) and issubclass(kind, Struct) else None


def _required_fields(endpoint: Endpoint) -> list[str]:
    kind = _body_type(endpoint)
    return [
        field.encode_name
        for field in (() if kind is None else msgspec.structs.fields(kind))
        if field.default is NODEFAULT and field.default_factory is NODEFAULT
    ]


def call_of(endpoint: Endpoint, owner: Estate, objects: tuple[str, ...]) -> Call:
    """The request whose path names `objects`, with the owner's in every field that has such a thing."""
    path = endpoint.path.removeprefix(PREFIX)
    for each in objects:
        path = _PARAMETER.sub(lambda _, each=each: quote(each, safe=""), path, count=1)
    kind = _body_type(endpoint)
    body = None
    if endpoint.body is not None:
        names = [] if kind is None else [field.encode_name for field in msgspec.structs.fields(kind)]
        body = {name: FIELDS[name](owner) for name in names if name in FIELDS}
    query = {
        parameter.name: str(FIELDS[parameter.name](owner))
        for parameter in endpoint.query
        if parameter.name in FIELDS
    }
    return Call(path, body, query, statuses_of(endpoint))


def statuses_of(endpoint: Endpoint) -> set[int]:
    """How a call may be answered."""
    said = STATUSES.get(key_of(endpoint)) or STATUS_BY_ACCESS[endpoint.auth]
    if said is not None:
        return said
    names_an_object = any(OBJECTS[key][0] == "object" for key in parameters_of(endpoint))
    return {404} if names_an_object else set(endpoint.answers)


@pytest.fixture(scope="module")
def owner(http: httpx2.Client, server: LiveServer) -> Estate:
    """The organization whose objects are asked for."""
    return Estate.build(http, server)


@pytest.fixture
async def connection(server: LiveServer) -> AsyncIterator[asyncpg.Connection]:
    connected = await asyncpg.connect(server.dsn)
    yield connected
    await connected.close()


def send(api: Api, endpoint: Endpoint, call: Call, caller: LiveTenant, owner: Estate) -> httpx2.Response:
    """Call as `caller`, who says to be the owner wherever that can be said (C13)."""
    claimed = owner.tenant.organization_id
    headers = {"X-Webhook-Token": caller.webhook_token, "X-Organization-ID": claimed}
    body = None if call.body is None else {**call.body, "organization_id": claimed}
    query: dict[str, str | int] = {**call.query, "organization_id": claimed}
    return api.call(endpoint.method, call.path, body, headers=headers, params=query)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=key_of)
async def test_a_route_gives_nothing_of_another_organization(
    http: httpx2.Client,
    owner: Estate,
    tenant: LiveTenant,
    connection: asyncpg.Connection,
    endpoint: Endpoint,
) -> None:
    unknown = unknown_of(endpoint)
    assert not unknown, f"{key_of(endpoint)} is not known to the walk: {'; '.join(unknown)}"
    intruder = Api(http, tenant.url, tenant.api_key)
    before = await owner.rows(connection)
    keys = parameters_of(endpoint)
    for objects in _fillings(owner, keys):
        call = call_of(endpoint, owner, objects)
        _check(owner, call, send(intruder, endpoint, call, tenant, owner))
        if call.query and not any(parameter.required for parameter in endpoint.query):
            unfiltered = call._replace(query={})
            _check(owner, unfiltered, send(intruder, endpoint, unfiltered, tenant, owner))
        if keys and OBJECTS[keys[-1]][0] == "object" and endpoint.auth is Auth.BEARER:
            # An object that nobody has is refused alike.
            nobodys = call_of(endpoint, owner, (*objects[:-1], UNKNOWN_ID))
            answers = [send(intruder, endpoint, each, tenant, owner) for each in (call, nobodys)]
            assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert await owner.rows(connection) == before


def _check(owner: Estate, call: Call, response: httpx2.Response) -> None:
    assert response.status_code in call.statuses, f"{call.text}: {response.status_code} {response.text}"
    # A refusal repeats nothing, not even what was asked.
    asked = call.text if response.status_code < 400 else ""
    told = owner.named_in(f"{response.text} {response.headers}", asked)
    assert not told, f"{call.text}: {response.text}"


def _fillings(owner: Estate, keys: list[str]) -> list[tuple[str, ...]]:
    """Each of the owner's objects in turn for the last parameter, the first one of its kind for those before."""
    if not keys:
        return [()]
    *above, last = (OBJECTS[key][1](owner) for key in keys)
    return [(*(objects[0] for objects in above), each) for each in last]


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS if one.auth is Auth.BEARER], ids=key_of)
def test_a_route_gives_nothing_without_a_credential(
    anonymous: Api, owner: Estate, tenant: LiveTenant, endpoint: Endpoint
) -> None:
    for objects in _fillings(owner, parameters_of(endpoint)):
        response = send(anonymous, endpoint, call_of(endpoint, owner, objects), tenant, owner)
        assert response.status_code == 401
        assert not owner.named_in(response.text, "")


def test_the_walk_goes_over_all_that_is_served(api: Api) -> None:
    document = answered(api.call("GET", "/openapi.json"))
    served = {
        f"{method.upper()} {path.removeprefix(PREFIX)}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert {key_of(endpoint) for endpoint in ENDPOINTS} == served - {"GET /openapi.json"}


def test_the_tables_name_nothing_that_is_gone() -> None:
    keys = {key for endpoint in ENDPOINTS for key in parameters_of(endpoint)}
    assert OBJECTS.keys() == keys
    assert STATUSES.keys() <= {key_of(endpoint) for endpoint in ENDPOINTS}


def test_the_owner_reaches_what_the_others_do_not(http: httpx2.Client, owner: Estate) -> None:
    """Else nothing of the above would prove anything."""
    api = Api(http, owner.tenant.url, owner.tenant.api_key)
    reads = [endpoint for endpoint in ENDPOINTS if endpoint.method == "GET" and parameters_of(endpoint)]
    assert reads
    for endpoint in reads:
        for objects in _fillings(owner, parameters_of(endpoint)):
            response = send(api, endpoint, call_of(endpoint, owner, objects), owner.tenant, owner)
            assert response.status_code == 200, f"{key_of(endpoint)}: {response.text}"
    # What the walk looks for in answers does stand in them.
    assert owner.named_in(api.get(f"/jobs/{owner.jobs[0]}").text, "") >= {owner.mark, owner.jobs[0]}
    assert owner.named_in(api.get("/webhooks/deliveries").text, "") >= {owner.mark}


def test_a_route_that_the_walk_does_not_know_is_named() -> None:
    async def nothing(_: object) -> Any:
        return None

    strange = Endpoint(
        method="GET", path="/api/v1/secrets/{secret_id}", handler=nothing, summary="", tag="", answers={}
    )
    assert unknown_of(strange) == [
        "parameter /secrets/{secret_id}: say in OBJECTS which of the owner's objects it names"
    ]
