"""Every route that is served, called with another organization's credential. Contract: spooled-tenancy 19.3.

The walk goes over the endpoints as they are registered, so that none can be forgotten. A route with a parameter,
field or kind of access that the tables of `walk_tables` do not know fails until they do.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import asyncpg
import httpx2
import jwt
import msgspec
import pytest
from msgspec import NODEFAULT, Struct

from millstream.api.http.endpoint import Auth, Endpoint
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.rest import spooled_endpoints
from millstream.engine.engine import Engine
from tests.api.spooled.administrator import Administrator
from tests.api.spooled.estate import Estate, log_in
from tests.api.spooled.walk_tables import (
    FIELDS,
    MAIL_ROUTES,
    OBJECTS,
    OWN_CREDENTIALS,
    OWN_PARENTS,
    STATUS_BY_ACCESS,
    STATUSES,
    TOKEN_ROUTES,
)
from tests.api.spooled.wire import UNKNOWN_ID, Api, LiveTenant, answered
from tests.conftest import LiveServer
from tests.receiver import listening

# Longer than the quick suite has time for.
pytestmark = pytest.mark.slow

PREFIX = "/api/v1"
_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")


class Declared:
    """Stands for an engine where endpoints are only listed: whatever is asked of it is there, none of it works."""

    def __getattr__(self, name: str) -> Declared:
        return self


ENDPOINTS = [
    endpoint
    for endpoint in spooled_endpoints(cast("Engine", Declared()), HttpSettings())
    if endpoint.path != f"{PREFIX}/openapi.json"
]
GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.auth in {Auth.BEARER, Auth.ADMIN}]


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
    unknown += [
        f"parameter {key}: say in OWN_PARENTS how a caller gets one of its own"
        for key in parameters_of(endpoint)[:-1]
        if key not in OWN_PARENTS
    ]
    if endpoint.auth not in STATUS_BY_ACCESS:
        unknown.append(f"access {endpoint.auth}: say in STATUS_BY_ACCESS how a foreign API key is answered")
    required = [parameter.name for parameter in endpoint.query if parameter.required]
    known = {*FIELDS, *OWN_CREDENTIALS.get(key_of(endpoint), ())}
    unknown += [
        f"field {name}: say in FIELDS what the owner's would be"
        for name in [*required, *_required_fields(endpoint)]
        if name not in known
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
        parameter.name: _in_query(FIELDS[parameter.name](owner))
        for parameter in endpoint.query
        if parameter.name in FIELDS
    }
    return Call(path, body, query, statuses_of(endpoint))


def _in_query(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def statuses_of(endpoint: Endpoint) -> set[int]:
    """How a call may be answered."""
    said = STATUSES.get(key_of(endpoint)) or STATUS_BY_ACCESS[endpoint.auth]
    if said is not None:
        return said
    names_an_object = any(OBJECTS[key][0] == "object" for key in parameters_of(endpoint))
    return {404} if names_an_object else set(endpoint.answers)


@pytest.fixture(scope="module")
def owner(http: httpx2.Client, server: LiveServer) -> Iterator[Estate]:
    """The organization whose objects are asked for."""
    with listening() as receiver:
        yield Estate.build(http, server, receiver)


@pytest.fixture
def intruder(http: httpx2.Client, tenant: LiveTenant, endpoint: Endpoint) -> Iterator[Api]:
    """Another organization, with the credential of its own that the endpoint takes."""
    api = Api(http, tenant.url, tenant.api_key)
    if key_of(endpoint) in TOKEN_ROUTES:
        yield Api(http, tenant.url, log_in(api)["access_token"])
    elif endpoint.auth is Auth.ADMIN:
        # From an address of its own: after too many wrong admin keys the others of that address have to wait.
        address = f"127.0.1.{ENDPOINTS.index(endpoint) + 1}"
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=address)) as elsewhere:
            yield Api(elsewhere, tenant.url, tenant.api_key)
    else:
        yield api


@pytest.fixture
async def connection(server: LiveServer) -> AsyncIterator[asyncpg.Connection]:
    connected = await asyncpg.connect(server.dsn)
    yield connected
    await connected.close()


def send(api: Api, endpoint: Endpoint, call: Call, caller: LiveTenant, owner: Estate) -> httpx2.Response:
    """Call as `caller`, who says to be the owner wherever that can be said (C13)."""
    claimed = owner.tenant.organization_id
    headers = {"X-Webhook-Token": caller.webhook_token, "X-Organization-ID": claimed}
    if endpoint.auth is Auth.ADMIN and api.api_key is not None:
        headers["X-Admin-Key"] = api.api_key
    body = None if call.body is None else {**call.body, "organization_id": claimed}
    query: dict[str, str | int] = {**call.query, "organization_id": claimed}
    return api.call(endpoint.method, call.path, body, headers=headers, params=query)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=key_of)
async def test_a_route_gives_nothing_of_another_organization(
    owner: Estate, tenant: LiveTenant, connection: asyncpg.Connection, intruder: Api, endpoint: Endpoint
) -> None:
    unknown = unknown_of(endpoint)
    assert not unknown, f"{key_of(endpoint)} is not known to the walk: {'; '.join(unknown)}"
    before = await owner.state(connection)
    keys = parameters_of(endpoint)
    for objects in [*_fillings(owner, keys), *_fillings_of_own(owner, keys, intruder)]:
        call = _with_credentials(endpoint, call_of(endpoint, owner, objects), intruder)
        _check(owner, call, send(intruder, endpoint, call, tenant, owner))
        if call.query and not any(parameter.required for parameter in endpoint.query):
            unfiltered = call._replace(query={})
            _check(owner, unfiltered, send(intruder, endpoint, unfiltered, tenant, owner))
        if keys and OBJECTS[keys[-1]][0] == "object" and endpoint.auth in {Auth.BEARER, Auth.ADMIN}:
            # An object that nobody has is refused alike.
            nobodys = call_of(endpoint, owner, (*objects[:-1], UNKNOWN_ID))
            answers = [send(intruder, endpoint, each, tenant, owner) for each in (call, nobodys)]
            assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert await owner.state(connection) == before
    if endpoint.tag == "auth":
        # The owner is still signed in, whatever was said of its tokens.
        answered(intruder.post("/auth/refresh", {"refresh_token": owner.refresh_token}))


def _with_credentials(endpoint: Endpoint, call: Call, caller: Api) -> Call:
    own = {name: make(caller) for name, make in OWN_CREDENTIALS.get(key_of(endpoint), {}).items()}
    return call._replace(body={**(call.body or {}), **own}) if own else call


def _check(owner: Estate, call: Call, response: httpx2.Response) -> None:
    assert response.status_code in call.statuses, f"{call.text}: {response.status_code} {response.text}"
    # A refusal repeats nothing, not even what was asked.
    asked = call.text if response.status_code < 400 else ""
    told = owner.named_in(f"{response.text} {response.headers} {_claims_in(response.text)}", asked)
    assert not told, f"{call.text}: {response.text}"


def _claims_in(answer: str) -> list[object]:
    """What the tokens of an answer say."""
    return [jwt.decode(token, options={"verify_signature": False}) for token in _TOKEN.findall(answer)]


def _fillings(owner: Estate, keys: list[str]) -> list[tuple[str, ...]]:
    """Each of the owner's objects in turn for the last parameter, the first one of its kind for those before."""
    if not keys:
        return [()]
    *above, last = (OBJECTS[key][1](owner) for key in keys)
    return [(*(objects[0] for objects in above), each) for each in last]


def _fillings_of_own(owner: Estate, keys: list[str], caller: Api) -> list[tuple[str, ...]]:
    """Each of the owner's objects for the last parameter, below objects of the caller's own (C4)."""
    if len(keys) < 2:
        return []
    above = [OWN_PARENTS[key](caller) for key in keys[:-1]]
    return [(*above, each) for each in OBJECTS[keys[-1]][1](owner)]


@pytest.mark.parametrize("endpoint", GUARDED, ids=key_of)
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
    assert {key_of(endpoint) for endpoint in ENDPOINTS} - MAIL_ROUTES == served - {"GET /openapi.json"}


def test_the_tables_name_nothing_that_is_gone() -> None:
    keys = {key for endpoint in ENDPOINTS for key in parameters_of(endpoint)}
    assert OBJECTS.keys() == keys
    assert OWN_PARENTS.keys() == {key for endpoint in ENDPOINTS for key in parameters_of(endpoint)[:-1]}
    routes = {key_of(endpoint) for endpoint in ENDPOINTS}
    assert {*STATUSES, *OWN_CREDENTIALS, *TOKEN_ROUTES, *MAIL_ROUTES} <= routes
    names = {name for endpoint in ENDPOINTS for name in _names_of(endpoint)}
    assert names >= FIELDS.keys()


def _names_of(endpoint: Endpoint) -> set[str]:
    """All fields of a body and a query."""
    kind = _body_type(endpoint)
    fields = () if kind is None else msgspec.structs.fields(kind)
    return {*(field.encode_name for field in fields), *(parameter.name for parameter in endpoint.query)}


def test_the_owner_reaches_what_the_others_do_not(
    http: httpx2.Client, owner: Estate, server: LiveServer
) -> None:
    """Else nothing of the above would prove anything."""
    api = Api(http, owner.tenant.url, owner.tenant.api_key)
    reads = [endpoint for endpoint in ENDPOINTS if endpoint.method == "GET" and parameters_of(endpoint)]
    assert reads
    for endpoint in reads:
        caller = Administrator(http, server.url, server.admin_key) if endpoint.auth is Auth.ADMIN else api
        for objects in _fillings(owner, parameters_of(endpoint)):
            call = call_of(endpoint, owner, objects)
            if endpoint.auth is Auth.ADMIN:
                call = call._replace(path=call.path.removeprefix("/admin"))
            response = send(caller, endpoint, call, owner.tenant, owner)
            assert response.status_code == 200, f"{key_of(endpoint)}: {response.text}"
    # What the walk looks for in answers does stand in them.
    for path, told in {
        f"/jobs/{owner.jobs[0]}": {owner.mark, owner.jobs[0]},
        "/webhooks/deliveries": {owner.mark},
        "/schedules": {owner.mark, owner.schedule_id},
        f"/schedules/{owner.schedule_id}/history": {owner.schedule_id},
        "/organizations": {owner.mark, owner.slug, owner.tenant.organization_id},
        "/organizations/webhook-token": {owner.tenant.webhook_token},
        f"/organizations/{owner.tenant.organization_id}/members": {owner.mark, *owner.key_ids},
        "/billing/status": {owner.mark},
        "/api-keys": {owner.mark, *owner.key_ids},
        "/outgoing-webhooks": {owner.mark, owner.webhook_id, owner.receiver.url},
        f"/outgoing-webhooks/{owner.webhook_id}/deliveries": {owner.mark, owner.delivery_id},
    }.items():
        assert owner.named_in(api.get(path).text, "") >= told, path
    tokens = log_in(api)
    assert owner.named_in(f"{_claims_in(str(tokens))}", "") >= {owner.tenant.organization_id}


def test_a_route_that_the_walk_does_not_know_is_named() -> None:
    async def nothing(_: object) -> Any:
        return None

    strange = Endpoint(
        method="GET", path="/api/v1/secrets/{secret_id}", handler=nothing, summary="", tag="", answers={}
    )
    assert unknown_of(strange) == [
        "parameter /secrets/{secret_id}: say in OBJECTS which of the owner's objects it names"
    ]
