"""Contract: spooled-tenancy 1.2, 5, 19.1."""

from __future__ import annotations

import uuid
from datetime import datetime

import httpx2
import jwt
import pytest

from tests.api.spooled.objects import conforms, shape
from tests.api.spooled.wire import Api, JsonObject, LiveTenant, answered, refused, refused_fields
from tests.conftest import LiveServer


def log_in(api: Api) -> JsonObject:
    return answered(api.post("/auth/login", {"api_key": api.api_key}))


def bearing(api: Api, token: str) -> Api:
    return Api(api.http, api.url, token)


def test_a_log_in_opens_the_api(own: Api, tenant: LiveTenant) -> None:
    response = bearing(own, "ignored").post("/auth/login", {"api_key": own.api_key})
    body = answered(response)
    assert response.headers["cache-control"] == "no-store"
    assert body.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "refresh_expires_in"}
    assert (body["token_type"], body["expires_in"], body["refresh_expires_in"]) == (
        "Bearer",
        86_400,
        2_073_600,
    )
    session = bearing(own, body["access_token"])
    assert session.job(session.enqueue("q"))["organization_id"] == tenant.organization_id
    answered(session.get("/api-keys"))


def test_me(own: Api, tenant: LiveTenant) -> None:
    token = log_in(own)["access_token"]
    me = answered(bearing(own, token).get("/auth/me"))
    conforms(
        me,
        shape(organization_id="text", api_key_id="text", queues="texts", issued_at="time", expires_at="time"),
    )
    claims = jwt.decode(token, options={"verify_signature": False})
    (key,) = answered(own.get("/api-keys"))
    assert (me["organization_id"], me["api_key_id"], me["queues"]) == (
        tenant.organization_id,
        key["id"],
        ["*"],
    )
    assert datetime.fromisoformat(me["issued_at"]).timestamp() == claims["iat"]
    assert datetime.fromisoformat(me["expires_at"]).timestamp() == claims["exp"]
    conforms(
        me["organization"],
        shape(id="text", name="text", slug="text", plan_tier="text", billing_email="text?"),
    )
    assert me["organization"]["id"] == tenant.organization_id


def test_me_and_logout_take_no_api_key_and_no_refresh_token(own: Api) -> None:
    refresh = log_in(own)["refresh_token"]
    for api in (own, bearing(own, refresh)):
        refused(api.get("/auth/me"), 401, "UNAUTHORIZED")
        refused(api.post("/auth/logout"), 401, "UNAUTHORIZED")
    answered(own.get("/jobs"))


def test_refresh_needs_no_bearer_and_does_not_rotate(own: Api, anonymous: Api) -> None:
    body = log_in(own)
    for caller in (anonymous, bearing(own, "eyJ.broken.token")):
        response = caller.post("/auth/refresh", {"refresh_token": body["refresh_token"]})
        fresh = answered(response)
        assert response.headers["cache-control"] == "no-store"
        assert fresh.keys() == {"access_token", "token_type", "expires_in"}
        assert (fresh["token_type"], fresh["expires_in"]) == ("Bearer", 86_400)
        assert fresh["access_token"] != body["access_token"]
        answered(bearing(own, fresh["access_token"]).get("/auth/me"))
    refusal = anonymous.post("/auth/refresh", {"refresh_token": body["access_token"]})
    assert refused(refusal, 401, "UNAUTHORIZED")["error"] == "unauthorized"


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"refresh_token":null}'])
def test_logout_ends_the_access_token(own: Api, content: bytes | None) -> None:
    body = log_in(own)
    session = bearing(own, body["access_token"])
    answered(session.get("/jobs"))
    answered(session.call("POST", "/auth/logout", content=content), 204)
    refused(session.get("/jobs"), 401, "UNAUTHORIZED")
    refused(session.get("/auth/me"), 401, "UNAUTHORIZED")
    looked = answered(own.post("/auth/validate", {"token": body["access_token"]}))
    assert looked == {
        "valid": False,
        "error": "Token has been revoked",
        "message": "Token has been revoked",
    }
    answered(own.post("/auth/refresh", {"refresh_token": body["refresh_token"]}))


def test_logout_ends_the_refresh_token_that_is_named(own: Api) -> None:
    body = log_in(own)
    answered(
        bearing(own, body["access_token"]).post("/auth/logout", {"refresh_token": body["refresh_token"]}), 204
    )
    refused(own.post("/auth/refresh", {"refresh_token": body["refresh_token"]}), 401, "UNAUTHORIZED")


def test_a_foreign_refresh_token_is_left_alone(own: Api, api: Api) -> None:
    foreign = log_in(api)
    for refresh in (foreign["refresh_token"], "no token at all"):
        session = bearing(own, log_in(own)["access_token"])
        answered(session.post("/auth/logout", {"refresh_token": refresh}), 204)
    answered(api.post("/auth/refresh", {"refresh_token": foreign["refresh_token"]}))


def test_validate_tells_claims_under_the_names_of_all_clients(own: Api, anonymous: Api) -> None:
    body = log_in(own)
    for token, token_type in ((body["access_token"], "access"), (body["refresh_token"], "refresh")):
        looked = answered(anonymous.post("/auth/validate", {"token": token}))
        claims = jwt.decode(token, options={"verify_signature": False})
        assert looked["valid"] is True
        assert looked["claims"] == {**claims, "organization_id": claims["org_id"]}
        assert claims["token_type"] == token_type
        assert (looked["organization_id"], looked["api_key_id"], looked["queues"]) == (
            claims["org_id"],
            claims["api_key_id"],
            claims["queues"],
        )
        assert datetime.fromisoformat(looked["expires_at"]).timestamp() == claims["exp"]
        assert "error" not in looked


@pytest.mark.parametrize("token", ["", "rubbish", "eyJ", "x" * 1_000_000, "'; drop table jobs; --", "ключ"])
def test_what_is_no_token_is_told_so_and_nothing_more(anonymous: Api, token: str) -> None:
    looked = answered(anonymous.post("/auth/validate", {"token": token}))
    assert looked == {"valid": False, "error": "Invalid token", "message": "Invalid token"}


def test_revoking_the_key_ends_its_tokens(own: Api) -> None:
    made = answered(own.post("/api-keys", {"name": "brief"}), 201)
    body = log_in(bearing(own, made["key"]))
    session = bearing(own, body["access_token"])
    answered(session.get("/jobs"))
    answered(own.put(f"/api-keys/{made['id']}", {"queues": ["emails"]}))
    refused(session.post("/jobs", {"queue_name": "other", "payload": 1}), 403, "ACCESS_DENIED")
    refused(session.get("/api-keys"), 403, "ACCESS_DENIED")
    answered(own.delete(f"/api-keys/{made['id']}"), 204)
    refused(session.get("/jobs"), 401, "UNAUTHORIZED")
    refused(own.post("/auth/refresh", {"refresh_token": body["refresh_token"]}), 401, "UNAUTHORIZED")
    refused(own.post("/auth/login", {"api_key": made["key"]}), 401, "UNAUTHORIZED")
    assert answered(own.post("/auth/validate", {"token": body["refresh_token"]}))["valid"] is False


def test_unknown_revoked_and_expired_keys_are_refused_alike(own: Api) -> None:
    revoked = answered(own.post("/api-keys", {"name": "revoked"}), 201)
    answered(own.delete(f"/api-keys/{revoked['id']}"), 204)
    token = log_in(own)["access_token"]
    bodies = [
        refused(own.post("/auth/login", {"api_key": secret}), 401, "UNAUTHORIZED")
        for secret in (f"sk_test_{uuid.uuid4().hex}", revoked["key"], token, "a" * 100_000)
    ]
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["error"] == "unauthorized"


def test_the_sixth_wrong_log_in_of_a_minute_is_429(own: Api) -> None:
    wrong = {"api_key": f"sk_test_{uuid.uuid4().hex}"}
    for _ in range(5):
        refused(own.post("/auth/login", wrong), 401, "UNAUTHORIZED")
    response = own.post("/auth/login", wrong)
    body = refused(response, 429, "RATE_LIMIT_EXCEEDED")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert body["details"] == {"retry_after_seconds": int(response.headers["retry-after"])}
    log_in(own)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/auth/login", "api_key"), ("/auth/refresh", "refresh_token"), ("/auth/validate", "token")],
)
def test_bodies_of_the_open_routes_are_checked(anonymous: Api, path: str, field: str) -> None:
    refused(anonymous.post(path), 400, "INVALID_JSON")
    refused(anonymous.call("POST", path, content=b"{"), 400, "INVALID_JSON")
    assert refused_fields(anonymous.post(path, {}), 422) == {field}
    for value in (None, 5, [], {}, True):
        assert refused_fields(anonymous.post(path, {field: value}), 422) == {field}
    refused(anonymous.post(path, {field: "a\0" * 20}), 400, "VALIDATION_ERROR")
    if field != "token":
        for short in ("", "x" * 9):
            assert refused_fields(anonymous.post(path, {field: short}), 400) == {field}


def test_a_token_is_taken_from_nowhere_but_the_bearer(own: Api, anonymous: Api) -> None:
    token = log_in(own)["access_token"]
    for name in ("token", "access_token"):
        refused(anonymous.call("GET", "/jobs", params={name: token}), 401, "UNAUTHORIZED")
    refused(anonymous.call("GET", "/jobs", headers={"X-API-Key": token}), 401, "UNAUTHORIZED")
    both = {"Authorization": "Bearer sk_test_wrong", "X-API-Key": str(own.api_key)}
    refused(anonymous.call("GET", "/jobs", headers=both), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/auth/email/start"),
        ("POST", "/auth/email/verify"),
        ("POST", "/auth/signup/complete"),
        ("GET", "/auth/check-email"),
        ("POST", "/auth/email/check"),
        ("GET", "/auth/email/check"),
    ],
)
def test_without_a_mail_server_there_is_no_sign_in_by_email(anonymous: Api, method: str, path: str) -> None:
    refused(anonymous.call(method, path), 404, "NOT_FOUND")


def test_no_secret_is_in_the_log(own: Api, server: LiveServer) -> None:
    body = log_in(own)
    made = answered(own.post("/api-keys", {"name": "quiet"}), 201)
    refused(own.post("/auth/login", {"api_key": "sk_test_never_was_a_key"}), 401)
    log = (server.data_dir / "serve.log").read_text()
    for secret in (
        str(own.api_key),
        made["key"],
        "never_was_a_key",
        body["access_token"],
        body["refresh_token"],
    ):
        assert secret not in log


def test_a_header_with_the_longest_token_is_read(own: Api) -> None:
    queues = [f"{number:0255}" for number in range(50)]
    made = answered(own.post("/api-keys", {"name": "long", "queues": queues}), 201)
    session: httpx2.Response = bearing(own, log_in(bearing(own, made["key"]))["access_token"]).get("/auth/me")
    assert answered(session)["queues"] == queues
