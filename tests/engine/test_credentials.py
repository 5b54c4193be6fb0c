"""API keys: who they act for, and how soon a change counts. Contract: spooled-tenancy 4.1, rulings R25 and R26."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import bcrypt
import pytest

from millstream.domain import limits
from millstream.domain.errors import AuthenticationFailed, Conflict, InvalidCredential, Overloaded
from millstream.domain.tenant import IssuedKey, Tenant
from millstream.engine import credentials as module
from millstream.engine.engine import Engine
from millstream.store import api_keys
from millstream.store.api_keys import StoredKey
from millstream.store.database import Session


async def create(engine: Engine, slug: str = "acme") -> tuple[Tenant, IssuedKey]:
    return await engine.tenants.create(name="Acme", slug=slug, billing_email=None, plan_tier="pro")


async def execute(engine: Engine, sql: str, *arguments: object) -> None:
    async with engine.context.database.session() as session:
        await session.run(sql, *arguments)


async def test_a_key_acts_for_its_tenant(engine: Engine) -> None:
    tenant, key = await create(engine)
    principal = await engine.credentials.authenticate(key.secret)
    assert (principal.tenant_id, principal.organization_id) == (tenant.id, tenant.public_id)
    assert principal.api_key_id == key.id
    assert principal.plan.tier == "pro"
    assert principal.queues is None


@pytest.mark.parametrize(
    "spoil",
    [
        str.upper,
        lambda secret: secret[:-1],
        lambda secret: secret + "x",
        lambda _: "",
        lambda _: "sk_test_" + "ä" * 10,
        lambda _: "x" * 10_000,
    ],
)
async def test_anything_else_is_refused(engine: Engine, spoil: Callable[[str], str]) -> None:
    _, key = await create(engine)
    with pytest.raises(AuthenticationFailed):
        await engine.credentials.authenticate(spoil(key.secret))


async def test_neither_secret_nor_digest_alone_opens_a_key_whose_hash_differs(engine: Engine) -> None:
    _, key = await create(engine)
    other = await module.KeyMaker(pepper=b"pepper", hash_cost=4).make()
    await execute(engine, "update millstream.api_keys set hash = $1", other.hash)
    with pytest.raises(AuthenticationFailed):
        await engine.credentials.authenticate(key.secret)


async def test_the_secret_is_nowhere_in_the_database(engine: Engine) -> None:
    _, key = await create(engine)
    async with engine.context.database.session() as session:
        row = await session.one("select k::text as stored from millstream.api_keys as k")
    assert row is not None
    assert key.secret not in row["stored"]
    assert key.secret[12:] not in row["stored"]


async def refused_in(engine: Engine, secret: str) -> float:
    """Use a key as clients do, again and again, until it is refused; returns after how many seconds."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        while True:
            try:
                await engine.credentials.authenticate(secret)
            except AuthenticationFailed:
                return time.monotonic() - started
            await asyncio.sleep(0.01)


async def test_a_revoked_key_is_refused_soon_in_every_process(engine: Engine, second_engine: Engine) -> None:
    _, key = await create(engine)
    for process in (engine, second_engine):
        await process.credentials.authenticate(key.secret)
    await execute(engine, "update millstream.api_keys set is_active = false")
    # Refused at all is what is asserted; how soon follows from the time that a key is believed.
    await asyncio.gather(*(refused_in(process, key.secret) for process in (engine, second_engine)))
    assert module.BELIEVED_SECONDS <= 1


async def test_a_deleted_key_is_refused(engine: Engine) -> None:
    _, key = await create(engine)
    await engine.credentials.authenticate(key.secret)
    await execute(engine, "delete from millstream.api_keys")
    await refused_in(engine, key.secret)


async def test_a_key_believed_a_moment_ago_is_not_looked_up_again(engine: Engine) -> None:
    _, key = await create(engine)
    principal = await engine.credentials.authenticate(key.secret)
    assert engine.credentials.cached(key.secret) == principal


async def test_an_expired_key_is_refused(engine: Engine) -> None:
    _, key = await create(engine)
    # The steered clock decides, as it does for leases.
    await execute(engine, "update millstream.api_keys set expires_at = $1", engine.context.now())
    with pytest.raises(AuthenticationFailed):
        await engine.credentials.authenticate(key.secret)


async def test_a_key_of_some_queues_is_restricted_to_them(engine: Engine) -> None:
    _, key = await create(engine)
    await execute(engine, "update millstream.api_keys set queues = array['b', 'a']")
    principal = await engine.credentials.authenticate(key.secret)
    assert principal.visible_queues == ("a", "b")
    assert not principal.permits("c")


async def test_many_callers_at_once_share_one_look_up(engine: Engine) -> None:
    _, key = await create(engine)
    principals = await asyncio.gather(*(engine.credentials.authenticate(key.secret) for _ in range(50)))
    assert len(set(map(id, principals))) == 1


async def test_a_caller_that_leaves_takes_no_other_with_it(engine: Engine) -> None:
    _, key = await create(engine)
    leaves = asyncio.create_task(engine.credentials.authenticate(key.secret))
    stays = asyncio.create_task(engine.credentials.authenticate(key.secret))
    await asyncio.sleep(0)
    leaves.cancel()
    assert (await stays).plan.tier == "pro"
    with pytest.raises(asyncio.CancelledError):
        await leaves


async def test_a_slug_belongs_to_one_tenant(engine: Engine) -> None:
    await create(engine)
    with pytest.raises(Conflict):
        await create(engine)
    await create(engine, "other")


async def test_an_unknown_key_costs_no_hash(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def check(secret: bytes, _: bytes) -> bool:
        hashed.append(secret)
        return True

    monkeypatch.setattr(bcrypt, "checkpw", check)
    other = await module.KeyMaker(pepper=b"another pepper", hash_cost=4).make()
    for secret in (other.secret, other.secret + "x" * 100, "x" * 10_000_000):
        with pytest.raises(AuthenticationFailed):
            await engine.credentials.authenticate(secret)
    assert hashed == []


async def test_a_wrong_key_is_not_looked_up_again_and_again(engine: Engine, asked: list[int]) -> None:
    for _ in range(10):
        with pytest.raises(AuthenticationFailed):
            await engine.credentials.authenticate("sk_test_wrong")
    assert asked == [1]


@pytest.mark.slow
async def test_a_flood_of_different_wrong_keys_shares_statements_and_keeps_nothing(
    engine: Engine, asked: list[int]
) -> None:
    _, key = await create(engine)
    await engine.credentials.authenticate(key.secret)
    asked.clear()
    flood = [
        asyncio.create_task(engine.credentials.authenticate(f"sk_test_{number}")) for number in range(5_000)
    ]
    # A known key whose belief has gone is looked up amid the flood, not after it.
    engine.context.invalidations.forget(0)
    engine.credentials._beliefs.clear()
    assert (await engine.credentials.authenticate(key.secret)).api_key_id == key.id
    assert sum(task.done() for task in flood) < len(flood) // 2
    refused = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(one, AuthenticationFailed) for one in refused)
    assert len(asked) < 60
    assert sum(asked) >= 5_000
    remembered = engine.credentials._refused
    assert len(remembered) <= limits.REFUSED_CREDENTIALS_MAX


async def test_more_wrong_keys_than_may_wait_are_turned_away(engine: Engine) -> None:
    flood = [
        asyncio.create_task(engine.credentials.authenticate(f"sk_test_{number}"))
        for number in range(limits.WAITING_LOOK_UPS_MAX + 500)
    ]
    refused = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(one) for one in refused} == {InvalidCredential, Overloaded}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of keys that each statement looks for."""
    asked: list[int] = []
    find = api_keys.find_api_keys

    async def counting(
        session: Session, digests: Sequence[bytes], now: datetime | None
    ) -> list[StoredKey | None]:
        asked.append(len(digests))
        return await find(session, digests, now)

    monkeypatch.setattr(api_keys, "find_api_keys", counting)
    return asked
