"""Usage and quotas as the published client reads them. Contract: spooled-tenancy 2.5, 3.6, 7.3."""

from __future__ import annotations

import pytest
from spooled import AsyncSpooledClient
from spooled.errors import PayloadTooLargeError, QuotaExceededError


async def test_a_report_of_the_top_plan_has_no_limits(own_client: AsyncSpooledClient) -> None:
    await own_client.jobs.create({"queue_name": "q", "payload": {}})
    report = await own_client.organizations.get_usage()
    assert (report.plan, report.plan_display_name, report.warnings) == ("enterprise", "Enterprise", [])
    assert (report.usage.active_jobs.current, report.usage.jobs_today.current) == (1, 1)
    assert (report.usage.active_jobs.limit, report.usage.active_jobs.percentage) == (None, None)
    assert report.limits.max_active_jobs is None
    assert report.limits.max_payload_size_bytes == 5_242_880


async def test_a_report_of_the_free_plan_warns_before_the_quota_refuses(
    free_client: AsyncSpooledClient,
) -> None:
    for _ in range(9):
        await free_client.jobs.create({"queue_name": "q", "payload": {}})
    report = await free_client.organizations.get_usage()
    assert (report.usage.active_jobs.current, report.usage.active_jobs.limit) == (9, 10)
    assert report.usage.active_jobs.percentage == 90.0
    assert report.usage.workflows.is_disabled
    assert not report.usage.webhooks.is_disabled
    warned = {warning.resource: (warning.message, warning.severity) for warning in report.warnings}
    assert warned["active_jobs"] == ("active jobs at 90% of limit", "warning")
    await free_client.jobs.create({"queue_name": "q", "payload": {}})
    with pytest.raises(QuotaExceededError) as caught:
        await free_client.jobs.create({"queue_name": "q", "payload": {}})
    assert caught.value.details == {"resource": "active_jobs", "current": 10, "limit": 10, "plan": "free"}
    assert "Upgrade to starter" in str(caught.value)
    warned = {
        warning.resource: (warning.message, warning.severity)
        for warning in (await free_client.organizations.get_usage()).warnings
    }
    assert warned["active_jobs"] == ("active jobs limit reached", "critical")


async def test_a_dead_letter_without_room_stays_where_it_is(free_client: AsyncSpooledClient) -> None:
    await free_client.jobs.create({"queue_name": "dead", "payload": {}, "max_retries": 0})
    claimed = (await free_client.jobs.claim({"queue_name": "dead", "worker_id": "w"})).jobs[0]
    await free_client.jobs.fail(claimed.id, {"worker_id": "w", "lease_id": claimed.lease_id, "error": "e"})
    await free_client.jobs.bulk_enqueue({"queue_name": "q", "jobs": [{"payload": n} for n in range(10)]})
    with pytest.raises(QuotaExceededError) as caught:
        await free_client.jobs.dlq.retry({"queue_name": "dead"})
    assert (caught.value.resource, caught.value.current) == ("active_jobs", 10)
    assert [job.id for job in await free_client.jobs.dlq.list()] == [claimed.id]


async def test_a_payload_too_large_for_the_plan_is_no_quota(free_client: AsyncSpooledClient) -> None:
    with pytest.raises(PayloadTooLargeError) as caught:
        await free_client.jobs.create({"queue_name": "q", "payload": "x" * 65_536})
    assert (caught.value.status_code, caught.value.code) == (413, "PAYLOAD_TOO_LARGE")
