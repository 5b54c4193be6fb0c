"""A PostgreSQL server of our own: its binaries, its cluster, its life."""

from __future__ import annotations

from millstream.embedded.binaries import Binaries, find_binaries
from millstream.embedded.errors import (
    AccountUnusable,
    BinariesUnusable,
    DataDirectoryUnusable,
    EmbeddedError,
    MajorVersionMismatch,
    ServerClosed,
    StartFailed,
    StopFailed,
)
from millstream.embedded.server import EmbeddedServer

__all__ = [
    "AccountUnusable",
    "Binaries",
    "BinariesUnusable",
    "DataDirectoryUnusable",
    "EmbeddedError",
    "EmbeddedServer",
    "MajorVersionMismatch",
    "ServerClosed",
    "StartFailed",
    "StopFailed",
    "find_binaries",
]
