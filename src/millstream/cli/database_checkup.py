"""What `millstream doctor` asks a running database: version, settings, schema, clock."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from millstream.cli.finding import Finding, fail, fail_with, ok, warn
from millstream.domain.errors import MillstreamError
from millstream.store.database import Session
from millstream.store.installation import direct_session
from millstream.store.migrations import check_schema
from millstream.store.queries import load

_GET_TIME = load("upkeep")["get_database_time"].taking("now")
_MAJOR_MIN, _MAJOR_MAX = 15, 18
_NAPTIME_SECONDS_MAX = 15
_CONNECTIONS_MIN = 50
_SKEW_SECONDS_MAX = 5.0
_REMEDY = "Check DATABASE_URL, and that PostgreSQL runs and lets this user in."


async def check_database(dsn: str) -> AsyncIterator[Finding]:
    """Check the database at `dsn`. Nothing that is printed shows the address or its password."""
    try:
        async with direct_session(dsn) as session:
            for finding in await _findings(session):
                yield finding
    except MillstreamError as error:
        yield fail("database", error.message, _REMEDY)
    except ValueError:
        # Its text may quote the address.
        yield fail("database", "the address cannot be read", _REMEDY)
    except Exception as error:  # noqa: BLE001  (whatever else the database refuses with is what is looked for)
        yield fail("database", str(error), _REMEDY)


async def _findings(session: Session) -> list[Finding]:
    return [
        _version(await _shown(session, "server_version_num"), await _shown(session, "server_version")),
        *_durability(await _shown(session, "fsync"), await _shown(session, "synchronous_commit")),
        *_capacity(await _shown(session, "max_connections")),
        *_vacuum(await _shown(session, "autovacuum"), await _shown(session, "autovacuum_naptime")),
        await _schema(session),
        await _clock(session),
    ]


async def _shown(session: Session, setting: str) -> str:
    row = await session.one(f"show {setting}")
    return "" if row is None else str(row[0])


def _version(number: str, name: str) -> Finding:
    major = int(number) // 10_000
    if not _MAJOR_MIN <= major <= _MAJOR_MAX:
        return fail(
            "database version",
            f"PostgreSQL {name} is not supported",
            f"Use PostgreSQL {_MAJOR_MIN} to {_MAJOR_MAX}.",
        )
    return ok("database version", f"PostgreSQL {name}")


def _durability(fsync: str, synchronous_commit: str) -> Iterator[Finding]:
    if fsync != "on":
        yield fail("fsync", "is off: a crash loses or corrupts data", "alter system set fsync = on")
    else:
        yield ok("fsync", "on")
    if synchronous_commit in {"off", "local"}:
        yield warn(
            "synchronous_commit",
            f"is {synchronous_commit}; millstream turns it on for its own sessions",
            "alter system set synchronous_commit = on, if others are to be as safe.",
        )
    else:
        yield ok("synchronous_commit", synchronous_commit)


def _capacity(max_connections: str) -> Iterator[Finding]:
    if int(max_connections) < _CONNECTIONS_MIN:
        yield warn(
            "max_connections",
            f"{max_connections} are few for a server process's pool of 25 and your own programs",
            "alter system set max_connections = 100, or lower DATABASE_MAX_CONNECTIONS.",
        )
    else:
        yield ok("max_connections", max_connections)


def _vacuum(autovacuum: str, naptime: str) -> Iterator[Finding]:
    if autovacuum != "on":
        yield fail("autovacuum", "is off: queue tables only ever grow", "alter system set autovacuum = on")
    elif _seconds(naptime) > _NAPTIME_SECONDS_MAX:
        yield warn(
            "autovacuum_naptime",
            f"is {naptime}: with dead rows left that long the job rate falls by half",
            "alter system set autovacuum_naptime = '5s', then pg_reload_conf().",
        )
    else:
        yield ok("autovacuum_naptime", naptime)


def _seconds(duration: str) -> float:
    for unit, factor in (("min", 60.0), ("ms", 0.001), ("h", 3600.0), ("d", 86400.0), ("s", 1.0)):
        if duration.endswith(unit):
            return float(duration.removesuffix(unit)) * factor
    return float(duration)


async def _schema(session: Session) -> Finding:
    try:
        await check_schema(session)
    except MillstreamError as error:
        return fail_with("schema", error)
    return ok("schema", "this version's")


async def _clock(session: Session) -> Finding:
    asked_at = datetime.now(UTC)
    row = await session.one(_GET_TIME, None)
    if row is None:
        return fail("clock", "the database does not tell the time")
    # The answer is from some moment between the two readings; the middle is at most half a round trip off.
    middle = asked_at + (datetime.now(UTC) - asked_at) / 2
    skew = abs((row["at"] - middle).total_seconds())
    if skew > _SKEW_SECONDS_MAX:
        return warn(
            "clock",
            f"this machine and the database differ by {skew:.0f} s; the database's clock decides leases and schedules",
            "Synchronise both clocks (chrony, systemd-timesyncd).",
        )
    return ok("clock", f"differs from the database's by {skew * 1000:.0f} ms")
