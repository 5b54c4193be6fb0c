"""The database of a running server."""

import json

from tests.cli.server_process import ServerProcess, run_command


def dsn_of(server: ServerProcess) -> str:
    """Return the DSN of a server's embedded database."""
    said = run_command("db", "url", "--data-dir", str(server.data_dir), "--json")
    return json.loads(said.stdout)["url"]
