"""Tells caches, here and in the other processes, that what they hold of a tenant has changed."""

from collections.abc import Awaitable, Callable

Forget = Callable[[int], None]
"""Drops what is cached of a tenant, given its id."""


class Invalidations:
    """Caches say how they forget; whoever changes a key, a plan or a queue says whose."""

    def __init__(self) -> None:
        self._caches: list[Forget] = []
        self._reach_others: Callable[[int], Awaitable[None]] | None = None

    def register(self, forget: Forget) -> None:
        """Have `forget` called whenever something of a tenant changes."""
        self._caches.append(forget)

    def reach_others(self, reach: Callable[[int], Awaitable[None]]) -> None:
        """Have `reach` make the other processes forget a tenant."""
        self._reach_others = reach

    def forget(self, tenant_id: int) -> None:
        """Drop what this process caches of the tenant."""
        for forget in self._caches:
            forget(tenant_id)

    async def tenant_changed(self, tenant_id: int) -> None:
        """Drop what any live process caches of the tenant; call it after the commit and before the answer.

        Returns when all have done so, at most a second later; at once when this process is the only one. Ruling R25.
        """
        self.forget(tenant_id)
        if self._reach_others is not None:
            await self._reach_others(tenant_id)
