import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from millstream.embedded import Binaries, EmbeddedServer, MajorVersionMismatch, find_binaries
from tests.embedded.database import read_numbers, write_number

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.mark.slow
async def test_a_cluster_of_another_major_version_is_refused_and_left_alone(
    data_dir: Path, binaries: Binaries
) -> None:
    await (await EmbeddedServer.open(data_dir, binaries=binaries)).close()
    version = data_dir / "postgres" / "PG_VERSION"
    version.write_text("13\n")

    with pytest.raises(MajorVersionMismatch, match="was made by PostgreSQL 13") as refused:
        await EmbeddedServer.open(data_dir, binaries=binaries)

    message = str(refused.value)
    assert "apt-get install postgresql-13" in message
    for step in ("pg_dumpall", "initdb", "psql", str(data_dir), str(binaries.directory)):
        assert step in message
    assert version.read_text() == "13\n"


@pytest.mark.slow
async def test_the_commands_of_the_refusal_bring_the_data_over(data_dir: Path, binaries: Binaries) -> None:
    old = find_binaries(DEBIAN_15)
    server = await EmbeddedServer.open(data_dir, binaries=old)
    try:
        await write_number(server.dsn(), 15)
    finally:
        await server.close()
    with pytest.raises(MajorVersionMismatch) as refused:
        await EmbeddedServer.open(data_dir, binaries=binaries)

    script = "\n".join(re.findall(r"^    (.*)$", str(refused.value), re.MULTILINE))
    done = await asyncio.to_thread(
        subprocess.run,
        ["/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stderr

    server = await EmbeddedServer.open(data_dir, binaries=binaries)
    try:
        assert await read_numbers(server) == [15]
    finally:
        await server.close()
    assert (data_dir / "postgres-15" / "PG_VERSION").read_text() == "15\n"
