"""The parent's side of the load generator: starts the processes, gives orders, collects what they saw."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from millstream.cli.bench.plan import Go, LoadPlan, Message, Outcome, Progress, Ready, merge

# An outcome carries whole histograms; asyncio's default line limit is 64 KiB.
_LINE_BYTES_MAX = 8 * 1024 * 1024
_START_SECONDS_MAX = 60.0
# How long a phase may overrun its time: the last answers, or a worker that drains what it holds.
_OVERRUN_SECONDS_MAX = 120.0

ProgressCallback = Callable[[int], None]


class GeneratorFailed(Exception):
    """A load generator process ended or fell silent before it reported."""


@contextlib.asynccontextmanager
async def start_generators(plans: Sequence[LoadPlan]) -> AsyncGenerator["Generators"]:
    """One process per plan, connected and waiting for orders; ended on leaving."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "millstream.cli.bench.generator",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
        )
        for _ in plans
    ]
    try:
        generators = [_Generator(process) for process in processes]
        for generator, plan in zip(generators, plans, strict=True):
            generator.tell(plan)
        async with asyncio.timeout(_START_SECONDS_MAX):
            await asyncio.gather(*(generator.ready() for generator in generators))
        yield Generators(generators)
    finally:
        for process in processes:
            await _end(process)


class Generators:
    """Generator processes that run phases together."""

    def __init__(self, generators: "list[_Generator]") -> None:
        self._generators = generators

    async def run(self, seconds: float, on_progress: ProgressCallback | None = None) -> Outcome:
        """Run one phase of `seconds` on all of them. Raises GeneratorFailed.

        `on_progress` gets the items finished so far, by all of them.
        """
        done = [0] * len(self._generators)

        def watch(index: int) -> ProgressCallback:
            def note(items: int) -> None:
                done[index] = items
                if on_progress is not None:
                    on_progress(sum(done))

            return note

        async with asyncio.timeout(seconds + _OVERRUN_SECONDS_MAX):
            return merge(
                await asyncio.gather(
                    *(
                        generator.phase(seconds, watch(index))
                        for index, generator in enumerate(self._generators)
                    )
                )
            )


class _Generator:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders = process.stdin
        self._answers = process.stdout

    def tell(self, order: LoadPlan | Go) -> None:
        self._orders.write(msgspec.json.encode(order) + b"\n")

    async def ready(self) -> None:
        if not isinstance(await self._read(), Ready):
            raise GeneratorFailed("the load generator spoke before it was ready")

    async def phase(self, seconds: float, on_progress: ProgressCallback) -> Outcome:
        self.tell(Go(seconds))
        while True:
            message = await self._read()
            if isinstance(message, Outcome):
                return message
            if isinstance(message, Progress):
                on_progress(message.items)

    async def _read(self) -> Message:
        line = await self._answers.readline()
        if not line:
            raise GeneratorFailed("a load generator process ended before it reported; its error is above")
        return msgspec.json.decode(line, type=Message)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
