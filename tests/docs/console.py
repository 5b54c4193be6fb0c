"""Console blocks: commands behind `$ `, each followed by what it prints."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Whoever writes this in a line of output leaves something out there.
ELLIPSIS = "…"


class WrongExample(AssertionError):
    """A block does not do what its page says."""


@dataclass
class Command:
    """A command line, continuation lines included, and the lines that are shown below it."""

    text: str
    shown: list[str] = field(default_factory=list)


def read_commands(block: str) -> list[Command]:
    """Split a console block. Raises WrongExample when it begins with output."""
    commands: list[Command] = []
    for line in block.strip("\n").splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
        elif not commands:
            raise WrongExample(f"a console block begins with a command, not with {line!r}")
        elif commands[-1].text.endswith("\\"):
            commands[-1].text += "\n" + line
        else:
            commands[-1].shown.append(line)
    if not commands:
        raise WrongExample("a console block has no command")
    return commands


def check_shown(shown: list[str], real: str) -> None:
    """Look for every shown line in the real output; `…` stands for any text. Raises WrongExample."""
    lines = [_plain(line) for line in real.splitlines()]
    for line in shown:
        pattern = ".*".join(re.escape(part) for part in _plain(line).split(ELLIPSIS))
        if line.strip() and not any(re.fullmatch(pattern, each) for each in lines):
            raise WrongExample(f"the page shows {line!r}, the command printed:\n{real}")


def _plain(line: str) -> str:
    # The widths of columns depend on what else is in the table.
    return re.sub(f" ?{ELLIPSIS} ?", ELLIPSIS, " ".join(line.split()))


class Shell:
    """Runs the commands of one page in order; variables live on from one to the next."""

    def __init__(self, place: Path, environment: Mapping[str, str], *, state: Path) -> None:
        self._place = place
        self._environment = dict(environment)
        self._state = state
        state.write_text("")

    def run(self, command: Command) -> None:
        """Run one command and compare. Raises WrongExample."""
        state = f"'{self._state}'"
        script = (
            f"set -a\n. {state}\n{command.text}\noutcome=$?\n"
            f"unset -v PWD OLDPWD\nexport -p > {state}\nexit $outcome\n"
        )
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            cwd=self._place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise WrongExample(f"exit code {done.returncode} of: {command.text}\n{done.stdout}")
        check_shown(command.shown, done.stdout)
