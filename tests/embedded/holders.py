"""Other programs that hold a data directory, seen from the test."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

import millstream

_PROGRAM = Path(__file__).with_name("holder.py")
SOURCES = Path(next(iter(millstream.__path__))).parent


@dataclass
class Holder:
    process: Process
    pid: int
    dsn: str
    socket_dir: Path
    started_by_us: bool

    @classmethod
    async def start(cls, data_dir: Path, **options: str | int) -> "Holder":
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_PROGRAM),
            str(data_dir),
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), *sys.path])},
        )
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b'{"holder"'):
                seen = json.loads(line)["holder"]
                return cls(process, seen["pid"], seen["dsn"], Path(seen["socket_dir"]), seen["started_by_us"])
        raise AssertionError(f"the holder ended with exit code {await process.wait()}")

    async def kill(self) -> None:
        """End it as the kernel would, without a chance to close anything."""
        self.process.kill()
        await self.process.communicate()

    async def let_go(self) -> None:
        """Make it close the server and end."""
        if self.process.returncode is None:
            await self.process.communicate(b"")
            assert self.process.returncode == 0
