"""Work that is given up when the client that asked for it has gone."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.types import Receive

ResultT = TypeVar("ResultT")


class ClientGone(Exception):
    """The client closed the connection before the answer."""


async def unless_disconnected(receive: Receive, work: Coroutine[None, None, ResultT]) -> ResultT:
    """Return the result of `work`, or cancel it and raise ClientGone when the client goes away first.

    The body must have been read to its end already.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_until_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        watching.cancel()
        working.cancel()
        # Whoever cancels waits: the work may have something to give back.
        await asyncio.gather(working, watching, return_exceptions=True)


async def is_gone(receive: Receive) -> bool:
    """Tell whether the client has closed the connection. The body must have been read to its end already."""
    watching = asyncio.ensure_future(_until_disconnected(receive))
    # Nothing comes while the client waits for its answer; that it has gone is told at once.
    await asyncio.sleep(0)
    has_gone = watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return has_gone


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
