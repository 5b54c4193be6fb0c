"""The dashboard: one look at what a tenant is doing."""

from millstream.domain.dashboard import Activity, DashboardReport
from millstream.domain.errors import Unavailable
from millstream.domain.tenant import Principal
from millstream.engine.context import Context
from millstream.engine.health import Health
from millstream.store import dashboard


class Dashboard:
    """What tenants are doing."""

    def __init__(self, context: Context, health: Health) -> None:
        self._context = context
        self._health = health

    async def report(self, principal: Principal) -> DashboardReport:
        """Return what the principal's tenant is doing, in the queues that the credential reaches.

        With the database away it tells of nothing but that. Contract: spooled-jobs 8.
        """
        cache_answers = await self._health.cache_answers()
        try:
            async with self._context.database.tenant(principal.tenant_id) as session:
                activity = await dashboard.read_activity(
                    session, principal.tenant_id, principal.visible_queues, self._context.now()
                )
        except Unavailable:
            return DashboardReport(activity=Activity(), database_answers=False, cache_answers=cache_answers)
        return DashboardReport(activity=activity, database_answers=True, cache_answers=cache_answers)
