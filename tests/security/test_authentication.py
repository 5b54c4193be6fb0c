"""Keys and tokens that do not count any more, or never did, over HTTP. Contract: spooled-tenancy 19.1."""

from typing import Any
from uuid import uuid4

import jwt
import psycopg
import pytest

from tests.api.raw_connection import connect, read_answer
from tests.api.spooled.administrator import Administrator, Make
from tests.api.spooled.wire import Api, LiveServer, LiveTenant, answered, eventually, refused
from tests.engine.test_tokens import CHANGES, spoiled


def bearing(caller: Api, credential: str) -> Api:
    return Api(caller.http, caller.url, credential)


def log_in(caller: Api, key: str) -> dict[str, Any]:
    return answered(caller.post("/auth/login", {"api_key": key}))


def of(api: Api) -> str:
    assert api.api_key is not None
    return api.api_key


def end(server: LiveServer, tenant: LiveTenant) -> None:
    """Let the end of the tenant's key be past."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            "update millstream.api_keys set expires_at = now() - interval '1 second', updated_at = now()"
            " where tenant_id = %s",
            [tenant.tenant_id],
        )


@pytest.fixture(scope="module")
def secret(server: LiveServer) -> str:
    """What the server signs tokens with."""
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute("select value from millstream.settings where key = 'jwt_secret'").fetchone()
    assert row is not None
    return row[0]


def test_a_key_that_is_nearly_right_is_refused_like_a_random_one(own: Api, stranger: Api) -> None:
    key = of(own)
    swapped = "A" if key[20] != "A" else "B"
    wrong = [
        f"sk_test_{uuid4().hex}",
        f"{key[:20]}{swapped}{key[21:]}",
        key[:12] + "x" * len(key[12:]),
        key[:-1],
        f"{key}x",
        key.swapcase(),
        f"sk_live_{key[8:]}",
    ]
    bodies = [refused(bearing(stranger, one).get("/jobs/stats"), 401) for one in wrong]
    assert all(body == bodies[0] for body in bodies)
    wrong += [f"{key} ", f"{key}\n", f" {key}", f"{key}\t"]
    bodies = [refused(stranger.post("/auth/login", {"api_key": one}), 401) for one in wrong]
    assert all(body == bodies[0] for body in bodies)
    answered(own.get("/jobs/stats"))


@pytest.mark.parametrize("tail", [b" ", b"\t", b"  ", b"\x0b", b"\xa0", b"\x00"])
def test_a_key_with_white_space_behind_it_is_refused(own: Api, tail: bytes) -> None:
    with connect(own) as connection:
        head = f"GET /api/v1/jobs/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {of(own)}"
        connection.sendall(head.encode() + tail + b"\r\n\r\n")
        assert read_answer(connection)[0] in (400, 401)


@pytest.mark.parametrize("length", [73, 5_000, 20_000])
def test_a_long_key_is_401(own: Api, stranger: Api, length: int) -> None:
    long = of(own).ljust(length, "A")
    refused(bearing(stranger, long).get("/jobs/stats"), 401)
    refused(stranger.post("/auth/login", {"api_key": long}), 401)


def test_a_key_of_a_megabyte_is_refused(own: Api, stranger: Api) -> None:
    long = of(own).ljust(1_000_000, "A")
    refused(stranger.post("/auth/login", {"api_key": long}), 401)
    with connect(own) as connection:
        connection.sendall(b"GET /api/v1/jobs/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ")
        try:
            connection.sendall(long.encode() + b"\r\n\r\n")
        except ConnectionError:
            pass
        # A head of that length is not read to its end.
        assert read_answer(connection)[0] in (0, 400, 401, 431)
    answered(own.get("/jobs/stats"))


def test_an_expired_key_opens_nothing(tenant: LiveTenant, stranger: Api, server: LiveServer) -> None:
    end(server, tenant)
    unknown = refused(bearing(stranger, f"sk_test_{uuid4().hex}").get("/jobs/stats"), 401)
    assert refused(bearing(stranger, tenant.api_key).get("/jobs/stats"), 401) == unknown
    refused(stranger.post("/auth/login", {"api_key": tenant.api_key}), 401, "UNAUTHORIZED")


def test_tokens_end_with_a_key_that_expires(tenant: LiveTenant, stranger: Api, server: LiveServer) -> None:
    pair = log_in(stranger, tenant.api_key)
    session = bearing(stranger, pair["access_token"])
    answered(session.get("/jobs/stats"))
    end(server, tenant)
    # Every process reads changed credentials within a second.
    status = eventually(lambda: session.get("/jobs/stats").status_code, lambda status: status == 401)
    assert status == 401
    refused(session.get("/auth/me"), 401, "UNAUTHORIZED")
    refused(stranger.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}), 401, "UNAUTHORIZED")


def test_a_token_that_was_not_signed_here_opens_nothing(own: Api, stranger: Api, secret: str) -> None:
    token = log_in(stranger, of(own))["access_token"]
    answered(bearing(own, token).get("/jobs/stats"))
    unknown = refused(bearing(own, "eyJ.broken.token").get("/jobs/stats"), 401)
    for name, forged in spoiled(token, secret).items():
        session = bearing(stranger, forged)
        assert refused(session.get("/jobs/stats"), 401) == unknown, name
        refused(session.get("/auth/me"), 401)
        refused(stranger.post("/auth/refresh", {"refresh_token": forged}), 401)
        looked = answered(stranger.post("/auth/validate", {"token": forged}))
        assert looked == {"valid": False, "error": "Invalid token", "message": "Invalid token"}, name


def test_a_signed_token_that_does_not_say_what_it_must_opens_nothing(
    own: Api, stranger: Api, secret: str
) -> None:
    token = log_in(stranger, of(own))["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    answered(bearing(own, jwt.encode(claims, secret, "HS256")).get("/jobs/stats"))
    for change in CHANGES:
        said = {name: value for name, value in {**claims, **change}.items() if value is not None}
        forged = jwt.encode(said, secret, "HS256")
        assert bearing(stranger, forged).get("/jobs/stats").status_code == 401, change


def test_a_signed_token_with_the_key_of_another_organization_opens_neither(
    own: Api, api: Api, stranger: Api, secret: str
) -> None:
    mine, theirs = (
        jwt.decode(log_in(stranger, of(one))["access_token"], options={"verify_signature": False})
        for one in (own, api)
    )
    for borrowed in (("api_key_id",), ("org_id",), ("sub",), ("org_id", "sub")):
        claims = {**mine, **{name: theirs[name] for name in borrowed}}
        session = bearing(stranger, jwt.encode(claims, secret, "HS256"))
        refused(session.get("/jobs/stats"), 401)
        refused(session.get("/auth/me"), 401)
        refresh = jwt.encode({**claims, "token_type": "refresh"}, secret, "HS256")
        refused(stranger.post("/auth/refresh", {"refresh_token": refresh}), 401)


def test_a_refresh_token_is_no_credential(own: Api, stranger: Api) -> None:
    pair = log_in(stranger, of(own))
    refused(bearing(own, pair["refresh_token"]).get("/jobs/stats"), 401)
    refused(bearing(own, pair["refresh_token"]).post("/jobs", {"queue_name": "q", "payload": 1}), 401)
    refused(stranger.post("/auth/refresh", {"refresh_token": pair["access_token"]}), 401, "UNAUTHORIZED")


def test_the_credentials_of_an_organization_administer_nothing(own: Api, stranger: Api) -> None:
    token = log_in(stranger, of(own))["access_token"]
    for credential in (of(own), token):
        refused(bearing(own, credential).get("/admin/stats"), 401, "MISSING_ADMIN_KEY")
        presented = Administrator(stranger.http, stranger.url, credential)
        refused(presented.get("/stats"), 401, "INVALID_ADMIN_KEY")


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x1b", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9"])
def test_an_admin_key_of_other_bytes_is_refused(anonymous: Api, server: LiveServer, byte: bytes) -> None:
    key = server.admin_key.encode()
    with connect(anonymous) as connection:
        head = b"GET /api/v1/admin/stats HTTP/1.1\r\nHost: x\r\nX-Admin-Key: "
        connection.sendall(head + key[:5] + byte + key[5:] + b"\r\n\r\n")
        assert read_answer(connection)[0] in (400, 401)


def test_without_an_admin_key_nobody_administers(in_production: Api) -> None:
    bodies = [
        refused(Administrator(in_production.http, in_production.url, presented).get(path), 401)
        for presented in (None, "", "None", "null", in_production.api_key)
        for path in ("/stats", "/organizations", "/plans")
    ]
    assert {(body["code"], body["error"]) for body in bodies} == {
        ("ADMIN_NOT_CONFIGURED", "admin_not_configured")
    }


def test_limits_that_nobody_knows_are_left_out(admin: Administrator, make: Make) -> None:
    organization, api = make()
    limits = {"max_queues": 1, "max_everything": 5, "tier": "enterprise", "max_workers": None}
    path = f"/organizations/{organization['id']}"
    after = answered(admin.patch(path, {"custom_limits": limits}))
    assert "max_everything" not in after["custom_limits"]
    shown = answered(api.get("/organizations/usage"))["limits"]
    assert (shown["tier"], shown["max_queues"], shown["max_workers"]) == ("free", 1, 1)
