"""Runs the loops of one process, and holds or seeks the lead for those that need only one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from millstream.background import loop as loops
from millstream.background.loop import Loop
from millstream.domain.errors import MillstreamError
from millstream.observe.signals import SILENT, Signals

LEAD_INTERVAL_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Supervisor:
    """The loops of one process. `lead` takes or keeps the lead, `resign` gives it up."""

    def __init__(
        self,
        roster: Sequence[Loop],
        *,
        lead: Callable[[], Awaitable[bool]],
        resign: Callable[[], Awaitable[None]],
        signals: Signals = SILENT,
    ) -> None:
        self._roster = roster
        self._lead = lead
        self._resign = resign
        self._signals = signals
        self._leads = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Seek the lead, then start every loop."""
        await self._seek_lead()
        self._tasks = [asyncio.create_task(self._keep_lead(), name="loop leader")]
        self._tasks += [
            asyncio.create_task(
                loops.run(loop, leads=lambda: self._leads, signals=self._signals), name=f"loop {loop.name}"
            )
            for loop in self._roster
        ]

    async def stop(self) -> None:
        """Stop every loop where it stands and give up the lead. Every step is safe to be cut off."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._leads:
            self._leads = False
            try:
                await self._resign()
            except MillstreamError as error:
                _log.info("lead not given up, it will run out", reason=error.message)

    async def _keep_lead(self) -> None:
        while True:
            await asyncio.sleep(LEAD_INTERVAL_SECONDS)
            await self._seek_lead()

    async def _seek_lead(self) -> None:
        try:
            self._leads = await self._lead()
        except MillstreamError:
            # Without the database there is nothing to lead.
            self._leads = False
        except Exception:  # noqa: BLE001 - the outermost frame of a step
            self._leads = False
            _log.exception("seeking the lead failed")
