"""`millstream doctor`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter
from rich.text import Text

from millstream.cli.data_dir import default_data_dir
from millstream.cli.finding import Finding, Level, fail, ok
from millstream.cli.output import Json, console, print_json
from millstream.config import Config, ConfigError, load

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def doctor(
    *,
    data_dir: Annotated[Path | None, Parameter(help="Data directory of the embedded PostgreSQL.")] = None,
    config: Annotated[
        Path | None, Parameter(help="Settings file (default: millstream.toml, if any).")
    ] = None,
    json: Json = False,
) -> int:
    """Check this machine, the data directory and the database, and say what to do.

    Changes nothing and starts nothing. Exit code 1 if anything fails.
    """
    findings = asyncio.run(_collect(data_dir, config, show=not json))
    if json:
        print_json(findings)
    return 1 if any(finding.level is Level.FAIL for finding in findings) else 0


async def _collect(data_dir: Path | None, file: Path | None, *, show: bool) -> list[Finding]:
    findings: list[Finding] = []
    async for finding in _examine(data_dir, file):
        findings.append(finding)
        if show:
            _print(finding)
    return findings


async def _examine(data_dir: Path | None, file: Path | None) -> AsyncIterator[Finding]:
    # Imported here, so that a broken installation is reported by a line instead of a traceback.
    from millstream.cli import database_checkup, machine_checkup
    from millstream.cli.quiet import log_warnings_only

    log_warnings_only()
    yield machine_checkup.check_python()
    for finding in machine_checkup.check_packages():
        yield finding
    try:
        settings = load({}, file=file)
        yield ok("settings", "can be used")
    except ConfigError as error:
        for problem in error.problems:
            yield fail("settings", problem, "Correct the variable or the line of the file it names.")
        settings = Config()

    if settings.database.url is not None and data_dir is None:
        for finding in machine_checkup.check_ports(settings, frozenset()):
            yield finding
        url = settings.database.direct_url or settings.database.url
        async for finding in database_checkup.check_database(url.reveal()):
            yield finding
        return

    where = (data_dir or settings.database.data_dir or default_data_dir()).expanduser().resolve()
    for finding in machine_checkup.check_embedded(settings, where):
        yield finding
    for finding in machine_checkup.check_ports(settings, _own_ports(where)):
        yield finding
    async for finding in _examine_running(where):
        yield finding


async def _examine_running(data_dir: Path) -> AsyncIterator[Finding]:
    from millstream.cli import database_checkup
    from millstream.cli.embedded_database import find_dsn
    from millstream.embedded import EmbeddedError

    try:
        dsn = find_dsn(data_dir)
    except (EmbeddedError, OSError):
        dsn = None
    if dsn is None:
        yield ok("database", "the embedded PostgreSQL does not run; `millstream serve` starts it")
        return
    async for finding in database_checkup.check_database(dsn):
        yield finding


def _own_ports(data_dir: Path) -> frozenset[int]:
    """Return the ports of the server that runs on `data_dir`, if it says so and the database runs."""
    from millstream.cli.embedded_database import find_dsn
    from millstream.embedded import EmbeddedError
    from millstream.serving.credentials_file import find_credentials

    try:
        running = find_dsn(data_dir) is not None
    except (EmbeddedError, OSError):
        running = False
    found = find_credentials(data_dir) if running else None
    if found is None:
        return frozenset()
    urls = (found.url, found.metrics_url, found.grpc_url)
    return frozenset(port for url in urls if url is not None and (port := urlsplit(url).port) is not None)


def _print(finding: Finding) -> None:
    level = Text(f"{finding.level.value:<5}", style=_STYLES[finding.level])
    console.print(Text.assemble(level, (finding.check, "bold"), f": {finding.message}"), soft_wrap=True)
    if finding.remedy:
        for line in finding.remedy.splitlines():
            console.print(Text(f"       {line.strip()}"), soft_wrap=True)
