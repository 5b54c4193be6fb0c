"""A copy of the PostgreSQL installation where the account that runs it can reach it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from millstream.embedded.account import Account
from millstream.embedded.binaries import Binaries
from millstream.embedded.errors import BinariesUnusable

SYSTEM_CACHE = Path("/var/cache/millstream")
# A server with its libraries is 40 to 150 MB; more means that the parent of bin/ is not an installation of
# PostgreSQL alone but, say, a whole environment, which nobody expects to be copied.
_TREE_BYTES_MAX = 600 * 1024 * 1024


def make_reachable(binaries: Binaries, account: Account, *, cache_directories: tuple[Path, ...]) -> Binaries:
    """Binaries that `account` can run: the given ones or, if it cannot reach them, a copy made once.

    The copy is kept in the first cache directory that can be written and reached, under the version and
    the digest of the server program. Raises BinariesUnusable when there is no such place or the
    installation is too large to copy.
    """
    directory = binaries.directory.resolve()
    blocked = account.find_unreachable(directory)
    if blocked is None:
        return binaries
    trees = _list_trees(directory)
    refusal = f"PostgreSQL runs as {account.name}, which cannot enter {blocked}, where its binaries are ({directory})"
    if sum(_tree_bytes(tree) for tree in trees) > _TREE_BYTES_MAX:
        raise BinariesUnusable(
            f"{refusal}, and {directory.parent} is too large to copy. Install PostgreSQL where it can be reached:\n"
            "    apt-get install postgresql"
        )
    name = f"postgresql-{binaries.version}-{_digest(directory / 'postgres')}"
    inside = directory.relative_to(trees[0].parent)
    for cache in cache_directories:
        try:
            copy = _copy_once(trees, cache / name)
        except OSError:
            continue
        if account.find_unreachable(copy / inside) is None:
            return dataclasses.replace(binaries, directory=copy / inside)
    raise BinariesUnusable(
        f"{refusal}, and no copy can be kept in {' or '.join(map(str, cache_directories))}. "
        "Install PostgreSQL where it can be reached:\n    apt-get install postgresql"
    )


def _list_trees(directory: Path) -> list[Path]:
    """The directories to copy side by side, that of `bin` first."""
    prefix = directory.parent
    # The wheel's programs find their libraries by a path relative to themselves, in <package>.libs beside
    # the package.
    libraries = prefix.parent.with_name(prefix.parent.name + ".libs")
    return [prefix.parent, libraries] if libraries.is_dir() else [prefix]


def _tree_bytes(tree: Path) -> int:
    return sum(path.lstat().st_size for path in tree.rglob("*"))


def _digest(program: Path) -> str:
    with program.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def _copy_once(trees: list[Path], target: Path) -> Path:
    _make_directory(target.parent)
    if target.is_dir():
        _check_ours(target)
        return target
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for tree in trees:
            shutil.copytree(
                tree, work / tree.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        _open_to_all(work)
        # Another process may have been first; then its copy is as good.
        if not target.is_dir():
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    _check_ours(directory)


def _check_ours(directory: Path) -> None:
    # What is run from here must not be something that another account has put here.
    status = directory.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise PermissionError(f"{directory} can be changed by others")


def _open_to_all(root: Path) -> None:
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
