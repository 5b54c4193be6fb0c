"""Workflows: created whole, followed as their jobs end, cancelled, retried."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from msgspec.structs import replace

from millstream.domain.errors import (
    AccessDenied,
    BadRequest,
    Conflict,
    FeatureDisabled,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
)
from millstream.domain.job import Completion, DeadSelection, DependencyMode, JobEventKind, JobState, NewJob
from millstream.domain.plan import PLANS
from millstream.domain.webhook import NewWebhook, WebhookEvent
from millstream.domain.workflow import NewStep, NewWorkflow, WorkflowStatus
from millstream.engine.engine import Engine
from tests.conftest import STARTED_AT, make_principal
from tests.engine.flow import Flow, new_workflow
from tests.engine.test_interleavings import both_wait, hold, holder, watcher
from tests.engine.work import Work, lease_of

__all__ = ["holder", "watcher"]

ANY = DependencyMode.ANY
READY, BLOCKED, RUNNING = JobState.READY, JobState.BLOCKED, JobState.RUNNING
COMPLETED, DEAD, CANCELLED = JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED


async def test_a_diamond_runs_in_its_order(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(d="bc", a="", b="a", c="a"))
    assert await flow.states() == {"d": BLOCKED, "a": READY, "b": BLOCKED, "c": BLOCKED}
    assert await flow.status() is WorkflowStatus.PENDING
    assert await flow.claim() == "a"
    running = await flow.get()
    assert (running.status, running.started_at) == (WorkflowStatus.RUNNING, STARTED_AT)
    assert await flow.claim() == ""
    await flow.complete("a")
    assert await flow.claim() == "bc"
    await flow.complete("c")
    assert await flow.claim() == ""
    await flow.complete("b")
    assert (await flow.get()).completed_jobs == 3
    assert await flow.claim() == "d"
    work.clock.advance(1)
    await flow.complete("d")
    done = await flow.get()
    assert (done.status, done.total_jobs, done.completed_jobs, done.failed_jobs) == (
        WorkflowStatus.COMPLETED,
        4,
        4,
        0,
    )
    assert done.completed_at == STARTED_AT + timedelta(seconds=1)
    assert await work.history(flow.ids["d"]) == [
        JobEventKind.CREATED,
        JobEventKind.CLAIMED,
        JobEventKind.COMPLETED,
    ]


async def test_jobs_are_claimed_in_the_order_of_the_definition(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(z="", a="", m=""))
    assert await flow.claim() == "zam"


async def test_any_waits_for_the_first(work: Work) -> None:
    flow = await Flow.create(work, new_workflow({"c": ANY}, a="", b="", c="ab"))
    assert await flow.claim() == "ab"
    await flow.complete("b")
    assert await flow.claim() == "c"
    await flow.complete("a", "c")
    assert await flow.status() is WorkflowStatus.COMPLETED


async def test_both_parents_in_one_statement_let_a_child_go_once(work: Work) -> None:
    flow = await Flow.create(work, new_workflow({"d": ANY}, a="", b="", c="ab", d="ab"))
    await flow.claim()
    await work.engine.jobs.settle(work.principal, [Completion(lease=lease) for lease in flow.leases.values()])
    assert await flow.states() == {"a": COMPLETED, "b": COMPLETED, "c": READY, "d": READY}
    assert {(await work.job(flow.ids[key])).unmet for key in "cd"} == {0}


async def test_a_failed_step_lets_other_branches_finish_first(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(a="", b="", c="a", d="b"))
    assert await flow.claim() == "ab"
    await flow.fail("a")
    assert await flow.status() is WorkflowStatus.RUNNING
    await flow.complete("b")
    assert await flow.claim() == "d"
    assert await flow.status() is WorkflowStatus.RUNNING
    await flow.complete("d")
    failed = await flow.get()
    assert (failed.status, failed.completed_jobs, failed.failed_jobs) == (WorkflowStatus.FAILED, 2, 1)
    assert failed.completed_at is not None
    assert await flow.states() == {"a": DEAD, "b": COMPLETED, "c": BLOCKED, "d": COMPLETED}


async def test_retrying_a_failed_workflow_goes_on_where_it_stopped(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(a="", b="a"))
    with pytest.raises(BadRequest, match="failed"):
        await work.engine.workflows.retry(work.principal, flow.id)
    await flow.claim()
    await flow.fail("a")
    assert await flow.status() is WorkflowStatus.FAILED
    retried = await work.engine.workflows.retry(work.principal, flow.id)
    assert (retried.status, retried.failed_jobs, retried.completed_at) == (WorkflowStatus.RUNNING, 0, None)
    assert (await work.job(flow.ids["a"])).retry_count == 0
    assert await flow.claim() == "a"
    await flow.complete("a")
    assert await flow.claim() == "b"


@pytest.mark.parametrize("way", ["single", "dead letters"])
async def test_retrying_a_step_revives_its_workflow(work: Work, way: str) -> None:
    flow = await Flow.create(work, new_workflow(a="", b="a"))
    await flow.claim()
    await flow.fail("a")
    assert await flow.status() is WorkflowStatus.FAILED
    if way == "single":
        await work.engine.jobs.retry(work.principal, flow.ids["a"])
    else:
        assert await work.retry_dead(queue="q") == [flow.ids["a"]]
    revived = await flow.get()
    assert (revived.status, revived.completed_at) == (WorkflowStatus.RUNNING, None)
    assert await flow.claim() == "a"
    await flow.complete("a")
    assert (await flow.states())["b"] is READY


async def test_cancelling_a_workflow_leaves_running_jobs_alone(work: Work) -> None:
    outside = await work.enqueue("other")
    flow = await Flow.create(work, new_workflow(a="", b="", c="b"))
    await work.engine.dependencies.add(work.principal, outside, [flow.ids["c"]], DependencyMode.ALL)
    [running] = await work.claim()
    cancelled = await work.engine.workflows.cancel(work.principal, flow.id)
    assert cancelled.status is WorkflowStatus.CANCELLED
    assert cancelled.completed_at == STARTED_AT
    assert await flow.states() == {"a": RUNNING, "b": CANCELLED, "c": CANCELLED}
    # What waited for it from outside can never start either.
    assert await work.state(outside) is CANCELLED
    assert (await work.job(flow.ids["b"])).last_error == "workflow was cancelled"
    flow.leases = {running.id: lease_of(running)}
    await flow.complete("a")
    again = await work.engine.workflows.cancel(work.principal, flow.id)
    assert (again.status, again.completed_jobs, again.completed_at) == (
        WorkflowStatus.CANCELLED,
        1,
        cancelled.completed_at,
    )


async def test_what_has_ended_cannot_be_cancelled(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(a=""))
    await flow.claim()
    await flow.complete("a")
    with pytest.raises(Conflict, match="completed"):
        await work.engine.workflows.cancel(work.principal, flow.id)
    assert await flow.status() is WorkflowStatus.COMPLETED


async def test_a_cancelled_job_takes_along_what_can_never_start(work: Work) -> None:
    flow = await Flow.create(
        work, new_workflow({"e": ANY, "f": ANY}, a="", b="", c="a", d="c", e="ab", f="cd")
    )
    await work.engine.jobs.cancel(work.principal, flow.ids["a"])
    assert await flow.states() == {
        "a": CANCELLED,
        "b": READY,
        "c": CANCELLED,
        "d": CANCELLED,
        "e": BLOCKED,
        "f": CANCELLED,
    }
    await work.engine.jobs.cancel(work.principal, flow.ids["b"])
    assert (await flow.states())["e"] is CANCELLED
    done = await flow.get()
    # Every job is cancelled, and none failed.
    assert (done.status, done.completed_jobs) == (WorkflowStatus.COMPLETED, 0)


async def test_a_dead_letter_keeps_what_waits_for_it_but_not_its_children(work: Work) -> None:
    parent = await work.die("parents")
    child = await work.enqueue(parent_job_id=parent)
    waiting = await work.enqueue()
    await work.retry_dead(job_ids=(parent,))
    await work.engine.dependencies.add(work.principal, waiting, [child], DependencyMode.ALL)
    other = await work.enqueue()
    await work.engine.dependencies.add(work.principal, other, [parent], DependencyMode.ALL)
    [claimed] = await work.claim("parents")
    await work.fail(lease_of(claimed))
    assert await work.state(parent) is DEAD
    # The child is cancelled with its parent, and so is what waited for the child; what depends on the parent waits on.
    assert (await work.state(child), await work.state(waiting)) == (CANCELLED, CANCELLED)
    assert await work.state(other) is BLOCKED


async def test_purging_a_dead_step_lets_go_what_waited_for_it(work: Work) -> None:
    flow = await Flow.create(work, new_workflow({"d": ANY}, a="", b="a", c="", d="ac"))
    await flow.claim()
    await flow.fail("a")
    await work.enqueue("aside")
    assert await work.purge_dead() == 1
    assert await flow.states() == {"b": READY, "c": RUNNING, "d": BLOCKED}
    assert (await flow.get()).total_jobs == 4


async def test_deleting_a_queue_forgets_its_jobs_of_workflows(work: Work) -> None:
    first = NewStep(key="a", job=NewJob(queue="gone", payload="{}"))
    second = NewStep(key="b", job=NewJob(queue="kept", payload="{}"), depends_on=("a",))
    flow = await Flow.create(work, NewWorkflow(name="w", steps=(first, second)))
    await work.engine.queues.delete(work.principal, "gone", with_jobs=True)
    assert await flow.states() == {"b": READY}


async def test_nothing_is_left_of_a_workflow_that_could_not_be_created(work: Work) -> None:
    big = "x" * (PLANS["free"].max_payload_size_bytes + 1)
    steps = (*new_workflow(a="").steps, NewStep(key="b", job=NewJob(queue="q", payload=f'"{big}"')))
    limited = replace(work.principal, plan=replace(PLANS["free"], max_workflows=5))
    with pytest.raises(PayloadTooLarge):
        await work.engine.workflows.create(limited, NewWorkflow(name="w", steps=steps))
    with pytest.raises(QuotaExceeded, match="active jobs") as caught:
        await work.engine.workflows.create(limited, new_workflow(**dict.fromkeys("abcdefghijk", "")))
    assert caught.value.resource == "active_jobs"
    with pytest.raises(FeatureDisabled):
        await work.engine.workflows.create(replace(work.principal, plan=PLANS["free"]), new_workflow(a=""))
    assert await work.engine.workflows.list(work.principal, status=None, limit=9, offset=0) == []
    assert not any((await work.engine.jobs.counts(work.principal)).values())


async def test_the_limit_of_workflows_is_exact_under_concurrency(work: Work, second_engine: Engine) -> None:
    limited = replace(work.principal, plan=replace(PLANS["starter"], max_workflows=3))
    engines = [work.engine, second_engine] * 4
    outcomes = await asyncio.gather(
        *(engine.workflows.create(limited, new_workflow(a="")) for engine in engines), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 5
    for error in refused:
        assert isinstance(error, QuotaExceeded)
        assert (error.resource, error.current, error.limit) == ("workflows", 3, 3)
    assert len(await work.engine.workflows.list(limited, status=None, limit=9, offset=0)) == 3
    usage = await work.engine.usage.report(limited)
    assert usage.items.workflows.current == 3


async def test_a_workflow_that_has_just_ended_makes_room(work: Work) -> None:
    limited = replace(work.principal, plan=replace(PLANS["starter"], max_workflows=1))
    one = Work(work.engine, limited, work.clock)
    for _ in range(3):
        flow = await Flow.create(one, new_workflow(a=""))
        await flow.claim()
        # Nobody has looked at it since.
        await flow.complete("a")


async def test_retries_that_would_revive_too_many_workflows_leave_their_steps_alone(work: Work) -> None:
    flows = [await Flow.create(work, new_workflow(a="")) for _ in range(3)]
    for flow, claimed in zip(flows, await work.claim(limit=3), strict=True):
        assert flow.ids["a"] == claimed.id
        await work.fail(lease_of(claimed))
    plain = await work.die("plain")
    limited = replace(work.principal, plan=replace(PLANS["starter"], max_workflows=2))
    revived = await work.engine.jobs.retry_dead(limited, DeadSelection(limit=100))
    assert revived.job_ids == [flows[0].ids["a"], flows[1].ids["a"], plain]
    assert revived.skipped == [flows[2].ids["a"]]
    with pytest.raises(QuotaExceeded, match="workflows limit reached"):
        await work.engine.jobs.retry(limited, flows[2].ids["a"])
    with pytest.raises(QuotaExceeded, match="workflows limit reached"):
        await work.engine.workflows.retry(limited, flows[2].id)
    assert [await flow.status() for flow in flows] == [
        WorkflowStatus.RUNNING,
        WorkflowStatus.RUNNING,
        WorkflowStatus.FAILED,
    ]


async def test_a_workflow_is_its_tenants_and_within_the_queues_of_a_key(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(a=""))
    stranger = await make_principal(work.engine)
    within, without = work.restricted_to("q", "other"), work.restricted_to("other")
    for reader in (stranger, without.principal):
        for call in (
            work.engine.workflows.get,
            work.engine.workflows.detail,
            work.engine.workflows.cancel,
            work.engine.workflows.retry,
        ):
            with pytest.raises(NotFound):
                await call(reader, flow.id)
        assert await work.engine.workflows.list(reader, status=None, limit=9, offset=0) == []
    assert (await work.engine.workflows.get(within.principal, flow.id)).id == flow.id
    with pytest.raises(AccessDenied):
        await work.engine.workflows.create(without.principal, new_workflow(a=""))


async def test_two_processes_let_a_child_go_once(
    work: Work, second_engine: Engine, holder: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    elsewhere = Work(second_engine, work.principal, work.clock)
    flow = await Flow.create(work, new_workflow(a="", b="", c="ab"))
    await flow.claim()
    # Both have removed their own job, and wait for the child: neither sees that the other one is done.
    await hold(holder, flow.ids["c"])
    both = [
        asyncio.create_task(work.complete(flow.leases[flow.ids["a"]])),
        asyncio.create_task(elsewhere.complete(flow.leases[flow.ids["b"]])),
    ]
    await both_wait(watcher)
    await holder.execute("rollback")
    await asyncio.gather(*both)
    child = await work.job(flow.ids["c"])
    assert (child.state, child.unmet) == (READY, 0)
    assert await flow.claim() == "c"
    assert (await flow.get()).completed_jobs == 2


async def test_a_dependency_on_a_job_that_is_just_being_completed_is_met(
    work: Work, holder: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    lease = await work.run()
    child = await work.enqueue()
    await hold(holder, lease.job_id)
    # The completion waits first, then the request for a dependency: when both go on, the job has dependents already,
    # or is completed already.
    completing = asyncio.create_task(work.complete(lease))
    await both_wait(watcher, 1)
    adding = asyncio.create_task(
        work.engine.dependencies.add(work.principal, child, [lease.job_id], DependencyMode.ALL)
    )
    await both_wait(watcher, 2)
    await holder.execute("rollback")
    await asyncio.gather(completing, adding)
    assert await work.state(child) is READY


async def test_cancels_of_the_last_two_jobs_that_a_job_waits_for_cancel_it(
    work: Work, second_engine: Engine, holder: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    flow = await Flow.create(work, new_workflow({"c": ANY}, a="", b="", c="ab"))
    await hold(holder, flow.ids["c"])
    both = [
        asyncio.create_task(work.engine.jobs.cancel(work.principal, flow.ids["a"])),
        asyncio.create_task(second_engine.jobs.cancel(work.principal, flow.ids["b"])),
    ]
    await both_wait(watcher)
    await holder.execute("rollback")
    await asyncio.gather(*both)
    assert await flow.states() == dict.fromkeys("abc", CANCELLED)


async def test_the_follower_notes_what_nobody_asks_for(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(a=""))
    await flow.claim()
    assert not work.engine.context.workflows_changed.is_set()
    await flow.complete("a")
    assert work.engine.context.workflows_changed.is_set()
    assert await work.engine.following.follow() == 1
    async with work.engine.context.database.session() as session:
        [row] = await session.many("select status, completed_jobs from millstream.workflows")
    assert (row["status"], row["completed_jobs"]) == (WorkflowStatus.COMPLETED, 1)
    assert await work.engine.following.follow() == 0


async def test_an_ordinary_completion_leaves_nothing_to_follow(work: Work) -> None:
    await work.complete(await work.run())
    assert not work.engine.context.workflows_changed.is_set()
    assert await work.engine.following.follow() == 0


async def test_webhooks_are_told_once_how_a_workflow_ended(work: Work) -> None:
    await work.engine.outgoing_webhooks.create(
        work.principal,
        NewWebhook(
            name="n",
            url="https://example.com/",
            events=(WebhookEvent.WORKFLOW_COMPLETED, WebhookEvent.WORKFLOW_FAILED),
        ),
    )
    flow = await Flow.create(work, new_workflow(a="", b="a"))
    await flow.claim()
    await flow.fail("a")
    assert await flow.status() is WorkflowStatus.FAILED
    assert await flow.status() is WorkflowStatus.FAILED
    await work.engine.workflows.retry(work.principal, flow.id)
    for key in "ab":
        await flow.claim()
        await flow.complete(key)
    await flow.status()
    async with work.engine.context.database.session() as session:
        rows = await session.many(
            "select event, data::jsonb ->> 'status' as status from millstream.outgoing_deliveries order by id"
        )
    assert sorted((row["event"], row["status"]) for row in rows) == [(13, "completed"), (14, "failed")]


async def test_a_finished_workflow_goes_with_its_jobs(work: Work) -> None:
    flow = await Flow.create(work, new_workflow(a="", b="a"))
    for key in "ab":
        await flow.claim()
        await flow.complete(key)
    assert await flow.status() is WorkflowStatus.COMPLETED
    kept = await Flow.create(work, new_workflow(x=""))
    work.clock.advance(timedelta(days=91).total_seconds())
    while await work.engine.upkeep.prune():
        pass
    with pytest.raises(NotFound):
        await flow.get()
    assert await kept.status() is WorkflowStatus.PENDING
    async with work.engine.context.database.session() as session:
        for table in ("job_dependencies", "workflow_changes"):
            assert await session.many(f"select from millstream.{table}") == []


async def test_lists_show_the_newest_first_by_status(work: Work) -> None:
    first = await Flow.create(work, new_workflow(a=""))
    await first.claim()
    second = await Flow.create(work, new_workflow(a=""))
    third = await Flow.create(work, new_workflow(a=""))
    await work.engine.workflows.cancel(work.principal, third.id)

    async def listed(status: WorkflowStatus | None, limit: int = 9, offset: int = 0) -> list[object]:
        page = await work.engine.workflows.list(work.principal, status=status, limit=limit, offset=offset)
        return [workflow.id for workflow in page]

    assert await listed(None) == [third.id, second.id, first.id]
    assert await listed(None, 1, 1) == [second.id]
    assert await listed(WorkflowStatus.RUNNING) == [first.id]
    assert await listed(WorkflowStatus.PENDING) == [second.id]
    assert await listed(WorkflowStatus.CANCELLED) == [third.id]
    assert await listed(WorkflowStatus.FAILED) == []
