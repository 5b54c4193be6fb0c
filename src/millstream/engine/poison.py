"""Poison: tenants whose rows the database keeps refusing are batched apart from the others for a while."""

APART_SECONDS = 30.0
POISONS_BEFORE_APART = 3
REMEMBERED_TENANTS_MAX = 1_000


class PoisonRecord:
    """Who sent rows that the database refused, and who is kept apart for it. Times are of one steady clock."""

    __slots__ = ("tenants",)

    def __init__(self) -> None:
        # How many, and when the last one came. Empty for as long as nobody sent any, which callers look at first.
        self.tenants: dict[int, tuple[int, float]] = {}

    def note(self, tenant_id: int, now: float) -> None:
        """Note that a row of the tenant was refused."""
        count, since = self.tenants.get(tenant_id, (0, now))
        if now - since > APART_SECONDS:
            count = 0
        self.tenants[tenant_id] = (count + 1, now)
        if len(self.tenants) > REMEMBERED_TENANTS_MAX:
            self._forget_old(now)

    def is_apart(self, tenant_id: int, now: float) -> bool:
        """Tell whether the tenant is to be batched by itself."""
        if tenant_id not in self.tenants:
            return False
        count, since = self.tenants[tenant_id]
        if now - since > APART_SECONDS:
            del self.tenants[tenant_id]
            return False
        return count >= POISONS_BEFORE_APART

    def _forget_old(self, now: float) -> None:
        for tenant_id in [
            tenant for tenant, (_, since) in self.tenants.items() if now - since >= APART_SECONDS
        ]:
            del self.tenants[tenant_id]
