"""The loops of a server, by role."""

from millstream.background.loop import Loop, Step
from millstream.domain import limits
from millstream.engine.engine import Engine
from millstream.engine.upkeep import FOLDED_ROWS_MAX
from millstream.observe import metrics

HELD_JOB_SECONDS = 0.1


def loops_of(engine: Engine) -> list[Loop]:
    """Return the loops of `engine`. Contract: spooled-jobs 11."""

    async def promote() -> Step:
        promoted, seconds = await engine.claiming.promote()
        if promoted >= limits.PROMOTED_ROWS_MAX:
            return Step(promoted, 0.0)
        # What is due and was left alone is held by another session: it is not asked for without a pause.
        return Step(promoted, seconds if seconds is None or seconds > 0 else HELD_JOB_SECONDS)

    async def wake_waiting_claims() -> Step:
        # What another process enqueued woke nobody here: one claim per queue looks for itself.
        waiting = engine.context.wakeups.waiting_queues()
        engine.context.wakeups.wake_all(waiting)
        return Step(len(waiting))

    async def reap() -> Step:
        return _again_if_full(len(await engine.settling.reap()), limits.REAPED_ROWS_MAX)

    async def expire() -> Step:
        return _again_if_full(await engine.jobs.expire(limit=limits.REAPED_ROWS_MAX), limits.REAPED_ROWS_MAX)

    async def retire() -> Step:
        return Step(await engine.workers.retire_stale())

    async def fold() -> Step:
        return _again_if_full(await engine.upkeep.fold_counters(), FOLDED_ROWS_MAX)

    async def prune() -> Step:
        return _again_if_full(await engine.upkeep.prune(), limits.PRUNED_ROWS_MAX)

    async def partition() -> Step:
        return Step(await engine.upkeep.add_partitions())

    async def watch_vacuum() -> Step:
        return Step(await engine.upkeep.watch_vacuum())

    async def refresh_gauges() -> Step:
        gauges = await engine.upkeep.gauges()
        metrics.JOBS_PENDING.set(gauges.jobs.pending)
        metrics.JOBS_PROCESSING.set(gauges.jobs.processing)
        metrics.JOB_MAX_AGE.set(gauges.jobs.oldest_seconds)
        metrics.WORKERS_ACTIVE.set(gauges.workers.active)
        metrics.WORKERS_HEALTHY.set(gauges.workers.healthy)
        metrics.DATABASE_CONNECTIONS_ACTIVE.set(engine.context.database.busy_connections)
        return Step(0)

    return [
        Loop(
            name="promoter",
            interval_seconds=5,
            step=promote,
            leader_only=False,
            hint=engine.context.delayed_hint,
        ),
        Loop(name="waker", interval_seconds=0.5, step=wake_waiting_claims, leader_only=False),
        # Not the leader's alone: leases that ran out are ended in time even while a killed leader's row runs out.
        Loop(name="lease_reaper", interval_seconds=5, step=reap, leader_only=False),
        Loop(name="expirer", interval_seconds=30, step=expire),
        Loop(name="worker_retirer", interval_seconds=30, step=retire),
        Loop(name="counter_folder", interval_seconds=2, step=fold),
        Loop(name="pruner", interval_seconds=300, step=prune),
        Loop(name="partitioner", interval_seconds=3600, step=partition),
        Loop(name="vacuum_watcher", interval_seconds=30, step=watch_vacuum),
        Loop(name="gauge_refresher", interval_seconds=15, step=refresh_gauges, leader_only=False),
    ]


def _again_if_full(done: int, full: int) -> Step:
    return Step(done, 0.0 if done >= full else None)
