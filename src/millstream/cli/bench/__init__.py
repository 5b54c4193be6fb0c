"""`millstream bench`: measure a server under load, beside a yardstick of the same PostgreSQL."""

from millstream.cli.bench.command import bench_app

__all__ = ["bench_app"]
