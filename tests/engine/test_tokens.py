"""Tokens: what they open, and what ends them. Contract: spooled-tenancy 5, 19.1."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import jwt
import msgspec
import pytest

from millstream.domain.api_key import ApiKeyChange
from millstream.domain.errors import InvalidCredential, RateLimited
from millstream.domain.tenant import IssuedKey, Principal
from millstream.domain.token import TokenPair
from millstream.engine.engine import Engine
from millstream.store import tenants
from tests.engine.keys import make_key, make_owner

HERE = "192.0.2.1"


@pytest.fixture
async def owner(engine: Engine) -> tuple[Principal, IssuedKey]:
    return await make_owner(engine)


@pytest.fixture
async def pair(engine: Engine, owner: tuple[Principal, IssuedKey]) -> TokenPair:
    return await engine.tokens.log_in(owner[1].secret, address=HERE)


@pytest.fixture
async def secret(engine: Engine) -> str:
    """The secret that tokens are signed with: whoever has it can say anything."""
    async with engine.context.database.session() as session:
        return await tenants.get_setting(session, "jwt_secret")


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


async def refused(engine: Engine, token: str) -> None:
    with pytest.raises(InvalidCredential):
        await engine.credentials.authenticate(token)


async def test_tokens_say_what_the_contract_lists(
    owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    principal, key = owner
    for token, token_type, seconds in (
        (pair.access.token, "access", 86_400),
        (pair.refresh_token, "refresh", 2_073_600),
    ):
        claims = claims_of(token)
        assert jwt.get_unverified_header(token) == {"typ": "JWT", "alg": "HS256"}
        assert claims.keys() == {
            *("sub", "org_id", "api_key_id", "iat", "exp", "nbf", "jti", "queues", "token_type"),
        }
        assert claims["sub"] == claims["org_id"] == principal.organization_id
        assert claims["api_key_id"] == str(key.id)
        assert claims["token_type"] == token_type
        assert claims["queues"] == ["*"]
        assert claims["exp"] - claims["iat"] == seconds
        assert type(claims["exp"]) is int
        assert abs(claims["iat"] - time.time()) < 60
    assert (pair.access.expires_in_seconds, pair.refresh_expires_in_seconds) == (86_400, 2_073_600)


async def test_an_access_token_acts_for_its_key_and_is_then_known(
    engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    assert engine.credentials.cached(pair.access.token) is None
    principal = await engine.credentials.authenticate(pair.access.token)
    assert principal == owner[0]
    assert engine.credentials.cached(pair.access.token) is principal


async def test_no_two_log_ins_give_the_same_tokens(
    engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    again = await engine.tokens.log_in(owner[1].secret, address=HERE)
    assert again.access.token != pair.access.token
    assert again.refresh_token != pair.refresh_token


async def test_a_refresh_token_opens_nothing_but_a_refresh(engine: Engine, pair: TokenPair) -> None:
    await refused(engine, pair.refresh_token)
    fresh = [await engine.tokens.refresh(pair.refresh_token) for _ in range(2)]
    assert len({pair.access.token, *(one.token for one in fresh)}) == 3
    for one in fresh:
        await engine.credentials.authenticate(one.token)
    for token in (pair.access.token, "eyJ", "", "x" * 30_000, "eyJ.eyJ.eyJ"):
        with pytest.raises(InvalidCredential):
            await engine.tokens.refresh(token)


def part(value: object) -> str:
    return urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def spoiled(token: str, secret: str) -> dict[str, str]:
    """Return what is no access token of ours, though it looks like one. Cases A7 to A9."""
    head, body, signature = token.split(".")
    claims = claims_of(token)
    deep = urlsafe_b64encode(b"[" * 10_000).decode()
    # The last of its characters has bits that count for nothing: it is the first that is changed.
    other = "A" if signature[0] != "A" else "B"
    return {
        "no algorithm": f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "no algorithm, capitalised": f"{part({'alg': 'None', 'typ': 'JWT'})}.{body}.",
        "no algorithm, signed": f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "stripped": f"{head}.{body}",
        "changed signature": f"{head}.{body}.{other}{signature[1:]}",
        "changed claims": f"{head}.{part({**claims, 'queues': []})}.{signature}",
        "another secret": jwt.encode(claims, "x" * 64, "HS256"),
        "another algorithm": jwt.encode(claims, secret, "HS384"),
        "yet another algorithm": jwt.encode(claims, secret, "HS512"),
        "an asymmetric head": f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{body}.{signature}",
        "no JSON": f"{head}.{urlsafe_b64encode(b'no').decode()}.{signature}",
        "a deep head": f"eyJ{deep}.{body}.{signature}",
        "a deep head of its own": f"{deep}.{body}.{signature}",
        "too long": f"{head}.{body}{'A' * 20_000}.{signature}",
    }


async def test_what_we_did_not_sign_is_refused(engine: Engine, pair: TokenPair, secret: str) -> None:
    for name, token in spoiled(pair.access.token, secret).items():
        try:
            await refused(engine, token)
            with pytest.raises(InvalidCredential):
                await engine.tokens.refresh(token)
            validation = await engine.tokens.validate(token, address=HERE)
        except BaseException as error:
            error.add_note(name)
            raise
        assert (validation.claims, validation.is_revoked) == (None, False), name


CHANGES: list[dict[str, Any]] = [
    {"exp": None},
    {"exp": int(time.time()) - 120},
    {"exp": str(int(time.time()) + 3600)},
    {"exp": "soon"},
    {"exp": True},
    {"exp": -1},
    {"exp": 1e300},
    {"iat": None},
    {"jti": None},
    {"jti": "x"},
    {"token_type": None},
    {"token_type": "session"},
    {"token_type": "refresh"},
    {"queues": "*"},
    {"api_key_id": "x"},
    {"api_key_id": str(uuid4())},
    {"org_id": "x", "sub": "x"},
    {"sub": "x"},
    {"sub": 5},
]


async def test_what_does_not_say_what_it_must_is_refused_even_if_signed(
    engine: Engine, pair: TokenPair, secret: str
) -> None:
    for change in CHANGES:
        claims = {**claims_of(pair.access.token), **change}
        said = {name: value for name, value in claims.items() if value is not None}
        try:
            await refused(engine, jwt.encode(said, secret, "HS256"))
        except BaseException as error:
            error.add_note(str(change))
            raise


async def test_an_end_counts_with_a_minute_of_leeway(engine: Engine, pair: TokenPair, secret: str) -> None:
    claims = claims_of(pair.access.token)
    just_ended = jwt.encode({**claims, "exp": int(time.time()) - 30}, secret, "HS256")
    await engine.credentials.authenticate(just_ended)
    not_yet = jwt.encode({**claims, "nbf": int(time.time()) + 600}, secret, "HS256")
    await engine.credentials.authenticate(not_yet)


async def test_a_key_of_another_tenant_in_a_signed_token_opens_neither(
    engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair, secret: str
) -> None:
    other, foreign = await make_owner(engine, "other")
    claims = claims_of(pair.access.token)
    await refused(engine, jwt.encode({**claims, "api_key_id": str(foreign.id)}, secret, "HS256"))
    renamed = {**claims, "org_id": other.organization_id, "sub": other.organization_id}
    await refused(engine, jwt.encode(renamed, secret, "HS256"))


async def test_a_forged_token_asks_the_database_nothing(
    engine: Engine, pair: TokenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.context.database, "session", None)
    await refused(engine, pair.access.token[:-8] + "AAAAAAAA")


def revoke(engine: Engine, owner: Principal, key: IssuedKey) -> Any:
    return engine.api_keys.revoke(owner, key.id)


def deactivate(engine: Engine, owner: Principal, key: IssuedKey) -> Any:
    return engine.api_keys.update(owner, key.id, ApiKeyChange(is_active=False))


@pytest.mark.parametrize("end", [revoke, deactivate])
async def test_tokens_die_with_their_key(
    engine: Engine, owner: tuple[Principal, IssuedKey], end: Callable[..., Any]
) -> None:
    principal, _ = owner
    key = await make_key(engine, principal)
    pair = await engine.tokens.log_in(key.secret, address=HERE)
    await engine.credentials.authenticate(pair.access.token)
    await end(engine, principal, key)
    assert engine.credentials.cached(pair.access.token) is None
    await refused(engine, pair.access.token)
    with pytest.raises(InvalidCredential):
        await engine.tokens.refresh(pair.refresh_token)
    for token in (pair.access.token, pair.refresh_token):
        assert (await engine.tokens.validate(token, address=HERE)).is_revoked
    # A key that is active again brings its tokens back: none of them was revoked.
    await engine.api_keys.update(principal, key.id, ApiKeyChange(is_active=True))
    await engine.credentials.authenticate(pair.access.token)


async def test_a_narrowed_key_narrows_its_tokens(engine: Engine, owner: tuple[Principal, IssuedKey]) -> None:
    principal, _ = owner
    key = await make_key(engine, principal)
    pair = await engine.tokens.log_in(key.secret, address=HERE)
    assert (await engine.credentials.authenticate(pair.access.token)).permits("other")
    await engine.api_keys.update(principal, key.id, ApiKeyChange(queues=("emails",), rate_limit=7))
    narrowed = await engine.credentials.authenticate(pair.access.token)
    assert (narrowed.queues, narrowed.rate_limit) == ({"emails"}, 7)
    assert claims_of((await engine.tokens.refresh(pair.refresh_token)).token)["queues"] == ["emails"]
    assert (await engine.tokens.signed_in(narrowed, pair.access.token)).queues == ("emails",)


async def test_logging_out_ends_what_was_presented(
    engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    principal, key = owner
    await engine.credentials.authenticate(pair.access.token)
    await engine.tokens.log_out(principal, pair.access.token, None)
    assert engine.credentials.cached(pair.access.token) is None
    await refused(engine, pair.access.token)
    assert (await engine.tokens.validate(pair.access.token, address=HERE)).is_revoked
    # The refresh token was not named.
    fresh = await engine.tokens.refresh(pair.refresh_token)
    await engine.tokens.log_out(principal, fresh.token, pair.refresh_token)
    with pytest.raises(InvalidCredential):
        await engine.tokens.refresh(pair.refresh_token)
    await engine.credentials.authenticate(key.secret)


async def test_logging_out_leaves_other_tokens_and_what_is_none_alone(
    engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    principal, key = owner
    _, foreign = await make_owner(engine, "other")
    other = await engine.tokens.log_in(foreign.secret, address=HERE)
    for refresh in (other.refresh_token, "rubbish", "eyJ.eyJ.eyJ", pair.access.token):
        session = await engine.tokens.log_in(key.secret, address=HERE)
        await engine.tokens.log_out(principal, session.access.token, refresh)
    await engine.tokens.refresh(other.refresh_token)
    await engine.credentials.authenticate(pair.access.token)
    with pytest.raises(InvalidCredential):
        await engine.tokens.log_out(principal, key.secret, None)


async def test_a_revocation_is_known_to_every_process_and_survives_one(
    engine: Engine, second_engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    await engine.tokens.log_out(owner[0], pair.access.token, pair.refresh_token)
    await refused(second_engine, pair.access.token)
    with pytest.raises(InvalidCredential):
        await second_engine.tokens.refresh(pair.refresh_token)


async def test_a_revocation_is_kept_as_long_as_the_token_would_count(
    engine: Engine, owner: tuple[Principal, IssuedKey], pair: TokenPair
) -> None:
    await engine.tokens.log_out(owner[0], pair.access.token, None)
    exp = claims_of(pair.access.token)["exp"]
    clock: Any = engine.context.clock
    clock.advance((datetime.fromtimestamp(exp + 60, UTC) - clock.now()).total_seconds())
    assert await engine.tokens.prune() == 0
    clock.advance(1)
    assert await engine.tokens.prune() == 1


async def test_a_look_at_a_token_tells_its_claims(engine: Engine, pair: TokenPair) -> None:
    for token in (pair.access.token, pair.refresh_token):
        claims = (await engine.tokens.validate(token, address=HERE)).claims
        assert claims is not None
        assert msgspec.json.decode(msgspec.json.encode(claims)) == claims_of(token)


async def test_too_many_failures_of_one_key_hold_up_that_key_only(
    engine: Engine, owner: tuple[Principal, IssuedKey]
) -> None:
    for _ in range(5):
        with pytest.raises(InvalidCredential):
            await engine.tokens.log_in("sk_test_wrong", address=HERE)
    with pytest.raises(RateLimited) as limited:
        await engine.tokens.log_in("sk_test_wrong", address=HERE)
    assert 1 <= limited.value.retry_after_seconds <= 60
    with pytest.raises(InvalidCredential):
        await engine.tokens.log_in("sk_test_wrong", address="192.0.2.2")
    with pytest.raises(InvalidCredential):
        await engine.tokens.log_in("sk_test_other", address=HERE)
    await engine.tokens.log_in(owner[1].secret, address=HERE)


async def test_whoever_guesses_is_held_up_by_address_and_known_keys_behind_it_are_not(
    engine: Engine, owner: tuple[Principal, IssuedKey]
) -> None:
    for number in range(60):
        with pytest.raises(InvalidCredential):
            await engine.tokens.log_in(f"sk_test_{number}", address="2001:db8::1")
    for address in ("2001:db8::1", "2001:db8::ffff:2"):
        with pytest.raises(RateLimited):
            await engine.tokens.log_in("sk_test_61", address=address)
    with pytest.raises(InvalidCredential):
        await engine.tokens.log_in("sk_test_61", address="2001:db8:0:1::1")
    await engine.tokens.log_in(owner[1].secret, address="2001:db8::1")


async def test_log_ins_that_succeed_are_counted_too(
    engine: Engine, owner: tuple[Principal, IssuedKey]
) -> None:
    for _ in range(30):
        await engine.tokens.log_in(owner[1].secret, address=HERE)
    with pytest.raises(RateLimited):
        await engine.tokens.log_in(owner[1].secret, address=HERE)
    _, other = await make_owner(engine, "other")
    await engine.tokens.log_in(other.secret, address=HERE)


async def test_looks_at_tokens_are_counted_by_address(engine: Engine) -> None:
    for _ in range(600):
        await engine.tokens.validate("rubbish", address=HERE)
    with pytest.raises(RateLimited):
        await engine.tokens.validate("rubbish", address=HERE)
    await engine.tokens.validate("rubbish", address="192.0.2.2")


async def test_a_token_for_as_many_queues_as_a_key_may_have_works(
    engine: Engine, owner: tuple[Principal, IssuedKey]
) -> None:
    queues = [f"{number:0255}" for number in range(50)]
    key = await make_key(engine, owner[0], "long", *queues)
    pair = await engine.tokens.log_in(key.secret, address=HERE)
    assert (await engine.credentials.authenticate(pair.access.token)).queues == set(queues)
