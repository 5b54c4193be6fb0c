"""Signals: what a test awaits instead of sleeping."""

import asyncio

import pytest

from millstream.observe.signals import KEPT_PER_NAME_MAX, SILENT, RecordedSignals, Signals


async def test_a_signal_that_came_before_the_waiting_is_not_missed() -> None:
    signals = RecordedSignals()
    signals.emit("lease_reaper.ran", 1)

    assert await signals.wait("lease_reaper.ran") == 1


async def test_a_signal_that_comes_later_ends_the_waiting() -> None:
    signals = RecordedSignals()
    waiting = asyncio.create_task(signals.wait("lease_reaper.ran"))
    await asyncio.sleep(0)

    signals.emit("pruner.ran", 1)
    signals.emit("lease_reaper.ran", 2)

    assert await waiting == 2


async def test_each_signal_is_returned_once_and_in_order() -> None:
    signals = RecordedSignals()
    waiting = [asyncio.create_task(signals.wait("ran")) for _ in range(2)]
    await asyncio.sleep(0)

    for detail in range(4):
        signals.emit("ran", detail)

    assert [await task for task in waiting] == [0, 1]
    assert [await signals.wait("ran") for _ in range(2)] == [2, 3]
    assert signals.count("ran") == 4


async def test_a_wait_that_was_given_up_takes_no_signal() -> None:
    signals = RecordedSignals()
    given_up = asyncio.create_task(signals.wait("ran"))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up

    signals.emit("ran", 1)

    assert await signals.wait("ran") == 1


async def test_a_wait_in_vain_tells_what_was_heard() -> None:
    signals = RecordedSignals()
    signals.emit("pruner.ran")
    signals.emit("pruner.ran")

    with pytest.raises(TimeoutError, match=r"no reaper\.ran within 0 s; heard: pruner\.ran \(2\)"):
        await signals.wait("reaper.ran", seconds=0)


async def test_what_was_forgotten_is_not_returned() -> None:
    signals = RecordedSignals()
    signals.emit("ran", 1)
    signals.forget("ran")
    signals.emit("ran", 2)

    assert await signals.wait("ran") == 2


async def test_only_the_newest_are_kept() -> None:
    signals = RecordedSignals()
    for detail in range(KEPT_PER_NAME_MAX + 1):
        signals.emit("ran", detail)

    assert await signals.wait("ran") == 1


def test_signals_that_nobody_records_keep_nothing() -> None:
    SILENT.emit("ran", object())

    assert not hasattr(SILENT, "__dict__")
    assert type(SILENT) is Signals
