"""Brings the embedded PostgreSQL back when it is killed; requests get 503 in the meantime."""

import asyncio

from millstream.embedded import EmbeddedError, EmbeddedServer
from millstream.embedded.process import is_alive
from millstream.observe.logging import get_logger

_log = get_logger(__name__)

# Looking at one process costs microseconds, asking the server itself would start a program each time.
_POLL_SECONDS = 0.5
_RETRY_SECONDS_MAX = 30.0


async def watch(embedded: EmbeddedServer) -> None:
    """Start the server again whenever its main process is gone. Runs until it is cancelled."""
    pause = _POLL_SECONDS
    while True:
        await asyncio.sleep(pause)
        if is_alive(embedded.pid):
            continue
        _log.error("PostgreSQL is gone, starting it again", pid=embedded.pid)
        try:
            await embedded.ensure_running()
        except EmbeddedError as error:
            pause = min(pause * 2, _RETRY_SECONDS_MAX)
            _log.error("PostgreSQL did not start", reason=str(error), seconds=pause)
        else:
            pause = _POLL_SECONDS
            _log.info("PostgreSQL is back", pid=embedded.pid)
