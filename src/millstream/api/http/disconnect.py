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


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
