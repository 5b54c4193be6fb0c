"""What `millstream doctor` looks at on this machine: Python, packages, PostgreSQL, directories, ports."""

import importlib.util
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from millstream.cli.finding import Finding, fail, fail_with, ok, warn
from millstream.config import Config
from millstream.embedded import Binaries, EmbeddedError, find_binaries
from millstream.embedded.account import Account, choose_account
from millstream.embedded.cluster import Cluster
from millstream.embedded.lock import ServerLock
from millstream.embedded.socket_directory import socket_path
from millstream.serving.sockets import CannotListen, bind, close_all

_SERVER_MODULES = (
    "asyncpg",
    "bcrypt",
    "cyclopts",
    "httptools",
    "prometheus_client",
    "rich",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
)
_OPTIONAL_MODULES = {
    "otel": "opentelemetry.sdk",
    "redis": "redis",
    "schemas": "jsonschema_rs",
}
_FREE_BYTES_MIN = 1024**3
# Of struct sockaddr_un, its closing NUL left out.
_SOCKET_PATH_BYTES_MAX = 107


def check_python() -> Finding:
    """Check the version of Python."""
    version = platform.python_version()
    if tuple(int(part) for part in platform.python_version_tuple()[:2]) < (3, 11):
        return fail("python", f"Python {version} is too old", "Install Python 3.11 or newer.")
    return ok("python", f"Python {version}")


def check_packages() -> Iterator[Finding]:
    """Check what is installed of the server's packages and of the extras."""
    missing = [name for name in _SERVER_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        yield fail("packages", f"missing: {', '.join(missing)}", "pip install 'millstream[server]'")
    else:
        yield ok("packages", "the server's packages are installed")
    extras = [name for name, module in _OPTIONAL_MODULES.items() if _is_installed(module)]
    yield ok("extras", f"installed: {', '.join(extras) or 'none'} (of {', '.join(_OPTIONAL_MODULES)})")


def check_embedded(config: Config, data_dir: Path) -> Iterator[Finding]:
    """Check everything that the embedded PostgreSQL needs in order to start."""
    try:
        binaries = find_binaries(config.database.postgres_bin_dir)
    except EmbeddedError as error:
        yield fail_with("postgresql", error)
        return
    yield ok("postgresql", f"PostgreSQL {binaries.version} in {binaries.directory}")
    try:
        account = choose_account(data_dir / "postgres")
    except EmbeddedError as error:
        yield fail_with("account", error)
        return
    yield ok("account", f"PostgreSQL runs as {account.name}")
    yield _check_directory(data_dir, binaries, account)
    if data_dir.is_dir():
        yield from _check_secrecy(data_dir)
        yield _check_socket(data_dir)
    yield _check_space(data_dir)


def check_ports(config: Config, own_ports: frozenset[int]) -> Iterator[Finding]:
    """Check that the listeners' ports are free, or held by this data directory's own server."""
    server = config.server
    named = {"http": server.port, "metrics": server.metrics_port, "grpc": server.grpc_port}
    for name, port in named.items():
        check = f"{name} port"
        if port == 0 or port in own_ports:
            yield ok(check, "any free one" if port == 0 else f"{port} is this data directory's own server")
            continue
        try:
            close_all(bind(server.host, port))
        except CannotListen as error:
            yield fail(check, error.message, error.remedy)
        else:
            yield ok(check, f"{port} is free")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _check_directory(data_dir: Path, binaries: Binaries, account: Account) -> Finding:
    check = "data directory"
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not existing.is_dir():
        return fail(check, f"{existing} is not a directory", "Choose another --data-dir.")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        return fail(
            check,
            f"you may not write to {existing}",
            f"Choose another --data-dir, or make it yours: sudo chown {os.geteuid()} {existing}",
        )
    if existing != data_dir:
        blocked = account.find_unreachable(existing)
        if blocked is None:
            return ok(check, f"{data_dir} will be made")
        return fail(
            check,
            f"PostgreSQL runs as {account.name}, which cannot enter {blocked}",
            f"Choose a --data-dir that it can reach, or let it through: chmod o+x {blocked}",
        )
    try:
        Cluster(data_dir / "postgres", binaries, account).check()
    except EmbeddedError as error:
        return fail_with(check, error)
    return ok(check, str(data_dir))


def _check_secrecy(data_dir: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if mode & 0o022:
        yield fail(
            "data directory mode",
            f"others may write to {data_dir} (mode {mode:04o})",
            f"chmod go-w {data_dir}",
        )
    credentials = data_dir / "credentials.json"
    if credentials.exists() and stat.S_IMODE(credentials.stat().st_mode) & 0o077:
        yield fail("credentials", f"others may read {credentials}", f"chmod 600 {credentials}")


def _check_space(data_dir: Path) -> Finding:
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < _FREE_BYTES_MIN:
        return warn(
            "disk",
            f"{free // 1024**2} MiB are free for {data_dir}",
            "PostgreSQL stops on a full disk: free some.",
        )
    return ok("disk", f"{free / 1024**3:.1f} GiB are free")


def _check_socket(data_dir: Path) -> Finding:
    record = ServerLock(data_dir).read_record()
    if record is None:
        return ok("socket", "will be made in a private directory under /tmp")
    path = socket_path(record.socket_directory)
    size = len(os.fsencode(path))
    if size > _SOCKET_PATH_BYTES_MAX:
        return fail(
            "socket",
            f"{path} has {size} bytes, {_SOCKET_PATH_BYTES_MAX} are possible",
            f"Stop the server and remove {data_dir / 'server.lock'}; a shorter one is chosen then.",
        )
    return ok("socket", str(path))
