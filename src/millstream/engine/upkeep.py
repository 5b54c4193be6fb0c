"""What keeps an installation going: totals, retention, partitions, vacuum, gauges, the lead."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import structlog
from msgspec import Struct

from millstream.domain import limits
from millstream.domain.errors import PoisonRow
from millstream.domain.plan import plan_of
from millstream.engine.context import Context
from millstream.store import ingest, job_reads, outgoing_deliveries, schedules, upkeep, workers, workflows
from millstream.store.database import Session
from millstream.store.job_reads import JobGauges
from millstream.store.workers import WorkerGauges

LEAD_NAME = "background"
LEAD_SECONDS = 15
FOLDED_ROWS_MAX = 5_000
TENANTS_PER_PAGE = 500
# This week and the three after it.
PARTITION_WEEKS = 4
OLD_TRANSACTION_SECONDS = 60
# Jobs of the week before still finish now and then.
PARTITION_KEPT = timedelta(weeks=1)
DEAD_TUPLES_MAX = 50_000
# No job is older: ids count their time from the day before.
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)

Direct = Callable[[], AbstractAsyncContextManager[Session]]

_log = structlog.get_logger(__name__)


class Gauges(Struct, frozen=True):
    """What is refreshed from the database for the metrics."""

    jobs: JobGauges
    workers: WorkerGauges


class Upkeep:
    """Upkeep of an installation; every step is safe on several processes at once.

    `direct` opens a session past any pooler, for what needs no transaction or a long one.
    """

    def __init__(self, context: Context, direct: Direct) -> None:
        self._context = context
        self._direct = direct

    async def lead(self) -> bool:
        """Take or keep the lead; False while another process has it."""
        async with self._context.database.session() as session:
            return await upkeep.lead(
                session, LEAD_NAME, self._context.process_id, seconds=LEAD_SECONDS, now=self._context.now()
            )

    async def resign(self) -> None:
        """Give up the lead, if it is held, so that another process need not wait for its end."""
        async with self._context.database.session() as session:
            await upkeep.resign(session, LEAD_NAME, self._context.process_id)

    async def fold_counters(self) -> int:
        """Fold appended deltas into their totals; returns how many."""
        async with self._context.database.transaction() as session:
            return await upkeep.fold_counters(session, limit=FOLDED_ROWS_MAX)

    async def prune(self) -> int:
        """Delete finished jobs, history, workflows and deliveries past their plans' retention; returns how many rows.

        One step deletes a bounded batch for each page of tenants: after a full one there may be more to do.
        Contract: spooled-tenancy 16.
        """
        pruned = 0
        after = 0
        while True:
            async with self._context.database.transaction() as session:
                now = await upkeep.get_database_time(session, self._context.now())
                tenants = await upkeep.list_tenant_plans(session, after=after, limit=TENANTS_PER_PAGE)
                if not tenants:
                    return pruned
                plans = [(tenant.id, plan_of(tenant.plan_tier, tenant.custom_limits)) for tenant in tenants]
                pruned += await upkeep.prune_done_jobs(
                    session,
                    [(tenant_id, _days_before(now, plan.job_retention_days)) for tenant_id, plan in plans],
                    limit=limits.PRUNED_ROWS_MAX,
                )
                history_bounds = [
                    (tenant_id, _days_before(now, plan.history_retention_days)) for tenant_id, plan in plans
                ]
                pruned += await upkeep.prune_job_events(session, history_bounds, limit=limits.PRUNED_ROWS_MAX)
                pruned += await workflows.prune_workflows(
                    session,
                    [(tenant_id, _days_before(now, plan.job_retention_days)) for tenant_id, plan in plans],
                    limit=limits.PRUNED_ROWS_MAX,
                )
                pruned += await ingest.prune_ingest_deliveries(
                    session, history_bounds, limit=limits.PRUNED_ROWS_MAX
                )
                pruned += await outgoing_deliveries.prune_deliveries(
                    session, history_bounds, limit=limits.PRUNED_ROWS_MAX
                )
                pruned += await schedules.prune_runs(session, history_bounds, limit=limits.PRUNED_ROWS_MAX)
            after = tenants[-1].id

    async def add_partitions(self) -> int:
        """Make the partitions of finished jobs for the weeks to come; returns how many were missing.

        A week whose jobs lie in the partition for the rest already (nobody made room in time) does without
        one; the weeks after it do not.
        """
        added = 0
        for week in range(PARTITION_WEEKS):
            try:
                async with self._direct() as session:
                    await upkeep.act_as(session, self._context.database.roles.owner)
                    now = await upkeep.get_database_time(session, self._context.now())
                    added += await upkeep.add_partition(session, now + timedelta(weeks=week))
            except PoisonRow:
                _log.info("this week's finished jobs stay in the partition for the rest", weeks_ahead=week)
        return added

    async def drop_partitions(self) -> int:
        """Drop past partitions that retention has emptied; returns how many."""
        async with self._direct() as session:
            await upkeep.act_as(session, self._context.database.roles.owner)
            now = await upkeep.get_database_time(session, self._context.now())
            return await upkeep.drop_empty_partitions(session, now - PARTITION_KEPT)

    async def watch_vacuum(self) -> int:
        """Name who holds back vacuum for long, and vacuum hot tables that autovacuum leaves behind.

        Returns how many tables were vacuumed.
        """
        async with self._context.database.session() as session:
            old = await upkeep.find_old_transaction(session)
            tables = await upkeep.list_dead_tuples(session)
        if old is not None and old.seconds > OLD_TRANSACTION_SECONDS:
            _log.warning(
                "an old transaction keeps dead rows from being removed",
                pid=old.pid,
                application=old.application_name,
                user=old.username,
                seconds=round(old.seconds),
            )
            return 0
        behind = [table.relation for table in tables if table.dead > max(DEAD_TUPLES_MAX, table.live // 2)]
        if behind:
            async with self._direct() as session:
                await upkeep.act_as(session, self._context.database.roles.owner)
                for relation in behind:
                    await upkeep.vacuum(session, relation)
        return len(behind)

    async def gauges(self) -> Gauges:
        """Return what the metrics show of the database."""
        async with self._context.database.session() as session:
            return Gauges(
                await job_reads.count_job_gauges(session, self._context.now()),
                await workers.count_worker_gauges(session, self._context.now()),
            )


def _days_before(now: datetime, days: int) -> datetime:
    # A tenant's own limit may reach back further than calendars and the times in ids do.
    return now - timedelta(days=days) if days < (now - EARLIEST).days else EARLIEST
