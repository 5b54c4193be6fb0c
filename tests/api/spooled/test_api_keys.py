"""Contract: spooled-tenancy 2.2, 2.3, 3.7, 4, 19.1, 19.4."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.spooled.objects import conforms, shape
from tests.api.spooled.wire import UNKNOWN_ID, Api, LiveTenant, answered, refused, refused_fields

KEY = shape(
    id="text",
    organization_id="text",
    name="text",
    key_prefix="text",
    queues="texts",
    rate_limit="integer?",
    is_active="boolean",
    created_at="time",
    last_used="time?",
    expires_at="time?",
)
CREATED = {"id", "key", "name", "created_at"}


def with_key(api: Api, secret: str) -> Api:
    return Api(api.http, api.url, secret)


def test_a_key_is_made_shown_once_changed_and_revoked(own: Api, tenant: LiveTenant) -> None:
    fields = {"name": "Mailer (été_1.0)", "queues": ["emails", "a.b*"], "rate_limit": 60}
    response = own.post("/api-keys", {**fields, "expires_at": "9999-12-31T23:59:59", "is_active": False})
    made = answered(response, 201)
    assert set(made) == CREATED | {"expires_at"}
    assert made["expires_at"] == "9999-12-31T23:59:59.000000Z"
    assert response.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"sk_test_[A-Za-z0-9_-]{43}", made["key"])

    path = f"/api-keys/{made['id']}"
    shown = conforms(answered(own.get(path)), KEY)
    assert {name: shown[name] for name in fields} == fields
    assert shown["organization_id"] == tenant.organization_id
    assert (shown["is_active"], shown["last_used"]) == (True, None)
    assert made["key"].startswith(shown["key_prefix"])
    listing = own.get("/api-keys")
    assert answered(listing)[0]["id"] == made["id"]
    for response in (listing, own.get(path)):
        assert made["key"] not in response.text
        assert "hash" not in response.text

    key = with_key(own, made["key"])
    key.enqueue("emails")
    refused(key.post("/jobs", {"queue_name": "other", "payload": 1}), 403, "ACCESS_DENIED")
    changed = answered(own.put(path, {"queues": ["other"], "rate_limit": None, "name": None}))
    assert (changed["queues"], changed["rate_limit"], changed["name"]) == (["other"], 60, fields["name"])
    key.enqueue("other")
    refused(key.post("/jobs", {"queue_name": "emails", "payload": 1}), 403, "ACCESS_DENIED")

    for _ in range(2):
        answered(own.delete(path), 204)
    refused(key.get("/jobs"), 401, "UNAUTHORIZED")
    assert answered(own.get(path))["is_active"] is False
    assert made["id"] in [row["id"] for row in answered(own.get("/api-keys"))]
    assert answered(own.put(path, {"is_active": True}))["is_active"] is True
    answered(key.get("/jobs"))


def test_a_plain_key_reaches_every_queue_and_has_no_end(own: Api) -> None:
    for queues in (None, [], ["x", "*"]):
        made = answered(own.post("/api-keys", {"name": "k", "queues": queues}), 201)
        assert set(made) == CREATED
        with_key(own, made["key"]).enqueue("anything")


BROKEN: list[tuple[str, object, str]] = [
    ("name", "", "name"),
    ("name", "   ", "name"),
    ("name", "n" * 101, "name"),
    ("name", "<script>", "name"),
    ("name", "'; DROP TABLE api_keys; --", "name"),
    ("name", "a\tb", "name"),
    ("name", "a\n", "name"),
    ("queues", ["q"] * 51, "queues"),
    ("queues", ["ok", ""], "queues[1]"),
    ("queues", ["q" * 256], "queues[0]"),
    ("queues", ["a b"], "queues[0]"),
    ("queues", ["é"], "queues[0]"),
    ("queues", ["a/b"], "queues[0]"),
    ("rate_limit", 0, "rate_limit"),
    ("rate_limit", -1, "rate_limit"),
    ("rate_limit", 10_001, "rate_limit"),
    ("expires_at", "2020-01-01T00:00:00Z", "expires_at"),
    ("expires_at", "2020-01-01T00:00:00", "expires_at"),
    ("expires_at", "tomorrow", "expires_at"),
]


@pytest.mark.parametrize(("name", "value", "field"), BROKEN, ids=lambda value: repr(value)[:30])
def test_a_broken_rule_is_400_at_creation_and_at_change(
    api: Api, name: str, value: object, field: str
) -> None:
    assert refused_fields(api.post("/api-keys", {"name": "k", name: value}), 400) == {field}
    if name != "expires_at":
        assert refused_fields(api.put(f"/api-keys/{UNKNOWN_ID}", {name: value}), 400) == {field}


def test_a_wrong_type_is_422(api: Api) -> None:
    for name, values in {
        "name": (5, [], {}, True),
        "queues": ("q", {}, 5, [5], [None]),
        "rate_limit": ("5", 5.0, True, 2**64),
        "expires_at": (5, []),
    }.items():
        for value in values:
            refused(api.post("/api-keys", {"name": "k", name: value}), 422, "VALIDATION_ERROR")
    for value in ("true", 1):
        refused(api.put(f"/api-keys/{UNKNOWN_ID}", {"is_active": value}), 422, "VALIDATION_ERROR")
    assert refused_fields(api.post("/api-keys", {}), 422) == {"name"}
    refused(api.post("/api-keys"), 400, "INVALID_JSON")
    refused(api.post("/api-keys", {"name": "a\0b"}), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("key_id", [UNKNOWN_ID, "x", "1%20OR%201=1", "%00", "..%2f..%2fjobs"])
def test_an_unknown_key_is_404(api: Api, key_id: str) -> None:
    path = f"/api-keys/{key_id}"
    for response in (api.get(path), api.put(path, {"name": "n"}), api.delete(path)):
        refused(response, 404, "NOT_FOUND")


def test_a_foreign_key_is_a_missing_one(api: Api, own: Api) -> None:
    (foreign,) = (row for row in answered(own.get("/api-keys")))
    path, unknown = f"/api-keys/{foreign['id']}", f"/api-keys/{UNKNOWN_ID}"
    calls: list[Callable[[str], object]] = [
        lambda path: refused(api.get(path), 404),
        lambda path: refused(api.put(path, {"name": "n"}), 404),
        lambda path: refused(api.delete(path), 404),
    ]
    for call in calls:
        assert call(path) == call(unknown)
    assert answered(own.get(path)) == foreign | {"last_used": answered(own.get(path))["last_used"]}
    assert foreign["id"] not in [row["id"] for row in answered(api.get("/api-keys"))]


def test_a_restricted_key_administers_no_keys(make_tenant: Callable[..., LiveTenant], own: Api) -> None:
    tenant = make_tenant(queues=("emails",))
    some = with_key(own, tenant.api_key)
    for response in (
        some.get("/api-keys"),
        some.get(f"/api-keys/{UNKNOWN_ID}"),
        some.post("/api-keys", {"name": "k", "queues": []}),
        some.post("/api-keys", {"name": "k", "queues": ["*"]}),
        some.post("/api-keys", {"name": "k", "queues": ["emails"]}),
        some.put(f"/api-keys/{UNKNOWN_ID}", {"queues": []}),
        some.delete(f"/api-keys/{UNKNOWN_ID}"),
    ):
        refused(response, 403, "ACCESS_DENIED")


def test_the_free_plan_has_two_keys(free: Api) -> None:
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(free.post, "/api-keys", {"name": f"k{n}"}) for n in range(4)]
        responses = [call.result() for call in calls]
    assert sorted(response.status_code for response in responses) == [201, 429, 429, 429]
    response = free.post("/api-keys", {"name": "one more"})
    body = refused(response, 429, "QUOTA_EXCEEDED")
    expected = {"resource": "api_keys", "current": 2, "limit": 2, "plan": "free", "upgrade_to": "starter"}
    assert {name: body[name] for name in expected} == expected
    assert "api keys limit reached (2/2)" in body["message"]
    assert "retry-after" not in response.headers
    (second,) = (row for row in answered(free.get("/api-keys")) if row["name"] != "test")
    answered(free.delete(f"/api-keys/{second['id']}"), 204)
    answered(free.post("/api-keys", {"name": "third"}), 201)
    refused(free.put(f"/api-keys/{second['id']}", {"is_active": True}), 429, "QUOTA_EXCEEDED")


@pytest.mark.slow
def test_more_keys_than_share_a_prefix_each_act_for_themselves(own: Api) -> None:
    made = [answered(own.post("/api-keys", {"name": f"k{n}", "queues": [f"q{n}"]}), 201) for n in range(12)]
    assert len({one["key"][:8] for one in made}) == 1
    for number, one in enumerate(made):
        key = with_key(own, one["key"])
        key.enqueue(f"q{number}")
        refused(key.post("/jobs", {"queue_name": f"q{number + 1}", "payload": 1}), 403)


def test_a_key_may_revoke_itself(own: Api) -> None:
    made = answered(own.post("/api-keys", {"name": "short", "queues": ["q"]}), 201)
    key = with_key(own, made["key"])
    answered(key.delete(f"/api-keys/{made['id']}"), 204)
    refused(key.delete(f"/api-keys/{made['id']}"), 401, "UNAUTHORIZED")


def test_members_are_the_active_keys_of_the_own_organization(own: Api, api: Api, tenant: LiveTenant) -> None:
    answered(own.post("/api-keys", {"name": "some", "queues": ["q"]}), 201)
    gone = answered(own.post("/api-keys", {"name": "gone"}), 201)
    answered(own.delete(f"/api-keys/{gone['id']}"), 204)
    path = f"/organizations/{tenant.organization_id}/members"
    members = answered(own.get(path))
    for member in members:
        conforms(member, shape(id="text", user_id="text", email="text", name="text", joined_at="time"))
        assert member["id"] == member["user_id"]
    assert [(member["name"], member["role"]) for member in members] == [("test", "owner"), ("some", "member")]
    for refusal in (api.get(path), own.get(f"/organizations/{UNKNOWN_ID}/members")):
        refused(refusal, 404, "NOT_FOUND")
