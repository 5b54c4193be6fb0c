"""What an incoming webhook becomes, and that its log stays small. Contract: spooled-tenancy 11."""

import asyncio
import hmac

import pytest
from msgspec.structs import replace

from millstream.config.secret import Secret
from millstream.domain import limits
from millstream.domain.errors import (
    AccessDenied,
    AuthenticationFailed,
    InternalError,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
)
from millstream.domain.ingest import (
    IngestDelivery,
    IngestDeliveryFilter,
    Ingested,
    IngestEvent,
    IngestOutcome,
    Provider,
)
from millstream.domain.job import ClaimRequest, JobState, NewJob
from millstream.domain.plan import PLANS
from millstream.domain.tenant import Principal
from millstream.engine.engine import Engine
from millstream.engine.enqueuing import EnqueueLimits, Enqueuing
from millstream.engine.ingest import Ingest, WebhookSecrets
from millstream.store import ingest as ingest_store
from millstream.store.jobs import ServerDefaults
from tests.conftest import make_principal
from tests.engine.work import Work, lease_of

DAY = 86_400


def event(queue: str = "q", key: str | None = None, payload: str = "{}") -> IngestEvent:
    job = NewJob(queue=queue, payload=payload, idempotency_key=key)
    return IngestEvent(provider=Provider.CUSTOM, event_type="custom", job=job)


async def accept(work: Work, **options: str) -> Ingested:
    return await work.engine.ingest.accept(work.principal, event(**options))


async def log_of(work: Work, **filters: object) -> list[IngestDelivery]:
    wanted = IngestDeliveryFilter(**filters)  # type: ignore[arg-type] - any of its fields
    return await work.engine.ingest.list_deliveries(work.principal, wanted)


@pytest.fixture
async def free(work: Work) -> Work:
    """A tenant with the free plan."""
    return Work(work.engine, await make_principal(work.engine, plan_tier="free"), work.clock)


async def test_a_webhook_becomes_a_job_with_the_usual_settings(work: Work) -> None:
    accepted = await accept(work, payload='{"n":1}')
    assert (accepted.queue, accepted.state, accepted.created) == ("q", JobState.READY, True)
    job = await work.job(accepted.job_id)
    assert (job.payload, job.priority, job.max_retries, job.timeout_seconds) == ('{"n":1}', 0, 3, 300)
    [delivery] = await log_of(work)
    assert (delivery.job_id, delivery.queue, delivery.outcome) == (job.id, "q", IngestOutcome.CREATED)
    assert (delivery.provider, delivery.event_type) == (Provider.CUSTOM, "custom")
    assert delivery.created_at == work.clock.now()


async def test_a_webhook_wakes_a_waiting_worker(work: Work) -> None:
    claim = asyncio.create_task(
        work.engine.jobs.claim(work.principal, ClaimRequest(queue="q", worker_id="w"), wait_seconds=20)
    )
    async with asyncio.timeout(10):
        while not work.engine.context.wakeups.waiting_queues():  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0)
    accepted = await accept(work)
    async with asyncio.timeout(10):
        [claimed] = await claim
    assert claimed.id == accepted.job_id


async def test_a_known_key_is_answered_with_its_job_as_it_stands(work: Work) -> None:
    first = await accept(work, key="k")
    states: list[JobState] = [(await accept(work, key="k")).state]
    [claimed] = await work.claim()
    states.append((await accept(work, key="k")).state)
    await work.complete(lease_of(claimed))
    again = await accept(work, key="k")
    assert [*states, again.state] == [JobState.READY, JobState.RUNNING, JobState.COMPLETED]
    assert (again.job_id, again.created) == (first.job_id, False)
    assert [one.outcome for one in await log_of(work)] == [IngestOutcome.DUPLICATE] * 3 + [
        IngestOutcome.CREATED
    ]


async def test_a_key_is_shared_with_jobs_that_were_enqueued_otherwise(work: Work) -> None:
    job_id = await work.enqueue(idempotency_key="k")
    accepted = await accept(work, key="k", queue="another")
    assert (accepted.job_id, accepted.created) == (job_id, False)


async def test_of_many_at_once_under_one_key_one_makes_the_job(work: Work, second_engine: Engine) -> None:
    elsewhere = Work(second_engine, work.principal, work.clock)
    accepted = await asyncio.gather(
        *(accept(where, key="k") for where in (work, elsewhere) for _ in range(5)),
        *(where.enqueue(idempotency_key="k") for where in (work, elsewhere)),
    )
    ids = {one.job_id if isinstance(one, Ingested) else one for one in accepted}
    assert len(ids) == 1
    assert len(await log_of(work)) == 10
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 1


async def test_keys_of_two_tenants_are_apart(work: Work, free: Work) -> None:
    ours, theirs = await accept(work, key="k"), await accept(free, key="k")
    assert (ours.created, theirs.created) == (True, True)
    assert ours.job_id != theirs.job_id
    assert [one.job_id for one in await log_of(work)] == [ours.job_id]


async def test_of_many_at_once_exactly_as_many_are_accepted_as_fit(free: Work, second_engine: Engine) -> None:
    elsewhere = Work(second_engine, free.principal, free.clock)
    answers = await asyncio.gather(
        *(accept(where) for where in (free, elsewhere) for _ in range(8)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(refused) == 6
    assert {(error.resource, error.current, error.limit) for error in refused} == {("active_jobs", 10, 10)}
    # What was refused left nothing.
    assert len(await log_of(free)) == 10


async def test_a_repeat_is_not_charged(free: Work) -> None:
    first = await accept(free, key="k")
    for _ in range(9):
        await accept(free)
    with pytest.raises(QuotaExceeded):
        await accept(free)
    assert (await accept(free, key="k")).job_id == first.job_id


async def test_a_payload_beyond_the_plan_leaves_nothing(free: Work) -> None:
    limit = PLANS["free"].max_payload_size_bytes
    await accept(free, payload='"' + "x" * (limit - 2) + '"')
    with pytest.raises(PayloadTooLarge) as refused:
        await accept(free, payload='"' + "x" * (limit - 1) + '"')
    assert (refused.value.current, refused.value.limit, refused.value.plan) == (limit + 1, limit, "free")
    assert len(await log_of(free)) == 1


async def test_a_job_is_not_there_without_its_entry_in_the_log(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the log cannot be written")

    monkeypatch.setattr(ingest_store, "insert_ingest_delivery", fail)
    with pytest.raises(RuntimeError):
        await accept(work, key="k")
    assert sum((await work.engine.jobs.counts(work.principal)).values()) == 0
    monkeypatch.undo()
    assert (await accept(work, key="k")).created


async def test_a_flood_of_repeats_leaves_a_bounded_log(
    work: Work, free: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INGEST_DELIVERIES_MAX", 5)
    monkeypatch.setattr(limits, "INGEST_DELIVERIES_BETWEEN_TRIMS", 3)
    theirs = await accept(free)
    first = await accept(work, key="k")
    sizes: list[int] = []
    for _ in range(25):
        await accept(work, key="k")
        sizes.append(len(await log_of(work, limit=100)))
    assert max(sizes) <= 5 + 3
    assert min(sizes[8:]) == 5
    # The newest are those that are kept.
    assert {one.outcome for one in await log_of(work)} == {IngestOutcome.DUPLICATE}
    assert {one.job_id for one in await log_of(work)} == {first.job_id}
    assert [one.job_id for one in await log_of(free)] == [theirs.job_id]


async def test_a_process_that_just_started_trims_what_others_left(
    work: Work, second_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        await accept(work)
    monkeypatch.setattr(limits, "INGEST_DELIVERIES_MAX", 5)
    await accept(Work(second_engine, work.principal, work.clock))
    assert len(await log_of(work)) == 5


@pytest.mark.parametrize("tier", sorted(PLANS))
async def test_the_log_is_kept_as_long_as_the_plan_says(work: Work, tier: str) -> None:
    tenant = Work(work.engine, await make_principal(work.engine, plan_tier=tier), work.clock)
    await accept(tenant)
    tenant.clock.advance(PLANS[tier].history_retention_days * DAY)
    await tenant.engine.upkeep.prune()
    assert len(await log_of(tenant)) == 1
    await accept(tenant)
    tenant.clock.advance(1)
    await tenant.engine.upkeep.prune()
    [left] = await log_of(tenant)
    assert left.created_at > tenant.in_seconds(-60)


async def test_the_log_is_filtered_and_paged_newest_first(work: Work) -> None:
    for number in range(4):
        await accept(work, queue=f"q{number % 2}", key=f"k{number // 3}")
        work.clock.advance(60)
    log = await log_of(work)
    assert [one.queue for one in log] == ["q1", "q0", "q1", "q0"]
    assert [one.outcome.name for one in log] == ["CREATED", "DUPLICATE", "DUPLICATE", "CREATED"]
    assert await log_of(work, limit=2, offset=1) == log[1:3]
    assert await log_of(work, offset=4) == []
    assert await log_of(work, queue="q1") == [log[0], log[2]]
    assert await log_of(work, outcome=IngestOutcome.DUPLICATE) == log[1:3]
    assert await log_of(work, since=log[1].created_at) == log[:2]
    assert await log_of(work, queue="q1", outcome=IngestOutcome.DUPLICATE, since=log[1].created_at) == []


async def test_a_key_of_some_queues_does_not_read_the_log(work: Work) -> None:
    await accept(work)
    with pytest.raises(AccessDenied):
        await log_of(work.restricted_to("q"))


# Who is let in


async def set_token(work: Work, token: str | None) -> None:
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set webhook_token = $2 where id = $1", work.principal.tenant_id, token
        )


async def test_the_token_admits_to_its_tenant_only(work: Work, free: Work) -> None:
    await set_token(work, "ours")
    await set_token(free, "theirs")
    admitted = await work.engine.ingest.admit_custom(work.principal.organization_id, token=b"ours")
    assert (admitted.tenant_id, admitted.plan) == (work.principal.tenant_id, work.principal.plan)
    for token in (b"theirs", b"our", b"", None):
        with pytest.raises(AuthenticationFailed):
            await work.engine.ingest.admit_custom(work.principal.organization_id, token=token)
    # The one that was replaced does not work any more.
    await set_token(work, "new")
    with pytest.raises(AuthenticationFailed):
        await work.engine.ingest.admit_custom(work.principal.organization_id, token=b"ours")
    await work.engine.ingest.admit_custom(work.principal.organization_id, token=b"new")


@pytest.mark.parametrize("token", [None, ""])
async def test_a_tenant_without_a_token_takes_no_custom_webhooks(work: Work, token: str | None) -> None:
    await set_token(work, token)
    for presented in (None, b"", b"None"):
        with pytest.raises(AuthenticationFailed):
            await work.engine.ingest.admit_custom(work.principal.organization_id, token=presented)


async def test_a_deleted_tenant_is_an_unknown_one(work: Work) -> None:
    await set_token(work, "ours")
    async with work.engine.context.database.session() as session:
        await session.run(
            "update millstream.tenants set plan_tier = 'deleted', deleted_at = now() where id = $1",
            work.principal.tenant_id,
        )
    for public_id in (work.principal.organization_id, "unknown", "1' or '1'='1", "x" * 129, "\0"):
        with pytest.raises(NotFound):
            await work.engine.ingest.admit_custom(public_id, token=b"ours")


def ingest_with(work: Work, secrets: WebhookSecrets) -> Ingest:
    context = work.engine.context
    enqueuing = Enqueuing(context, defaults=ServerDefaults(), enqueue_limits=EnqueueLimits())
    return Ingest(context, enqueuing, secrets=secrets)


async def admit_stripe(ingest: Ingest, principal: Principal, header: str) -> Principal:
    return await ingest.admit_stripe(
        principal.organization_id, token=None, signature=header.encode(), body=b"{}"
    )


async def test_the_replay_window_is_measured_by_the_clock_of_the_database(work: Work) -> None:
    ingest = ingest_with(work, WebhookSecrets(stripe=Secret("s")))
    sent_at = int(work.clock.now().timestamp())
    header = f"t={sent_at},v1={hmac.new(b's', f'{sent_at}.{{}}'.encode(), 'sha256').hexdigest()}"
    assert (await admit_stripe(ingest, work.principal, header)).tenant_id == work.principal.tenant_id
    work.clock.advance(300)
    await admit_stripe(ingest, work.principal, header)
    work.clock.advance(1)
    with pytest.raises(AuthenticationFailed):
        await admit_stripe(ingest, work.principal, header)


@pytest.mark.parametrize("secret", [None, Secret("")])
async def test_without_a_secret_no_signature_is_good_enough(work: Work, secret: Secret | None) -> None:
    ingest = ingest_with(work, WebhookSecrets(github=secret, stripe=secret))
    await set_token(work, "ours")
    signature = b"sha256=" + hmac.new(b"", b"{}", "sha256").hexdigest().encode()
    for token in (None, b"ours"):
        with pytest.raises(InternalError):
            await ingest.admit_github(
                work.principal.organization_id, token=token, signature=signature, body=b"{}"
            )
    sent_at = int(work.clock.now().timestamp())
    header = f"t={sent_at},v1={hmac.new(b'', f'{sent_at}.{{}}'.encode(), 'sha256').hexdigest()}"
    with pytest.raises(InternalError):
        await admit_stripe(ingest, work.principal, header)


def test_the_secrets_are_not_in_what_is_printed() -> None:
    secrets = WebhookSecrets(github=Secret("hidden-one"), stripe=Secret("hidden-two"))
    assert "hidden" not in repr(secrets)


async def test_a_token_that_is_present_must_be_right_beside_a_signature(work: Work) -> None:
    ingest = ingest_with(work, WebhookSecrets(github=Secret("s")))
    await set_token(work, "ours")
    signature = b"sha256=" + hmac.new(b"s", b"{}", "sha256").hexdigest().encode()
    for token in (None, b"ours"):
        admitted = await ingest.admit_github(
            work.principal.organization_id, token=token, signature=signature, body=b"{}"
        )
        assert replace(admitted, api_key_id=work.principal.api_key_id) == work.principal
    for token in (b"", b"theirs"):
        with pytest.raises(AuthenticationFailed):
            await ingest.admit_github(
                work.principal.organization_id, token=token, signature=signature, body=b"{}"
            )
