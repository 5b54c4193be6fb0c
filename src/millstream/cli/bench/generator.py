"""A generator process: reads its plan from standard input, runs phases on order, answers on standard output.

Started as `python -m millstream.cli.bench.generator`, so that its CPU time and its interpreter lock are its own.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import assert_never

import msgspec

from millstream.cli.bench.connection import Recorder
from millstream.cli.bench.plan import (
    EngineLoad,
    FloodLoad,
    Go,
    HttpLoad,
    LoadPlan,
    Message,
    Outcome,
    Progress,
    Ready,
    WakeUpLoad,
    WebhookLoad,
    WorkerLoad,
)
from millstream.cli.bench.workload import HttpWorkload, Workload

_PROGRESS_SECONDS = 0.25


def main() -> None:
    """Serve one parent until it closes the pipe."""
    plan = msgspec.json.decode(sys.stdin.readline(), type=LoadPlan)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(_workload(plan)))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


def _workload(plan: LoadPlan) -> Workload:
    match plan:
        case HttpLoad():
            return HttpWorkload(plan)
        case FloodLoad():
            from millstream.cli.bench.flood_workload import FloodWorkload

            return FloodWorkload(plan)
        case WorkerLoad():
            from millstream.cli.bench.worker_workload import WorkerWorkload

            return WorkerWorkload(plan)
        case WakeUpLoad():
            from millstream.cli.bench.wake_up_workload import WakeUpWorkload

            return WakeUpWorkload(plan)
        case EngineLoad():
            from millstream.cli.bench.engine_workload import EngineWorkload

            return EngineWorkload(plan)
        case WebhookLoad():
            from millstream.cli.bench.webhook_workload import WebhookWorkload

            return WebhookWorkload(plan)
        case _:
            assert_never(plan)


async def _serve(workload: Workload) -> None:
    await workload.prepare()
    try:
        # What is alive now stays; without this every full collection walks it again in the middle of a phase.
        gc.collect()
        gc.freeze()
        _tell(Ready())
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = msgspec.json.decode(line, type=Go)
            _tell(await _phase(workload, order.seconds))
    finally:
        await workload.close()


async def _phase(workload: Workload, seconds: float) -> Outcome:
    recorder = Recorder()
    reporting = asyncio.create_task(_report_progress(recorder))
    cpu_before = process_time()
    started_at = perf_counter()
    try:
        await workload.run(seconds, recorder)
    finally:
        reporting.cancel()
    return Outcome(
        items=recorder.items,
        seconds=perf_counter() - started_at,
        cpu_seconds=process_time() - cpu_before,
        errors=recorder.errors,
        error_examples=recorder.error_examples,
        latencies={operation: histogram.to_wire() for operation, histogram in recorder.latencies.items()},
    )


async def _report_progress(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        _tell(Progress(recorder.items))


def _tell(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
