"""Who is kept apart, and for how long."""

from millstream.engine.poison import (
    APART_SECONDS,
    POISONS_BEFORE_APART,
    REMEMBERED_TENANTS_MAX,
    PoisonRecord,
)


def poisoned(record: PoisonRecord, tenant_id: int, now: float, times: int = POISONS_BEFORE_APART) -> None:
    for _ in range(times):
        record.note(tenant_id, now)


def test_a_tenant_is_apart_only_once_it_was_refused_repeatedly() -> None:
    record = PoisonRecord()
    poisoned(record, 1, 0.0, times=POISONS_BEFORE_APART - 1)
    assert not record.is_apart(1, 0.0)
    record.note(1, 0.0)
    assert record.is_apart(1, 0.0)
    assert not record.is_apart(2, 0.0)


def test_a_tenant_comes_back_when_it_was_quiet_and_begins_anew() -> None:
    record = PoisonRecord()
    poisoned(record, 1, 0.0)
    assert record.is_apart(1, APART_SECONDS)
    assert not record.is_apart(1, APART_SECONDS + 1)
    assert record.tenants == {}
    record.note(1, APART_SECONDS + 2)
    assert not record.is_apart(1, APART_SECONDS + 2)


def test_refusals_that_lie_far_apart_do_not_add_up() -> None:
    record = PoisonRecord()
    for number in range(2 * POISONS_BEFORE_APART):
        record.note(1, number * (APART_SECONDS + 1))
    assert not record.is_apart(1, (2 * POISONS_BEFORE_APART - 1) * (APART_SECONDS + 1))


def test_those_who_were_quiet_are_forgotten_when_there_are_many() -> None:
    record = PoisonRecord()
    for tenant_id in range(REMEMBERED_TENANTS_MAX):
        record.note(tenant_id, 0.0)
    record.note(-1, APART_SECONDS)
    assert set(record.tenants) == {-1}
