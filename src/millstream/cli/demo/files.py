"""What both acts of the demo work on: the files of the running Python's standard library."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import msgspec

# Copies of other packages and derived files, which may change while the demo runs.
_FOREIGN_DIRECTORIES = frozenset({"site-packages", "dist-packages", "__pycache__"})


class FileFacts(msgspec.Struct, frozen=True):
    """What is found out about a file."""

    sha256: str
    lines: int
    words: int


def facts_of(path: Path) -> FileFacts:
    """Do what each job and each message is for."""
    content = path.read_bytes()
    return FileFacts(
        sha256=hashlib.sha256(content).hexdigest(), lines=content.count(b"\n"), words=len(content.split())
    )


def list_files() -> Iterator[Path]:
    """Yield the readable files of the standard library."""
    for directory, names, files in os.walk(sysconfig.get_path("stdlib")):
        names[:] = [name for name in names if name not in _FOREIGN_DIRECTORIES]
        paths = (Path(directory, name) for name in files)
        yield from (path for path in paths if path.is_file() and os.access(path, os.R_OK))
