"""Usage: what a tenant has used of its plan."""

from typing import Final

from millstream.domain.tenant import Principal
from millstream.domain.usage import UsageReport, report_usage
from millstream.engine.context import Context
from millstream.store import quotas

# With a limit, active jobs are counted this far at least, so that a tenant whose plan has shrunk sees how
# much too many it has. An index-only walk of this length takes some 10 ms.
COUNTED_JOBS_MIN: Final = 100_000


class Usage:
    """What tenants have used of their plans."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def report(self, principal: Principal) -> UsageReport:
        """Return what the principal's tenant uses of its plan. Contract: spooled-tenancy 2.5, 3.6."""
        limit = principal.plan.max_active_jobs
        async with self._context.database.tenant(principal.tenant_id) as session:
            counts = await quotas.count_usage(
                session,
                principal.tenant_id,
                active_max=None if limit is None else max(COUNTED_JOBS_MIN, limit + 1),
                now=self._context.now(),
            )
        return report_usage(principal.plan, counts)
