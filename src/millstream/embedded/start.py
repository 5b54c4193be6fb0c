"""Starting, awaiting, clearing up after and stopping the server of one cluster; the caller holds the section lock."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import assert_never

import structlog

from millstream.embedded.cluster import Cluster
from millstream.embedded.errors import GaveUp, StartFailed, StopFailed
from millstream.embedded.patience import Patience
from millstream.embedded.postmaster import Answer, Postmaster, Status, find_postmaster
from millstream.embedded.process import is_alive, list_server_processes, signal_server_process
from millstream.embedded.socket_directory import PORT, discard_socket_directory, prepare_socket_directory

_log = structlog.stdlib.get_logger(__name__)

_LOG_BYTES_MAX = 16 * 1024 * 1024
_LOG_TAIL_BYTES = 4096
# Recovery after a crash may take minutes and is waited for without end; this is how often the log says so.
_PROGRESS_SECONDS = 10
_SILENCE_SECONDS_MAX = 60
# A fast shutdown writes a checkpoint first; an immediate one leaves that to the next start.
_FAST_STOP_SECONDS_MAX = 60
_IMMEDIATE_STOP_SECONDS_MAX = 10
# Sessions notice the death of their postmaster by themselves unless they are busy computing.
_ORPHAN_SECONDS = 2
_ORPHAN_QUIT_SECONDS = 5
_ORPHAN_KILL_SECONDS = 30
_SHELL_SECONDS_MAX = 30
# The shell ends at once, so that the server has no parent here that would have to reap it.
_SPAWN = '"$@" >&2 & echo $!'


def start_server(
    cluster: Cluster, recorded_socket_directory: Path | None, log_path: Path, patience: Patience
) -> Postmaster:
    """Start the server of a prepared cluster that nothing runs on, and wait until it accepts connections.

    It runs in a session of its own and outlives this process. Raises StartFailed with the end of its log.
    """
    directory = prepare_socket_directory(recorded_socket_directory, cluster.account)
    try:
        return _start_in(directory, cluster, log_path, patience)
    except BaseException:
        discard_socket_directory(directory, cluster.account)
        raise


def await_ready(cluster: Cluster, log_path: Path, patience: Patience) -> Postmaster | None:
    """The live server once it accepts connections, through a crash recovery if need be; None if it ended.

    Raises StartFailed when it is ready by its own account and does not answer.
    """
    while not patience.until(lambda: _is_settled(cluster), seconds=_PROGRESS_SECONDS):
        _log.info("waiting for PostgreSQL to recover or to stop", log=str(log_path))
    found = find_postmaster(cluster.pgdata)
    if found is None or not is_alive(found.pid):
        return None
    while not patience.until(lambda: _answers(found, cluster), seconds=_SILENCE_SECONDS_MAX):
        # After the crash of one of its sessions it recovers without changing its pid file.
        if found.ask(cluster.binaries, cluster.account) is not Answer.REJECTING:
            raise StartFailed(
                f"PostgreSQL (pid {found.pid}) runs but has not answered for {_SILENCE_SECONDS_MAX} seconds. "
                f"See {log_path}; if it is stuck, end it and start again:\n    kill -QUIT {found.pid}"
            )
        _log.info("waiting for PostgreSQL to finish its recovery", pid=found.pid, log=str(log_path))
    return found if is_alive(found.pid) else None


def stop_server(postmaster: Postmaster, cluster: Cluster) -> None:
    """Stop the server: sessions are cut off, what was committed is kept. Raises StopFailed."""
    for number, seconds in (
        (signal.SIGINT, _FAST_STOP_SECONDS_MAX),
        (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS_MAX),
    ):
        signal_server_process(postmaster.pid, cluster.pgdata, number)
        if Patience().until(lambda: not is_alive(postmaster.pid), seconds=seconds):
            if postmaster.socket_directory is not None:
                discard_socket_directory(postmaster.socket_directory, cluster.account)
            return
    raise StopFailed(
        f"PostgreSQL (pid {postmaster.pid}) did not stop. See {cluster.pgdata.parent / 'postgres.log'}; "
        f"its disk may hang. To end it without waiting:\n    kill -KILL {postmaster.pid}"
    )


def clear_leftovers(cluster: Cluster, patience: Patience) -> None:
    """After a server died: wait until its sessions have ended too, then remove its pid file.

    They hold the shared memory and may still write, so a new server must not come up beside them. Those
    that do not notice by themselves are told to. Raises StartFailed when one cannot be ended.
    """
    pgdata = cluster.pgdata
    for number, seconds in (
        (None, _ORPHAN_SECONDS),
        (signal.SIGQUIT, _ORPHAN_QUIT_SECONDS),
        (signal.SIGKILL, _ORPHAN_KILL_SECONDS),
    ):
        if number is not None:
            for pid in list_server_processes(pgdata):
                signal_server_process(pid, pgdata, number)
        if patience.until(lambda: not list_server_processes(pgdata), seconds=seconds):
            # PostgreSQL itself refuses to start when the pid in it belongs to any process by now.
            (pgdata / "postmaster.pid").unlink(missing_ok=True)
            return
    pids = " ".join(map(str, list_server_processes(pgdata)))
    raise StartFailed(
        f"Processes of an earlier server still use {pgdata} and cannot be ended: {pids}. Their disk may hang; "
        f"when it answers again, or after a reboot, start again. To look at them:\n    ps -fp {pids}"
    )


def _start_in(directory: Path, cluster: Cluster, log_path: Path, patience: Patience) -> Postmaster:
    log_descriptor = _open_log(log_path, cluster)
    try:
        log_start_bytes = os.fstat(log_descriptor).st_size
        pid = _spawn(cluster, directory, log_descriptor)
    finally:
        os.close(log_descriptor)
    try:
        patience.until(lambda: _has_pid_file(cluster.pgdata, pid) or not is_alive(pid), seconds=None)
        started = await_ready(cluster, log_path, patience)
    except GaveUp:
        _call_off(pid)
        raise
    if started is None or started.pid != pid:
        raise StartFailed(_describe_failure(log_path, log_start_bytes))
    return started


def _call_off(pid: int) -> None:
    try:
        # Not SIGINT, which the shell made it ignore until it has handlers of its own.
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    Patience().until(lambda: not is_alive(pid), seconds=_FAST_STOP_SECONDS_MAX)


def _is_settled(cluster: Cluster) -> bool:
    found = find_postmaster(cluster.pgdata)
    if found is None:
        return True
    match found.status:
        case Status.READY | Status.STANDBY:
            return True
        case Status.STARTING | Status.STOPPING:
            return False
        case _:
            assert_never(found.status)


def _answers(postmaster: Postmaster, cluster: Cluster) -> bool:
    """Whether the wait for it is over: it accepts connections, cannot be asked, or has ended."""
    answer = postmaster.ask(cluster.binaries, cluster.account)
    return answer is Answer.ACCEPTING or not postmaster.has_socket() or not is_alive(postmaster.pid)


def _has_pid_file(pgdata: Path, pid: int) -> bool:
    found = find_postmaster(pgdata)
    return found is not None and found.pid == pid


def _spawn(cluster: Cluster, directory: Path, log_descriptor: int) -> int:
    command = ["/bin/sh", "-c", _SPAWN, "sh", cluster.binaries.path("postgres"), "-D", cluster.pgdata]
    # Given on the command line because no other setting may replace them.
    fixed = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(directory),
        "unix_socket_permissions": "0700",
    }
    for name, value in fixed.items():
        command += ["-c", f"{name}={value}"]
    done = cluster.account.run(
        command, stderr_descriptor=log_descriptor, new_session=True, seconds_max=_SHELL_SECONDS_MAX
    )
    if done.returncode != 0 or not done.stdout:
        raise StartFailed(
            f"The shell could not start PostgreSQL (exit code {done.returncode}): this machine is out of memory or "
            f"{cluster.account.name} out of processes (ulimit -u). Free some and start again."
        )
    return int(done.stdout)


def _open_log(log_path: Path, cluster: Cluster) -> int:
    if log_path.exists() and log_path.stat().st_size > _LOG_BYTES_MAX:
        log_path.replace(log_path.with_suffix(".log.old"))
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if cluster.account.drops_privileges and stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fchown(descriptor, cluster.account.uid, cluster.account.gid)
    return descriptor


def _describe_failure(log_path: Path, log_start_bytes: int) -> str:
    with log_path.open("rb") as log:
        log.seek(max(log_start_bytes, log_path.stat().st_size - _LOG_TAIL_BYTES))
        tail = log.read().decode(errors="replace").strip()
    return (
        f"PostgreSQL ended while it was starting. Its log, {log_path}, ends with the reason; remove the cause "
        f"and start again:\n{tail}"
    )
