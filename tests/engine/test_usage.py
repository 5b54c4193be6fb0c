"""What a tenant has used, and what it is allowed. Contract: spooled-tenancy 2.5, 3.6, 6.7, 7.4."""

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace

from millstream.domain.errors import QuotaExceeded
from millstream.domain.job import JobState, NewJob
from millstream.domain.plan import PLANS
from millstream.domain.queue import QueueChange
from millstream.domain.usage import UsageReport
from millstream.domain.worker import NewWorker
from millstream.engine.engine import Engine
from millstream.store import quotas
from tests.conftest import make_principal
from tests.engine.work import Work


@pytest.fixture
async def free(work: Work) -> Work:
    return Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)


async def currents(work: Work) -> dict[str, int]:
    items = (await work.engine.usage.report(work.principal)).items
    return {name: item.current for name in items.__struct_fields__ if (item := getattr(items, name)).current}


async def reset(work: Work) -> None:
    async with work.engine.context.database.transaction() as session:
        await quotas.reset_jobs_today(session, work.principal.tenant_id, work.clock.now())


async def test_a_fresh_tenant_has_used_nothing_but_its_key(free: Work) -> None:
    report: UsageReport = await free.engine.usage.report(free.principal)
    assert report.plan is PLANS["free"]
    assert await currents(free) == {"api_keys": 1}
    # Its one key is half of the two that the plan has.
    assert [(warning.resource, warning.message) for warning in report.warnings] == [
        ("api_keys", "api keys at 50% of limit")
    ]


async def test_what_is_used_is_counted_as_it_is_charged(free: Work, work: Work) -> None:
    for state in reversed(JobState):
        await free.in_state(state)
        # What others use is theirs.
        await work.in_state(state)
    for number in range(2):
        await free.engine.queues.configure(free.principal, f"q{number}", QueueChange())
    for name in ("here", "gone"):
        await free.engine.workers.register(
            replace(free.principal, plan=PLANS["pro"]), NewWorker(id=name, queue="q", hostname="h")
        )
    await free.engine.workers.deregister(free.principal, "gone")
    used = await currents(free)
    # Every state took one job, the blocked one its parent too. All were created today, and six of them are alive.
    assert used == {"jobs_today": 9, "active_jobs": 6, "queues": 2, "workers": 1, "api_keys": 1}
    await free.engine.upkeep.fold_counters()
    assert await currents(free) == used
    free.clock.advance(timedelta(hours=12).total_seconds())
    assert (await currents(free)).get("jobs_today") is None


async def test_the_top_plan_is_counted_without_limits(work: Work) -> None:
    await work.enqueue()
    report = await work.engine.usage.report(work.principal)
    assert report.warnings == []
    assert (report.items.active_jobs.current, report.items.active_jobs.limit) == (1, None)


async def test_a_reset_begins_the_day_anew_and_keeps_the_totals(free: Work) -> None:
    principal = replace(free.principal, plan=replace(free.principal.plan, max_jobs_per_day=3))
    capped = Work(free.engine, principal, free.clock)
    for _ in range(3):
        await capped.enqueue()
    with pytest.raises(QuotaExceeded):
        await capped.enqueue()
    await free.engine.upkeep.fold_counters()
    await reset(capped)
    assert "jobs_today" not in await currents(capped)
    for _ in range(3):
        await capped.enqueue()
    # Folding and a second reset in mid-day change nothing of that.
    await free.engine.upkeep.fold_counters()
    with pytest.raises(QuotaExceeded) as refused:
        await capped.enqueue()
    assert (refused.value.resource, refused.value.current) == ("jobs_per_day", 3)
    await reset(capped)
    await reset(capped)
    assert "jobs_today" not in await currents(capped)
    await free.engine.upkeep.fold_counters()
    async with free.engine.context.database.session() as session:
        row = await session.one(
            "select sum(amount) as created from millstream.counters where tenant_id = $1 and kind = 1 and subject = ''",
            principal.tenant_id,
        )
    assert row is not None
    assert row["created"] == 6


async def test_a_reset_among_creates_loses_none_of_them(free: Work, second_engine: Engine) -> None:
    principal = replace(free.principal, plan=replace(free.principal.plan, max_active_jobs=1_000))
    capped = Work(free.engine, principal, free.clock)
    elsewhere = Work(second_engine, principal, free.clock)
    calls = [capped.enqueue() for _ in range(30)] + [reset(capped)] + [elsewhere.enqueue() for _ in range(30)]
    await asyncio.gather(*calls)
    today = (await currents(capped)).get("jobs_today", 0)
    assert 0 <= today <= 60
    # From here on the count goes on from where it is.
    await capped.enqueue()
    assert (await currents(capped))["jobs_today"] == today + 1


async def test_a_key_acts_under_the_limits_that_its_tenant_has_of_its_own(engine: Engine, free: Work) -> None:
    tenant, key = await engine.tenants.create(name="Own limits", slug="own-limits", billing_email=None)
    assert (await engine.credentials.authenticate(key.secret)).plan is PLANS["free"]
    async with engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set custom_limits = $2 where id = $1",
            tenant.id,
            '{"max_active_jobs": 1, "max_queues": -5, "max_workers": null}',
        )
    await engine.context.invalidations.tenant_changed(tenant.id)
    principal = await engine.credentials.authenticate(key.secret)
    plan = principal.plan
    assert (plan.max_active_jobs, plan.max_queues, plan.max_workers, plan.tier) == (1, 2, 1, "free")
    await engine.jobs.enqueue(principal, NewJob(queue="q", payload="{}"))
    with pytest.raises(QuotaExceeded) as refused:
        await engine.jobs.enqueue(principal, NewJob(queue="q", payload="{}"))
    assert (refused.value.current, refused.value.limit, refused.value.plan) == (1, 1, "free")
