"""Tells this process's caches that what they hold of a tenant has changed."""

from collections.abc import Callable

Forget = Callable[[int], None]
"""Drops what is cached of a tenant, given its id."""


class Invalidations:
    """Caches say how they forget; whoever changes a key, a plan or a queue says whose."""

    def __init__(self) -> None:
        self._caches: list[Forget] = []

    def register(self, forget: Forget) -> None:
        """Have `forget` called whenever something of a tenant changes."""
        self._caches.append(forget)

    def forget(self, tenant_id: int) -> None:
        """Drop what this process caches of the tenant."""
        for forget in self._caches:
            forget(tenant_id)

    async def tenant_changed(self, tenant_id: int) -> None:
        """Drop what is cached of the tenant; call it after the commit and before the answer. Ruling R25."""
        self.forget(tenant_id)
