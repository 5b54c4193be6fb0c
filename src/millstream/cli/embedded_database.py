"""The embedded PostgreSQL of a data directory, seen from outside of its server."""

from pathlib import Path
from urllib.parse import quote, urlencode

from millstream.embedded.postmaster import Status, find_postmaster
from millstream.embedded.socket_directory import PORT
from millstream.store.installation import EMBEDDED_DATABASE

SUPERUSER = "postgres"


def find_dsn(data_dir: Path, *, user: str = SUPERUSER, database: str = EMBEDDED_DATABASE) -> str | None:
    """Return the URL of the running server's database; None when it does not run or is still starting.

    Neither starts the server nor becomes one of its users. Raises DataDirectoryUnusable, PermissionError.
    """
    found = find_postmaster(data_dir / "postgres")
    if found is None or found.status is not Status.READY or found.socket_directory is None:
        return None
    options = {"host": str(found.socket_directory)}
    if found.port != PORT:
        options["port"] = str(found.port)
    return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{urlencode(options)}"
