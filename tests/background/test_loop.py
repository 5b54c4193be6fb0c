import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from millstream.background import loop as loops
from millstream.background.loop import Loop, Step
from millstream.domain.errors import DatabaseUnavailable
from millstream.observe.signals import RecordedSignals


@asynccontextmanager
async def running(loop: Loop, signals: RecordedSignals, leads: Callable[[], bool]) -> AsyncGenerator[None]:
    task = asyncio.create_task(loops.run(loop, leads=leads, signals=signals))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def loop_of(step: Callable[[], Awaitable[Step]], **options: object) -> Loop:
    return Loop(name="lease_reaper", step=step, **{"interval_seconds": 3_600, **options})  # type: ignore[arg-type]


async def test_the_first_step_is_taken_at_once() -> None:
    signals = RecordedSignals()

    async def step() -> Step:
        return Step(1)

    async with running(loop_of(step), signals, lambda: True):
        await signals.wait("lease_reaper.ran")
    assert signals.count("lease_reaper.ran") == 1


async def test_a_step_that_says_so_is_followed_by_the_next_at_once() -> None:
    signals = RecordedSignals()
    left = [0.0, 0.0, 0.0]

    async def step() -> Step:
        return Step(1, left.pop() if left else None)

    async with running(loop_of(step), signals, lambda: True):
        for _ in range(4):
            await signals.wait("lease_reaper.ran")


async def test_a_hint_cuts_the_pause_short() -> None:
    signals = RecordedSignals()
    hint = asyncio.Event()

    async def step() -> Step:
        return Step(0)

    async with running(loop_of(step, hint=hint), signals, lambda: True):
        for _ in range(3):
            await signals.wait("lease_reaper.ran")
            hint.set()


async def test_a_loop_of_the_leader_rests_elsewhere() -> None:
    signals = RecordedSignals()
    asked = asyncio.Event()
    steps = 0

    def leads() -> bool:
        asked.set()
        return False

    async def step() -> Step:
        nonlocal steps
        steps += 1
        return Step(0)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(loop_of(step), signals, leads))
        await asked.wait()
        await asyncio.sleep(0)
        assert steps == 0
    async with running(loop_of(step, leader_only=False), signals, leads):
        await signals.wait("lease_reaper.ran")


# A database that comes back does not wait for its loops.
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DatabaseUnavailable(), [1, 2, 2, 2, 2, 2, 2, 2]),
        (KeyError("a defect"), [1, 2, 4, 8, 16, 30, 30, 30]),
    ],
)
async def test_a_failed_step_is_tried_again_after_a_growing_pause(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: list[int]
) -> None:
    signals = RecordedSignals()
    pauses: list[float] = []

    async def pause(seconds: float, hint: asyncio.Event | None) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(loops, "_pause", pause)
    failures = 8

    async def step() -> Step:
        nonlocal failures
        if failures:
            failures -= 1
            raise error
        return Step(0)

    async with running(loop_of(step, interval_seconds=1), signals, lambda: True):
        await signals.wait("lease_reaper.ran")
        await signals.wait("lease_reaper.ran")
    assert pauses[:8] == expected
    # One success and the usual interval is back.
    assert pauses[8] == 1
