"""A loop: a step, how often it is taken, and whether one process at a time is enough."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct

from millstream.domain.errors import Unavailable
from millstream.observe.metrics import LoopMeter, loop_meter
from millstream.observe.signals import Signals

AFTER_FAILURE_SECONDS_MAX = 30.0
# A database that was away is noticed by all loops this soon after it is back.
WAITING_SECONDS_MAX = 2.0

_log = structlog.get_logger(__name__)


class Step(Struct, frozen=True):
    """What a step did, and in how many seconds the next one is due if not after the loop's interval."""

    done: int
    next_seconds: float | None = None


class _Failure(Struct, frozen=True):
    # A step that failed, and how long the pause after it may become.
    pause_seconds_max: float


class Loop(Struct, frozen=True, kw_only=True):
    """One loop: `step` is one engine call. `hint` cuts its pause short."""

    name: str
    interval_seconds: float
    step: Callable[[], Awaitable[Step]]
    leader_only: bool = True
    hint: asyncio.Event | None = None


async def run(loop: Loop, *, leads: Callable[[], bool], signals: Signals) -> None:
    """Take the loop's steps until cancelled. A failed step is logged, and tried again after a growing pause."""
    meter = loop_meter(loop.name)
    failures = 0
    while True:
        seconds = loop.interval_seconds
        if leads() or not loop.leader_only:
            step = await _take(loop, meter, failures)
            if not isinstance(step, Step):
                failures += 1
                seconds = min(max(seconds, 0.5) * 2 ** min(failures - 1, 5), step.pause_seconds_max)
            else:
                failures = 0
                signals.emit(f"{loop.name}.ran")
                if step.next_seconds is not None:
                    seconds = min(seconds, max(step.next_seconds, 0.0))
        await _pause(seconds, loop.hint)


async def _take(loop: Loop, meter: LoopMeter, failures: int) -> Step | _Failure:
    try:
        step = await loop.step()
    except Unavailable as error:
        meter.failed()
        if not failures:
            _log.info("loop is waiting for the database", loop=loop.name, reason=error.message)
        return _Failure(WAITING_SECONDS_MAX)
    except Exception:  # noqa: BLE001 - the outermost frame of a step
        meter.failed()
        _log.exception("loop failed", loop=loop.name)
        return _Failure(AFTER_FAILURE_SECONDS_MAX)
    (meter.worked if step.done else meter.idle)()
    return step


async def _pause(seconds: float, hint: asyncio.Event | None) -> None:
    if hint is None:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await hint.wait()
    except TimeoutError:
        return
    hint.clear()
