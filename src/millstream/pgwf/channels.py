"""The channels on which jobs are announced while notifying is on. Contract: pgwf 1.9."""

import hashlib
from typing import Final

_BYTES_MAX: Final = 63


def need_channel(schema: str, capability: str) -> str:
    """Return the channel of a capability, as the function of this name in the schema does."""
    channel = f"{schema}.need.{capability}"
    if len(channel.encode()) <= _BYTES_MAX:
        return channel
    return f"{schema}.need.{hashlib.sha256(capability.encode()).hexdigest()[:16]}"


def quoted(identifier: str) -> str:
    """Return an identifier that stands for itself in a statement, whatever is in it."""
    return '"' + identifier.replace('"', '""') + '"'


def listen_to(channels: list[str]) -> str:
    """Return the statements that begin to listen."""
    return "; ".join(f"listen {quoted(channel)}" for channel in channels)


def unlisten_to(channels: list[str]) -> str:
    """Return the statements that end it."""
    return "; ".join(f"unlisten {quoted(channel)}" for channel in channels)
