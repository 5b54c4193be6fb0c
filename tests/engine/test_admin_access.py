"""Contract: spooled-tenancy 6, 19.2; ruling R30."""

import hashlib

import pytest
from limits import RateLimitItemPerMinute
from time_machine import TimeMachineFixture

from millstream.domain.errors import (
    AdminHeaderUnreadable,
    AdminKeyMissing,
    AdminKeyWrong,
    AdminNotConfigured,
    RateLimited,
)
from millstream.engine.admin_access import AdminAccess, digest_of
from millstream.engine.engine import Engine, EngineSettings, open_engine
from millstream.engine.throttle import Throttle
from millstream.store import installation
from millstream.store.database import Database

KEY = b"the admin key"


@pytest.fixture
async def access() -> AdminAccess:
    return AdminAccess(digest_of(KEY), RateLimitItemPerMinute(3))


async def test_the_key_opens_and_nothing_else_does(access: AdminAccess) -> None:
    await access.check(KEY, "a")
    for number, wrong in enumerate((b"", KEY[:-1], KEY + b"x", KEY.upper(), b" " + KEY)):
        with pytest.raises(AdminKeyWrong):
            await access.check(wrong, f"address {number}")
    with pytest.raises(AdminKeyMissing):
        await access.check(None, "a")
    for unreadable in (b"\xff", b"a\x00", b"a\tb", "ключ".encode()):
        with pytest.raises(AdminHeaderUnreadable):
            await access.check(unreadable, "a")


async def test_without_a_key_nobody_is_let_in() -> None:
    access = AdminAccess(None)
    for presented in (None, b"", b"None", KEY):
        with pytest.raises(AdminNotConfigured):
            await access.check(presented, "a")
        assert await access.is_admin(presented, "a") is False


async def test_too_many_wrong_keys_of_an_address_make_even_the_right_one_wait(
    access: AdminAccess, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(1_000.0, tick=False)
    for _ in range(3):
        with pytest.raises(AdminKeyWrong):
            await access.check(b"guess", "192.0.2.1")
    time_machine.shift(18.5)
    with pytest.raises(RateLimited) as caught:
        await access.check(KEY, "192.0.2.1")
    assert caught.value.retry_after_seconds == 42
    await access.check(KEY, "192.0.2.2")
    time_machine.shift(41.5)
    await access.check(KEY, "192.0.2.1")
    with pytest.raises(AdminKeyWrong):
        await access.check(b"guess", "192.0.2.1")
    await access.check(KEY, "192.0.2.1")


async def test_the_addresses_of_one_ipv6_network_are_one(access: AdminAccess) -> None:
    for number in range(3):
        with pytest.raises(AdminKeyWrong):
            await access.check(b"guess", f"2001:db8::{number}")
    with pytest.raises(RateLimited):
        await access.check(KEY, "2001:db8::ffff:1")
    await access.check(KEY, "2001:db8:0:1::1")


async def test_a_missing_header_is_no_guess(access: AdminAccess) -> None:
    for _ in range(10):
        with pytest.raises(AdminKeyMissing):
            await access.check(None, "a")
    await access.check(KEY, "a")


async def test_the_oldest_is_forgotten_before_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.domain.limits.THROTTLED_CALLERS_MAX", 2)
    throttle, item = Throttle(), RateLimitItemPerMinute(1)
    for who in ("a", "b", "c"):
        await throttle.spend(item, who)
    for who in ("b", "c"):
        with pytest.raises(RateLimited):
            await throttle.check(item, who)
    await throttle.check(item, "a")


async def _opened(database: Database, dsn: str, settings: EngineSettings) -> Engine:
    return await open_engine(database, settings, direct=lambda: installation.direct_session(dsn))


async def test_the_key_of_the_first_start_counts_while_none_is_configured(
    database: Database, database_dsn: str
) -> None:
    first = "of the first start"
    async with installation.direct_session(database_dsn) as session:
        await session.run(
            "insert into millstream.settings (key, value) values ('admin_key_sha256', $1)",
            hashlib.sha256(first.encode()).hexdigest(),
        )
    for settings, opens in (
        (EngineSettings(first_admin_key=True), first),
        (EngineSettings(first_admin_key=True, admin_key="configured"), "configured"),
        (EngineSettings(first_admin_key=True, admin_key=""), None),
        (EngineSettings(), None),
    ):
        engine = await _opened(database, database_dsn, settings)
        for key in (first, "configured", ""):
            assert await engine.admin_access.is_admin(key.encode(), "a") is (key == opens), (settings, key)
        await engine.close()
