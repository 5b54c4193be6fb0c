"""The public health answer."""

import msgspec


class Health(msgspec.Struct, frozen=True):
    """`status` is `healthy` when the database answers, else `degraded`. Contract: spooled-jobs 9.1."""

    status: str
    database: bool
    cache: bool
    version: str | None = None
    uptime_seconds: float | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether the server and its database answer."""
        return self.status in {"healthy", "ok"}
