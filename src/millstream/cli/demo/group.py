"""The demo's side of its group: starts the members' processes, listens to them, kills one, lets the others go."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec

from millstream.cli.demo.said import Joined, Order, Said
from millstream.cli.failure import CommandFailed

_JOIN_SECONDS_MAX = 30


@contextlib.asynccontextmanager
async def start_members(orders: Sequence[Order]) -> AsyncGenerator[list["Member"]]:
    """Start a process for each order; those that still run on leaving are killed.

    Raises CommandFailed, also in an ExceptionGroup.
    """
    members: list[Member] = []
    async with contextlib.AsyncExitStack() as stack:
        for order in orders:
            member = await Member.start(order)
            stack.push_async_callback(member.close)
            members.append(member)
        async with asyncio.TaskGroup() as joining:
            for member in members:
                joining.create_task(member.wait_joined())
        yield members


class Member:
    """A member's process. `member_id` is what the server calls it."""

    def __init__(self, process: Process, client_id: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.client_id = client_id
        self.member_id = ""
        self._process = process
        self._orders = process.stdin
        self._lines = process.stdout
        self._end_expected: int | None = None

    @classmethod
    async def start(cls, order: Order) -> "Member":
        """Start the process and tell it what to do."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            # Without the working directory, where a file may be named like a module of the standard library.
            *("-P", "-m", "millstream.cli.demo.member"),
            stdin=PIPE,
            stdout=PIPE,
            # Ctrl-C is for the command, which then stops its members.
            start_new_session=True,
        )
        member = cls(process, order.client_id)
        member._orders.write(msgspec.json.encode(order) + b"\n")
        return member

    async def wait_joined(self) -> None:
        """Wait until the group has the member. Raises CommandFailed."""
        try:
            async with asyncio.timeout(_JOIN_SECONDS_MAX):
                said = await self._hear()
        except TimeoutError:
            raise CommandFailed(
                f"{self.client_id} of the group did not join within {_JOIN_SECONDS_MAX} s"
            ) from None
        assert isinstance(said, Joined)
        self.member_id = said.member_id

    async def listen(self) -> AsyncIterator[Said]:
        """Yield what the member says until it ends.

        Raises CommandFailed when it ends otherwise than it was told to.
        """
        while (said := await self._hear()) is not None:
            yield said

    def kill(self) -> None:
        """End the process without letting it finish anything."""
        self._end_expected = -signal.SIGKILL
        self._process.kill()

    def let_go(self) -> None:
        """Have the member leave the group and end, unless it was killed."""
        if self._end_expected is None:
            self._end_expected = 0
            self._orders.close()

    async def close(self) -> None:
        """Make sure that the process is gone."""
        if self._process.returncode is None:
            self._process.kill()
        # Also reads what it had yet to say: the end of a process whose output nobody reads is not noticed.
        await self._process.communicate()

    async def _hear(self) -> Said | None:
        line = await self._lines.readline()
        # The last line of a member that was killed may have no end.
        if line.endswith(b"\n"):
            return msgspec.json.decode(line, type=Said)
        code = await self._process.wait()
        if code != self._end_expected:
            raise CommandFailed(
                f"{self.client_id} of the group ended by itself, with {_how(code)}",
                "What it wrote to standard error is above.",
            )
        return None


def _how(code: int) -> str:
    return f"status {code}" if code >= 0 else signal.Signals(-code).name
