"""The published client's error classes: each refusal of the server arrives as the class made for it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from spooled import (
    AsyncSpooledClient,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    SpooledClient,
    ValidationError,
)
from spooled.errors import QuotaExceededError, is_lease_expired

from tests.api.spooled.wire import LiveServer, a_queue
from tests.clients.spooled.conftest import FLAVOURS
from tests.clients.spooled.flavour import awaitable

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def take(client: AsyncSpooledClient, **fields: object) -> tuple[str, str]:
    queue = a_queue()
    await client.jobs.create({"queue_name": queue, "payload": {}, **fields})
    (job,) = (await client.jobs.claim({"queue_name": queue, "worker_id": "w"})).jobs
    assert job.lease_id is not None
    return job.id, job.lease_id


async def test_unknown_objects_are_not_found(client: AsyncSpooledClient) -> None:
    calls = [
        client.jobs.get(UNKNOWN),
        client.jobs.history(UNKNOWN),
        client.jobs.cancel(UNKNOWN),
        client.jobs.boost_priority(UNKNOWN, 1),
        client.jobs.complete(UNKNOWN, {"worker_id": "w"}),
        client.jobs.fail(UNKNOWN, {"worker_id": "w", "error": "e"}),
        client.jobs.heartbeat(UNKNOWN, {"worker_id": "w"}),
        client.queues.get(a_queue()),
        client.queues.resume(a_queue()),
        client.queues.delete(a_queue()),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            await call
        error = caught.value
        assert (error.status_code, error.code) == (404, "NOT_FOUND")
        assert error.message
        assert error.message != "Unknown error"
        assert error.request_id
        assert not error.is_retryable()


async def test_a_wrong_state_is_a_conflict(client: AsyncSpooledClient) -> None:
    job_id, _ = await take(client)
    with pytest.raises(ConflictError) as caught:
        await client.jobs.cancel(job_id)
    assert (caught.value.status_code, caught.value.code) == (409, "CONFLICT")
    assert not is_lease_expired(caught.value)
    for retried in (job_id, UNKNOWN):
        with pytest.raises(ConflictError):
            await client.jobs.retry(retried)


async def test_a_replayed_completion_says_that_it_had_landed(client: AsyncSpooledClient) -> None:
    job_id, lease = await take(client)
    params = {"worker_id": "w", "lease_id": lease}
    await client.jobs.complete(job_id, params)
    with pytest.raises(ConflictError, match="already completed") as caught:
        await client.jobs.complete(job_id, params)
    assert not is_lease_expired(caught.value)


async def test_another_lease_has_expired(client: AsyncSpooledClient) -> None:
    job_id, _ = await take(client)
    lease = str(uuid.uuid4())
    for call in (
        client.jobs.complete(job_id, {"worker_id": "w", "lease_id": lease}),
        client.jobs.fail(job_id, {"worker_id": "w", "lease_id": lease, "error": "e"}),
        client.jobs.heartbeat(job_id, {"worker_id": "w", "lease_id": lease}),
    ):
        with pytest.raises(ConflictError) as caught:
            await call
        assert caught.value.code == "LEASE_EXPIRED"
        assert is_lease_expired(caught.value)
    assert (await client.jobs.get(job_id)).status == "processing"


async def test_a_broken_rule_is_a_validation_error_with_the_fields(client: AsyncSpooledClient) -> None:
    with pytest.raises(ValidationError) as caught:
        await client.jobs.create({"queue_name": "two words", "payload": {}})
    error = caught.value
    assert (error.status_code, error.code) == (400, "VALIDATION_ERROR")
    assert isinstance(error.details, list)
    assert [entry["field"] for entry in error.details] == ["queue_name"]
    assert all(entry["message"] and entry["code"] for entry in error.details)
    with pytest.raises(ValidationError) as caught:
        await client.jobs.claim({"queue_name": "q", "worker_id": ""})
    assert caught.value.status_code == 400
    with pytest.raises(ValidationError) as caught:
        await client.queues.pause("q", "r" * 501)
    assert caught.value.status_code == 400


async def test_a_missing_field_is_a_validation_error_of_the_other_status(
    plain: SpooledClient | AsyncSpooledClient,
) -> None:
    # The typed methods refuse such a body before it is sent, so it goes through the transport below them.
    if isinstance(plain, SpooledClient):
        with pytest.raises(ValidationError) as caught:
            plain._http.post("/jobs", {"queue_name": "q"})
    else:
        with pytest.raises(ValidationError) as caught:
            await plain._http.post("/jobs", {"queue_name": "q"})
    assert (caught.value.status_code, caught.value.code) == (422, "VALIDATION_ERROR")
    assert isinstance(caught.value.details, list)
    assert [entry["field"] for entry in caught.value.details] == ["payload"]


async def test_a_payload_that_is_too_large_has_its_own_class(client: AsyncSpooledClient) -> None:
    with pytest.raises(PayloadTooLargeError) as caught:
        await client.jobs.create({"queue_name": "q", "payload": "x" * 1_048_577})
    assert (caught.value.status_code, caught.value.code) == (413, "PAYLOAD_TOO_LARGE")


class TestQuotas:
    async def test_active_jobs(self, free_client: AsyncSpooledClient) -> None:
        jobs = [{"payload": n} for n in range(10)]
        await free_client.jobs.bulk_enqueue({"queue_name": "q", "jobs": jobs})
        with pytest.raises(QuotaExceededError, match="limit reached") as caught:
            await free_client.jobs.create({"queue_name": "q", "payload": {}})
        error = caught.value
        assert (error.resource, error.current, error.limit) == ("active_jobs", 10, 10)
        assert (error.plan, error.upgrade_to, error.code) == ("free", "starter", "QUOTA_EXCEEDED")
        assert error.status_code == 429
        assert isinstance(error, RateLimitError)
        assert not error.is_retryable()
        with pytest.raises(QuotaExceededError):
            await free_client.jobs.bulk_enqueue({"queue_name": "q", "jobs": jobs[:1]})

    async def test_queues_and_workers(self, free_client: AsyncSpooledClient) -> None:
        await free_client.queues.update_config("a", {"max_retries": 1})
        await free_client.queues.pause("b")
        with pytest.raises(QuotaExceededError) as caught:
            await free_client.queues.update_config("c", {"max_retries": 1})
        assert (caught.value.resource, caught.value.limit) == ("queues", 2)
        await free_client.workers.register({"queue_name": "q", "hostname": "h"})
        with pytest.raises(QuotaExceededError) as caught:
            await free_client.workers.register({"queue_name": "q", "hostname": "h"})
        assert (caught.value.resource, caught.value.limit) == ("workers", 1)

    async def test_the_payload_of_the_plan(self, free_client: AsyncSpooledClient) -> None:
        with pytest.raises(PayloadTooLargeError):
            await free_client.jobs.create({"queue_name": "q", "payload": "x" * 65_536})


class TestCredentials:
    @pytest.fixture(params=FLAVOURS)
    async def stranger(
        self, request: pytest.FixtureRequest, server: LiveServer
    ) -> AsyncIterator[AsyncSpooledClient]:
        key = f"sk_test_{'A' * 43}"
        if request.param == "sync":
            with SpooledClient(api_key=key, base_url=server.url) as client:
                yield awaitable(client)
        else:
            async with AsyncSpooledClient(api_key=key, base_url=server.url) as client:
                yield client

    async def test_an_unknown_key_is_an_authentication_error(self, stranger: AsyncSpooledClient) -> None:
        for call in (
            stranger.jobs.list(),
            stranger.jobs.create({"queue_name": "q", "payload": {}}),
            stranger.queues.list(),
            stranger.workers.list(),
        ):
            with pytest.raises(AuthenticationError) as caught:
                await call
            assert caught.value.status_code == 401
            assert caught.value.code in ("UNAUTHORIZED", "AUTHENTICATION_FAILED")

    async def test_health_needs_no_key(self, stranger: AsyncSpooledClient) -> None:
        assert (await stranger.health.get()).status == "healthy"


async def test_the_rate_limit_is_told_with_every_answer(client: AsyncSpooledClient) -> None:
    await client.jobs.list()
    rate = client.rate_limit
    assert rate is not None
    assert (rate.limit, rate.remaining, rate.scope) == (1_000_000, 1_000_000, "organization")
    assert rate.reset is not None
    assert rate.reset > datetime.now(UTC)


class TestOrganizations:
    async def test_create(self, client: AsyncSpooledClient, server: LiveServer) -> None:
        slug = f"made-{uuid.uuid4().hex[:16]}"
        made = await client.organizations.create({"name": "Made by the client", "slug": slug})
        organization = made.organization
        assert (organization.name, organization.slug, organization.plan_tier) == (
            "Made by the client",
            slug,
            "free",
        )
        assert organization.settings == {}
        assert made.api_key.name == "Initial Admin Key"
        async with AsyncSpooledClient(api_key=made.api_key.key, base_url=server.url) as other:
            job = await other.jobs.create_and_get({"queue_name": "q", "payload": {}})
            assert job.organization_id == organization.id
        with pytest.raises(ConflictError):
            await client.organizations.create({"name": "Made again", "slug": slug})
