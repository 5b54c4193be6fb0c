"""What can go wrong with the embedded PostgreSQL server; every message says what to do next."""

from __future__ import annotations


class EmbeddedError(Exception):
    """The embedded PostgreSQL server cannot be used; the message names the remedy."""


class BinariesUnusable(EmbeddedError):
    """No PostgreSQL binaries were found, or those found do not run or are of an unsupported version."""


class AccountUnusable(EmbeddedError):
    """PostgreSQL refuses to run as root or as a uid without a passwd entry, and no other account serves."""


class DataDirectoryUnusable(EmbeddedError):
    """The data directory cannot be read, written or reached, or holds something that is not ours."""


class MajorVersionMismatch(EmbeddedError):
    """The data directory was made by another major version; the message has the commands to move it over."""


class StartFailed(EmbeddedError):
    """PostgreSQL did not start or does not answer; the message carries the end of its log."""


class StopFailed(EmbeddedError):
    """PostgreSQL did not end after it was told to."""


class ServerClosed(EmbeddedError):
    """The handle was closed; open the data directory again."""


class GaveUp(EmbeddedError):
    """The caller stopped waiting before the server was ready."""
