"""CPU time and memory of a process and everything below it, read from /proc."""

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class _Stat(NamedTuple):
    parent: int
    cpu_ticks: int


def tree_cpu_seconds(root: int, *, without: int | None = None) -> float | None:
    """CPU seconds used so far by `root`, its living descendants and the children they have reaped.

    The tree below (and including) `without` is left out. None where there is no /proc or no such process.
    """
    stats = _read_all()
    if root not in stats:
        return None
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, stat in stats.items():
        children[stat.parent].append(pid)
    ticks = 0
    pending = [root]
    while pending:
        pid = pending.pop()
        if pid == without:
            continue
        ticks += stats[pid].cpu_ticks
        pending.extend(children[pid])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Resident memory of one process. None where there is no /proc or no such process."""
    try:
        resident_pages = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return None
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def _read_all() -> dict[int, _Stat]:
    if not _PROC.is_dir():
        return {}
    found: dict[int, _Stat] = {}
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            try:
                text = (_PROC / entry / "stat").read_bytes()
            except OSError:
                continue
            # The command name may hold spaces and parentheses; the fields follow its last parenthesis.
            fields = text[text.rfind(b")") + 2 :].split()
            found[int(entry)] = _Stat(int(fields[1]), sum(int(field) for field in fields[11:15]))
    return found
