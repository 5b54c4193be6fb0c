"""A program that opens a data directory and holds it until its standard input ends."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from millstream.embedded import EmbeddedServer, find_binaries


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--bin-dir", type=Path)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    arguments = parser.parse_args()
    # As the other user the interpreter's own library may be out of reach, so the part of it that is imported on
    # first use is used first.
    await asyncio.to_thread(os.getuid)
    if arguments.uid is not None:
        os.setgroups([])
        os.setgid(arguments.gid)
        os.setuid(arguments.uid)
    server = await EmbeddedServer.open(arguments.data_dir, binaries=find_binaries(arguments.bin_dir))
    seen = {
        "pid": server.pid,
        "dsn": server.dsn(),
        "socket_dir": str(server.socket_dir),
        "started_by_us": server.started_by_us,
    }
    sys.stdout.write(json.dumps({"holder": seen}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    asyncio.run(main())
