from datetime import UTC, datetime

import pytest

from millstream import AsyncClient, Client, JobStatus, NotFound, ValidationFailed
from tests.client_sdk.line import Line

YEARLY = "0 0 1 1 *"


async def test_a_schedule_is_stored_with_every_option(client: AsyncClient) -> None:
    made = await client.schedules.create(
        "yearly",
        YEARLY,
        "reports",
        {"n": [1, None]},
        timezone="Europe/Berlin",
        description="each year",
        priority=5,
        max_retries=0,
        timeout_seconds=60,
        tags=["a"],
        metadata={"m": 1},
    )
    assert (made.name, made.cron, made.queue, made.timezone) == ("yearly", YEARLY, "reports", "Europe/Berlin")
    assert (made.payload, made.tags, made.metadata) == ({"n": [1, None]}, ["a"], {"m": 1})
    assert (made.description, made.priority, made.max_retries, made.timeout_seconds) == (
        "each year",
        5,
        0,
        60,
    )
    assert (made.is_active, made.run_count, made.last_run_at) == (True, 0, None)
    assert made.next_run_at is not None
    assert made.next_run_at > datetime.now(UTC)
    assert await client.schedules.get(made.id) == made
    changed = await client.schedules.update(made.id, name="renamed", cron="0 0 2 1 *", payload=[1])
    assert (changed.name, changed.cron, changed.payload, changed.priority) == ("renamed", "0 0 2 1 *", [1], 5)


async def test_a_schedule_is_paused_resumed_triggered_and_deleted(client: AsyncClient) -> None:
    made = await client.schedules.create("s", YEARLY, "q", None)
    other = await client.schedules.create("s", YEARLY, "r", 1)
    assert not (await client.schedules.pause(made.id)).is_active
    assert [schedule.id for schedule in await client.schedules.list()] == [other.id, made.id]
    assert [schedule.id for schedule in await client.schedules.list(queue="q", is_active=False)] == [made.id]
    assert await client.schedules.list(offset=2, limit=1) == []
    triggered = await client.schedules.trigger(made.id)
    job = await client.jobs.get(triggered.job_id)
    assert (job.status, job.queue, job.payload) == (JobStatus.PENDING, "q", None)
    [run] = await client.schedules.history(made.id)
    assert (run.job_id, run.status.value, run.error) == (job.id, "completed", None)
    assert (await client.schedules.resume(made.id)).is_active
    await client.schedules.delete(made.id)
    with pytest.raises(NotFound):
        await client.schedules.delete(made.id)


async def test_a_schedule_that_cannot_be_kept_is_refused(client: AsyncClient) -> None:
    with pytest.raises(ValidationFailed, match="cron_expression: never matches"):
        await client.schedules.create("s", "0 0 30 2 *", "q", {})


async def test_a_deletion_whose_answer_was_lost_succeeds(client_on_the_line: AsyncClient, line: Line) -> None:
    made = await client_on_the_line.schedules.create("s", YEARLY, "q", {})
    line.answers_to_lose = 1
    await client_on_the_line.schedules.delete(made.id)
    assert line.lost == 1


def test_the_blocking_client_has_them_too(blocking_client: Client) -> None:
    made = blocking_client.schedules.create("s", YEARLY, "q", {})
    assert [schedule.id for schedule in blocking_client.schedules.list()] == [made.id]
