"""The loops of a server, by role."""

from collections.abc import Awaitable, Callable
from functools import partial

from millstream.background.loop import Loop, Step
from millstream.domain import limits
from millstream.engine import lease_ends
from millstream.engine.claims import TIMER_SECONDS_MAX
from millstream.engine.delayed import TIMER_SECONDS_MAX as DELAY_SECONDS_MAX
from millstream.engine.engine import Engine
from millstream.engine.group_sweeping import SWEEP_SECONDS
from millstream.engine.relay import BEAT_SECONDS
from millstream.engine.upkeep import FOLDED_ROWS_MAX
from millstream.observe import metrics

HELD_JOB_SECONDS = 0.1
HELD_LEASE_SECONDS = 0.05
# What another process noted, and what is tried again, is found by looking.
DISPATCH_SECONDS = 0.5
# The timer knows of every schedule; only one that another process, which ended since, was given is found by looking.
FIRE_SECONDS = 1.0
# A notification of an inline call may be lost with its connection.
INLINE_SECONDS = 1.0


def loops_of(engine: Engine) -> list[Loop]:
    """Return the loops of `engine`. Contract: spooled-jobs 11."""
    upkeep = engine.upkeep
    sign_ins = engine.sign_ins
    return [
        Loop(
            name="promoter",
            interval_seconds=TIMER_SECONDS_MAX,
            step=partial(_promote, engine),
            leader_only=False,
            hint=engine.context.delayed_hint,
        ),
        Loop(
            name="waker", interval_seconds=0.5, step=partial(_wake_waiting_claims, engine), leader_only=False
        ),
        Loop(name="beater", interval_seconds=BEAT_SECONDS, step=partial(_beat, engine), leader_only=False),
        # Not the leader's alone: leases that ran out are ended in time even while a killed leader's row runs out.
        Loop(name="lease_reaper", interval_seconds=5, step=partial(_reap, engine), leader_only=False),
        # Nor these: the members of a group do not wait for a killed leader's row either.
        Loop(
            name="group_sweeper",
            interval_seconds=SWEEP_SECONDS,
            step=_counting(engine.groups.sweep, full=limits.GROUPS_TENDED_MAX),
            leader_only=False,
        ),
        Loop(
            name="webhook_dispatcher",
            interval_seconds=DISPATCH_SECONDS,
            step=partial(_dispatch, engine),
            leader_only=False,
            hint=engine.context.outbox.noted,
        ),
        Loop(
            name="scheduler",
            interval_seconds=FIRE_SECONDS,
            step=partial(_fire, engine),
            leader_only=False,
            hint=engine.firing.hint,
        ),
        Loop(
            name="workflow_follower",
            interval_seconds=0.5,
            step=_counting(engine.following.follow, full=limits.WORKFLOWS_FOLLOWED_MAX),
            leader_only=False,
            hint=engine.context.workflows_changed,
        ),
        Loop(
            name="inline_taker",
            interval_seconds=INLINE_SECONDS,
            step=_counting(engine.inline.take, full=limits.INLINE_ROWS_MAX),
            leader_only=False,
            hint=engine.inline.hint,
        ),
        Loop(
            name="delay_timer",
            interval_seconds=DELAY_SECONDS_MAX,
            step=partial(_deliver_delayed, engine),
            leader_only=False,
            hint=engine.delayed.hint.event,
        ),
        Loop(
            name="log_pruner",
            interval_seconds=60,
            step=_counting(engine.log_retention.prune, full=limits.PRUNED_BATCHES_MAX),
        ),
        Loop(
            name="topic_remover",
            interval_seconds=10,
            step=_counting(engine.log_retention.remove_deleted, full=limits.PRUNED_BATCHES_MAX),
        ),
        Loop(
            name="publish_key_pruner",
            interval_seconds=300,
            step=_counting(engine.publishing.prune_keys, full=limits.PRUNED_ROWS_MAX),
        ),
        Loop(name="expirer", interval_seconds=30, step=partial(_expire, engine)),
        Loop(name="worker_retirer", interval_seconds=30, step=_counting(engine.workers.retire_stale)),
        Loop(
            name="counter_folder",
            interval_seconds=2,
            step=_counting(upkeep.fold_counters, full=FOLDED_ROWS_MAX),
        ),
        Loop(name="pruner", interval_seconds=300, step=_counting(upkeep.prune, full=limits.PRUNED_ROWS_MAX)),
        Loop(
            name="tenant_remover",
            interval_seconds=10,
            step=_counting(engine.removal.sweep, full=limits.REMOVED_ROWS_MAX),
        ),
        Loop(
            name="group_remover",
            interval_seconds=10,
            step=_counting(engine.groups.remove_rows, full=limits.PRUNED_ROWS_MAX),
        ),
        Loop(
            name="event_pruner",
            interval_seconds=15,
            step=_counting(engine.relay.prune_events, full=limits.PRUNED_ROWS_MAX),
        ),
        Loop(
            name="key_use_noter",
            interval_seconds=10,
            step=_counting(engine.credentials.note_uses),
            leader_only=False,
        ),
        Loop(
            name="token_pruner",
            interval_seconds=300,
            step=_counting(engine.tokens.prune, full=limits.PRUNED_TOKENS_MAX),
        ),
        # Not the leader's alone: what a lease held must be delivered again in time.
        Loop(
            name="lease_ender",
            interval_seconds=lease_ends.TIMER_SECONDS_MAX,
            step=partial(_end_leases, engine),
            leader_only=False,
            hint=engine.lease_ends.hint,
        ),
        Loop(
            name="delivery_pruner",
            interval_seconds=30,
            step=_counting(engine.lease_ends.prune, full=limits.PRUNED_ROWS_MAX),
        ),
        *(
            ()
            if sign_ins is None
            else (
                Loop(
                    name="sign_in_code_pruner",
                    interval_seconds=300,
                    step=_counting(sign_ins.prune, full=limits.PRUNED_TOKENS_MAX),
                ),
            )
        ),
        Loop(name="partitioner", interval_seconds=3600, step=_counting(upkeep.add_partitions)),
        Loop(name="partition_dropper", interval_seconds=3600, step=_counting(upkeep.drop_partitions)),
        Loop(name="vacuum_watcher", interval_seconds=30, step=_counting(upkeep.watch_vacuum)),
        Loop(
            name="gauge_refresher",
            interval_seconds=15,
            step=partial(_refresh_gauges, engine),
            leader_only=False,
        ),
    ]


def _counting(call: Callable[[], Awaitable[int]], full: int | None = None) -> Callable[[], Awaitable[Step]]:
    """Make a step of a call that returns how much it did; after a full batch the next step comes at once."""

    async def step() -> Step:
        done = await call()
        return Step(done, 0.0 if full is not None and done >= full else None)

    return step


async def _promote(engine: Engine) -> Step:
    promoted, seconds = await engine.claiming.promote()
    if promoted >= limits.PROMOTED_ROWS_MAX:
        return Step(promoted, 0.0)
    # What is due and was left alone is held by another session: it is not asked for without a pause.
    return Step(promoted, seconds if seconds is None or seconds > 0 else HELD_JOB_SECONDS)


async def _deliver_delayed(engine: Engine) -> Step:
    delivered, seconds = await engine.delayed.deliver()
    if delivered >= limits.PROMOTED_ROWS_MAX:
        return Step(delivered, 0.0)
    # What is due and was left alone is held by somebody who cancels or reads it.
    return Step(delivered, seconds if seconds is None or seconds > 0 else HELD_JOB_SECONDS)


async def _beat(engine: Engine) -> Step:
    await engine.relay.beat()
    return Step(0)


async def _wake_waiting_claims(engine: Engine) -> Step:
    # A hint of what another process enqueued may be lost: one claim per queue looks for itself.
    waiting = engine.context.wakeups.waiting_queues()
    engine.context.wakeups.wake_all(waiting)
    return Step(len(waiting))


async def _reap(engine: Engine) -> Step:
    ended = len(await engine.settling.reap())
    return Step(ended, 0.0 if ended >= limits.REAPED_ROWS_MAX else None)


async def _end_leases(engine: Engine) -> Step:
    ended = await engine.lease_ends.expire()
    if ended.deliveries >= limits.EXPIRED_DELIVERIES_MAX:
        return Step(ended.deliveries, 0.0)
    # What has run out and was left alone is held by another session: it is not asked for without a pause.
    seconds = ended.next_seconds
    return Step(ended.deliveries, seconds if seconds is None or seconds > 0 else HELD_LEASE_SECONDS)


async def _dispatch(engine: Engine) -> Step:
    begun = await engine.delivering.dispatch()
    return Step(begun, 0.0 if engine.delivering.round_goes_on else None)


async def _fire(engine: Engine) -> Step:
    fired = await engine.firing.fire()
    seconds = fired.next_seconds
    if seconds is None or seconds > 0:
        return Step(fired.taken, seconds)
    # What is due and was left alone is held by another process, which is firing it.
    return Step(fired.taken, 0.0 if fired.taken else HELD_JOB_SECONDS)


async def _expire(engine: Engine) -> Step:
    expired = await engine.jobs.expire(limit=limits.REAPED_ROWS_MAX)
    return Step(expired, 0.0 if expired >= limits.REAPED_ROWS_MAX else None)


async def _refresh_gauges(engine: Engine) -> Step:
    gauges = await engine.upkeep.gauges()
    metrics.JOBS_PENDING.set(gauges.jobs.pending)
    metrics.JOBS_PROCESSING.set(gauges.jobs.processing)
    metrics.JOB_MAX_AGE.set(gauges.jobs.oldest_seconds)
    metrics.WORKERS_ACTIVE.set(gauges.workers.active)
    metrics.WORKERS_HEALTHY.set(gauges.workers.healthy)
    metrics.DATABASE_CONNECTIONS_ACTIVE.set(engine.context.database.busy_connections)
    return Step(0)
