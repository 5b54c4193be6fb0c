"""`millstream serve`."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter
from rich.panel import Panel
from rich.text import Text

from millstream.cli.data_dir import default_data_dir
from millstream.cli.metrics_directory import metrics_directory, remove_stale_metrics
from millstream.cli.output import Json, console, print_json
from millstream.cli.settings import load_settings
from millstream.config import Config
from millstream.config.load import share_metrics

if TYPE_CHECKING:
    from millstream.serving.server import Serving


def serve(
    *,
    data_dir: Annotated[
        Path | None,
        Parameter(help="Directory of the embedded PostgreSQL (default: ~/.local/share/millstream)."),
    ] = None,
    host: Annotated[str | None, Parameter(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, Parameter(help="HTTP port, 0 for a free one (default: 8080).")] = None,
    grpc_port: Annotated[
        int | None, Parameter(help="Reserved for gRPC, which this version does not serve.")
    ] = None,
    metrics_port: Annotated[
        int | None, Parameter(help="Metrics port, 0 for a free one (default: 9090).")
    ] = None,
    processes: Annotated[int | None, Parameter(help="Server processes (default: 1).")] = None,
    database_url: Annotated[
        str | None, Parameter(help="PostgreSQL to use instead of the embedded one.")
    ] = None,
    config: Annotated[
        Path | None, Parameter(help="Settings file (default: millstream.toml, if any).")
    ] = None,
    isolated: Annotated[
        bool, Parameter(negative=(), help="Take settings from flags alone, not from environment or files.")
    ] = False,
    json: Json = False,
) -> int:
    """Run the server until SIGTERM or Ctrl-C; a second signal does not wait for running requests.

    Without --database-url (or DATABASE_URL) it runs on a PostgreSQL of its own, kept in the data directory, where
    `credentials.json` tells programs on this machine the address and the first API key.
    """
    settings = load_settings(
        {
            "server.host": host,
            "server.port": port,
            "server.grpc_port": grpc_port,
            "server.metrics_port": metrics_port,
            "server.processes": processes,
            "database.url": database_url,
            "database.data_dir": None if data_dir is None else data_dir.expanduser(),
        },
        file=config,
        isolated=isolated,
    )
    with _shared_metrics(settings):
        return _serve(_with_data_dir(settings), as_json=json)


def _serve(settings: Config, *, as_json: bool) -> int:
    # After the metrics library was told where to count: importing the server imports it.
    from millstream.cli.explain import explained
    from millstream.observe.logging import configure_logging, get_logger
    from millstream.serving.server import run

    configure_logging(settings.log)
    log = get_logger(__name__)
    for notice in settings.notices:
        log.warning("settings", notice=notice)
    with explained():
        return run(settings, lambda serving: _announce(serving, as_json=as_json))


def _with_data_dir(settings: Config) -> Config:
    if settings.database.url is not None or settings.database.data_dir is not None:
        return settings
    database = msgspec.structs.replace(settings.database, data_dir=default_data_dir())
    return msgspec.structs.replace(settings, database=database)


@contextmanager
def _shared_metrics(settings: Config) -> Generator[None]:
    remove_stale_metrics()
    if settings.server.processes == 1:
        yield
        return
    with metrics_directory() as directory:
        share_metrics(directory)
        yield


def _announce(serving: "Serving", *, as_json: bool) -> None:
    if as_json:
        print_json({"event": "ready", **msgspec.structs.asdict(serving)})
    elif sys.stdout.isatty():
        _announce_to_people(serving)
    else:
        from millstream.observe.logging import get_logger

        # No keys here: standard output of a service ends up in a log.
        get_logger(__name__).info(
            "ready",
            url=serving.url,
            metrics_url=serving.metrics_url,
            processes=serving.processes,
            credentials=None if serving.credentials_path is None else str(serving.credentials_path),
        )


def _announce_to_people(serving: "Serving") -> None:
    console.print(
        Text.assemble("millstream answers at ", (serving.url, "bold"), f"  (metrics: {serving.metrics_url})")
    )
    if serving.first_keys is not None:
        keys = [("API key", serving.first_keys.api_key), ("Admin key", serving.first_keys.admin_key)]
        lines = [f"{name}: {key}" for name, key in keys if key]
        place = serving.credentials_path
        lines.append("This is the only time they are shown." if place is None else f"Kept in {place}")
        console.print(Panel("\n".join(lines), title="First start", expand=False), soft_wrap=True)
    console.print("Ctrl-C stops it.")
