"""Which server a command talks to, and what it says when that fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import stamina.instrumentation
from cyclopts import Parameter

from millstream.cli.data_dir import resolve_data_dir
from millstream.cli.failure import CommandFailed
from millstream.cli.topics_api import TopicsApi
from millstream.client import (
    ApiError,
    AsyncClient,
    ConnectionFailed,
    Credentials,
    MillstreamError,
    Unauthorized,
)

Answer = TypeVar("Answer")

_DEFAULT_URL = "http://127.0.0.1:8080"


@Parameter(name="*", group="Server")
@dataclass(frozen=True, kw_only=True)
class Target:
    """How to reach the server; what is not given comes from the data directory's `credentials.json`."""

    url: Annotated[
        str | None, Parameter(env_var="MILLSTREAM_URL", help="Address of the server.", show_default=False)
    ] = None
    api_key: Annotated[
        str | None, Parameter(env_var="MILLSTREAM_API_KEY", help="API key.", show_default=False)
    ] = None
    data_dir: Annotated[
        Path | None, Parameter(help="Data directory of a server on this machine.", show_default=False)
    ] = None


class _Closable(Protocol):
    def aclose(self) -> Awaitable[object]: ...


Client = TypeVar("Client", bound=_Closable)


def ask(target: Target | None, question: Callable[[AsyncClient], Awaitable[Answer]]) -> Answer:
    """Put one question to the server. Raises CommandFailed."""
    return asyncio.run(_ask(target or Target(), AsyncClient, question))


def ask_topics(target: Target | None, question: Callable[[TopicsApi], Awaitable[Answer]]) -> Answer:
    """Put one question about topics or consumer groups to the server. Raises CommandFailed."""
    return asyncio.run(_ask(target or Target(), TopicsApi, question))


async def _ask(
    target: Target,
    open_client: Callable[[str, str | None], Client],
    question: Callable[[Client], Awaitable[Answer]],
) -> Answer:
    url, api_key = _resolve(target)
    # The last attempt's failure is printed; the ones before it would be log lines in between.
    stamina.instrumentation.set_on_retry_hooks([])
    try:
        async with aclosing(open_client(url, api_key)) as client:
            return await question(client)
    except ConnectionFailed as error:
        raise CommandFailed(
            f"the server at {url} does not answer: {error}", "Start it (millstream serve), or give --url."
        ) from error
    except Unauthorized as error:
        raise CommandFailed(
            f"the server at {url} refused the API key: {error.message}",
            "Give --api-key, or --data-dir of the server's data directory.",
        ) from error
    except ApiError as error:
        raise CommandFailed(f"{error.message} ({error.code})", _remedy(error)) from error
    except MillstreamError as error:
        raise CommandFailed(str(error)) from error


def _resolve(target: Target) -> tuple[str, str | None]:
    if target.url is not None and target.api_key is not None:
        return target.url, target.api_key
    data_dir = resolve_data_dir(target.data_dir)
    try:
        found = Credentials.load(data_dir)
    except (FileNotFoundError, NotADirectoryError):
        found = Credentials()
        if target.data_dir is not None and target.url is None:
            raise CommandFailed(
                f"{data_dir} has no credentials.json",
                f"Start its server: millstream serve --data-dir {data_dir}",
            ) from None
    except PermissionError:
        raise CommandFailed(
            f"{data_dir / 'credentials.json'} is not readable for you",
            "Run as the user who runs the server, or give --url and --api-key.",
        ) from None
    except MillstreamError as error:
        raise CommandFailed(str(error), "Give --url and --api-key.") from error
    # A key belongs to the server it came with: another server's address must not be sent this one's secret.
    if target.url is not None and target.url.rstrip("/") != (found.url or "").rstrip("/"):
        return target.url, target.api_key
    return target.url or found.url or _DEFAULT_URL, target.api_key or found.api_key


def _remedy(error: ApiError) -> str | None:
    return f"Request id: {error.request_id}" if error.status >= 500 and error.request_id else None
