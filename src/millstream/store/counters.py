"""Totals that are appended as deltas beside what they count."""

from collections.abc import Sequence

from msgspec import Struct


class Count(Struct, frozen=True, gc=False):
    """How much a total of a tenant grows."""

    tenant_id: int
    kind: int
    subject: str
    amount: int


def columns_of(counts: Sequence[Count]) -> tuple[list[int], list[int], list[str], list[int]]:
    """Return `counts` as columns: tenants, kinds, subjects, amounts."""
    return (
        [count.tenant_id for count in counts],
        [count.kind for count in counts],
        [count.subject for count in counts],
        [count.amount for count in counts],
    )
