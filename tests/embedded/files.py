"""Directories and owners, for tests whose own steps wait for servers."""

from pathlib import Path


def make_directory(path: Path, *, mode: int = 0o711) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def owner_uid(path: Path) -> int:
    return path.lstat().st_uid


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def owner_of_process(pid: int) -> int:
    return owner_uid(Path("/proc", str(pid)))


def status_of_process(pid: int) -> list[str]:
    return [" ".join(line.split()) for line in Path("/proc", str(pid), "status").read_text().splitlines()]
