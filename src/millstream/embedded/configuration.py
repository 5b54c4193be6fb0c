"""The settings that millstream gives its PostgreSQL, written anew at each start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from millstream.embedded.account import Account
from millstream.embedded.binaries import Binaries
from millstream.embedded.errors import DataDirectoryUnusable

_MEBIBYTE = 1024 * 1024

# Run as the server's account: root must not follow links that this account may have put into its directory.
_WRITE = """
set -e
cd "$1"
cat > millstream.conf
grep -qx "include 'millstream.conf'" postgresql.conf || printf "\\ninclude 'millstream.conf'\\n" >> postgresql.conf
"""

_SETTINGS = """\
# Written by millstream at each start of the server; changes here are lost.
# Your own settings go below the include line in postgresql.conf, or through "alter system".

# Nothing is acknowledged before it is on disk.
fsync = on
full_page_writes = on
synchronous_commit = on

# Queue tables turn over completely within seconds. With the default of a minute between vacuums their dead
# rows halve the job rate; with the default brake a vacuum does not keep up.
autovacuum_naptime = 5s
autovacuum_vacuum_cost_delay = 1ms
autovacuum_vacuum_cost_limit = 2000

# The sessions of a killed server, and their locks, end in seconds even in the middle of a statement.
client_connection_check_interval = 2s

max_connections = 100
max_prepared_transactions = 0
shared_buffers = {shared_buffers_megabytes}MB

# Fewer checkpoints, so fewer full pages in the log; at most this much is replayed after a crash.
max_wal_size = 2GB
checkpoint_timeout = 10min
wal_compression = {wal_compression}

# Compiling costs more than any of our statements.
jit = off
random_page_cost = 1.1

timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
cluster_name = 'millstream'

logging_collector = off
log_destination = 'stderr'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
log_lock_waits = on
log_autovacuum_min_duration = 10s
# Values are the users' data and do not belong into a log.
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
"""


def write_configuration(pgdata: Path, binaries: Binaries, account: Account) -> None:
    """Write `millstream.conf` into the cluster and include it. Raises DataDirectoryUnusable."""
    settings = _SETTINGS.format(
        shared_buffers_megabytes=_shared_buffers_megabytes(),
        wal_compression=_wal_compression(binaries, account),
    )
    done = account.run(["/bin/sh", "-c", _WRITE, "sh", pgdata], stdin_text=settings)
    if done.returncode != 0:
        raise DataDirectoryUnusable(
            f"The configuration of PostgreSQL cannot be written to {pgdata}: {done.stderr.strip()}. "
            f"Free space on that disk, or make its files writable by {account.name}."
        )


def _shared_buffers_megabytes() -> int:
    # Hot queue tables are small; the rest of the memory serves as the kernel's cache and the Python processes.
    memory_megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MEBIBYTE
    if memory_megabytes < 2048:
        return 64
    return 128 if memory_megabytes < 8192 else 256


def _wal_compression(binaries: Binaries, account: Account) -> str:
    # The built-in method costs more processor time than the saved writes; lz4 is not in every build.
    try:
        options = account.run([binaries.path("pg_config"), "--configure"], seconds_max=30).stdout
    except (OSError, subprocess.SubprocessError):
        return "off"
    return "lz4" if "--with-lz4" in options else "off"
