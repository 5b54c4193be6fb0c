"""Every method of the published client's `schedules` resource."""

from __future__ import annotations

import uuid

import pytest
from spooled import AsyncSpooledClient, NotFoundError, ValidationError
from spooled.errors import SpooledError
from spooled.types.schedules import CreateScheduleParams, ListSchedulesParams, UpdateScheduleParams

from tests.api.spooled.wire import a_queue


async def test_create_and_get(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    params = CreateScheduleParams(
        name="nightly",
        description="each night",
        cron_expression="30 2 * * *",
        timezone="Europe/Berlin",
        queue_name=queue,
        payload_template={"camelCase": [1, {"deep": None}]},
        priority=5,
        max_retries=1,
        timeout_seconds=60,
        tags=["a"],
        metadata={"n": 1},
    )
    made = await client.schedules.create(params)
    assert (made.name, made.cron_expression) == ("nightly", "30 2 * * *")
    assert made.next_run_at is not None
    schedule = await client.schedules.get(made.id)
    assert schedule.next_run_at == made.next_run_at
    assert (schedule.description, schedule.timezone, schedule.queue_name) == (
        "each night",
        "Europe/Berlin",
        queue,
    )
    assert schedule.payload_template == {"camelCase": [1, {"deep": None}]}
    assert (schedule.priority, schedule.max_retries, schedule.timeout_seconds) == (5, 1, 60)
    assert (schedule.tags, schedule.metadata) == (["a"], {"n": 1})
    assert (schedule.is_active, schedule.run_count, schedule.last_run_at) == (True, 0, None)
    assert schedule.organization_id
    assert schedule.updated_at == schedule.created_at
    seconds = await client.schedules.create(
        {"name": "s", "cron_expression": "0 0 0 1 1 *", "queue_name": queue, "payload_template": [1]}
    )
    schedule = await client.schedules.get(seconds.id)
    assert (schedule.cron_expression, schedule.timezone) == ("0 0 0 1 1 *", "UTC")


async def test_list(own_client: AsyncSpooledClient) -> None:
    assert await own_client.schedules.list() == []
    made = [
        (
            await own_client.schedules.create(
                {"name": queue, "cron_expression": "0 0 1 1 *", "queue_name": queue, "payload_template": {}}
            )
        ).id
        for queue in ("a", "b", "a")
    ]
    await own_client.schedules.pause(made[2])

    async def listed(params: ListSchedulesParams | dict[str, object] | None = None) -> list[int]:
        return [made.index(row.id) for row in await own_client.schedules.list(params)]

    assert await listed() == [2, 1, 0]
    assert await listed(ListSchedulesParams(queue_name="a")) == [2, 0]
    assert await listed({"is_active": True}) == [1, 0]
    assert await listed({"is_active": False}) == [2]
    assert await listed({"limit": 1, "offset": 1}) == [1]


async def test_update(client: AsyncSpooledClient) -> None:
    made = await client.schedules.create(
        {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": "q", "payload_template": {"a": 1}}
    )
    before = await client.schedules.get(made.id)
    params = UpdateScheduleParams(
        name="t", cron_expression="0 0 1 2 *", queue_name="ignored" * 30, priority=9
    )
    schedule = await client.schedules.update(made.id, params)
    assert (schedule.name, schedule.cron_expression, schedule.priority) == ("t", "0 0 1 2 *", 9)
    assert (schedule.queue_name, schedule.payload_template) == ("q", {"a": 1})
    assert schedule.next_run_at != before.next_run_at
    assert (await client.schedules.update(made.id, {"payload_template": [2]})).payload_template == [2]
    with pytest.raises(ValidationError):
        await client.schedules.update(made.id, {"cron_expression": "not a time"})


async def test_pause_resume_and_delete(client: AsyncSpooledClient) -> None:
    made = await client.schedules.create(
        {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": "q", "payload_template": {}}
    )
    assert (await client.schedules.pause(made.id)).is_active is False
    assert (await client.schedules.get(made.id)).is_active is False
    resumed = await client.schedules.resume(made.id)
    assert (resumed.is_active, resumed.next_run_at) == (True, made.next_run_at)
    assert await client.schedules.delete(made.id) is None
    with pytest.raises(NotFoundError):
        await client.schedules.get(made.id)


async def test_trigger_and_history(client: AsyncSpooledClient) -> None:
    queue = a_queue()
    made = await client.schedules.create(
        {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": queue, "payload_template": {"n": 1}}
    )
    assert await client.schedules.get_history(made.id) == []
    triggered = [await client.schedules.trigger(made.id) for _ in range(2)]
    job = await client.jobs.get(triggered[0].job_id)
    assert (job.queue_name, job.payload, job.status) == (queue, {"n": 1}, "pending")
    runs = await client.schedules.get_history(made.id)
    assert {run.job_id for run in runs} == {answer.job_id for answer in triggered}
    assert {(run.status, run.schedule_id, run.error_message) for run in runs} == {
        ("completed", made.id, None)
    }
    assert len(await client.schedules.get_history(made.id, limit=1)) == 1
    schedule = await client.schedules.get(made.id)
    assert (schedule.run_count, schedule.last_run_at) == (2, triggered[1].triggered_at)


async def test_the_free_plan_has_one_schedule(free_client: AsyncSpooledClient) -> None:
    params = {"name": "s", "cron_expression": "0 0 1 1 *", "queue_name": "q", "payload_template": {}}
    await free_client.schedules.create(params)
    with pytest.raises(SpooledError) as caught:
        await free_client.schedules.create(params)
    assert (caught.value.status_code, caught.value.code) == (429, "QUOTA_EXCEEDED")
    usage = await free_client.organizations.get_usage()
    assert (usage.usage.schedules.current, usage.usage.schedules.limit) == (1, 1)


async def test_an_unknown_schedule_is_not_found(client: AsyncSpooledClient) -> None:
    unknown = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        await client.schedules.trigger(unknown)
    with pytest.raises(NotFoundError):
        await client.schedules.get_history(unknown)
    with pytest.raises(NotFoundError):
        await client.schedules.update(unknown, {"name": "n"})
