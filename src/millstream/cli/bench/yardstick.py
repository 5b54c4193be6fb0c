"""The yardstick: what the same PostgreSQL does with one single-row INSERT per transaction."""

from millstream.cli.bench.postgres import Postgres, sql_file

_CLIENTS = 32
_THREADS = 2


async def measure_yardstick(postgres: Postgres, *, seconds: int) -> float:
    """Transactions per second of pgbench over `seconds`, in a schema of its own that is dropped afterwards."""
    await postgres.run_file("yardstick_schema.sql")
    try:
        return await postgres.pgbench(
            sql_file("yardstick.sql"), clients=_CLIENTS, threads=_THREADS, seconds=seconds
        )
    finally:
        await postgres.run_file("yardstick_drop.sql")
