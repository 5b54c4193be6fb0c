"""API keys: made, changed, revoked, counted. Contract: spooled-tenancy 2.2, 4."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from millstream.domain.api_key import ApiKeyChange, NewApiKey
from millstream.domain.clock import SteeredClock
from millstream.domain.errors import (
    AccessDenied,
    AuthenticationFailed,
    InvalidField,
    NotFound,
    QuotaExceeded,
)
from millstream.engine.engine import Engine
from tests.engine.keys import make_key, make_owner


async def is_refused(engine: Engine, secret: str) -> bool:
    try:
        await engine.credentials.authenticate(secret)
    except AuthenticationFailed:
        return True
    return False


async def test_a_new_key_works_and_carries_what_it_was_made_with(engine: Engine, clock: SteeredClock) -> None:
    owner, first = await make_owner(engine)
    ends = clock.now() + timedelta(seconds=60)
    made = await engine.api_keys.create(
        owner, NewApiKey(name="emails", queues=("emails",), rate_limit=30, expires_at=ends)
    )
    principal = await engine.credentials.authenticate(made.secret)
    assert (principal.tenant_id, principal.api_key_id) == (owner.tenant_id, made.id)
    assert (principal.queues, principal.rate_limit) == ({"emails"}, 30)
    newest = await engine.api_keys.get(owner, made.id)
    assert {key.id for key in await engine.api_keys.list(owner)} == {first.id, made.id}
    assert (newest.name, newest.queues, newest.rate_limit, newest.expires_at) == (
        "emails",
        ("emails",),
        30,
        ends,
    )
    assert newest.is_active
    assert newest.last_used_at is None
    assert made.secret.startswith(newest.prefix)


@pytest.mark.parametrize("seconds", [-1, 0])
async def test_an_end_that_has_passed_is_refused(engine: Engine, clock: SteeredClock, seconds: int) -> None:
    owner, _ = await make_owner(engine)
    with pytest.raises(InvalidField) as refused:
        await engine.api_keys.create(
            owner, NewApiKey(name="late", expires_at=clock.now() + timedelta(seconds=seconds))
        )
    assert refused.value.problems[0].field == "expires_at"
    assert len(await engine.api_keys.list(owner)) == 1


async def test_a_key_ends_by_itself(engine: Engine, clock: SteeredClock) -> None:
    owner, _ = await make_owner(engine)
    made = await engine.api_keys.create(
        owner, NewApiKey(name="brief", expires_at=clock.now() + timedelta(seconds=60))
    )
    clock.advance(60)
    assert await is_refused(engine, made.secret)


async def test_a_revoked_key_is_refused_at_once_and_stays_listed(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    made = await make_key(engine, owner)
    await engine.credentials.authenticate(made.secret)
    await engine.api_keys.revoke(owner, made.id)
    assert engine.credentials.cached(made.secret) is None
    assert await is_refused(engine, made.secret)
    assert not (await engine.api_keys.get(owner, made.id)).is_active
    await engine.api_keys.revoke(owner, made.id)


async def test_a_key_that_is_active_again_works_at_once(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    made = await make_key(engine, owner)
    await engine.api_keys.update(owner, made.id, ApiKeyChange(is_active=False))
    assert await is_refused(engine, made.secret)
    await engine.api_keys.update(owner, made.id, ApiKeyChange(is_active=True))
    assert not await is_refused(engine, made.secret)


async def test_a_narrowed_key_reaches_less_at_once(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    made = await make_key(engine, owner)
    assert (await engine.credentials.authenticate(made.secret)).permits("anything")
    changed = await engine.api_keys.update(
        owner, made.id, ApiKeyChange(name="narrow", queues=("emails",), rate_limit=5)
    )
    assert (changed.name, changed.queues, changed.rate_limit) == ("narrow", ("emails",), 5)
    principal = await engine.credentials.authenticate(made.secret)
    assert not principal.permits("anything")
    assert principal.rate_limit == 5
    kept = await engine.api_keys.update(owner, made.id, ApiKeyChange())
    assert kept == changed
    widened = await engine.api_keys.update(owner, made.id, ApiKeyChange(queues=()))
    assert widened.queues == ()
    assert (await engine.credentials.authenticate(made.secret)).queues is None


async def test_a_look_up_that_began_before_the_revocation_is_not_believed_after_it(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    made = await make_key(engine, owner)
    for _ in range(20):
        await engine.api_keys.update(owner, made.id, ApiKeyChange(is_active=True))
        earlier = [asyncio.create_task(engine.credentials.authenticate(made.secret)) for _ in range(3)]
        await engine.api_keys.revoke(owner, made.id)
        assert await is_refused(engine, made.secret)
        await asyncio.gather(*earlier, return_exceptions=True)
        assert await is_refused(engine, made.secret)


async def test_a_restricted_key_administers_nothing_but_its_own_end(engine: Engine) -> None:
    owner, first = await make_owner(engine)
    made = await make_key(engine, owner, "some", "emails")
    some = await engine.credentials.authenticate(made.secret)
    calls = (
        engine.api_keys.list(some),
        engine.api_keys.get(some, made.id),
        engine.api_keys.create(some, NewApiKey(name="wide")),
        engine.api_keys.create(some, NewApiKey(name="same", queues=("emails",))),
        engine.api_keys.update(some, made.id, ApiKeyChange(queues=("*",))),
        engine.api_keys.revoke(some, first.id),
    )
    for call in calls:
        with pytest.raises(AccessDenied):
            await call
    await engine.api_keys.revoke(some, made.id)
    assert await is_refused(engine, made.secret)


async def test_a_star_among_the_queues_means_all(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    made = await make_key(engine, owner, "star", "emails", "*")
    assert (await engine.credentials.authenticate(made.secret)).queues is None
    globbed = await make_key(engine, owner, "glob", "email*")
    assert not (await engine.credentials.authenticate(globbed.secret)).permits("emails")


async def test_another_tenants_key_is_an_unknown_one(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    other, foreign = await make_owner(engine, "other")
    for key_id in (foreign.id, uuid4(), UUID(int=0)):
        for call in (
            engine.api_keys.get(owner, key_id),
            engine.api_keys.update(owner, key_id, ApiKeyChange(name="mine")),
            engine.api_keys.revoke(owner, key_id),
        ):
            with pytest.raises(NotFound):
                await call
    assert [key.name for key in await engine.api_keys.list(other)] == ["Initial Admin Key"]
    assert not await is_refused(engine, foreign.secret)


async def test_the_plan_caps_active_keys(engine: Engine) -> None:
    owner, _ = await make_owner(engine, plan_tier="free")
    second = await make_key(engine, owner)
    with pytest.raises(QuotaExceeded) as refused:
        await make_key(engine, owner)
    error = refused.value
    assert (error.resource, error.current, error.limit, error.plan) == ("api_keys", 2, 2, "free")
    await engine.api_keys.revoke(owner, second.id)
    third = await make_key(engine, owner)
    with pytest.raises(QuotaExceeded):
        await engine.api_keys.update(owner, second.id, ApiKeyChange(is_active=True))
    # What does not make it active again is not refused.
    assert (await engine.api_keys.update(owner, second.id, ApiKeyChange(name="x"))).name == "x"
    assert (await engine.api_keys.update(owner, third.id, ApiKeyChange(is_active=True))).is_active
    with pytest.raises(NotFound):
        await engine.api_keys.update(owner, uuid4(), ApiKeyChange(is_active=True))


async def test_one_place_is_given_to_one_of_many(engine: Engine) -> None:
    owner, _ = await make_owner(engine, plan_tier="free")
    made = await asyncio.gather(*(make_key(engine, owner) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, QuotaExceeded) for one in made) == 7
    assert len(await engine.api_keys.list(owner)) == 2


async def test_members_are_the_active_keys_and_keys_are_listed_the_newest_first(
    engine: Engine, clock: SteeredClock
) -> None:
    owner, first = await make_owner(engine)
    # A tenant is made in real time.
    clock.advance((first.created_at - clock.now()).total_seconds() + 1)
    wide = await make_key(engine, owner, "wide")
    gone = await make_key(engine, owner, "gone")
    await engine.api_keys.revoke(owner, gone.id)
    members = await engine.api_keys.members(owner, owner.organization_id)
    assert [(member.id, member.name, member.email) for member in members] == [
        (first.id, "Initial Admin Key", ""),
        (wide.id, "wide", ""),
    ]
    clock.advance(1)
    last = await make_key(engine, owner, "last")
    listed = [key.id for key in await engine.api_keys.list(owner)]
    assert (listed[0], listed[-1]) == (last.id, first.id)
    other, _ = await make_owner(engine, "other")
    for organization_id in (other.organization_id, "", "x"):
        with pytest.raises(NotFound):
            await engine.api_keys.members(owner, organization_id)


async def test_a_use_is_noted_once_in_five_minutes_and_beside_the_request(
    engine: Engine, clock: SteeredClock
) -> None:
    owner, first = await make_owner(engine)

    async def last_used() -> object:
        return (await engine.api_keys.get(owner, first.id)).last_used_at

    assert await last_used() is None
    assert await engine.credentials.note_uses() == 1
    noted_at = clock.now()
    assert await last_used() == noted_at
    for seconds, noted in ((1, 0), (298, 0), (2, 1)):
        clock.advance(seconds)
        # Forgotten, so that the key is looked up again.
        engine.context.invalidations.forget(owner.tenant_id)
        await engine.credentials.authenticate(first.secret)
        assert await engine.credentials.note_uses() == noted, seconds
    assert await last_used() == clock.now()


async def test_a_deleted_organization_has_no_credentials(engine: Engine) -> None:
    owner, first = await make_owner(engine)
    pair = await engine.tokens.log_in(first.secret, address="::1")
    async with engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set plan_tier = 'deleted', deleted_at = now() where id = $1",
            owner.tenant_id,
        )
    engine.context.invalidations.forget(owner.tenant_id)
    assert await is_refused(engine, first.secret)
    assert await is_refused(engine, pair.access.token)


async def test_a_restricted_owner_is_told_by_its_queues_not_by_its_name(engine: Engine) -> None:
    owner, _ = await make_owner(engine)
    with pytest.raises(AccessDenied):
        await engine.api_keys.list(replace(owner, queues=frozenset()))
